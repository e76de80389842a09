"""The change feed: every version in one order that a reader can follow without ever passing by one.

A version is noted in the transaction that stores it. Its position comes later, and from one transaction at a time:
on Postgres a number that is taken before the commit says nothing about the order of commits, and a reader who has
seen 8 would never again ask for a 7 that commits late. Whoever places holds the lock on the feed's head until its
commit, so that positions become visible in their order, without gaps. SQLite has one writer, which places at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import orjson
from sqlalchemy import bindparam, text

from reconciler.clock import from_micros
from reconciler.errors import UsageError
from reconciler.ledger.bulk import WHOLE, Bulk, insert_into
from reconciler.ledger.packing import Place
from reconciler.ledger.question import Question
from reconciler.ledger.store import Store
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, ResourceRef, State, changed_fields

PLACED_AT_ONCE = 2000
"""Most positions that one transaction gives: its lock is held until it commits."""

REACH = 5000
"""Most positions that one read looks through for what a filter wants."""

MOST_BYTES = 8 * 2**20
"""Of bodies that one read looks into, the ones before included."""
_FETCHED = 50
"""Rows at once."""

WHOLE_OBJECT = "*"
"""How a resource that came or went stands among the changed fields."""


class ForeignCursor(UsageError):
    """The cursor was given by another ledger, or by a past that a restored backup does not have; begin anew."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the feed: everything up to `position` was seen. As text it means nothing to anybody but us."""

    epoch: str
    position: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.position}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises UsageError."""
        epoch, dot, position = text.strip().partition(".")
        if not (epoch and dot and position.isascii() and position.isdigit() and len(position) < 19):
            raise UsageError(f"{text!r} is no cursor; send the one that the last answer gave, or none to begin")
        return cls(epoch, int(position))


@dataclass(frozen=True, slots=True)
class Filter:
    """Which changes somebody wants to hear of; an empty set: any."""

    accounts: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    causes: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()
    """Dotted paths; `status` also stands for everything below it. What came or went as a whole changed every field."""

    def wants(self, account: str, kind: str, cause: str) -> bool:
        """Whether it can want a change of this sort at all; its fields are not looked at."""
        return (
            (not self.accounts or account in self.accounts)
            and (not self.kinds or kind in self.kinds)
            and (not self.causes or cause in self.causes)
        )

    def wants_fields(self, changed: Iterable[str]) -> bool:
        if not self.fields:
            return True
        return any(path == WHOLE_OBJECT or self._names(path) for path in changed)

    def _names(self, path: str) -> bool:
        below = f"{path}."
        return any(below.startswith(f"{field}.") or field.startswith(below) for field in self.fields)


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Change:
    """A version as others are told of it. Read from the version itself, so that what is redacted is gone here too."""

    resource_id: int
    ref: ResourceRef
    version: int
    state: State
    cause: Cause
    recorded_at: datetime
    changed: tuple[str, ...]
    """Dotted paths that differ from the version before; `*` where the whole object came or went."""
    body: Mapping[str, Any] | None
    position: int | None = None
    """None: not placed yet."""

    @property
    def previous_version(self) -> int | None:
        return self.version - 1 if self.version > 1 else None


@dataclass(frozen=True, slots=True)
class FeedPage:
    changes: tuple[Change, ...]
    cursor: Cursor
    """Where to go on, also when nothing was found."""
    more: bool
    """Whether there are placed changes behind the cursor."""


# --- writing ----------------------------------------------------------------------------------------

_NOTE = insert_into("change", {"resource_id": WHOLE, "version": WHOLE, "position": WHOLE})
_ADVANCE = Question("UPDATE feed SET position = position + :count WHERE id = 1 RETURNING position")
_NOTE_MISSING = text(
    """
    INSERT INTO change (resource_id, version, position)
    SELECT v.resource_id, v.version, NULL FROM version v
    LEFT JOIN change c ON c.resource_id = v.resource_id AND c.version = v.version
    WHERE c.resource_id IS NULL
    """
)
_UNPLACED = text(
    "SELECT resource_id, version FROM change WHERE position IS NULL ORDER BY resource_id, version LIMIT :limit"
)
_PLACE = Bulk(
    "UPDATE change SET position = {position} {_rows}"
    " WHERE change.resource_id = {resource_id} AND change.version = {version} AND change.position IS NULL",
    {"resource_id": WHOLE, "version": WHOLE, "position": WHOLE},
)


def note(tx: Transaction, versions: Sequence[tuple[int, int]]) -> None:
    """(resource id, version) of what this transaction stored; of one resource in the order of versions."""
    first = 0
    if not tx.dialect.is_postgres:
        first = _ADVANCE.ask(tx, {"count": len(versions)})[0][0] - len(versions) + 1
    _NOTE.run_rows_ahead(
        tx,
        [(resource_id, version, first + n if first else None) for n, (resource_id, version) in enumerate(versions)],
    )


def note_missing(tx: Transaction) -> None:
    """Versions that came past `note`, from an export: they are placed behind everything that is placed already."""
    tx.run(_NOTE_MISSING)
    if not tx.dialect.is_postgres:
        while place(tx) == PLACED_AT_ONCE:
            continue


_IS_UNPLACED = "SELECT 1 FROM change WHERE position IS NULL LIMIT 1"


def place(tx: Transaction, limit: int = PLACED_AT_ONCE) -> int:
    """Give positions to what has committed since; how many. 0 also when another transaction is at it: it never waits.

    By resource and version: of one resource the versions become visible in their order, and of two resources no
    order was ever promised.
    """
    # Where nothing waits nothing is locked: a lock alone would make the commit one that the disk waits for.
    head = tx.run(
        text(f"SELECT position FROM feed WHERE id = 1 AND EXISTS ({_IS_UNPLACED}) {tx.dialect.skip_locked}")
    ).scalar_one_or_none()
    if head is None:
        return 0
    # A statement of its own, and so a snapshot of its own, taken under the lock.
    rows = tx.run(_UNPLACED, {"limit": limit}).all()
    _PLACE.run(
        tx,
        [
            {"resource_id": row.resource_id, "version": row.version, "position": position}
            for position, row in enumerate(rows, start=head + 1)
        ],
    )
    _ADVANCE.ask(tx, {"count": len(rows)})
    return len(rows)


_BEGIN_EPOCH = text("UPDATE feed SET epoch = :epoch WHERE id = 1")


def begin_epoch(tx: Transaction) -> None:
    """Every cursor that was ever given is refused from now on: what follows here is not what followed there."""
    tx.run(_BEGIN_EPOCH, {"epoch": secrets.token_hex(4)})


# --- reading ----------------------------------------------------------------------------------------

_COLUMNS = """
  c.position, r.id, r.provider, r.account, r.kind, r.remote_id, v.version, v.state, v.cause, v.recorded_at, v.body,
  before.body AS body_before
