"""How a section's rows are read out of the report's values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Generic, NamedTuple, TypeVar

from reconciler.report.formats.columns import Column, Kind, Row, Sheet, Value
from reconciler.report.model import BalanceBlock

T = TypeVar("T")

TEXT, COUNT, AMOUNT, NUMBER = Kind.TEXT, Kind.COUNT, Kind.AMOUNT, Kind.NUMBER
DAY, INSTANT, TRUTH = Kind.DAY, Kind.INSTANT, Kind.TRUTH

Reads = tuple[str, Kind] | tuple[str, Kind, str | Callable[[T], Value]]
"""A column: its name, its kind, and the attribute (`kpis.open_value`) or function that it is read with; without one,
the attribute of its own name."""


class Within(NamedTuple, Generic[T]):
    """Something of a balance."""

    block: BalanceBlock
    it: T


OF_BALANCE: tuple[tuple[str, Kind], ...] = (("account", TEXT), ("balance_type", TEXT), ("currency", TEXT))
OF_BLOCK: tuple[tuple[str, Kind, str], ...] = tuple((name, kind, f"block.{name}") for name, kind in OF_BALANCE)
"""The same of a `Within`."""


def section(name: str, title: str, things: Iterable[T], columns: Iterable[Reads[T]], *, empty: str = "none") -> Sheet:
    """A section that is in memory; its rows stand by currency, so that no total ever runs over two of them."""
    chosen = tuple(columns)
    reads = [_reader(column) for column in chosen]
    rows: list[Row] = [tuple(read(thing) for read in reads) for thing in things]
    heads = tuple(Column(column[0], column[1]) for column in chosen)
    names = [column.name for column in heads]
    if "currency" in names:
        place = names.index("currency")
        rows.sort(key=lambda row: str(row[place]))
    return Sheet(name, title, heads, lambda: rows, empty)


def _reader(column: Reads[T]) -> Callable[[T], Value]:
    how = column[2] if len(column) == 3 else column[0]
    return attrgetter(how) if isinstance(how, str) else how
