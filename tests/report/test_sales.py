"""WAT, its left part: gross sales to payments, to the minor unit; only where it is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.ledger import Ledger
from reconciler.report import canonical
from reconciler.report.aside import SettingAside
from reconciler.report.model import SalesBlock
from tests.report.books import TERMS, Books, on
from tests.report.test_invariants import PROPERTY, fill


def sold(books: Books, currency: str = "USD") -> SalesBlock:
    (found,) = [each for each in books.report(sales=True).sales if each.currency == currency]
    return found


def steps(block: SalesBlock) -> dict[str, int]:
    return {bar.code: bar.amount.minor for bar in block.bars if bar.amount.minor}


def test_an_order_goes_from_gross_sales_to_what_is_owed(books: Books) -> None:
    """Two shirts and a gift card; 10.00 off; 5.00 of shipping; tax; a tip; one shirt came back, half paid by card."""
    lines = [
        {"price": "40.00", "quantity": 2, "gift_card": False},
        {"price": "25.00", "quantity": 1, "gift_card": True},
    ]
    books.order(
        1, at=on(5), total_line_items_price="105.00", total_discounts="10.00", total_tax="6.30",
        total_shipping_price_set={"shop_money": {"amount": "5.00", "currency_code": "USD"},
                                  "presentment_money": {"amount": "4.60", "currency_code": "EUR"}},
        total_tip_received="3.00", total_price="109.30", current_total_price="72.30", line_items=lines,
    )  # fmt: skip
    books.sale("84.30", at=on(5), order=1)
    books.sale("25.00", at=on(5), order=1, gateway="gift_card")
    books.sale("30.00", at=on(20), order=1, kind="refund")
    books.sale("9.00", at=on(6), order=1, status="failure")
    books.sale("7.00", at=on(6), order=2)

    found = sold(books)

    assert steps(found) == {
        "gross_sales": 8000, "discounts": -1000, "returns": -3700, "shipping": 500, "tax": 630, "tips": 300,
        "gift_cards": 2500, "tender.gift_card": -2500, "tender.stripe": -5430,
    }  # fmt: skip
    assert found.orders == 1
    assert found.bars[-1].end.minor == -700, "7.00 is still to be given back"


def test_tax_that_the_prices_hold_is_no_step_and_what_has_no_name_is_other(books: Books) -> None:
    books.order(1, at=on(5), total_line_items_price="119.00", total_tax="19.00", taxes_included=True,
                total_price="119.02")  # fmt: skip
    assert steps(sold(books)) == {"gross_sales": 11900, "other": 2}


def test_orders_belong_to_the_day_they_were_made_with_all_their_payments(books: Books) -> None:
    books.order(1, at=on(31, 23), total_line_items_price="10.00")
    books.sale("10.00", at=on(2, month=2), order=1)
    books.order(2, at=on(1, 0, month=2), total_line_items_price="20.00")
    books.order(3, at=on(9), total_line_items_price="90", currency="JPY")
    books.order(4, at=on(9), total_line_items_price="5.00", test=True)

    assert steps(sold(books)) == {"gross_sales": 1000, "tender.stripe": -1000}
    assert sold(books, "JPY").bars[-1].end.minor == 90


def both(euros: str, dollars: str) -> dict[str, Any]:
    return {
        "presentment_money": {"amount": euros, "currency_code": "EUR"},
        "shop_money": {"amount": dollars, "currency_code": "USD"},
    }


def abroad(books: Books, number: int, euros: str, dollars: str, *, day: int = 5, **more: Any) -> None:
    """An order in dollars whose customer pays in euros."""
    books.order(number, at=on(5), known=on(day), total_line_items_price=dollars, total_price=dollars,
                total_price_set=both(euros, dollars), presentment_currency="EUR", **more)  # fmt: skip


def foreign(block: SalesBlock) -> dict[str, tuple[int, str]]:
    return {bar.code: (each.minor, each.currency) for bar in block.bars if (each := bar.foreign) is not None}


@pytest.mark.parametrize("kept", [False, True], ids=["from bodies", "from rows"])
def test_what_is_paid_abroad_counts_as_the_shop_says_beside_what_was_paid(books: Books, kept: bool) -> None:
    """By the order's own totals, as they stood when somebody paid, or by the exchange adjustment; never by a rate."""
    setting = SettingAside(TERMS, ("stripe",))
    abroad(books, 1, "100.00", "110.00")
    books.sale("100.00", at=on(5), order=1, currency="EUR")
    abroad(books, 1, "90.00", "99.00", day=6)
    if kept:
        setting.run(books.ledger)
    adjustment = {"original_amount": "-10.00", "final_amount": "-11.20", "currency": "USD", "adjustment": "-0.20"}
    books.sale("10.00", at=on(7), order=1, currency="EUR", kind="refund", currency_exchange_adjustment=adjustment)
    abroad(books, 2, "40.00", "44.00")
    books.sale("15.00", at=on(8), order=2, currency="EUR")
    books.sale("5.50", at=on(8), order=2)

    report = books.report(sales=True)

    (found,) = report.sales
    assert (found.currency, found.orders) == ("USD", 2)
    assert {code: minor for code, minor in steps(found).items() if code.startswith("tender")} == {
        "tender.stripe": -550,
        "tender.stripe.EUR": -11000 + 1120,
    }
    assert foreign(found) == {"tender.stripe.EUR": (-9000, "EUR"), "uncounted.stripe.EUR": (-1500, "EUR")}
    assert found.bars[-1].end.minor == 9900 + 4400 - 550 - 9880
    said = "shop: nobody says what 15.00 EUR count as that orders in USD were paid with"
    assert [each for each in report.header.notes if each.startswith(said)] != []
    assert books.report(sales=True, currency="EUR").sales == ()


