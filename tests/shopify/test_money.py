"""Decimal strings become exact minor units; nothing that does not foot is booked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.shopify import reading
from providers.shopify.amounts import amounts
from providers.shopify.currencies import EXPONENTS
from providers.shopify.finance import FINANCE
from reconciler.errors import BadReply
from reconciler.model import Snapshot
from reconciler.money import Money
from reconciler.movements import Movement, Role
from tests.shopify.server import offline, ref, sample

_ROW = {
    "id": 1, "type": "charge", "test": False, "payout_id": 5, "payout_status": "paid", "currency": "USD",
    "amount": "11.50", "fee": "0.63", "net": "10.87", "source_id": 9, "source_type": "charge",
    "source_order_id": 7, "source_order_transaction_id": 8, "processed_at": "2026-11-20T20:00:00-05:00",
}  # fmt: skip


def _entries(**changes: Any) -> Any:
    return offline().entries(Snapshot(ref("balance_transaction", 1), {**_ROW, **changes}))


def test_a_charge_is_booked_with_its_fee_and_the_transaction_that_it_came_from() -> None:
    (entry,) = _entries()
    assert (entry.gross, entry.fee, entry.net) == (Money(1150, "USD"), Money(63, "USD"), Money(1087, "USD"))
    assert (entry.category, entry.source_id, entry.payout_id) == ("charge", "7/8", "5")
    assert entry.effective_at.isoformat() == "2026-11-21T01:00:00+00:00"


def test_a_returned_fee_is_negative() -> None:
    (entry,) = _entries(type="dispute", amount="100.00", fee="-15.00", net="115.00")
    assert entry.fee == Money(-1500, "USD")


@pytest.mark.parametrize(
    ("source", "kinds"),
    [("charge", []), ("Payments::Dispute", ["dispute"]), ("payout", ["payout"]), (None, [])],
)
def test_a_row_names_the_dispute_or_payout_that_caused_it(source: str | None, kinds: list[str]) -> None:
    row = {**_ROW, "source_type": source, "source_id": 9}
    named = reading.snapshot("shop", "balance_transaction", row, "2026-07").related
    assert [each.kind for each in named if each.id == "9"] == kinds
    assert {("payout", "5"), ("order", "7")} <= {(each.kind, each.id) for each in named}


@pytest.mark.parametrize("said", ["payout_failure", "payout_cancellation"])
def test_money_that_comes_back_from_the_bank_is_a_payout_reversed(said: str) -> None:
    (entry,) = _entries(type=said, fee="0.00", net="11.50")
    assert entry.category == "payout_reversal"


def test_a_type_that_nobody_knows_keeps_shopify_s_word() -> None:
    (entry,) = _entries(type="SHOPIFY_COLLECTIVE_DEBIT_REVERSAL")
    assert entry.category == "shopify_collective_debit_reversal"


def test_test_payments_move_no_money() -> None:
    assert _entries(test=True) == ()


@pytest.mark.parametrize(
    "broken",
    [
        {"net": "10.88"}, {"amount": 11.5}, {"amount": "11.505"}, {"amount": "NaN"}, {"amount": "Infinity"},
        {"amount": None}, {"currency": None}, {"currency": "DOLLARS"}, {"processed_at": "soon"}, {"amount": "x"},
    ],
)  # fmt: skip
def test_what_cannot_be_booked_is_refused_never_guessed(broken: dict[str, Any]) -> None:
    with pytest.raises(BadReply):
        _entries(**broken)


@given(minor=st.integers(-(10**12), 10**12), currency=st.sampled_from(["USD", "JPY", "KWD", "ISK", "EUR"]))
def test_every_amount_survives_as_text(minor: int, currency: str) -> None:
    money = Money(minor, currency)
    assert EXPONENTS.parse(str(EXPONENTS.major(money)), currency) == money


def test_whole_currencies_may_carry_zeros() -> None:
    assert EXPONENTS.parse("12000.0", "JPY") == Money(12000, "JPY")
    with pytest.raises(ValueError, match="decimals"):
        EXPONENTS.parse("12000.5", "JPY")


def test_the_shop_s_money_counts_and_the_customer_s_is_kept_beside_it() -> None:
    order = sample("order", "orders/450789469.json")["order"]
    total = amounts(order, "total_price")
    assert total is not None
    assert (total.shop, total.presentment) == (Money(59894, "USD"), Money(59894, "USD"))
    both = {"shop_money": {"amount": "10.00", "currency_code": "EUR"},
            "presentment_money": {"amount": "1625", "currency": "JPY"}}  # fmt: skip
    mixed = amounts({"total_price_set": both}, "total_price")
    assert mixed is not None
    assert (mixed.shop, mixed.presentment) == (Money(1000, "EUR"), Money(1625, "JPY"))


def test_an_amount_without_its_set_is_the_shop_s() -> None:
    alone = amounts({"total_price": "1.00", "currency": "USD"}, "total_price")
    assert alone is not None
    assert alone.shop == alone.presentment == Money(100, "USD")
    assert amounts({}, "total_price") is None
    with pytest.raises(TypeError):
        amounts({"total_price": 1.0, "currency": "USD"}, "total_price")


def _read(kind: str, body: dict[str, Any]) -> tuple[Movement, ...]:
    return FINANCE.read(Snapshot(ref(kind, body["id"]), body))


def test_an_order_at_home_has_no_price_and_a_foreign_one_has_both_of_its_totals() -> None:
    order = sample("order", "orders/450789469.json")["order"]
    assert _read("order", order) == ()
    total = {"shop_money": {"amount": "598.94", "currency_code": "USD"},
             "presentment_money": {"amount": "550.00", "currency_code": "EUR"}}  # fmt: skip
    less = {"shop_money": {"amount": "389.94", "currency_code": "USD"},
            "presentment_money": {"amount": "358.00", "currency_code": "EUR"}}  # fmt: skip
    foreign = order | {"presentment_currency": "EUR", "total_price_set": total, "current_total_price_set": less}
    assert [(each.role, each.order, each.amount, each.counts_as) for each in _read("order", foreign)] == [
        (Role.PRICE, "450789469", Money(55000, "EUR"), Money(59894, "USD")),
        (Role.PRICE, "450789469", Money(35800, "EUR"), Money(38994, "USD")),
    ]
    assert _read("order", foreign | {"test": True}) == ()
    with pytest.raises(BadReply):
        _read("order", foreign | {"total_price_set": {"shop_money": {"amount": 1}, "presentment_money": {}}})


def test_a_transaction_counts_as_what_the_rate_made_of_it_where_shopify_says_so() -> None:
    published = sample("transaction", "orders/450789469/transactions/389404469.json")["transaction"]
    body = published | {"kind": "sale", "currency": "EUR"}
    (plain,) = _read("transaction", body)
    assert plain.counts_as is None
    said = {"id": 1, "adjustment": "-0.01", "original_amount": "-53.62", "final_amount": "-53.63", "currency": "USD"}
    (sold,) = _read("transaction", body | {"currency_exchange_adjustment": said})
    (given_back,) = _read("transaction", body | {"kind": "refund", "currency_exchange_adjustment": said})
    assert (sold.counts_as, given_back.counts_as) == (Money(5363, "USD"), Money(-5363, "USD"))
    with pytest.raises(BadReply):
        _read("transaction", body | {"currency_exchange_adjustment": {"final_amount": None}})
