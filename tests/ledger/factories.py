"""Small makers of ledger values for tests, and a view of one row with everything that decides about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text

from reconciler.clock import from_micros
from reconciler.ledger import Answer, Applied, Claim, Ledger, Mark, PageRow, Receipt, Version
from reconciler.model import Cause, Delivery, Entry, Reading, ResourceRef, Snapshot, Tombstone
from reconciler.money import Money

NOON = datetime(2026, 5, 5, 12, 0, tzinfo=UTC)
"""Where the clock fixture stands at first."""
SETTLE = timedelta(seconds=5)
LEASE = timedelta(seconds=60)
LEAST = timedelta(seconds=1)
LIVE = 0


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def ref(name: str = "ch_1", *, kind: str = "charge", account: str = "main") -> ResourceRef:
    return ResourceRef("stripe", account, kind, name)


def snapshot(of: ResourceRef, value: object = 1, **more: Any) -> Snapshot:
    return Snapshot(of, {"id": of.id, "value": value}, **more)


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


DEEPEST = 253
"""Levels of a value in a body that can still be written: the body itself is one more."""


def webhook(
    of: ResourceRef, *, expected: str | None = None, settle: timedelta = SETTLE, created_at: datetime | None = None
) -> Mark:
    return Mark(of, Cause.WEBHOOK, settle=settle, expected=expected, created_at=created_at)


def by_hand(of: ResourceRef, cause: Cause = Cause.MANUAL) -> Mark:
    """A mark behind which no change was announced: any read answers it."""
    return Mark(of, cause)


def entry(of: ResourceRef, gross: int = 1000, fee: int = 30, **more: Any) -> Entry:
    given: dict[str, Any] = {
        "balance_type": "payments",
        "category": "charge",
        "gross": Money(gross, "USD"),
        "fee": Money(fee, "USD"),
        "net": Money(gross - fee, "USD"),
        "effective_at": NOON,
    }
    return Entry(of, **(given | more))


def beyond_64_bits(of: ResourceRef) -> Entry:
    """As no `Money` can be made."""
    forged = entry(of)
    object.__setattr__(forged.gross, "minor", 2**70)
    return forged


def delivery(
    body: bytes = b"{}", *, account: str = "main", at: datetime = NOON, headers: Mapping[str, str] | None = None
) -> Delivery:
    given = {"content-type": "application/json", **(headers or {})}
    return Delivery(account, at, given, body, source="203.0.113.7")


def receipt(event_id: str, *marks: Mark, kind: str = "charge.updated", at: datetime = NOON, **more: Any) -> Receipt:
    return Receipt("stripe", delivery(at=at, **more), event_id, kind, at, marks)


# --- the acts that most stories are made of ---------------------------------------------------------


def claim_all(
    ledger: Ledger, now: datetime, *, kind: str = "charge", account: str = "main", lease: timedelta = LEASE
) -> list[Claim]:
    """Everything of a kind that is due, most urgent lane first."""
    return [
        claim
        for priority in range(4)
        for claim in ledger.claim(account, kind, priority, owner="worker", count=1000, lease=lease, now=now)
    ]


def claim_one(ledger: Ledger, now: datetime, *, kind: str = "charge", lease: timedelta = LEASE) -> Claim:
    (claim,) = claim_all(ledger, now, kind=kind, lease=lease)
    return claim


def answer(
    ledger: Ledger,
    claim: Claim,
    reading: Reading,
    *,
    now: datetime,
    started_at: datetime | None = None,
    satisfied: bool = False,
    entries: Sequence[Entry] = (),
    least: timedelta = LEAST,
) -> Applied:
    """Apply one answer, of a read that began at `started_at` (else now)."""
    given = Answer(claim, reading, now if started_at is None else started_at, satisfied=satisfied, entries=entries)
    (applied,) = ledger.apply([given], now=now, least_interval=least)
    return applied


def settle(ledger: Ledger, of: ResourceRef, reading: Reading, now: datetime) -> Applied:
    """Mark by hand, claim and apply: the shortest way to a clean resource that says `reading`."""
    ledger.mark([by_hand(of)], now)
    (claim,) = [each for each in claim_all(ledger, now, account=of.account, kind=of.kind) if each.ref == of]
    return answer(ledger, claim, reading, now=now, least=timedelta(0))


def show_page(
    ledger: Ledger,
    *snapshots: Snapshot,
    start: int,
    started_at: datetime,
    now: datetime,
    cause: Cause = Cause.SWEEP,
    window: timedelta = SETTLE,
) -> list[Applied]:
    """Apply a list page whose request began at `start`."""
    kinds = {each.ref.kind for each in snapshots}
    return ledger.apply_page(
        [PageRow(each) for each in snapshots],
        start=start,
        started_at=started_at,
        cause=cause,
        settle=dict.fromkeys(kinds, window),
        now=now,
    )


# --- what the ledger says ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A resource row, whole: the states that the protocol is about, also those that no view shows."""

    generation: int
    settled_generation: int
    priority: int
    cause: str
    due_at: datetime | None
    not_before: datetime
    first_marked_at: datetime | None
    last_marked_at: datetime | None
    hints: str | None
    lease_token: int
    lease_until: datetime | None
    attempts: int
    last_error: str | None
    dead_at: datetime | None
    discarded_at: datetime | None
    state: str
    version: int
    applied_seq: int
    fetched_at: datetime | None
    status: str | None
    created_at: datetime | None

    @property
    def dirty(self) -> bool:
        return self.generation > self.settled_generation


_INSTANTS = {
    "due_at",
    "not_before",
    "first_marked_at",
    "last_marked_at",
    "lease_until",
    "dead_at",
    "discarded_at",
    "fetched_at",
    "created_at",
}
_ROW = text(
    f"SELECT {', '.join(Row.__dataclass_fields__)} FROM resource"
    " WHERE account = :account AND kind = :kind AND remote_id = :remote_id"
)


def row(ledger: Ledger, of: ResourceRef) -> Row:
    with ledger.store.read() as tx:
        found = tx.run(_ROW, {"account": of.account, "kind": of.kind, "remote_id": of.id}).one()
    columns: dict[str, Any] = {
        name: from_micros(value) if name in _INSTANTS and value is not None else value
        for name, value in found._mapping.items()
    }
    return Row(**columns)


def versions(ledger: Ledger, of: ResourceRef) -> list[Version]:
    with ledger.view() as view:
        resource = view.resource(of)
        return [] if resource is None else list(view.versions(resource))


def values(ledger: Ledger, of: ResourceRef) -> list[object]:
    """The `value` of each version, None for a tombstone: the resource's history at a glance."""
    return [None if each.body is None else each.body["value"] for each in versions(ledger, of)]


def table(ledger: Ledger, name: str, order: str = "1") -> list[dict[str, Any]]:
    """A whole table, for comparing before and after."""
    with ledger.store.read() as tx:
        return [dict(each._mapping) for each in tx.run(text(f"SELECT * FROM {name} ORDER BY {order}"))]


def tombstone(of: ResourceRef) -> Tombstone:
    return Tombstone(of, "resource_missing")


def expecting(value: object) -> str:
    """A hint that a read satisfies by showing this value."""
    return orjson.dumps({"value": value}).decode()
