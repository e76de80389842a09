"""Tables: what a page shows, what a file holds, how both are sorted. Nothing here knows what the rows are about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar

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

    @property
    def negative(self) -> bool:
        match self.value:
            case Amount():
                return self.value.minor < 0
            case int() | Decimal():
                return self.value < 0
            case _:
                return False


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
        """Of each column the most decimals of its amounts, so that the points stand below each other.

        Looks at every cell: a page asks once, not for each cell."""
        return tuple(
            max((cell.value.exponent for cell in column if isinstance(cell.value, Amount)), default=0)
            for column in (zip(*self.rows, strict=True) if self.rows else ())
        )


def columns(*named: str | tuple[str, Kind]) -> tuple[Column, ...]:
    """Names alone are text."""
    return tuple(Column(each, Kind.TEXT) if isinstance(each, str) else Column(*each) for each in named)


class Lines(Generic[T]):
    """Rows that are made when they are shown: twenty thousand breaks cost what two hundred do.

    `values` is a row without its links: what files hold, and what it is sorted by."""

    def __init__(self, things: Sequence[T], make: Callable[[T], Line], values: Callable[[T], Sequence[Value]]) -> None:
        self._things = things
        self._make = make
        self._values = values

    def __len__(self) -> int:
        return len(self._things)

    def first(self, count: int) -> list[Line]:
        return [self._make(each) for each in self._things[:count]]

    def every(self) -> Iterator[tuple[Value, ...]]:
        return (tuple(self._values(each)) for each in self._things)

    def sorted(self, place: int, *, backwards: bool) -> Lines[T]:
        """By one of its columns."""
        keys = [(self._values(each)[place], each) for each in self._things]
        ordered = [each for _, each in _in_order(keys, lambda pair: pair[0], backwards=backwards)]
        return Lines(ordered, self._make, self._values)


def in_memory(
    name: str,
    title: str,
    heads: Sequence[Column],
    lines: Iterable[Line] | Lines[Any],
    query: Query,
    here: Callable[..., str],
    *,
    empty: str,
    listed: int = LISTED,
    note: str = "",
) -> Table:
    """A table whose rows are all known: sortable by every column, the first ones shown, all of them in files."""
    place, backwards = _order(query.text("sort"), name, heads)
    if isinstance(lines, Lines):
        made = lines if place is None else lines.sorted(place, backwards=backwards)
        rows, total, every = [_cells(line) for line in made.first(listed)], len(made), made.every
    else:
        all_rows = [_cells(line) for line in lines]
        if place is not None:
            chosen = place
            all_rows = _in_order(all_rows, lambda row: row[chosen].value, backwards=backwards)
        rows, total = all_rows[:listed], len(all_rows)

        def every() -> Iterator[tuple[Value, ...]]:
            return (tuple(cell.value for cell in row) for row in all_rows)

    return Table(
        name=name,
        title=title,
        heads=tuple(
            _head(column, name, here, sorted_="" if at != place else "descending" if backwards else "ascending")
            for at, column in enumerate(heads)
        ),
        rows=tuple(rows),
        every=every,
        empty=empty,
        total=total,
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


def _in_order(things: Iterable[T], value: Callable[[T], Value], *, backwards: bool) -> list[T]:
    ordered = sorted(things, key=lambda each: _key(value(each)), reverse=backwards)
    # What is empty says nothing about its size: it stands at the end in both directions.
    return sorted(ordered, key=lambda each: value(each) is None)


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
