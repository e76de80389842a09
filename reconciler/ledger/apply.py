"""Applying what was read: the only way in which a resource's state changes.

Each decision is taken by a pure function (`deciding`) on a row that the transaction holds locked; the statement
repeats the fence in its WHERE, so that no write can exist without it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from reconciler.clock import to_micros
from reconciler.errors import LedgerError
from reconciler.ledger import changes as feed
from reconciler.ledger.bulk import BYTES, WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.codec import are_storable, storable
from reconciler.ledger.deciding import Answer, Applied, Outcome, decide_answer
from reconciler.ledger.facts import record_control_totals, replace_entries
from reconciler.ledger.marks import EXISTS, Mark, follow_up, mark, mark_unknown
from reconciler.ledger.outbox import Announced, announce
from reconciler.ledger.packing import Place
from reconciler.ledger.question import Asked
from reconciler.ledger.rows import DECIDED_COLUMNS, ROW, SET_DECIDED, ResourceRow
from reconciler.ledger.subscriptions import all_wanted
from reconciler.ledger.transaction import Dialect, Transaction
from reconciler.model import Cause, ControlTotal, Entry, Reading, ResourceRef, Snapshot

# --- the statements -------------------------------------------------------------------------------


@cache
def _by_id(dialect: Dialect, count: int) -> str:
    """In the order of keys, in which marks and pages lock too: whoever wants the same rows waits, and no two wait for
    each other."""
    order = ", ".join(f"{name}{dialect.by_bytes}" for name in ("account", "kind", "remote_id"))
    these = "= ANY(%s)" if dialect.is_postgres else f"IN ({', '.join('?' * count)})"
    return f"SELECT {ROW} FROM resource WHERE id {these} ORDER BY {order} {dialect.for_update}"


def _locking(dialect: Dialect, ids: Sequence[int]) -> Asked:
    """On SQLite the last id is repeated up to a power of two, so that few statements stay prepared."""
    if dialect.is_postgres:
        return _by_id(dialect, 0), (sorted(ids),)
    count = 1 << max(0, len(ids) - 1).bit_length()
    return _by_id(dialect, count), (*ids, *[ids[-1]] * (count - len(ids)))


_WRITE_ANSWER = Bulk(
    f"UPDATE resource SET {SET_DECIDED} {{_rows}}"
    " WHERE resource.id = {id} AND resource.lease_token = {token} AND resource.lease_until IS NOT NULL",
    {"id": WHOLE, "token": WHOLE} | DECIDED_COLUMNS,
    at_once=True,
)
_INSERT_VERSION = insert_into(
    "version",
    {
        "resource_id": WHOLE,
        "version": WHOLE,
        "state": WORDS,
        "content_hash": WORDS,
        "body": BYTES,
        "status": WORDS,
        "cause": WORDS,
        "recorded_at": WHOLE,
        "fetched_at": WHOLE,
        "applied_seq": WHOLE,
        "api_version": WORDS,
    },
)
INSERT_UNREAD = insert_into(
    "unread", {"resource_id": WHOLE, "version": WHOLE}, "ON CONFLICT (resource_id, version) DO NOTHING"
)


# --- the acts -------------------------------------------------------------------------------------


def apply_answers(
    tx: Transaction, answers: Sequence[Answer], *, now: datetime, least_interval: timedelta
) -> list[Applied]:
    """Apply what claims brought; what became of each, in order. A lost claim changes nothing."""
    if not answers:
        return []
    ids = [answer.claim.resource_id for answer in answers]
    # The clock is read in the same round trip, before the locks: what was applied meanwhile under a later reading has
    # one that is above our token as well, and supersedes us.
    ticks, (rows,) = tx.ticks_and(len(answers), [_locking(tx.dialect, ids)])
    locked = {row.id: row for row in map(ResourceRow._make, rows)}
    applied: list[Applied] = []
    writes: list[dict[str, Any]] = []
    changes: list[Change] = []
    totals: list[ControlTotal] = []
    for answer, seq in zip(answers, ticks, strict=True):
        row, cause = locked[answer.claim.resource_id], answer.claim.cause
        decision = decide_answer(row, answer, seq=seq, now=now, least_interval=least_interval)
        if decision.columns:
            writes.append({"id": row.id, "token": answer.claim.token} | decision.columns)
        if decision.outcome is Outcome.CHANGED:
            changes.append(Change(row.id, answer.reading, cause.value, decision.columns, answer.entries, answer.settle))
        settled = decision.columns.get("settled_generation", row.settled_generation)
        applied.append(
            Applied(
                ref=answer.claim.ref,
                outcome=decision.outcome,
                version=decision.columns.get("version", row.version),
                cause=cause,
                dirty=row.generation > settled,
                drift=decision.outcome is Outcome.CHANGED and cause is not Cause.WEBHOOK and row.version > 0,
            )
        )
        if decision.outcome in (Outcome.CHANGED, Outcome.UNCHANGED):
            totals.extend(answer.control_totals)
    record_control_totals(tx, totals, now)
    store(tx, _WRITE_ANSWER, writes, changes, now)
    mark_what_follows(tx, changes, now)
    return applied


@dataclass(frozen=True, slots=True)
class Change:
    """A new version to store."""

    resource_id: int
    reading: Reading
    cause: str
    columns: Mapping[str, Any]
    entries: Sequence[Entry]
    lag: timedelta
    """How long the provider may still not show what follows from it: the whole settle window, whatever the body says of
    when it changed. That time is by the provider's clock, and what follows need not move it."""
    packed: bytes | None = None
    """Its body, where it is packed already."""


