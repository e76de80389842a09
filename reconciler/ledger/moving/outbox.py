"""Lines of the outbox, `{"outbox": {...}}`: what subscriptions were still to be told where the ledger came from."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.ledger.bulk import WHOLE, WORDS, insert_into
from reconciler.ledger.moving import resources
from reconciler.ledger.moving.facts import Row
from reconciler.ledger.moving.fields import Given
from reconciler.ledger.transaction import Transaction

_INSERT = insert_into(
    "outbox",
    {
        "subscription": WORDS,
        "resource_id": WHOLE,
        "version": WHOLE,
        "created_at": WHOLE,
        "due_at": WHOLE,
        "outcome": WORDS,
        "ended_at": WHOLE,
        "last_error": WORDS,
    },
    "ON CONFLICT (subscription, resource_id, version) DO NOTHING",
)


def read(given: Given) -> Row:
    """Raises WrongLine."""
    ref = given.ref("ref")
    created_at, dead_at = given.instant("created_at"), given.instant("dead_at", None)
    return {
        "ref": ref,
        "account": ref.account,
        "subscription": given.name("subscription"),
        "version": given.whole("version", least=1),
        "created_at": created_at,
        "due_at": created_at if dead_at is None else None,
        "outcome": None if dead_at is None else "dead",
        "ended_at": dead_at,
        "last_error": given.words("error", None),
    }


def store(tx: Transaction, rows: Sequence[tuple[int, Row]]) -> int:
    """How many were new. What is told here already is not told again."""
    ids, _ = resources.meet(tx, [row["ref"] for _, row in rows])
    given = [{name: value for name, value in row.items() if name not in ("ref", "account")} for _, row in rows]
    return _INSERT.run(
        tx, [each | {"resource_id": ids[row["ref"]]} for each, (_, row) in zip(given, rows, strict=True)]
    )
