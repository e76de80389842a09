"""Tables: what a page shows, what a file holds, how both are sorted. Nothing here knows what the rows are about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Final, Generic, TypeVar

from reconciler.console.query import Query
from reconciler.report.formats.columns import Column, Kind, Value
from reconciler.report.model import Amount

T = TypeVar("T")

LISTED: Final = 200
"""Rows that a page shows of a table that is in memory; a file has all of them."""

_RIGHT: Final = frozenset({Kind.COUNT, Kind.AMOUNT, Kind.NUMBER})


@dataclass(frozen=True, slots=True)
class Cell:
    """`value` goes into files too; the rest is how a page shows it."""

    value: Value
    href: str = ""
    tone: str = ""
    """`good`, `bad`, `warn` or `quiet`: a class of the style sheet, always beside words."""
    code: bool = False
    """An identifier: in the letters in which 0 and O differ."""
    brief: str = ""
    """What a page shows instead of the value, where that is long; files have the value."""
    hint: str = ""
    """What a pointer that rests on it is told."""


Line = Sequence[Cell | Value]


@dataclass(frozen=True, slots=True)
class Head:
    column: Column
    sort_href: str = ""
    """Empty: this table keeps its order."""
    sorted: str = ""
    """`ascending`, `descending`, or nothing."""

    @property
    def right(self) -> bool:
        return self.column.kind in _RIGHT


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    title: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[Cell, ...], ...]
    every: Callable[[], Iterable[tuple[Value, ...]]]
    """All of it, for files. Called on a thread, after the page's own view of the ledger was closed."""
    empty: str
    """What to say, and what to do, where there is nothing."""
    total: int | None = None
    """How many there are; None where nobody has counted."""
    older: str = ""
    """Where the rows after these are."""
    newer: str = ""
    """Where the first rows are, for those who have gone on."""
    note: str = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(head.column for head in self.heads)

    @property
    def decimals(self) -> tuple[int, ...]:
        """Of each column the most decimals of its amounts, so that the points stand below each other."""
        return tuple(
            max((cell.value.exponent for cell in column if isinstance(cell.value, Amount)), default=0)
            for column in (zip(*self.rows, strict=True) if self.rows else ())
        )


def columns(*named: str | tuple[str, Kind]) -> tuple[Column, ...]:
    """Names alone are text."""
    return tuple(Column(each, Kind.TEXT) if isinstance(each, str) else Column(*each) for each in named)


class Lines(Generic[T]):
    """Rows that are made when they are shown: twenty thousand breaks cost what two hundred do."""

    def __init__(self, things: Sequence[T], make: Callable[[T], Line]) -> None:
        self._things = things
        self._make = make

    def __len__(self) -> int:
        return len(self._things)

    def __iter__(self) -> Iterator[Line]:
        return map(self._make, self._things)


def in_memory(
    name: str,
    title: str,
    heads: Sequence[Column],
    lines: Iterable[Line],
    query: Query,
    here: Callable[..., str],
    *,
    empty: str,
    listed: int = LISTED,
    note: str = "",
) -> Table:
    """A table whose rows are all known: sortable by every column, the first ones shown, all of them in files."""
    place, backwards = _order(query.text("sort"), name, heads)
    made = lines if isinstance(lines, Lines) else None
    wanted = islice(made, listed) if made is not None and place is None else lines
    rows = [_cells(line) for line in wanted]
    if place is not None:
        chosen = place
        rows.sort(key=lambda row: _key(row[chosen].value), reverse=backwards)
        # What is empty says nothing about its size: it stands at the end in both directions.
        rows.sort(key=lambda row: row[chosen].value is None)
    return Table(
        name=name,
        title=title,
        heads=tuple(
            _head(column, name, here, sorted_="" if at != place else "descending" if backwards else "ascending")
            for at, column in enumerate(heads)
        ),
        rows=tuple(rows[:listed]),
        every=lambda: (
            tuple(cell.value for cell in row)
            for row in (rows if made is None or place is not None else map(_cells, made))
        ),
        empty=empty,
        total=len(rows) if made is None else len(made),
        note=note,
    )


def paged(
    name: str,
    title: str,
    heads: Sequence[Column],
    lines: Iterable[Line],
    every: Callable[[], Iterable[tuple[Value, ...]]],
    *,
    empty: str,
    older: str = "",
    newer: str = "",
    note: str = "",
) -> Table:
    """One page of rows that stay in the ledger."""
    rows = tuple(tuple(each if isinstance(each, Cell) else Cell(each) for each in line) for line in lines)
    return Table(
        name, title, tuple(Head(column) for column in heads), rows, every, empty, older=older, newer=newer, note=note
    )


def _cells(line: Line) -> tuple[Cell, ...]:
    return tuple(each if isinstance(each, Cell) else Cell(each) for each in line)


def _head(column: Column, table: str, here: Callable[..., str], *, sorted_: str) -> Head:
    wanted = f"-{table}.{column.name}" if sorted_ == "ascending" else f"{table}.{column.name}"
    return Head(column, here(sort=wanted), sorted_)


def _order(text: str, name: str, heads: Sequence[Column]) -> tuple[int | None, bool]:
    backwards, wanted = text.startswith("-"), text.removeprefix("-")
    table, _, column = wanted.partition(".")
    if table != name:
        return None, False
    places = [at for at, head in enumerate(heads) if head.name == column]
    return (places[0], backwards) if places else (None, False)


def _key(value: Value) -> tuple[int, str, Decimal, str]:
    """Amounts by currency first: minor units of two currencies have no order."""
    match value:
        case Amount():
            return 1, value.currency, value.major, ""
        case bool() | int() | Decimal():
            return 2, "", Decimal(value), ""
        case datetime():
            return 3, value.isoformat(), Decimal(0), ""
        case date():
            return 3, value.isoformat(), Decimal(0), ""
        case None:
            return 9, "", Decimal(0), ""
        case str():
            return 4, value.casefold(), Decimal(0), value
