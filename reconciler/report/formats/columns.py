"""Typed columns: what makes an amount stay a number and a text never become a formula, in every format alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property

from reconciler.report.canonical import plain
from reconciler.report.model import Amount

Value = str | int | bool | Amount | Decimal | date | datetime | None
Row = tuple[Value, ...]


class Kind(StrEnum):
    """What a column holds; an empty cell is allowed in each."""

    TEXT = "text"
    """Words and ids. The only kind that comes from outside, so the only one that is guarded."""
    COUNT = "integer"
    AMOUNT = "amount"
    """Major units, plain decimal with exactly the currency's decimals."""
    NUMBER = "decimal"
    """A share or a rate."""
    DAY = "date"
    INSTANT = "datetime"
    """UTC, with a Z."""
    TRUTH = "boolean"


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    """Lower snake case, stable: the CSV's heading."""
    kind: Kind

    @property
    def title(self) -> str:
        """For people."""
        words = self.name.replace("_", " ")
        return words[:1].upper() + words[1:]


@dataclass(frozen=True)
class Sheet:
    """One section as rows. `rows()` starts anew at every call."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Callable[[], Iterable[Row]]
    empty: str = "none"
    """What to say instead of a table without rows."""

    @cached_property
    def amounts(self) -> tuple[int, ...]:
        """Places of the columns that have control totals."""
        return tuple(place for place, column in enumerate(self.columns) if column.kind is Kind.AMOUNT)


def shown(value: Value) -> str:
    """A cell as text: the same in every format, and nothing for an empty one."""
    if value is None:  # the commonest first: an export asks this some ten million times
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Amount):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else str(plain(value))
