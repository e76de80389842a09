"""WAT, its left part: what a shop's orders sold, and how they were paid. Read only where somebody asks for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from reconciler.ledger import movements
from reconciler.ledger.transaction import Transaction
from reconciler.movements import Condition, Movement, Role
from reconciler.report.facts import AccountTerms, Facts, SalesFacts
from reconciler.report.model import Bar, Params, SalesBlock
from reconciler.report.periods import Period
from reconciler.report.reading import Unreadable
from reconciler.report.scope import Scope

TENDER = "tender."


# --- what is asked of the ledger ------------------------------------------------------------------


def gather(
    tx: Transaction, term: AccountTerms, period: Period, params: Params, *, rows_hold: bool, unreadable: Unreadable
) -> SalesFacts | None:
    """The orders that were made in the period, with all their payments, whenever those came; None: it has no orders."""
    if term.finance.orders is None:
        return None
    kind, read = term.finance.orders
    read = unreadable.or_else(None, read)
    born = movements.snapshots_born(tx, term.name, kind, period.start, period.end, params.as_of)
    orders = tuple(sorted((sold for each in born if (sold := read(each))), key=lambda sold: sold.ref))
    names = {sold.order for sold in orders}
    paid = [
        each
        for each in _payments(tx, term, names, params, rows_hold=rows_hold, unreadable=unreadable)
        if each.role is Role.SALE and each.condition is Condition.SETTLED and each.order in names
    ]
    return SalesFacts(term.name, orders, tuple(sorted(paid, key=lambda each: each.ref)))


def _payments(
    tx: Transaction,
    term: AccountTerms,
    names: set[str],
    params: Params,
    *,
    rows_hold: bool,
    unreadable: Unreadable,
) -> Iterator[Movement]:
    if rows_hold:
        for known in movements.named_in_rows(tx, term.name, names, params.as_of):
            yield known.movement
    read = unreadable.or_else((), term.finance.read)
    for kind in sorted(term.finance.kinds):
        for known in movements.from_bodies(tx, term.name, kind, params.as_of, read, unread=rows_hold):
            yield known.movement


# --- what the report says -------------------------------------------------------------------------


def blocks(scope: Scope, facts: Facts) -> tuple[SalesBlock, ...]:
    """One for each shop and currency; a payment in another currency than its order's stands in its own."""
    return tuple(
        block
        for each in facts.sales
        for currency in sorted(
            {order.due.currency for order in each.orders} | {paid.amount.currency for paid in each.payments}
        )
        if scope.holds(currency)
        for block in (_block(scope, each, currency),)
    )


def _block(scope: Scope, sales: SalesFacts, currency: str) -> SalesBlock:
    orders = [order for order in sales.orders if order.due.currency == currency]
    steps: dict[str, int] = {}
    for order in orders:
        for code, amount in order.steps:
            steps[code] = steps.get(code, 0) + amount.minor
    tenders: dict[str, int] = defaultdict(int)
    for paid in sales.payments:
        if paid.amount.currency == currency:
            tenders[f"{TENDER}{paid.gateway}"] -= paid.amount.minor
    bars, level = [], 0
    for code, minor in [*steps.items(), *sorted(tenders.items())]:
        start, end = (scope.own(each, sales.account, currency) for each in (level, level + minor))
        bars.append(Bar(code, scope.own(minor, sales.account, currency), start, end))
        level += minor
    return SalesBlock(sales.account, currency, len(orders), tuple(bars))
