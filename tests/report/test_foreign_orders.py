"""Orders that were paid in the customer's currency, at a shop whose own payments are settled in the shop's."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.shopify.kinds import KINDS as SHOPIFY_KINDS
from reconciler.ledger import Ledger
from reconciler.ledger.redaction import Asked
from reconciler.model import Redaction
from reconciler.redaction import keeping_of
from reconciler.report import canonical
from reconciler.report.aside import SettingAside
from reconciler.report.gathering import gather
from reconciler.report.model import Params, Report
from tests.report.books import TERMS, Books, break_types, line, on, standing
from tests.report.histories import KNOWN
from tests.report.test_aside import count
from tests.report.test_invariants import FEBRUARY, PROPERTY, fill
from tests.report.test_own_payments import OWN, OwnPayments

ORDER = 77
EUR, USD = "100.00", "110.00"


def both(euros: str, dollars: str) -> dict[str, Any]:
    return {
        "presentment_money": {"amount": euros, "currency_code": "EUR"},
        "shop_money": {"amount": dollars, "currency_code": "USD"},
    }


class Abroad(OwnPayments):
    """A shop in dollars with a customer in euros."""

    def orders(self, euros: str = EUR, dollars: str = USD, *, day: int = 3, number: int = ORDER, **more: Any) -> None:
        total = {"total_price": dollars, "total_price_set": both(euros, dollars), "presentment_currency": "EUR"}
        self.books.order(number, at=on(day), total_line_items_price=dollars, **(total | more))

    def pays(self, euros: str, settled: str, *, day: int = 3, currency: str = "USD", **more: Any) -> int:
        """A sale in euros, and the charge that Shopify Payments booked for it."""
        given: dict[str, Any] = {"gateway": "shopify_payments", "order": ORDER, "currency": "EUR"} | more
        sale = int(self.books.sale(euros, at=on(day), **given))
        kind = "refund" if given.get("kind") == "refund" else "charge"
        minus = "-" if kind == "refund" else ""
        self.row(
            kind, minus + settled, day=day, currency=currency, source_order_id=given["order"],
            source_order_transaction_id=sale,
        )  # fmt: skip
        return sale

    def charge(self, settled: str) -> dict[str, Any]:
        """Of the order transaction 5."""
        return {
            "id": 900, "type": "charge", "test": False, "payout_id": None, "payout_status": "pending",
            "currency": "USD", "amount": settled, "fee": "0.00", "net": settled, "source_id": 5,
            "source_type": "charge", "source_order_id": ORDER, "source_order_transaction_id": 5,
            "processed_at": on(3).isoformat(), "adjustment_order_transactions": None, "adjustment_reason": None,
        }  # fmt: skip

    def refunds(self, euros: str, settled: str, *, day: int = 9, final: str | None = None) -> int:
        """`final`: what Shopify says that became of it in dollars when the rate had moved."""
        said = None if final is None else {"id": 1, "currency": "USD", "final_amount": final}
        return self.pays(euros, settled, day=day, kind="refund", currency_exchange_adjustment=said)


@pytest.fixture
def shop(books: Books) -> Abroad:
    return Abroad(books)


def ask(shop: Abroad) -> Report:
    """The same, whether it is read from bodies or was set aside."""
    plain: Report = shop.report()
    SettingAside(TERMS, OWN.gateways).run(shop.books.ledger)
    assert canonical.encode(shop.report()) == canonical.encode(plain)
    return plain


def test_what_its_order_counts_in_dollars_is_what_was_settled(shop: Abroad) -> None:
    shop.orders()
    sale = shop.pays(EUR, USD)
    shop.states(11000)

    report = ask(shop)

    (pair,) = report.pairs
    assert (pair.left.endswith(f"/{sale}"), pair.key, pair.currency, pair.amount.minor) == (True, "K2", "USD", 11000)
    assert (break_types(report), standing(report)) == ([], "BALANCED")
    assert [each.currency for each in report.verdicts] == ["USD"], "nothing is left to say of euros"


def test_what_the_rate_took_between_the_order_and_its_settlement_is_a_difference_in_dollars(shop: Abroad) -> None:
    shop.orders()
    shop.pays(EUR, "109.40")
    shop.states(10940)

    (found,) = ask(shop).breaks

    assert (found.type, found.currency) == ("AMOUNT_MISMATCH", "USD")
    assert (found.left_amount.minor, found.right_amount.minor, found.difference.minor) == (11000, 10940, 60)


def test_a_word_about_a_rate_does_not_change_a_sale_in_the_shop_s_own_currency(shop: Abroad) -> None:
    """No rate was needed: it would let any settlement pass."""
    said = {"id": 1, "currency": "USD", "final_amount": "55.00"}
    shop.books.order(ORDER, at=on(3), total_line_items_price="110.00", total_price="110.00")
    more: dict[str, Any] = {"gateway": "shopify_payments", "order": ORDER, "currency_exchange_adjustment": said}
    sale = int(shop.books.sale("110.00", at=on(3), currency="USD", **more))
    shop.row("charge", "55.00", day=3, source_order_id=ORDER, source_order_transaction_id=sale)
    shop.states(5500)

    assert break_types(ask(shop)) == ["AMOUNT_MISMATCH"]


def test_foreign_orders_that_are_set_aside_are_not_read_by_a_later_period(shop: Abroad) -> None:
    shop.orders(day=3)
    shop.pays(EUR, USD)
    SettingAside(TERMS, OWN.gateways).run(shop.books.ledger)
    params = Params(*FEBRUARY, as_of=KNOWN, accounts=("main", "shop"), rules=OWN)
    with shop.books.ledger.store.read() as tx:
        assert gather(tx, TERMS, params).movements == ()


@pytest.mark.parametrize("final", ["-109.40", "109.40"], ids=["signed", "unsigned"])
def test_shopify_s_own_word_about_the_rate_goes_before_the_order_s(shop: Abroad, final: str) -> None:
    shop.orders()
    shop.pays(EUR, USD)
    shop.refunds(EUR, "109.40", final=final)
    shop.refunds("20.00", "21.50", final="21.50")
    shop.states(-2090)

    report = ask(shop)

    assert [(pair.currency, pair.amount.minor) for pair in report.pairs] == [
        ("USD", 11000), ("USD", -10940), ("USD", -2150),
    ]  # fmt: skip
    assert standing(report) == "BALANCED"


def part(shop: Abroad) -> None:
    shop.orders()
    shop.pays("30.00", "33.00")


def unknown(shop: Abroad) -> None:
    shop.orders(number=ORDER + 1)
    shop.pays(EUR, USD)


def elsewhere(shop: Abroad) -> None:
    shop.orders()
    shop.pays(EUR, "87.00", currency="GBP")


def two_words(shop: Abroad) -> None:
    shop.orders(current_total_price="109.90", current_total_price_set=both(EUR, "109.90"))
    shop.pays(EUR, USD)


@pytest.mark.parametrize("comes", [part, unknown, elsewhere, two_words])
def test_what_nobody_states_is_named_and_never_converted(shop: Abroad, comes: Callable[[Abroad], None]) -> None:
    comes(shop)
    shop.states(0)

    (found,) = [each for each in ask(shop).breaks if each.plane == "P3"]

    assert (found.type, found.currency, found.difference) == ("CURRENCY_MISMATCH", "EUR", found.left_amount)


def test_an_order_that_is_edited_later_has_said_what_was_paid_before(shop: Abroad) -> None:
    shop.orders()
    shop.pays(EUR, USD)
    shop.states(11000)
    before = ask(shop)
    shop.orders("120.00", "132.00", day=3, known=on(5, month=2))

    report = ask(shop)

    assert (standing(report), report.pairs) == ("BALANCED", before.pairs)
    assert count(shop.books.ledger, "aside_group") == 1, "and stays set aside"


def test_when_a_person_is_forgotten_their_order_still_says_what_it_counts(shop: Abroad) -> None:
    shop.orders(email="ann@example.com")
    shop.pays(EUR, USD)
    shop.refunds("20.00", "21.50", final="-21.50")
    shop.states(8850)
    before = ask(shop)
    keeping = keeping_of(SHOPIFY_KINDS)
    asked = Asked("shop", Redaction("", ""), "evt_1")

    shop.books.ledger.redactions.shrink(asked, lambda _: keeping, after=(-(2**63), 0), limit=100)

    assert (standing(before), canonical.encode(ask(shop))) == ("BALANCED", canonical.encode(before))


# --- whatever comes when ------------------------------------------------------------------------------

steps = st.lists(st.sampled_from(("order", "sale", "charge", "edit", "aside")), min_size=5, max_size=9)


@pytest.mark.long
@PROPERTY
@given(steps=steps, minor=st.integers(1, 10**6), off=st.sampled_from((0, 0, 0, 1, -300)))
def test_in_whatever_order_it_becomes_known_the_report_says_the_same(
    ledger: Ledger, steps: list[str], minor: int, off: int
) -> None:
    """The last word counts, whatever was kept and set aside on the way; and at every instant it is what it was."""
    fill(ledger, [])
    shop = Abroad(Books(ledger))
    euros, dollars = (str(Decimal(each) / 100) for each in (minor, minor + minor // 10))
    settled = str(Decimal(minor + minor // 10 + off) / 100)
    said: dict[int, bytes] = {}
    setting = SettingAside(TERMS, OWN.gateways)

    def at(day: int) -> bytes:
        return canonical.encode(shop.books.report(rules=OWN, as_of=on(day, month=2)))

    for day, step in enumerate((*steps, "order", "sale", "charge"), start=1):
        known = on(day, 6, month=2)
        match step:
            case "order":
                shop.orders(euros, dollars, known=known)
            case "edit":
                shop.orders("7777777.00", "8888888.00", known=known)
            case "sale":
                shop.books.sale(
                    euros, at=on(3), gateway="shopify_payments", order=ORDER, currency="EUR", transaction_id=5,
                    known=known,
                )  # fmt: skip
            case "charge":
                shop.books.read("balance_transaction", shop.charge(settled), at=known, account="shop")
            case "aside":
                setting.run(ledger)
        said[day] = at(day)

    for day, before in said.items():
        assert at(day) == before, f"as of February {day}"
    report = shop.books.report(rules=OWN, as_of=on(20, month=2))
    assert break_types(report) == ([] if off == 0 else ["AMOUNT_MISMATCH"])
    assert (line(report, "matched").count if off == 0 else report.breaks[0].difference.minor) == (
        1 if off == 0 else -off
    )
