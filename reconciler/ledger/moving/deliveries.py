"""Lines of deliveries: `{"delivery": {...}}`, with the body as base64 and the references that it marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import bindparam, text

from reconciler.ledger.bulk import BYTES, WHOLE, WORDS, insert_into
from reconciler.ledger.links import LINKS, era_of
from reconciler.ledger.moving.facts import Row, raise_clock
from reconciler.ledger.moving.fields import Given, WrongLine
from reconciler.ledger.moving.sorts import VERDICTS
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction

_DAY = 86_400 * 1_000_000

_COLUMNS = {
    "id": WHOLE,
    "provider": WORDS,
    "account": WORDS,
    "event_id": WORDS,
    "type": WORDS,
    "received_at": WHOLE,
    "occurred_at": WHOLE,
    "verdict": WORDS,
    "reason": WORDS,
    "source": WORDS,
    "headers": WORDS,
    "body": BYTES,
    "size": WHOLE,
}
_INSERT = insert_into("delivery", _COLUMNS, "ON CONFLICT (id) DO NOTHING")
_PRESENT = text(f"SELECT {', '.join(_COLUMNS)} FROM delivery WHERE id IN :ids").bindparams(
    bindparam("ids", expanding=True)
)
_SAME = text(
    """
    SELECT id FROM delivery
    WHERE account = :account AND received_at = :received_at AND verdict = :verdict
      AND COALESCE(event_id, '') = COALESCE(:event_id, '') AND COALESCE(type, '') = COALESCE(:type, '')
    LIMIT 1
    """
)
_COUNT = text(
    """
    INSERT INTO delivery_tally (account, day, verdict, reason, count)
    SELECT account, received_at / :day * :day, verdict, COALESCE(reason, ''), count(*)
    FROM delivery GROUP BY account, received_at / :day * :day, verdict, COALESCE(reason, '')
    ON CONFLICT (account, day, verdict, reason) DO NOTHING
    """
)


def read(given: Given) -> Row:
    """Raises WrongLine."""
    headers = given.values.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise WrongLine("headers: expected an object of texts")
    body = given.packed("body", None)
    marks = []
    for each in given.listed("marks", []):
        ref = Given({"marks": each}, "marks").ref("marks")
        marks.append((ref.account, ref.kind, ref.id))
    return {
        "id": given.whole("id", None, least=1),
        "provider": given.name("provider"),
        "account": given.name("account"),
        "event_id": given.words("event_id", None),
        "type": given.words("type", None),
        "received_at": given.instant("received_at"),
        "occurred_at": given.instant("occurred_at", None),
        "verdict": given.among("verdict", frozenset(VERDICTS)),
        "reason": given.words("reason", None),
        "source": given.words("source", ""),
        "headers": orjson.dumps(headers).decode(),
        "body": body,
        "size": given.whole("size", 0 if body is None else len(body), least=0),
        "marks": marks,
    }


def store(tx: Transaction, rows: Sequence[tuple[int, Row]]) -> int:
    """How many were new. A delivery's id is its place in the log, so it is kept; the ledger clock moves past it."""
    rows = _with_ids(tx, rows)
    if not rows:
        return 0
    by_id = _distinct(rows)
    present = {each.id: each for each in tx.run(_PRESENT, {"ids": list(by_id)})}
    for row_id, (number, row) in by_id.items():
        if row_id in present:
            _require_equal(tx, number, row, present[row_id])
    fresh = [row for row_id, (_, row) in by_id.items() if row_id not in present]
    raise_clock(tx, max(by_id))
    _INSERT.run(
        tx,
        [
            {name: row[name] for name in _COLUMNS}
            | {"body": None if row["body"] is None else tx.pack(row["body"], Place.DELIVERY)}
            for row in fresh
        ],
    )
    LINKS.run_rows(tx, [(era_of(row["id"]), *named, row["id"]) for row in fresh for named in row["marks"]])
    return len(fresh)


def count(tx: Transaction) -> None:
    """Tallies for days that no tally line spoke of."""
    tx.run(_COUNT, {"day": _DAY})


def _with_ids(tx: Transaction, rows: Sequence[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """Lines without an id (not written by an export) get one, unless the same delivery is there."""
    known: list[tuple[int, Row]] = []
    met: set[tuple[Any, ...]] = set()
    for number, row in rows:
        if row["id"] is None:
            key = tuple(row[name] for name in ("account", "received_at", "verdict", "event_id", "type"))
            if key in met or tx.run(_SAME, dict(row) | {"marks": None}).first() is not None:
                continue
            met.add(key)
            known.append((number, row | {"id": tx.tick()}))
            continue
        known.append((number, row))
    return known


def _distinct(rows: Sequence[tuple[int, Row]]) -> dict[int, tuple[int, Row]]:
    by_id: dict[int, tuple[int, Row]] = {}
    for number, row in rows:
        earlier = by_id.setdefault(row["id"], (number, row))
        if earlier[1] != row:
            raise WrongLine(f"line {number}: delivery {row['id']} stands in line {earlier[0]} with other contents")
    return by_id


def _require_equal(tx: Transaction, number: int, row: Row, there: Any) -> None:
    body = None if there.body is None else tx.unpack(there.body, Place.DELIVERY)
    same = all(getattr(there, name) == row[name] for name in _COLUMNS if name not in ("body", "headers"))
    if not same or body != row["body"] or orjson.loads(there.headers) != orjson.loads(row["headers"]):
        raise WrongLine(
            f"line {number}: the ledger holds another delivery {row['id']}; deliveries are moved into a ledger that "
            "has received none of its own"
        )
