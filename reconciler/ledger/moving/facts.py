"""A sort of line that is one row of one table: how it is selected, written, read and stored.

A fact that is there already is left alone, so that importing twice changes nothing; one that is there and *different*
is refused, because then the two ledgers do not speak of the same past.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.sql.elements import TextClause

from reconciler.ledger.bulk import BYTES, TRUTH, WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.codec import pack, unpack
from reconciler.ledger.moving.fields import Given, WrongLine, iso
from reconciler.ledger.transaction import Transaction

Row = dict[str, Any]


# --- columns --------------------------------------------------------------------------------------


class Column(NamedTuple):
    """One value: how it lies in the table, how it is written in a line, and how it is read from one."""

    bulk: str
    write: Callable[[Any], Any]
    read: Callable[[Given, str], Any]


def _same(value: Any) -> Any:
    return value


def _base64(value: bytes) -> str:
    return base64.b64encode(unpack(value)).decode()


NAME = Column(WORDS, _same, Given.name)
TEXT = Column(WORDS, _same, partial(Given.words, default=""))
MAYBE_TEXT = Column(WORDS, _same, partial(Given.words, default=None))
CURRENCY = Column(WORDS, _same, Given.currency)
NUMBER = Column(WHOLE, _same, Given.whole)
COUNT = Column(WHOLE, _same, partial(Given.whole, least=0))
MAYBE_NUMBER = Column(WHOLE, _same, partial(Given.whole, default=None))
INSTANT = Column(WHOLE, iso, Given.instant)
MAYBE_INSTANT = Column(WHOLE, iso, partial(Given.instant, default=None))
YES_OR_NO = Column(TRUTH, bool, Given.truth)
CONTENT = Column(BYTES, _base64, lambda given, name: pack(given.packed(name)))


def among(*known: str) -> Column:
    return Column(WORDS, _same, lambda given, name: given.among(name, frozenset(known)))


# --- facts ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fact:
    """One sort of line: `{"name": {...}}`."""

    name: str
    table: str
    columns: Mapping[str, str]
    """Of the table, with how each lies in it."""
    key: tuple[str, ...]
    write: Callable[[Any], dict[str, Any]]
    """From a row of the table to the object in the line."""
    read: Callable[[Given], Row]
    """And back. Raises WrongLine."""
    only: str = "1 = 1"
    """Which rows of the table are told."""
    ticked: bool = False
    """The row's id comes from the ledger clock of whichever ledger it lies in."""
    clocked: bool = False
    """The row's id is its place in a log: it is moved as it is, and the ledger clock moves past it."""
    merge: Mapping[str, str] = field(default_factory=dict)
    """For columns that go on moving, what becomes of one that is there already; all others must be equal."""
    _insert: list[Bulk] = field(default_factory=list)

    def select(self, collate: str) -> TextClause:
        order = ", ".join(f"{name}{collate if self.columns[name] == WORDS else ''}" for name in self.key)
        return text(f"SELECT {', '.join(self.columns)} FROM {self.table} WHERE {self.only} ORDER BY {order}")

    def store(self, tx: Transaction, rows: Sequence[tuple[int, Row]]) -> int:
        """How many were new. Raises WrongLine, with the line's number, for one that contradicts the ledger."""
        if self.clocked:
            raise_clock(tx, max(row["id"] for _, row in rows))
        ids = tx.ticks(len(rows)) if self.ticked else [0] * len(rows)
        written = self._bulk().run(
            tx, [row | ({"id": row_id} if self.ticked else {}) for row_id, (_, row) in zip(ids, rows, strict=True)]
        )
        if not self.merge and written < len(rows):
            for number, row in rows:
                self._require_equal(tx, number, row)
        return written

    def _bulk(self) -> Bulk:
        if not self._insert:
            columns = ({"id": WHOLE} if self.ticked else {}) | dict(self.columns)
            merged = ", ".join(f"{name} = {rule}" for name, rule in self.merge.items())
            conflict = f"DO UPDATE SET {merged}" if merged else "DO NOTHING"
            self._insert.append(insert_into(self.table, columns, f"ON CONFLICT ({', '.join(self.key)}) {conflict}"))
        return self._insert[0]

    def _require_equal(self, tx: Transaction, number: int, row: Row) -> None:
        where = " AND ".join(f"{name} = :{name}" for name in self.key)
        there = tx.run(
            text(f"SELECT {', '.join(self.columns)} FROM {self.table} WHERE {where}"),
            {name: row[name] for name in self.key},
        ).one()
        for name in self.columns:
            if _plain(getattr(there, name)) != _plain(row[name]):
                raise WrongLine(
                    f"line {number}: the ledger holds another {name} for the same {self.name}; "
                    "these two ledgers do not share their past"
                )


def _plain(value: Any) -> Any:
    """Packed bytes are compared by what is in them."""
    return unpack(value) if isinstance(value, bytes) else value


def plain(name: str, columns: Mapping[str, Column], key: tuple[str, ...], *, table: str = "", **more: Any) -> Fact:
    """A fact whose line has the names and the values of its table."""

    def write(row: Any) -> dict[str, Any]:
        return {each: None if (value := getattr(row, each)) is None else columns[each].write(value) for each in columns}

    def read(given: Given) -> Row:
        return {each: column.read(given, each) for each, column in columns.items()}

    return Fact(name, table or name, {each: column.bulk for each, column in columns.items()}, key, write, read, **more)


_RAISE_CLOCK = {
    "sqlite": text("UPDATE ledger_clock_row SET value = max(value, :least) WHERE id = 1"),
    "postgresql": text(
        "SELECT setval('ledger_clock', GREATEST((SELECT last_value FROM ledger_clock), CAST(:least AS bigint)))"
    ),
}


def raise_clock(tx: Transaction, least: int) -> None:
    """From now on the ledger clock reads more than `least`."""
    tx.run(_RAISE_CLOCK[tx.dialect.name], {"least": least})