"""
_JOINS = """
  JOIN resource r ON r.id = v.resource_id
  LEFT JOIN version before ON before.resource_id = v.resource_id AND before.version = v.version - 1
"""
_BETWEEN = f"""
  SELECT {_COLUMNS} FROM change c
  JOIN version v ON v.resource_id = c.resource_id AND v.version = c.version {_JOINS}
  WHERE c.position > :after AND c.position <= :until {{more}} ORDER BY c.position LIMIT :limit
"""
_SINGLE = text(
    f"""
    SELECT {_COLUMNS} FROM version v
    LEFT JOIN change c ON c.resource_id = v.resource_id AND c.version = v.version {_JOINS}
    WHERE v.resource_id = :resource_id AND v.version = :version
    """
)
_FEED = text("SELECT position, epoch FROM feed WHERE id = 1")


def head(tx: Transaction) -> Cursor:
    """Behind everything that is placed."""
    row = tx.run(_FEED).one()
    return Cursor(row.epoch, row.position)


def read(
    tx: Transaction, after: Cursor | None, wanted: Filter, *, limit: int, most_bytes: int = MOST_BYTES
) -> FeedPage:
    """Up to `limit` changes behind `after` (None: from the first), in order; the one whose bodies go beyond
    `most_bytes` is the last. Raises ForeignCursor."""
    end = head(tx)
    if after is not None and after.epoch != end.epoch:
        raise ForeignCursor(f"the cursor {after} was given by another ledger; begin again without one")
    if after is not None and after.position > end.position:
        raise ForeignCursor(
            f"the cursor {after} lies ahead of this ledger's feed, which was restored from a backup; "
            "begin again without one, or at an older one"
        )
    since = 0 if after is None else after.position
    until = min(end.position, since + REACH)
    more, given = _conditions(wanted)
    statement = text(_BETWEEN.format(more=more)).bindparams(*(bindparam(name, expanding=True) for name in given))
    found, count, size, reached = list[Change](), 0, 0, until
    streamed = statement.execution_options(stream_results=True, yield_per=_FETCHED)
    with tx.run(streamed, {"after": since, "until": until, "limit": limit} | given) as rows:
        for row in rows:
            change, read_bytes = _change(tx, row)
            if wanted.wants_fields(change.changed):
                found.append(change)
            count, size = count + 1, size + read_bytes
            if count == limit or size >= most_bytes:
                reached = row.position
                break
    return FeedPage(tuple(found), Cursor(end.epoch, reached), more=reached < end.position)


def single(tx: Transaction, resource_id: int, version: int) -> Change | None:
    """One version as a change, placed or not."""
    row = tx.run(_SINGLE, {"resource_id": resource_id, "version": version}).one_or_none()
    return None if row is None else _change(tx, row)[0]


def _conditions(wanted: Filter) -> tuple[str, dict[str, list[str]]]:
    given: dict[str, list[str]] = {}
    conditions = []
    for name, column in (("accounts", "r.account"), ("kinds", "r.kind"), ("causes", "v.cause")):
        values: frozenset[str] = getattr(wanted, name)
        if values:
            conditions.append(f"AND {column} IN :{name}")
            given[name] = sorted(values)
    return " ".join(conditions), given


def _change(tx: Transaction, row: Any) -> tuple[Change, int]:
    """And how many bytes were read for it."""
    said = [None if stored is None else tx.unpack(stored, Place.VERSION) for stored in (row.body, row.body_before)]
    body, before = (None if each is None else orjson.loads(each) for each in said)
    change = Change(
        resource_id=row.id,
        ref=ResourceRef(row.provider, row.account, row.kind, row.remote_id),
        version=row.version,
        state=State(row.state),
        cause=Cause(row.cause),
        recorded_at=from_micros(row.recorded_at),
        changed=tuple(changed_fields(before, body)),
        body=body,
        position=row.position,
    )
    return change, sum(len(each) for each in said if each is not None)


class Changes:
    """The feed of one ledger, a transaction for each call."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.places_later = store.dialect.is_postgres
        """Whether what commits is placed by a transaction of its own, later."""

    def any_unplaced(self) -> bool:
        if not self.places_later:
            return False
        with self._store.read() as tx:
            return tx.run(text(_IS_UNPLACED)).first() is not None

    def place(self, limit: int = PLACED_AT_ONCE) -> int:
        """Place what has committed since; how many."""
        with self._store.write() as tx:
            return place(tx, limit)

    def head(self) -> Cursor:
        with self._store.read() as tx:
            return head(tx)

    def single(self, resource_id: int, version: int) -> Change | None:
        with self._store.read() as tx:
            return single(tx, resource_id, version)

    def read(self, after: Cursor | None, wanted: Filter = EVERYTHING, *, limit: int = 100) -> FeedPage:
        """Only what is placed: call `place` first for what committed a moment ago. Raises ForeignCursor."""
        with self._store.read() as tx:
            return read(tx, after, wanted, limit=limit)
