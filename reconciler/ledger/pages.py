"""Applying a page of a list: its rows are as authoritative as single reads, and answer no claim.

What a page may touch in the table of resources (its rows, the wholes that they are parts of, what they name, their own
parts) is inserted or locked by one walk in the order of keys, in which marks lock too. Whoever wants the same rows
waits, and no two wait for each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, Final, assert_never

import orjson

from reconciler.clock import to_micros
from reconciler.ledger.apply import Change, as_stored, mark_what_follows, store
from reconciler.ledger.bulk import WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.deciding import Applied, Outcome, PageRow, decide_page_row, kept
from reconciler.ledger.marks import EXISTS, Mark, follow_up, mark, mark_unknown
from reconciler.ledger.rows import DECIDED_COLUMNS, READ_COLUMNS, ROW, SET_DECIDED, ResourceRow
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, ResourceRef, Snapshot, State

# --- the statements -------------------------------------------------------------------------------


_NAME: Final = "provider, account, kind, remote_id"
_STATE: Final = f"{_NAME}, state, content_hash"
_ON_SQLITE: Final = "account = ? AND kind = ? AND remote_id IN (SELECT value FROM json_each(?))"
_ON_POSTGRES: Final = "account = %s AND kind = %s AND remote_id = ANY(ARRAY(SELECT json_array_elements_text(%s::json)))"
"""The names in one parameter: the driver takes as long to bind a hundred of them as the database to find them."""
_LOCKED: Final = 'ORDER BY remote_id COLLATE "C" FOR UPDATE'
_KEY: Final = attrgetter("account", "kind", "id")

_WRITE_PAGE_ROW = Bulk(
    f"UPDATE resource SET {SET_DECIDED} {{_rows}} WHERE resource.id = {{id}} AND resource.applied_seq < {{start}}",
    {"id": WHOLE, "start": WHOLE} | DECIDED_COLUMNS,
    at_once=True,
)
_MEET_PAGE_ROW = insert_into(
    "resource",
    {
        "id": WHOLE,
        "provider": WORDS,
        "account": WORDS,
        "kind": WORDS,
        "remote_id": WORDS,
        "cause": WORDS,
    }
    | READ_COLUMNS,
    "ON CONFLICT (account, kind, remote_id) DO UPDATE SET id = resource.id WHERE false",
)
"""Inserts whom the ledger does not know. Whom it knows it leaves as he is, and on Postgres locks him all the same: part
of the walk, where an insert after the locks could wait for somebody who waits for one of them."""


# --- the act --------------------------------------------------------------------------------------


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
    page = {as_stored(row.snapshot.ref): row for row in rows}
    if not page:
        return []
    walk = _Walk(tx, page, started_at, cause, settle)
    walk.go(now)
    orphans = {ref for ref in walk.met if (whole := page[ref].snapshot.part_of) and walk.is_gone(as_stored(whole))}
    changes = [_first_change(page[ref], columns, cause, settle[ref.kind]) for ref, columns in walk.met.items()]
    applied = [Applied(page[ref].snapshot.ref, Outcome.CHANGED, 1, cause, dirty=ref in orphans) for ref in walk.met]
    writes: list[dict[str, Any]] = []
    marks = [follow_up(ref, cause, settle[ref.kind]) for ref in orphans]
    for ref, row in walk.known.items():
        brought = page[ref]
        window = settle[ref.kind]
        seq = walk.seqs[ref]
        decision = decide_page_row(row, brought, start=start, started_at=started_at, seq=seq, settle=window)
        dirty = row.generation > row.settled_generation
        seen_first_by = Cause(row.cause) if dirty else cause
        if decision.columns:
            writes.append({"id": row.id, "start": start} | decision.columns)
        if decision.mark:
            marks.append(Mark(ref, cause, settle=window))
        if decision.outcome is Outcome.CHANGED:
            changes.append(
                Change(
                    row.id, brought.snapshot, seen_first_by, decision.columns, brought.entries, window, brought.packed
                )
            )
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
    store(tx, _WRITE_PAGE_ROW, writes, changes, now)
    mark(tx, marks, now)
    mark_what_follows(tx, changes, now, known=walk.looked_at, marked=walk.marked)
    return applied


def _first_change(row: PageRow, columns: tuple[Any, ...], cause: Cause, lag: timedelta) -> Change:
    """The first version of a row, from what `_MEET_PAGE_ROW` was given."""
    read = dict(zip(READ_COLUMNS, columns[_NAMED:], strict=True))
    return Change(columns[0], row.snapshot, cause.value, read, row.entries, lag, row.packed)


_NAMED = 6
"""How many columns come before those."""


class _Way(Enum):
    """How the walk takes a row."""

    SHOWN = "a row of the page"
    NAMED = "the ledger does not know it; what brings it marks it"
    LOCKED = "it is known, and may be marked or looked at"


class _Walk:
    """One walk over everything that a page may touch."""

    def __init__(
        self,
        tx: Transaction,
        page: Mapping[ResourceRef, PageRow],
        started_at: datetime,
        cause: Cause,
        settle: Mapping[str, timedelta],
    ) -> None:
        self._tx = tx
        self._page = page
        self._cause = cause
        self._settle = settle
        self._began = to_micros(started_at)
        self._ids: dict[ResourceRef, int] = {}
        self._mentioned: dict[ResourceRef, str | None] = {}
        """What new rows bring beside the page's rows, by its state; None: the ledger does not know it."""
        self.seqs: dict[ResourceRef, int] = {}
        self.met: dict[ResourceRef, tuple[Any, ...]] = {}
        """Rows of the page that this walk inserted with their first version, as it inserted them."""
        self.known: dict[ResourceRef, ResourceRow] = {}
        """Its other rows, locked."""
        self.marked: set[ResourceRef] = set()
        """What it inserted with a mark."""

    def go(self, now: datetime) -> None:
        """On SQLite nobody else writes meanwhile: what was seen is what is, and nothing has to be locked."""
        seen = self._look()
        brought = self._brought(seen)
        # Strings compare by code points, as their bytes do: the order in which marks are written.
        for way, run in groupby(sorted({*self._page, *brought}, key=_KEY), key=self._way):
            refs = list(run)
            match way:
                case _Way.SHOWN:
                    self._meet(refs, seen)
                case _Way.NAMED:
                    wanted = [each for ref in refs for each in brought[ref]]
                    if mark_unknown(self._tx, wanted, now) == len(refs):
                        self.marked.update(refs)
                case _Way.LOCKED:
                    self._lock(refs)
                case _:
                    assert_never(way)
        if not self._tx.dialect.is_postgres:
            self.known = dict(seen)
        if left := [ref for ref in self._page if ref not in self.met and ref not in self.known]:
            self.known |= _by_ref(_ask(self._tx, left, ROW))

    @property
    def looked_at(self) -> Collection[ResourceRef]:
        """Of these it is settled whether the ledger knows them."""
        return self._page.keys() | self._mentioned.keys()

    def is_gone(self, ref: ResourceRef) -> bool:
        row = self.known.get(ref)
        return (self._mentioned.get(ref) if row is None else row.state) == State.DELETED.value

    # --- before the walk: what is known, without a lock ---

    def _look(self) -> Mapping[ResourceRef, Any]:
        """The page's rows that the ledger knows."""
        columns = _STATE if self._tx.dialect.is_postgres else ROW
        questions = [_question(self._tx, each, columns) for each in _by_kind(self._page)]
        ticks, answers = self._tx.ticks_and(2 * len(self._page), questions)
        self._ids = dict(zip(self._page, ticks[::2], strict=True))
        self.seqs = dict(zip(self._page, ticks[1::2], strict=True))
        found = list(chain.from_iterable(answers))
        if self._tx.dialect.is_postgres:
            return {ResourceRef(*row[:4]): row[4:] for row in found}
        return _by_ref(found)

    def _brought(self, seen: Mapping[ResourceRef, Any]) -> dict[ResourceRef, list[Mark]]:
        """What rows bring that seem to be new, as far as the walk inserts it (with these marks) or locks it (no marks).

        What is known and only named is neither: nothing is asked of it.
        """
        marks: dict[ResourceRef, list[Mark]] = defaultdict(list)
        later: set[ResourceRef] = set()
        for ref, row in self._page.items():
            if not row.readable or (ref in seen and not _differs(row.snapshot, seen[ref])):
                continue
            snapshot, lag = row.snapshot, self._settle[ref.kind]
            for each in snapshot.related:
                marks[as_stored(each)].append(Mark(each, self._cause, settle=lag, expected=EXISTS))
            for each in snapshot.parts:
                marks[as_stored(each)].append(follow_up(each, self._cause, lag))
            whole = () if snapshot.part_of is None else (snapshot.part_of,)
            later.update(map(as_stored, (*snapshot.parts, *snapshot.affects, *whole)))
        outside = (marks.keys() | later) - self._page.keys()
        if not outside:
            return {}
        states = {ResourceRef(*row[:4]): row[4] for row in _ask(self._tx, outside, _STATE)}
        self._mentioned = {ref: states.get(ref) for ref in outside}
        named = {ref: marks[ref] for ref in marks.keys() & outside if ref not in states}
        locked = later & states.keys() if self._tx.dialect.is_postgres else ()
        return named | {ref: [] for ref in locked}

    # --- the walk ---

    def _way(self, ref: ResourceRef) -> _Way:
        if ref in self._page:
            return _Way.SHOWN
        return _Way.NAMED if self._mentioned[ref] is None else _Way.LOCKED

    def _meet(self, refs: Sequence[ResourceRef], seen: Collection[ResourceRef]) -> None:
        """Insert those that the ledger meets here for the first time; those that can be read with their first version.

        One that somebody else inserts at this moment is waited for, and is then no stranger.
        """
        strangers = [ref for ref in refs if ref not in seen]
        on_postgres = self._tx.dialect.is_postgres
        if not strangers:
            if on_postgres:
                self.known |= _by_ref(_ask(self._tx, refs, ROW, _LOCKED))
            return
        offered = {ref: self._offered(ref) for ref in (refs if on_postgres else strangers)}
        inserted = _MEET_PAGE_ROW.run_rows(self._tx, list(offered.values()))
        ours = set(strangers)
        if inserted < len(strangers):
            there = {row[4]: ResourceRef(*row[:4]) for row in _ask(self._tx, strangers, f"{_NAME}, id")}
            ours = {there[self._ids[ref]] for ref in strangers if self._ids[ref] in there}
        self.met |= {ref: offered[ref] for ref in strangers if ref in ours and self._page[ref].readable}

    def _offered(self, ref: ResourceRef) -> tuple[Any, ...]:
        """As `_MEET_PAGE_ROW` takes it; of what cannot be read, its name only."""
        row = self._page[ref]
        named = (self._ids[ref], ref.provider, ref.account, ref.kind, ref.id, self._cause.value)
        if not row.readable:
            return (*named, State.UNKNOWN.value, 0, None, 0, None, None, None, None)
        snapshot = row.snapshot
        return (
            *named,
            State.PRESENT.value,
            1,
            snapshot.content_hash,
            self.seqs[ref],
            self._began,
            snapshot.status,
            kept(None, snapshot.created_at),
            kept(None, snapshot.updated_at),
        )

    def _lock(self, refs: Sequence[ResourceRef]) -> None:
        for row in _ask(self._tx, refs, _STATE, _LOCKED):
            self._mentioned[ResourceRef(*row[:4])] = row[4]


