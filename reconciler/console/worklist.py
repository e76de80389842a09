"""What finance has to explain, out of a report: each difference with how it stands, and which of them are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final, Self

from reconciler.console.query import Query
from reconciler.errors import UsageError
from reconciler.ledger.breaks import BreakEvent
from reconciler.money import CURRENCIES
from reconciler.report.model import BreakType, OpenItem, Report, ResolvedItem
from reconciler.report.work import Worklist

STATUSES: Final = ("break", "timing", "resolved", "all")


@dataclass(frozen=True, slots=True)
class Listed:
    item: OpenItem
    status: str
    resolved: ResolvedItem | None = None


def listed(report: Report) -> Iterator[Listed]:
    yield from (Listed(each, "break") for each in report.breaks)
    yield from (Listed(each, "timing") for each in report.timing)
    yield from (Listed(each.item, "resolved", each) for each in report.resolved)


def after(found: Listed, events: Iterable[BreakEvent]) -> Listed:
    """The same difference with all that was done about it, also what is younger than the report."""
    still_open, resolved = Worklist(events).sort([found.item])
    if resolved:
        return Listed(resolved[0].item, "resolved", resolved[0])
    return Listed(still_open[0], "timing" if found.status == "timing" else "break")


def _currency(text: str, among: Iterable[Listed]) -> str:
    code = text.upper()
    if code and code not in CURRENCIES and all(each.item.currency != code for each in among):
        raise UsageError(f"currency: {text[:60]!r} is no currency; write three letters, such as USD")
    return code


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which breaks somebody wants to see."""

    status: str
    type: str
    currency: str
    owner: str
    least: Decimal

    @classmethod
    def of(cls, query: Query, status: str, among: Iterable[Listed]) -> Self:
        """Raises UsageError. Also a currency that we do not know is one where one `among` the listed has it."""
        least = query.text("least")
        try:
            amount = Decimal(least or 0)
        except InvalidOperation:
            raise UsageError(f"least: {least[:60]!r} is no amount; write 10 or 10.50") from None
        if not amount.is_finite():
            raise UsageError("least: write an amount such as 10 or 10.50")
        return cls(
            status,
            query.one_of("type", [each.value for each in BreakType]),
            _currency(query.text("currency"), among),
            query.text("owner"),
            amount,
        )

    def passes(self, each: Listed) -> bool:
        item = each.item
        return (
            self.status in ("all", each.status)
            and self.type in ("", item.type.value)
            and self.currency in ("", item.currency)
            and (not self.owner or (item.owner or "") == ("" if self.owner == "nobody" else self.owner))
            and (not self.least or abs(item.difference.major) >= self.least)
        )
