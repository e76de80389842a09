"""Applying what was read: the only way in which a resource's state changes.

One rule decides for every reader, worker, sweep or backfill alike: a read is accepted only if nothing was accepted
for that resource since the read began, both measured by the ledger clock. Accepted reads are therefore disjoint and
ordered in real time, so a stored state never goes back, without any clock or version of the provider (CORE.md 3.4).

Each decision is taken in a pure function on a row that the transaction holds locked; the statement repeats the fence
in its WHERE, so that no write can exist without it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, text

from reconciler.clock import span_micros, to_micros
from reconciler.errors import LedgerError
from reconciler.ledger import changes as feed
from reconciler.ledger.bulk import BYTES, WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.claims import Claim
from reconciler.ledger.codec import storable
from reconciler.ledger.facts import record_control_totals, replace_entries
from reconciler.ledger.marks import Mark, mark, mark_unknown
from reconciler.ledger.outbox import Announced, announce
from reconciler.ledger.packing import Place
from reconciler.ledger.store import Transaction
from reconciler.model import Cause, ControlTotal, Entry, Reading, ResourceRef, Snapshot, State, canonical

TOMBSTONE_HASH = ""
"""The content hash of "does not exist"."""


class Outcome(StrEnum):
    """What became of a reading."""

    CHANGED = "changed"
    """Stored as the next version."""
    UNCHANGED = "unchanged"
    """Equal to what is stored; no version, but the ledger clock moved on (else A-B-A would lose an update)."""
    PROVISIONAL = "provisional"
    """"Does not exist", inside the settle window: not believed yet, read again when the window is over."""
    CLAIM_LOST = "claim lost"
    """The lease had ended and somebody else took over; nothing changed."""
    SUPERSEDED = "superseded"
    """A read that began later was accepted meanwhile; due again at once."""
    DEFERRED = "deferred"
    """A page row that may be older than what we know; marked instead where it differs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a claim's read brought. `started_at` is when its request was sent, by the reader's clock."""

    claim: Claim
    reading: Reading
    started_at: datetime
    satisfied: bool = False
    """The reading visibly shows everything that the pending hints announced."""
    entries: Sequence[Entry] = ()
    control_totals: Sequence[ControlTotal] = ()


@dataclass(frozen=True, slots=True)
class PageRow:
    """A row that a list (or another resource's read) brought along: authoritative, but it answers no claim."""

    snapshot: Snapshot
    entries: Sequence[Entry] = ()
    readable: bool = True
    """False where its entries could not be read: never half applied, but marked, so that its own read decides."""


@dataclass(frozen=True, slots=True)
class Applied:
    ref: ResourceRef
    outcome: Outcome
    version: int
    cause: Cause
    dirty: bool
    """Whether the resource still waits for a settling read."""
    drift: bool = False
    """It was clean and known, and yet different: a missed delivery, found."""


# --- the pure part --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Decision:
    outcome: Outcome
    columns: dict[str, Any] = field(default_factory=dict)
    mark: bool = False


def _differs(row: Any, state: State, content_hash: str) -> bool:
    return bool(row.state != state or row.content_hash != content_hash)


def decide_answer(row: Any, answer: Answer, *, seq: int, now: datetime, least_interval: timedelta) -> _Decision:
    """What an answer does to the row that it claimed. Pure."""
    claim = answer.claim
    if row.lease_token != claim.token or row.lease_until is None:
        return _Decision(Outcome.CLAIM_LOST)
    if row.applied_seq >= claim.token:
        return _Decision(Outcome.SUPERSEDED, _ended(row, due_at=to_micros(now)))
    settled = answer.satisfied or answer.started_at >= claim.settle_at
    state, content_hash = _content(answer.reading)
    if state is State.DELETED and not settled:
        again_at = max(row.settle_at, row.not_before, to_micros(now))
        return _Decision(Outcome.PROVISIONAL, _ended(row, due_at=again_at) | {"not_before": again_at})
    return _Decision(
        Outcome.CHANGED if _differs(row, state, content_hash) else Outcome.UNCHANGED,
        _read_columns(row, answer.reading, state, content_hash, seq, answer.started_at)
        | _settle_columns(row, answer, settled=settled, least_interval=least_interval),
    )


def decide_page_row(
    row: Any, brought: PageRow, *, start: int, started_at: datetime, seq: int, settle: timedelta
) -> _Decision:
    """What a page row does to a resource that the ledger knows. Pure. It never settles a generation.

    A page that began inside the settle window of a mark or of an accepted read may come from a replica that lags
    behind them, so it is not applied; where it differs, a mark lets a proper read decide.
    """
    snapshot = brought.snapshot
    state, content_hash = _content(snapshot)
    differs = _differs(row, state, content_hash)
    began = to_micros(started_at)
    fresh_enough = row.settle_at <= began and (row.fetched_at is None or row.fetched_at + span_micros(settle) <= began)
    first_sight = row.version == 0 and row.applied_seq < start
    applicable = brought.readable and (fresh_enough or first_sight)
    if row.applied_seq >= start or row.lease_until is not None or not applicable:
        answered_later = row.generation > row.settled_generation and row.lease_until is None
        # An answer under way may be older than this page. Also where the page shows what is stored, that answer may
        # bring something in between (A, B, A), and would settle it: only a read after both can tell.
        under_way = row.lease_until is not None
        return _Decision(Outcome.DEFERRED, mark=under_way or (differs and not answered_later))
    return _Decision(
        Outcome.CHANGED if differs else Outcome.UNCHANGED,
        _read_columns(row, snapshot, state, content_hash, seq, started_at) | _claim_columns(row),
    )


def _content(reading: Reading) -> tuple[State, str]:
    if isinstance(reading, Snapshot):
        return State.PRESENT, reading.content_hash
    return State.DELETED, TOMBSTONE_HASH


def _read_columns(
    row: Any, reading: Reading, state: State, content_hash: str, seq: int, started_at: datetime
) -> dict[str, Any]:
    """What a reading says, and that it was accepted at `seq`."""
    snapshot = reading if isinstance(reading, Snapshot) else None
    return {
        "state": state.value,
        "version": row.version + (1 if _differs(row, state, content_hash) else 0),
        "content_hash": content_hash,
        "applied_seq": seq,
        "fetched_at": to_micros(started_at),
        "status": None if snapshot is None else snapshot.status,
        "created_at": _kept(row.created_at, None if snapshot is None else snapshot.created_at),
        "provider_updated_at": _kept(row.provider_updated_at, None if snapshot is None else snapshot.updated_at),
    }


def _kept(before: int | None, now: datetime | None) -> int | None:
    return before if now is None else to_micros(now)


def _settle_columns(row: Any, answer: Answer, *, settled: bool, least_interval: timedelta) -> dict[str, Any]:
    """The claim ends; the generation it saw is settled, or a wake-up is planned for the read that will settle it."""
    began = to_micros(answer.started_at)
    not_before = began + span_micros(least_interval)
    settled_generation = max(row.settled_generation, answer.claim.generation) if settled else row.settled_generation
    dirty = row.generation > settled_generation
    wait_out_window = not settled or row.hints is None
    return {
        "settled_generation": settled_generation,
        "first_marked_at": max(row.first_marked_at, began + 1) if settled and dirty else row.first_marked_at,
        "due_at": (max(row.settle_at, not_before) if wait_out_window else not_before) if dirty else None,
        "not_before": not_before,
        "attempts": 0,
        "last_error": None,
        "dead_at": None,
        "discarded_at": None,
        "lease_until": None,
        "lease_owner": None,
    }


_CLAIM_COLUMNS = (
    "settled_generation",
    "first_marked_at",
    "due_at",
    "not_before",
    "attempts",
    "last_error",
    "dead_at",
    "discarded_at",
    "lease_until",
    "lease_owner",
)
_READ_COLUMNS = (
    "state",
    "version",
    "content_hash",
    "applied_seq",
    "fetched_at",
    "status",
    "created_at",
    "provider_updated_at",
)


def _claim_columns(row: Any) -> dict[str, Any]:
    """Marks, claims and wake-ups as they are."""
    return {name: getattr(row, name) for name in _CLAIM_COLUMNS}


def _ended(row: Any, *, due_at: int) -> dict[str, Any]:
    """The claim ends without its reading being used."""
    return (
        {name: getattr(row, name) for name in _READ_COLUMNS}
        | _claim_columns(row)
        | {"due_at": due_at, "lease_until": None, "lease_owner": None}
    )


# --- the statements -------------------------------------------------------------------------------

_ROW = """
  id, provider, account, kind, remote_id, generation, settled_generation, cause, due_at, not_before, first_marked_at,
  settle_at, hints, lease_token, lease_until, lease_owner, attempts, last_error, dead_at, discarded_at,
  state, version, content_hash, applied_seq, fetched_at, status, created_at, provider_updated_at
"""


def _lock_by_id(tx: Transaction, ids: Sequence[int]) -> dict[int, Any]:
    """In the order of keys, in which marks and pages lock too: whoever wants the same rows waits, and no two wait for
    each other."""
    order = ", ".join(f"{name}{tx.dialect.by_bytes}" for name in ("account", "kind", "remote_id"))
    statement = text(f"SELECT {_ROW} FROM resource WHERE id IN :ids ORDER BY {order} {tx.dialect.for_update}")
    rows = tx.run(statement.bindparams(bindparam("ids", expanding=True)), {"ids": sorted(ids)})
    return {row.id: row for row in rows}


def _lock_by_ref(tx: Transaction, refs: Iterable[ResourceRef]) -> dict[ResourceRef, Any]:
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for ref in refs:
        groups[ref.account, ref.kind].append(ref.id)
    statement = text(
        f"SELECT {_ROW} FROM resource WHERE account = :account AND kind = :kind AND remote_id IN :ids"
        f" ORDER BY remote_id{tx.dialect.by_bytes} {tx.dialect.for_update}"
    ).bindparams(bindparam("ids", expanding=True))
    found: dict[ResourceRef, Any] = {}
    for (account, kind), ids in sorted(groups.items()):
        for row in tx.run(statement, {"account": account, "kind": kind, "ids": ids}):
            found[_ref(row)] = row
    return found


_KINDS_OF_COLUMNS = {
    "settled_generation": WHOLE,
    "first_marked_at": WHOLE,
    "due_at": WHOLE,
    "not_before": WHOLE,
    "attempts": WHOLE,
    "last_error": WORDS,
    "dead_at": WHOLE,
    "discarded_at": WHOLE,
    "lease_until": WHOLE,
    "lease_owner": WORDS,
    "state": WORDS,
    "version": WHOLE,
    "content_hash": WORDS,
    "applied_seq": WHOLE,
    "fetched_at": WHOLE,
    "status": WORDS,
    "created_at": WHOLE,
    "provider_updated_at": WHOLE,
}
_SET = ", ".join(f"{name} = {{{name}}}" for name in _KINDS_OF_COLUMNS)

_WRITE_ANSWER = Bulk(
    f"UPDATE resource SET {_SET} {{_rows}}"
    " WHERE resource.id = {id} AND resource.lease_token = {token} AND resource.lease_until IS NOT NULL",
    {"id": WHOLE, "token": WHOLE} | _KINDS_OF_COLUMNS,
)
_WRITE_PAGE_ROW = Bulk(
    f"UPDATE resource SET {_SET} {{_rows}} WHERE resource.id = {{id}} AND resource.applied_seq < {{start}}",
    {"id": WHOLE, "start": WHOLE} | _KINDS_OF_COLUMNS,
)
_INSERT_COLUMNS = {
    "id": WHOLE,
    "provider": WORDS,
    "account": WORDS,
    "kind": WORDS,
    "remote_id": WORDS,
    "cause": WORDS,
    "state": WORDS,
    "version": WHOLE,
    "content_hash": WORDS,
    "applied_seq": WHOLE,
    "fetched_at": WHOLE,
    "status": WORDS,
    "created_at": WHOLE,
    "provider_updated_at": WHOLE,
}
_INSERT_PAGE_ROW = insert_into("resource", _INSERT_COLUMNS, "ON CONFLICT (account, kind, remote_id) DO NOTHING")
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
    locked = _lock_by_id(tx, [answer.claim.resource_id for answer in answers])
    applied: list[Applied] = []
    writes: list[dict[str, Any]] = []
    changes: list[_Change] = []
    for answer, seq in zip(answers, tx.ticks(len(answers)), strict=True):
        row, cause = locked[answer.claim.resource_id], answer.claim.cause
        decision = decide_answer(row, answer, seq=seq, now=now, least_interval=least_interval)
        if decision.columns:
            writes.append({"id": row.id, "token": answer.claim.token} | decision.columns)
        if decision.outcome is Outcome.CHANGED:
            changes.append(_Change(row.id, answer.reading, cause.value, decision.columns, answer.entries))
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
            record_control_totals(tx, answer.control_totals, now)
    _require_all(_WRITE_ANSWER.run(tx, writes), len(writes))
    _store_changes(tx, changes, now)
    return applied


def apply_page(
    tx: Transaction,
    rows: Sequence[PageRow],
    *,
    start: int,
    started_at: datetime,
    cause: Cause,
    settle: Mapping[str, timedelta],
    now: datetime,
) -> list[Applied]:
    """Apply rows that answer no claim. `start` was taken from the ledger clock before the page was requested.

    `settle` is the settle window of each kind. Rows that may be older than what is known are marked, not applied.
    """
    by_ref = {_as_stored(row.snapshot.ref): row for row in rows}
    met = _lock_by_ref(tx, by_ref)
    strangers = [row for ref, row in by_ref.items() if ref not in met and row.readable]
    changes = _insert_strangers(tx, strangers, started_at, cause)
    inserted = {_as_stored(change.reading.ref) for change in changes}
    late = [ref for ref in by_ref if ref not in met and ref not in inserted]
    met |= _lock_by_ref(tx, late)
    applied = [Applied(change.reading.ref, Outcome.CHANGED, 1, cause, dirty=False) for change in changes]
    writes: list[dict[str, Any]] = []
    unreadable = [ref for ref in by_ref if ref not in met and ref not in inserted]
    applied += [Applied(ref, Outcome.DEFERRED, 0, cause, dirty=True) for ref in unreadable]
    marks = [Mark(ref, cause, settle=settle[ref.kind]) for ref in unreadable]
    for (ref, row), seq in zip(met.items(), tx.ticks(len(met)), strict=True):
        brought = by_ref[ref]
        window = settle[ref.kind]
        decision = decide_page_row(row, brought, start=start, started_at=started_at, seq=seq, settle=window)
        dirty = row.generation > row.settled_generation
        seen_first_by = Cause(row.cause) if dirty else cause
        if decision.columns:
            writes.append({"id": row.id, "start": start} | decision.columns)
        if decision.mark:
            marks.append(Mark(ref, cause, settle=window))
        if decision.outcome is Outcome.CHANGED:
            changes.append(_Change(row.id, brought.snapshot, seen_first_by, decision.columns, brought.entries))
        applied.append(
            Applied(
                ref=ref,
                outcome=decision.outcome,
                version=decision.columns.get("version", row.version),
                cause=seen_first_by,
                dirty=dirty or decision.mark,
                drift=decision.outcome is Outcome.CHANGED and not dirty and row.version > 0,
            )
        )
    _require_all(_WRITE_PAGE_ROW.run(tx, writes), len(writes))
    mark(tx, marks, now)
    _store_changes(tx, changes, now)
    return applied


@dataclass(frozen=True, slots=True)
class _Change:
    """A new version to store."""

    resource_id: int
    reading: Reading
    cause: str
    columns: Mapping[str, Any]
    entries: Sequence[Entry]


def _insert_strangers(tx: Transaction, rows: Sequence[PageRow], started_at: datetime, cause: Cause) -> list[_Change]:
    """Resources that the ledger meets here for the first time. One that somebody else just inserted is left out."""
    ticks = tx.ticks(2 * len(rows))
    ordered = sorted(rows, key=lambda row: row.snapshot.ref)
    changes = []
    for row, row_id, seq in zip(ordered, ticks[::2], ticks[1::2], strict=True):
        snapshot = row.snapshot
        columns = {
            "id": row_id,
            "provider": snapshot.ref.provider,
            "account": snapshot.ref.account,
            "kind": snapshot.ref.kind,
            "remote_id": snapshot.ref.id,
            "cause": cause.value,
            "state": State.PRESENT.value,
            "version": 1,
            "content_hash": snapshot.content_hash,
            "applied_seq": seq,
            "fetched_at": to_micros(started_at),
            "status": snapshot.status,
            "created_at": _kept(None, snapshot.created_at),
            "provider_updated_at": _kept(None, snapshot.updated_at),
        }
        changes.append(_Change(row_id, snapshot, cause.value, columns, row.entries))
    if _INSERT_PAGE_ROW.run(tx, [dict(change.columns) for change in changes]) == len(changes):
        return changes
    present = _lock_by_id(tx, [change.resource_id for change in changes])
    return [change for change in changes if change.resource_id in present]


def _store_changes(tx: Transaction, changes: Sequence[_Change], now: datetime) -> None:
    """Versions, their entries, and marks: for their parts, and for what they name that the ledger never heard of."""
    if not changes:
        return
    recorded_at = to_micros(now)
    _INSERT_VERSION.run(
        tx,
        [
            {
                "resource_id": change.resource_id,
                "version": change.columns["version"],
                "state": change.columns["state"],
                "content_hash": change.columns["content_hash"],
                "body": tx.pack(canonical(change.reading.body), Place.VERSION)
                if isinstance(change.reading, Snapshot)
                else None,
                "status": change.columns["status"],
                "cause": change.cause,
                "recorded_at": recorded_at,
                "fetched_at": change.columns["fetched_at"],
                "applied_seq": change.columns["applied_seq"],
                "api_version": change.reading.api_version if isinstance(change.reading, Snapshot) else "",
            }
            for change in changes
        ],
    )
    INSERT_UNREAD.run(
        tx, [{"resource_id": change.resource_id, "version": change.columns["version"]} for change in changes]
    )
    feed.note(tx, [(change.resource_id, change.columns["version"]) for change in changes])
    announce(tx, [_announced(change) for change in changes], now)
    replace_entries(
        tx,
        [
            (
                change.resource_id,
                change.columns["version"],
                change.entries if isinstance(change.reading, Snapshot) else (),
            )
            for change in changes
        ],
        recorded_at=recorded_at,
    )
    by_cause: dict[Cause, list[ResourceRef]] = defaultdict(list)
    parts: list[Mark] = []
    for change in changes:
        if isinstance(change.reading, Snapshot):
            by_cause[Cause(change.cause)].extend(change.reading.related)
            parts.extend(Mark(ref, Cause(change.cause)) for ref in change.reading.parts)
    for cause, refs in by_cause.items():
        mark_unknown(tx, refs, cause, now)
    mark(tx, parts, now)


def _announced(change: _Change) -> Announced:
    ref = _as_stored(change.reading.ref)
    return Announced(change.resource_id, change.columns["version"], ref.account, ref.kind, change.cause)


def _as_stored(ref: ResourceRef) -> ResourceRef:
    return ResourceRef(ref.provider, storable(ref.account), storable(ref.kind), storable(ref.id))


def _ref(row: Any) -> ResourceRef:
    return ResourceRef(row.provider, row.account, row.kind, row.remote_id)


def _require_all(written: int, wanted: int) -> None:
    """The rows are locked, so every fenced write must hit; anything else is a bug, and must not be committed."""
    if written != wanted:
        raise LedgerError(f"{wanted} fenced writes touched {written} rows; nothing of this call was stored")