def _differs(snapshot: Snapshot, seen: Any) -> bool:
    state, content_hash = (seen.state, seen.content_hash) if isinstance(seen, ResourceRow) else seen
    return bool(state != State.PRESENT.value or content_hash != snapshot.content_hash)


# --- asking for rows by their names ----------------------------------------------------------------


def _ask(tx: Transaction, refs: Iterable[ResourceRef], columns: str, end: str = "") -> list[tuple[Any, ...]]:
    """One question for each kind. With `end` they are locked, in the order of keys, and so asked one after another."""
    questions = [_question(tx, each, columns, end) for each in _by_kind(refs)]
    answers = [tx.ask_driver(*each) for each in questions] if end else tx.ask_together(questions)
    return list(chain.from_iterable(answers))


def _question(
    tx: Transaction, of_kind: tuple[str, str, list[str]], columns: str, end: str = ""
) -> tuple[str, tuple[str, ...]]:
    account, kind, ids = of_kind
    where = _ON_POSTGRES if tx.dialect.is_postgres else _ON_SQLITE
    return f"SELECT {columns} FROM resource WHERE {where} {end}", (account, kind, orjson.dumps(ids).decode())


def _by_kind(refs: Iterable[ResourceRef]) -> list[tuple[str, str, list[str]]]:
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for ref in refs:
        groups[ref.account, ref.kind].append(ref.id)
    return [(account, kind, ids) for (account, kind), ids in sorted(groups.items())]


def _by_ref(rows: Iterable[tuple[Any, ...]]) -> dict[ResourceRef, ResourceRow]:
    return {row.ref: row for row in map(ResourceRow._make, rows)}
