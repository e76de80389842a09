"""What a shop counts a sale as that was paid in another currency: by the shop's own word, never by a rate of ours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from reconciler.money import Money
from reconciler.movements import Movement, Role


class Prices:
    """A sale may say so itself; else its order does, of what was paid in one piece (docs/decisions/0107)."""

    def __init__(self, movements: Iterable[Movement]) -> None:
        self._stated: dict[tuple[str, str | None, Money], set[Money]] = defaultdict(set)
        for each in movements:
            if each.role is Role.PRICE and each.counts_as is not None:
                self._stated[each.ref.account, each.order, each.amount].add(each.counts_as)

    def of(self, sale: Movement) -> Iterator[Money]:
        """One amount for each other currency. Where an order says two things of one amount, it says nothing."""
        if sale.counts_as is not None and sale.counts_as.currency != sale.amount.currency:
            yield sale.counts_as
            return
        by_currency: dict[str, set[Money]] = defaultdict(set)
        for each in self._stated.get((sale.ref.account, sale.order, abs(sale.amount)), ()):
            by_currency[each.currency].add(each)
        for some in by_currency.values():
            if len(some) == 1:
                (stated,) = some
                yield stated if sale.amount.minor >= 0 else -stated
