"""Worked examples, to the minor unit: a shop's own payments, whose balance the shop's provider keeps."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from reconciler.ledger import Coverage
from reconciler.model import ControlTotal, Window
from reconciler.money import Money
from reconciler.report.model import PayoutState, Rules
from tests.report.books import BEGINNING, END, LATER, Books, break_types, line, net, on, standing

OWN = Rules(gateways=("shopify_payments",))
STREAMS = ("order", "transaction", "balance_transaction", "payout", "dispute")


class OwnPayments:
    """A shop that takes payments through Shopify Payments: rows as Shopify's own examples have them."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self._last = 700_000_000

    def row(self, kind: str, amount: str, *, day: int, fee: str = "0.00", currency: str = "USD", **more: Any) -> int:
        self._last += 1
        net = str(Decimal(amount) - Decimal(fee))
        body = {
            "id": self._last, "type": kind, "test": False, "payout_id": None, "payout_status": "pending",
            "currency": currency, "amount": amount, "fee": fee, "net": net, "source_id": self._last,
            "source_type": kind, "source_order_id": None, "source_order_transaction_id": None,
            "processed_at": on(day).isoformat(), "adjustment_order_transactions": None, "adjustment_reason": None,
        }  # fmt: skip
        self.books.read("balance_transaction", body | more, at=on(day), account="shop")
        return self._last

    def sold(self, amount: str, *, day: int, fee: str = "0.00", order: int = 1) -> int:
        """An order's sale and the charge that it names."""
        sale = int(self.books.sale(amount, at=on(day), gateway="shopify_payments", order=order))
        self.row("charge", amount, fee=fee, day=day, source_order_id=order, source_order_transaction_id=sale)
        return sale

    def dispute(self, number: int, status: str, amount: str, *, day: int) -> None:
        body = {
            "id": number, "order_id": 1, "type": "chargeback", "amount": amount, "currency": "USD",
            "reason": "fraudulent", "network_reason_code": "4827", "status": status, "initiated_at": on(5).isoformat(),
            "finalized_on": None,
        }  # fmt: skip
        self.books.read("dispute", body, at=on(day), account="shop")

    def pays_out(self, number: int, amount: str, *, day: int, status: str = "paid") -> None:
        body = {"id": number, "status": status, "date": on(day).date().isoformat(), "currency": "USD", "amount": amount}
        self.books.read("payout", body, at=on(day), account="shop")

    def states(self, minor: int, *, currency: str = "USD") -> None:
        ledger = self.books.ledger
        for at, held in ((BEGINNING, 0), (END, minor)):
            ledger.record_control_totals([ControlTotal("shop", "payments", Money(held, currency), at)], at)
        self.books.covers()
        ledger.record_coverage([Coverage("shop", kind, Window(BEGINNING, LATER), True) for kind in STREAMS], LATER)

    def report(self) -> Any:
        return self.books.report(rules=OWN)


@pytest.fixture
def shop(books: Books) -> OwnPayments:
    return OwnPayments(books)


def test_a_dispute_of_the_shops_own_payments_has_its_cost(shop: OwnPayments) -> None:
    """Its row names the order's sale too; what caused it is the dispute."""
    sale = shop.sold("100.00", day=3, fee="3.00")
    shop.dispute(297752803, "needs_response", "100.00", day=5)
    shop.row("dispute", "-100.00", fee="15.00", day=5, source_id=297752803, source_type="Payments::Dispute",
             source_order_id=1, source_order_transaction_id=sale)  # fmt: skip
    shop.dispute(297752803, "lost", "100.00", day=12)
    shop.states(-1800)

    report = shop.report()

    section = report.disputes["USD"]
    assert (section.lost, section.net_cost.minor) == (1, -11500)
    assert break_types(report) == []
    assert (line(report, "matched").count, standing(report)) == (1, "BALANCED")


@pytest.mark.parametrize(("comes_back", "types"), [(True, []), (False, ["OBJECT_DIFF"])])
def test_a_dispute_that_was_won_brings_its_money_back_or_is_a_break(
    shop: OwnPayments, comes_back: bool, types: list[str]
) -> None:
    sale = shop.sold("100.00", day=3, fee="3.00")
    names: dict[str, Any] = {"source_id": 5, "source_type": "Payments::Dispute", "source_order_id": 1}
    names["source_order_transaction_id"] = sale
    shop.row("dispute", "-100.00", fee="15.00", day=5, **names)
    shop.dispute(5, "won", "100.00", day=12)
    if comes_back:
        shop.row("dispute", "100.00", fee="-15.00", day=12, **names)
    shop.states(9700 if comes_back else -1800)

    report = shop.report()

    section = report.disputes["USD"]
    assert (section.won, section.net_cost.minor) == (1, 0 if comes_back else -11500)
    assert break_types(report) == types
    assert standing(report) == ("BALANCED" if comes_back else "BREAKS")


def test_a_payout_of_the_shops_own_payments_is_no_member_of_itself(shop: OwnPayments) -> None:
    sale = int(shop.books.sale("100.00", at=on(3), gateway="shopify_payments"))
    shop.row("charge", "100.00", fee="3.00", day=3, payout_id=31, source_order_id=1, source_order_transaction_id=sale)
    shop.row("payout", "-97.00", day=6, payout_id=31, payout_status="paid", source_id=None, source_type=None)
    shop.pays_out(31, "97.00", day=6)
    shop.sold("20.00", day=20, fee="1.00", order=2)
    shop.states(1900)

    report = shop.report()

    (payout,) = report.payouts
    assert (payout.state, payout.count, payout.components.minor) == (PayoutState.FOOTED, 1, 9700)
    assert [total.difference.minor for total in report.unsettled_totals] == [0]
    assert sum(each.net.minor for each in report.unsettled) == net(report, "closing") == 1900
    assert standing(report) == "BALANCED"


@pytest.mark.parametrize("kind", ["advance", "seller_protection_credit_reversal", "SHOPIFY_COLLECTIVE_DEBIT_REVERSAL"])
def test_what_shopify_publishes_is_no_break(shop: OwnPayments, kind: str) -> None:
    shop.row(kind, "12.00", day=4, source_id=None, source_type=None)
    shop.states(1200)

    report = shop.report()

    assert net(report, kind.lower()) == 1200
    assert (break_types(report), standing(report)) == ([], "BALANCED")


def test_change_from_the_till_is_money_given_back(books: Books) -> None:
    """30.00 in cash for 27.50: the till took 27.50."""
    books.sale("30.00", at=on(3), gateway="cash")
    books.sale("2.50", at=on(3), gateway="cash", kind="change")

    report = books.report()

    cash = line(report, "out_of_scope.cash")
    assert (cash.count, cash.left.minor) == (2, 2750)
