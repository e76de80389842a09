"""Control totals of a file: how many rows, and per column and currency the sum that a reader must find in it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from reconciler.report.canonical import plain
from reconciler.report.formats.columns import Row, Sheet
from reconciler.report.model import Amount
from reconciler.report.scope import scaled


class Totals:
    """Counts along while rows pass. Currencies stay apart."""

    def __init__(self, sheet: Sheet) -> None:
        self.rows = 0
        self._sheet = sheet
        self._sums: dict[tuple[int, str], Amount] = {}

    def watch(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.add(row)
            yield row

    def add(self, row: Row) -> None:
        self.rows += 1
        for place in self._sheet.amounts:
            amount = row[place]
            if isinstance(amount, Amount):
                self._add(place, amount)

    def _add(self, place: int, amount: Amount) -> None:
        """Two providers may count a currency in different units: the finer one holds both exactly."""
        before = self._sums.get((place, amount.currency))
        if before is None:
            self._sums[place, amount.currency] = amount
            return
        finer = max(before.exponent, amount.exponent)
        total = scaled(before.minor, before.exponent, finer) + scaled(amount.minor, amount.exponent, finer)
        self._sums[place, amount.currency] = Amount(total, amount.currency, finer)

    def of(self, place: int) -> dict[str, Amount]:
        """Currency -> the column's sum."""
        found = {currency: amount for (at, currency), amount in self._sums.items() if at == place}
        return dict(sorted(found.items()))

    def document(self) -> dict[str, Any]:
        return {self._sheet.columns[place].name: plain(self.of(place)) for place in self._sheet.amounts}