def store(
    tx: Transaction, fenced: Bulk, writes: Sequence[Mapping[str, Any]], changes: Sequence[Change], now: datetime
) -> None:
    """What was decided: the fenced writes, and of those that are changes the versions, what is told of them, and their
    entries. Raises LedgerError where a write did not hit."""
    if not changes:
        _require_all(fenced.run(tx, writes), len(writes))
        return
    recorded_at = to_micros(now)
    ids = [(change.resource_id, change.columns["version"]) for change in changes]
    versions = [_version(tx, change, recorded_at) for change in changes]
    entries = [
        (*each, change.entries if isinstance(change.reading, Snapshot) else ())
        for each, change in zip(ids, changes, strict=True)
    ]
    with tx.pipelined():
        written = fenced.run_ahead(tx, writes)
        _INSERT_VERSION.run_rows_ahead(tx, versions)
        INSERT_UNREAD.run_rows_ahead(tx, ids)
        feed.note(tx, ids)
        wanted = all_wanted(tx)
        replace_entries(tx, entries, recorded_at=recorded_at)
    _require_all(written(), len(writes))
    announce(tx, [_announced(change) for change in changes], wanted(), now)


def _version(tx: Transaction, change: Change, recorded_at: int) -> tuple[Any, ...]:
    """As `_INSERT_VERSION` takes it."""
    columns, reading = change.columns, change.reading
    body, api_version = None, ""
    if isinstance(reading, Snapshot):
        body = change.packed or tx.pack(reading.canonical, Place.VERSION)
        api_version = reading.api_version
    return (
        change.resource_id,
        columns["version"],
        columns["state"],
        columns["content_hash"],
        body,
        columns["status"],
        change.cause,
        recorded_at,
        columns["fetched_at"],
        columns["applied_seq"],
        api_version,
    )


def mark_what_follows(
    tx: Transaction,
    changes: Iterable[Change],
    now: datetime,
    *,
    known: Collection[ResourceRef] = (),
    marked: Collection[ResourceRef] = (),
) -> None:
    """Mark the parts of what changed, and what it names that the ledger never heard of.

    Without those that the caller found to be `known`, and those parts that it has `marked` in this transaction.
    """
    named: list[Mark] = []
    parts: list[Mark] = []
    for change in changes:
        if isinstance(change.reading, Snapshot):
            cause = Cause(change.cause)
            named.extend(
                Mark(ref, cause, settle=change.lag, expected=EXISTS)
                for ref in change.reading.related
                if as_stored(ref) not in known
            )
            parts.extend(
                follow_up(ref, cause, change.lag) for ref in change.reading.parts if as_stored(ref) not in marked
            )
    mark_unknown(tx, named, now)
    mark(tx, parts, now)


def _announced(change: Change) -> Announced:
    ref = as_stored(change.reading.ref)
    return Announced(change.resource_id, change.columns["version"], ref.account, ref.kind, change.cause)


def as_stored(ref: ResourceRef) -> ResourceRef:
    if are_storable((ref.account, ref.kind, ref.id)):
        return ref
    return ResourceRef(ref.provider, storable(ref.account), storable(ref.kind), storable(ref.id))


def _require_all(written: int, wanted: int) -> None:
    """The rows are locked, so every fenced write must hit; anything else is a bug, and must not be committed."""
    if written != wanted:
        raise LedgerError(f"{wanted} fenced writes touched {written} rows; nothing of this call was stored")
