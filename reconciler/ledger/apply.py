"""Applying what was read: the only way in which a resource's state changes.

Each decision is taken by a pure function (`deciding`) on a row that the transaction holds locked; the statement
repeats the fence in its WHERE, so that no write can exist without it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.sql.elements import TextClause

from reconciler.clock import to_micros
from reconciler.errors import LedgerError
from reconciler.ledger import changes as feed
from reconciler.ledger.bulk import BYTES, WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.codec import are_storable, storable
from reconciler.ledger.deciding import Answer, Applied, Outcome, PageRow, decide_answer, decide_page_row, kept
from reconciler.ledger.facts import record_control_totals, replace_entries
from reconciler.ledger.marks import EXISTS, Mark, follow_up, mark, mark_unknown
from reconciler.ledger.outbox import Announced, announce
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, Entry, Reading, ResourceRef, Snapshot, State

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
    statement = _of_kind(_ROW, f"ORDER BY remote_id{tx.dialect.by_bytes} {tx.dialect.for_update}")
    return {_ref(row): row for each in _by_kind(refs) for row in tx.run(statement, each)}


def _known(tx: Transaction, refs: Iterable[ResourceRef]) -> set[ResourceRef]:
    """Those that the ledger knows, without locking them."""
    statement = _of_kind("provider, account, kind, remote_id")
    return {_ref(row) for each in _by_kind(refs) for row in tx.run(statement, each)}


@cache
def _of_kind(columns: str, end: str = "") -> TextClause:
    sql = f"SELECT {columns} FROM resource WHERE account = :account AND kind = :kind AND remote_id IN :ids {end}"
    return text(sql).bindparams(bindparam("ids", expanding=True))


def _by_kind(refs: Iterable[ResourceRef]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for ref in refs:
        groups[ref.account, ref.kind].append(ref.id)
    return [{"account": account, "kind": kind, "ids": ids} for (account, kind), ids in sorted(groups.items())]


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
_MEET_PAGE_ROW = insert_into(
    "resource", _INSERT_COLUMNS, "ON CONFLICT (account, kind, remote_id) DO UPDATE SET id = resource.id WHERE false"
)
"""Inserts whom the ledger does not know. Whom it knows it leaves as he is, and on Postgres locks him all the same: one
walk in the order of keys, where an insert after the locks could wait for somebody who waits for one of them."""
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
            changes.append(
                _Change(row.id, answer.reading, cause.value, decision.columns, answer.entries, answer.settle)
            )
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

    `settle` is the settle window of each kind. Rows that may be older than what is known are marked, not applied; so
    are parts of what a later read called gone, if the page is the first to show them: they are applied as well.
    """
    by_ref = {_as_stored(row.snapshot.ref): row for row in rows}
    changes = _meet_strangers(tx, by_ref, started_at, cause, settle)
    inserted = {_as_stored(change.reading.ref) for change in changes}
    part_of = {ref: _as_stored(whole) for ref in inserted if (whole := by_ref[ref].snapshot.part_of) is not None}
    wholes = set(part_of.values()) - by_ref.keys()
    locked = _lock_by_ref(tx, [*(ref for ref in by_ref if ref not in inserted), *wholes])
    orphans = {ref for ref, whole in part_of.items() if _is_gone(locked.get(whole))}
    met = {ref: row for ref, row in locked.items() if ref not in wholes}
    applied = [
        Applied(change.reading.ref, Outcome.CHANGED, 1, cause, dirty=_as_stored(change.reading.ref) in orphans)
        for change in changes
    ]
    writes: list[dict[str, Any]] = []
    marks = [follow_up(ref, cause, settle[ref.kind]) for ref in orphans]
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
            changes.append(_Change(row.id, brought.snapshot, seen_first_by, decision.columns, brought.entries, window))
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
    lag: timedelta
    """How long the provider may still not show what follows from it: the whole settle window, whatever the body says of
    when it changed. That time is by the provider's clock, and what follows need not move it."""


def _is_gone(row: Any) -> bool:
    return row is not None and bool(row.state == State.DELETED.value)


def _meet_strangers(
    tx: Transaction,
    rows: Mapping[ResourceRef, PageRow],
    started_at: datetime,
    cause: Cause,
    settle: Mapping[str, timedelta],
) -> list[_Change]:
    """Insert those that the ledger meets here for the first time: those that can be read with their first version.

    One that somebody else inserts at this moment is waited for, and is then no stranger.
    """
    known = _known(tx, rows)
    if len(known) == len(rows):
        return []
    ticks = tx.ticks(2 * len(rows))
    offered = {}
    in_order = sorted(rows, key=attrgetter("provider", "account", "kind", "id"))
    for ref, row_id, seq in zip(in_order, ticks[::2], ticks[1::2], strict=True):
        offered[ref] = _first_columns(rows[ref], row_id, seq, started_at, cause)
    inserted = _MEET_PAGE_ROW.run(tx, list(offered.values()))
    ids = {columns["id"] for columns in offered.values()}
    ours = ids if inserted == len(ids) else _lock_by_id(tx, list(ids)).keys()
    return [
        _Change(columns["id"], rows[ref].snapshot, cause.value, columns, rows[ref].entries, settle[ref.kind])
        for ref, columns in offered.items()
        if columns["version"] and columns["id"] in ours
    ]


def _first_columns(row: PageRow, row_id: int, seq: int, started_at: datetime, cause: Cause) -> dict[str, Any]:
    snapshot = row.snapshot
    columns = {
        "id": row_id,
        "provider": snapshot.ref.provider,
        "account": snapshot.ref.account,
        "kind": snapshot.ref.kind,
        "remote_id": snapshot.ref.id,
        "cause": cause.value,
    }
    if not row.readable:
        return columns | _UNREAD
    return columns | {
        "state": State.PRESENT.value,
        "version": 1,
        "content_hash": snapshot.content_hash,
        "applied_seq": seq,
        "fetched_at": to_micros(started_at),
        "status": snapshot.status,
        "created_at": kept(None, snapshot.created_at),
        "provider_updated_at": kept(None, snapshot.updated_at),
    }


_UNREAD = {
    "state": State.UNKNOWN.value,
    "version": 0,
    "content_hash": None,
    "applied_seq": 0,
    "fetched_at": None,
    "status": None,
    "created_at": None,
    "provider_updated_at": None,
}


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
                "body": tx.pack(change.reading.canonical, Place.VERSION)
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
    named: list[Mark] = []
    parts: list[Mark] = []
    for change in changes:
        if isinstance(change.reading, Snapshot):
            cause = Cause(change.cause)
            named.extend(Mark(ref, cause, settle=change.lag, expected=EXISTS) for ref in change.reading.related)
            parts.extend(follow_up(ref, cause, change.lag) for ref in change.reading.parts)
    mark_unknown(tx, named, now)
    mark(tx, parts, now)


def _announced(change: _Change) -> Announced:
    ref = _as_stored(change.reading.ref)
    return Announced(change.resource_id, change.columns["version"], ref.account, ref.kind, change.cause)


def _as_stored(ref: ResourceRef) -> ResourceRef:
    if are_storable((ref.account, ref.kind, ref.id)):
        return ref
    return ResourceRef(ref.provider, storable(ref.account), storable(ref.kind), storable(ref.id))


def _ref(row: Any) -> ResourceRef:
    return ResourceRef(row.provider, row.account, row.kind, row.remote_id)


def _require_all(written: int, wanted: int) -> None:
    """The rows are locked, so every fenced write must hit; anything else is a bug, and must not be committed."""
    if written != wanted:
        raise LedgerError(f"{wanted} fenced writes touched {written} rows; nothing of this call was stored")