def test_nobody_who_does_not_ask_reads_them(books: Books) -> None:
    books.order(1, at=on(5), total_line_items_price="10.00")
    assert books.report().sales == ()


amounts = st.integers(0, 50_000)


@pytest.mark.long
@PROPERTY
@given(
    orders=st.lists(st.tuples(amounts, amounts, amounts, st.integers(1, 40), st.booleans()), max_size=6),
    paid=st.lists(st.tuples(st.integers(0, 7), amounts, st.sampled_from(("stripe", "cash"))), max_size=6),
)
def test_the_bars_add_up_whatever_was_sold_and_however_much_was_set_aside(
    ledger: Ledger, orders: list[tuple[int, int, int, int, bool]], paid: list[tuple[int, int, str]]
) -> None:
    """The last bar ends at what is due for the orders of January less their payments."""
    fill(ledger, [])
    books = Books(ledger)
    setting = SettingAside(TERMS, ("stripe",))
    due: dict[int, int] = {}
    for number, (lines, total, now, day, included) in enumerate(orders):
        at = on(1 + day % 28, month=1 if day <= 28 else 2)
        books.order(
            number, at=at, total_line_items_price=_text(lines), total_price=_text(total),
            current_total_price=_text(now), total_tax=_text(day), taxes_included=included,
        )  # fmt: skip
        if day <= 28:
            due[number] = now
    setting.run(ledger, steps=1)
    owed = sum(due.values())
    for order, minor, gateway in paid:
        books.sale(_text(minor), at=on(15), order=order, gateway=gateway)
        owed -= minor if order in due else 0
    behind = books.report(sales=True)
    setting.run(ledger)
    found = books.report(sales=True)
    assert canonical.encode(behind) == canonical.encode(found)
    ends = [block.bars[-1].end.minor for block in found.sales]
    assert ends == ([owed] if due else [])
    for block in found.sales:
        level = 0
        for bar in block.bars:
            assert (bar.start.minor, bar.end.minor) == (level, level + bar.amount.minor)
            level = bar.end.minor


def _text(minor: int) -> str:
    return f"{minor / 100:.2f}"
