"""WAT, its left part: what a shop's orders sold, and how they were paid. Read only where somebody asks for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from reconciler.ledger import movements
from reconciler.ledger.transaction import Transaction
from reconciler.money import Money
from reconciler.movements import Condition, Movement, Role
from reconciler.report.facts import AccountTerms, Facts, SalesFacts
from reconciler.report.model import Amount, Params, SalesBar, SalesBlock
from reconciler.report.periods import Period
from reconciler.report.prices import Prices
from reconciler.report.reading import Unreadable
from reconciler.report.scope import Scope

TENDER = "tender."
UNCOUNTED = "uncounted."


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
    due = {sold.order: sold.due.currency for sold in orders}
    names = set(due)
    paid = [
        each
        for each in _payments(tx, term, names, params, rows_hold=rows_hold, unreadable=unreadable)
        if each.role is Role.SALE and each.condition is Condition.SETTLED and each.order in names
    ]
    prices: set[Movement] = set()
    if any(each.amount.currency != due[str(each.order)] for each in paid):
        said = _said(tx, term, names, params, rows_hold=rows_hold, unreadable=unreadable)
        prices = {each for each in said if each.role is Role.PRICE and each.order in names}
    return SalesFacts(
        term.name,
        orders,
        tuple(sorted(paid, key=lambda each: each.ref)),
        tuple(sorted(prices, key=lambda each: (each.ref, each.status, each.amount.minor, str(each.counts_as)))),
    )


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


def _said(
    tx: Transaction,
    term: AccountTerms,
    names: set[str],
    params: Params,
    *,
    rows_hold: bool,
    unreadable: Unreadable,
) -> Iterator[Movement]:
    """Of the orders, by every version that was known: what one said when somebody paid holds for good."""
    assert term.finance.orders is not None, "a shop has orders"
    kind = term.finance.orders[0]
    if rows_hold:
        for known in movements.named_history_in_rows(tx, term.name, kind, names, params.as_of):
            yield known.movement
    # What an earlier version said unreadably is not missed where the last one can be read, which was asked before.
    read = Unreadable().or_else((), term.finance.read)
    for known in movements.history_from_bodies(tx, term.name, kind, params.as_of, read, unread=rows_hold):
        yield known.movement


# --- what the report says -------------------------------------------------------------------------


def blocks(scope: Scope, facts: Facts) -> tuple[SalesBlock, ...]:
    """One for each shop and currency of its orders; a payment in another currency stands with its order."""
    return tuple(
        _block(scope, each, currency)
        for each in facts.sales
        for currency in sorted({order.due.currency for order in each.orders})
        if scope.holds(currency)
    )


def _block(scope: Scope, sales: SalesFacts, currency: str) -> SalesBlock:
    orders = [order for order in sales.orders if order.due.currency == currency]
    steps: dict[str, int] = {}
    for order in orders:
        for code, amount in order.steps:
            steps[code] = steps.get(code, 0) + amount.minor
    tenders, foreign = _tenders(sales, {order.order for order in orders}, currency)
    bars, level = [], 0
    for code, minor in [*steps.items(), *sorted(tenders.items())]:
        moved, start, end = (scope.own(each, sales.account, currency) for each in (minor, level, level + minor))
        paid = foreign.get(code)
        named = None if paid is None else scope.own(paid.minor, sales.account, paid.currency)
        bars.append(SalesBar(code, moved, start, end, named))
        level += minor
    return SalesBlock(sales.account, currency, len(orders), tuple(bars))


def _tenders(sales: SalesFacts, orders: set[str], currency: str) -> tuple[dict[str, int], dict[str, Money]]:
    """By way of paying what it took off these orders, and what was paid where that was in another currency."""
    prices = Prices(sales.prices)
    tenders: dict[str, int] = defaultdict(int)
    foreign: dict[str, Money] = {}
    for paid in sales.payments:
        if paid.order not in orders:
            continue
        code, counted = f"{TENDER}{paid.gateway}", paid.amount
        if paid.amount.currency != currency:
            stated = next((each for each in prices.of(paid) if each.currency == currency), None)
            code = f"{UNCOUNTED if stated is None else TENDER}{paid.gateway}.{paid.amount.currency}"
            counted = stated or Money(0, currency)
            foreign[code] = foreign.get(code, Money(0, paid.amount.currency)) - paid.amount
        tenders[code] -= counted.minor
    return tenders, foreign


def uncounted(blocks: Iterable[SalesBlock]) -> list[str]:
    """What was paid of orders, and takes nothing off them."""
    return [_unstated(block, bar.foreign) for block in blocks for bar in block.bars
            if bar.foreign is not None and bar.code.startswith(UNCOUNTED)]  # fmt: skip


def _unstated(block: SalesBlock, foreign: Amount) -> str:
    paid = replace(foreign, minor=-foreign.minor)
    return (
        f"{block.account}: nobody says what {paid.text} {foreign.currency} count as that"
        f" orders in {block.currency} were paid with; in the sales they take nothing off what is not paid yet."
    )
