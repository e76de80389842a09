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
        self._sums: dict[tuple[int, str, int], int] = {}

    def watch(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.add(row)
            yield row

    def add(self, row: Row) -> None:
        self.rows += 1
        sums = self._sums
        for place in self._sheet.amounts:
            amount = row[place]
            if isinstance(amount, Amount):
                key = (place, amount.currency, amount.exponent)
                sums[key] = sums.get(key, 0) + amount.minor

    def of(self, place: int) -> dict[str, Amount]:
        """Currency -> the column's sum. Two providers may count it in different units: the finer holds both."""
        found: dict[str, Amount] = {}
        for (at, currency, exponent), minor in sorted(self._sums.items()):
            if at == place:
                before = found.get(currency, Amount(0, currency, exponent))
                finer = max(before.exponent, exponent)
                total = scaled(before.minor, before.exponent, finer) + scaled(minor, exponent, finer)
                found[currency] = Amount(total, currency, finer)
        return found

    def document(self) -> dict[str, Any]:
        return {self._sheet.columns[place].name: plain(self.of(place)) for place in self._sheet.amounts}
