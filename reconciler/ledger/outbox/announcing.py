"""Writing the outbox: one row for each subscription that wants a version, with the version itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.clock import to_micros
from reconciler.ledger.bulk import WHOLE, WORDS, insert_into
from reconciler.ledger.changes import Filter
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Announced:
    """A version that is being stored, as far as subscriptions choose by it."""

    resource_id: int
    version: int
    account: str
    kind: str
    cause: str


_ENQUEUE = insert_into(
    "outbox",
    {"subscription": WORDS, "resource_id": WHOLE, "version": WHOLE, "created_at": WHOLE, "due_at": WHOLE},
    "ON CONFLICT (subscription, resource_id, version) DO NOTHING",
)


def announce(
    tx: Transaction, announced: Sequence[Announced], subscriptions: Sequence[tuple[str, Filter]], now: datetime
) -> None:
    """In the transaction that stores the versions: one row for each subscription that wants it."""
    if not subscriptions:
        return
    at = to_micros(now)
    _ENQUEUE.run(
        tx,
        [
            {"subscription": name, "resource_id": each.resource_id, "version": each.version, "created_at": at,
             "due_at": at}
            for each in announced
            for name, wanted in subscriptions
            if wanted.wants(each.account, each.kind, each.cause)
        ],
    )  # fmt: skip
