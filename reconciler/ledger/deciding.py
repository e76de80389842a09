"""What becomes of a reading: values, and the pure decision on a row that the transaction holds locked.

One rule decides for every reader, worker, sweep or backfill alike: a read is accepted only if nothing was accepted
for that resource since the read began, both measured by the ledger clock. Accepted reads are therefore disjoint and
ordered in real time, so a stored state never goes back, without any clock or version of the provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from reconciler.clock import span_micros, to_micros
from reconciler.ledger.claims import Claim
from reconciler.ledger.rows import CLAIM_COLUMNS, DECIDED_COLUMNS, ResourceRow
from reconciler.model import Cause, ControlTotal, Entry, Reading, ResourceRef, Snapshot, State

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
    settle: timedelta = timedelta(0)
    """How long the provider's reads of what follows from this resource may lag behind a change of it."""
    listed: bool = True
    """Some list shows resources of this kind, so that one which a read wrongly called missing is found there again."""


@dataclass(frozen=True, slots=True)
class PageRow:
    """A row that a list (or another resource's read) brought along: authoritative, but it answers no claim."""

    snapshot: Snapshot
    entries: Sequence[Entry] = ()
    readable: bool = True
    """False where it cannot be kept, or its entries cannot be read: never half applied, but marked, so that its own
    read decides."""
    packed: bytes | None = None
    """Its body as `Ledger.packed_version` made it, where somebody has; else it is packed in the commit."""


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


@dataclass(slots=True)
class Decision:
    outcome: Outcome
    columns: dict[str, Any] = field(default_factory=dict)
    mark: bool = False


def _differs(row: ResourceRow, state: State, content_hash: str) -> bool:
    return bool(row.state != state or row.content_hash != content_hash)


def decide_answer(row: ResourceRow, answer: Answer, *, seq: int, now: datetime, least_interval: timedelta) -> Decision:
    """What an answer does to the row that it claimed. Pure."""
    claim = answer.claim
    if row.lease_token != claim.token or row.lease_until is None:
        return Decision(Outcome.CLAIM_LOST)
    if row.applied_seq >= claim.token:
        return Decision(Outcome.SUPERSEDED, _ended(row, due_at=to_micros(now)))
    settled = answer.satisfied or answer.started_at >= claim.settle_at
    state, content_hash = _content(answer.reading)
    if state is State.DELETED and not settled:
        again_at = max(row.settle_at, row.not_before, to_micros(now))
        return Decision(Outcome.PROVISIONAL, _ended(row, due_at=again_at) | {"not_before": again_at})
    changed = _differs(row, state, content_hash)
    # A window is over by our clock, which may have been set forward inside it. A list would show the mistake; where
    # there is none, "missing" is final only when a second read, a window later, says so too.
    once_only = state is State.DELETED and changed and not (answer.listed or answer.satisfied)
    columns = _settle_columns(row, answer, settled=settled and not once_only, least_interval=least_interval)
    if once_only:
        columns["due_at"] = max(columns["due_at"], to_micros(answer.started_at) + span_micros(answer.settle))
    return Decision(
        Outcome.CHANGED if changed else Outcome.UNCHANGED,
        _read_columns(row, answer.reading, state, content_hash, seq, answer.started_at) | columns,
    )


def decide_page_row(
    row: ResourceRow, brought: PageRow, *, start: int, started_at: datetime, seq: int, settle: timedelta
) -> Decision:
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
        return Decision(Outcome.DEFERRED, mark=under_way or (differs and not answered_later))
    return Decision(
        Outcome.CHANGED if differs else Outcome.UNCHANGED,
        _read_columns(row, snapshot, state, content_hash, seq, started_at) | _claim_columns(row),
    )


def _content(reading: Reading) -> tuple[State, str]:
    if isinstance(reading, Snapshot):
        return State.PRESENT, reading.content_hash
    return State.DELETED, TOMBSTONE_HASH


def _read_columns(
    row: ResourceRow, reading: Reading, state: State, content_hash: str, seq: int, started_at: datetime
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
        "created_at": kept(row.created_at, None if snapshot is None else snapshot.created_at),
        "provider_updated_at": kept(row.provider_updated_at, None if snapshot is None else snapshot.updated_at),
    }


def kept(before: int | None, now: datetime | None) -> int | None:
    return before if now is None else to_micros(now)


def _settle_columns(row: ResourceRow, answer: Answer, *, settled: bool, least_interval: timedelta) -> dict[str, Any]:
    """The claim ends; the generation it saw is settled, or a wake-up is planned for the read that will settle it."""
    began = to_micros(answer.started_at)
    not_before = began + span_micros(least_interval)
    settled_generation = max(row.settled_generation, answer.claim.generation) if settled else row.settled_generation
    dirty = row.generation > settled_generation
    wait_out_window = not settled or row.hints is None
    return {
        "settled_generation": settled_generation,
        "first_marked_at": max(row.first_marked_at or 0, began + 1) if settled and dirty else row.first_marked_at,
        "due_at": (max(row.settle_at, not_before) if wait_out_window else not_before) if dirty else None,
        "not_before": not_before,
        "attempts": 0,
        "last_error": None,
        "dead_at": None,
        "discarded_at": None,
        "lease_until": None,
        "lease_owner": None,
    }


def _claim_columns(row: ResourceRow) -> dict[str, Any]:
    """Marks, claims and wake-ups as they are."""
    return {name: getattr(row, name) for name in CLAIM_COLUMNS}


def _ended(row: ResourceRow, *, due_at: int) -> dict[str, Any]:
    """The claim ends without its reading being used."""
    kept_as_is = {name: getattr(row, name) for name in DECIDED_COLUMNS}
    return kept_as_is | {"due_at": due_at, "lease_until": None, "lease_owner": None}
