"""Entries and control totals: exact, signed as Stripe signs them, and refused rather than bent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.stripe import entries
from providers.stripe.currencies import EXPONENTS
from reconciler.errors import BadReply
from reconciler.model import ControlTotal, ResourceRef, Snapshot
from reconciler.money import LARGEST, Money
from tests import corpus

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def transaction(resource_id: str = "txn_1", **fields: Any) -> Snapshot:
    body = {
        "id": resource_id, "object": "balance_transaction", "amount": 1000, "fee": 59, "net": 941, "currency": "eur",
        "created": 1_700_000_000, "available_on": 1_700_600_000, "balance_type": "payments", "status": "pending",
        "reporting_category": "charge", "source": "ch_1", "type": "charge",
        "fee_details": [{"amount": 59, "currency": "eur", "type": "stripe_fee"}],
    }  # fmt: skip
    return Snapshot(ResourceRef("stripe", "main", "balance_transaction", resource_id), {**body, **fields})


def balance(body: dict[str, Any], resource_id: str = "balance") -> Snapshot:
    return Snapshot(ResourceRef("stripe", "main", "balance", resource_id), body)


def test_transaction_is_one_entry() -> None:
    [entry] = entries.entries(transaction())
    assert (entry.gross, entry.fee, entry.net) == (Money(1000, "EUR"), Money(59, "EUR"), Money(941, "EUR"))
    assert (entry.balance_type, entry.category, entry.source_id) == ("payments", "charge", "ch_1")
    assert entry.effective_at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert entry.available_on == datetime.fromtimestamp(1_700_600_000, UTC)
    assert [detail["type"] for detail in entry.fee_details] == ["stripe_fee"]


def test_published_transaction_is_an_entry() -> None:
    body = corpus.resources()["balance_transaction"]
    [entry] = entries.entries(transaction(body["id"], **body))
    assert entry.net == Money(body["net"], body["currency"].upper())


@pytest.mark.parametrize("kind", ["charge", "refund", "payout", "payment_intent", "dispute", "transfer", "topup"])
def test_no_other_kind_has_entries(kind: str) -> None:
    body = corpus.resources()[kind]
    assert entries.entries(Snapshot(ResourceRef("stripe", "main", kind, body["id"]), body)) == ()


@given(gross=st.integers(-(2**52), 2**52), fee=st.integers(-(2**40), 2**40), off=st.integers(-5, 5))
def test_net_is_gross_less_fee_or_the_body_is_refused(gross: int, fee: int, off: int) -> None:
    snapshot = transaction(amount=gross, fee=fee, net=gross - fee + off)
    if off:
        with pytest.raises(BadReply, match="txn_1"):
            entries.entries(snapshot)
        return
    [entry] = entries.entries(snapshot)
    assert entry.gross - entry.fee == entry.net == Money(gross - fee, "EUR")
    assert entries.entries(snapshot) == entries.entries(snapshot)


@pytest.mark.parametrize(
    "fields",
    [
        {"reporting_category": 256 * "x"}, {"balance_type": 256 * "x"},
        {"amount": 10.0}, {"amount": "1000"}, {"amount": None}, {"amount": True}, {"fee": None}, {"net": 9.41},
        {"currency": "euro"}, {"currency": None}, {"currency": 7}, {"currency": "€"}, {"created": None},
        {"created": "2026"}, {"fee_details": 7}, {"amount": LARGEST + 1, "fee": 0, "net": LARGEST + 1},
    ],
)  # fmt: skip
def test_transaction_that_cannot_be_booked_is_a_bad_reply(fields: dict[str, Any]) -> None:
    with pytest.raises(BadReply):
        entries.entries(transaction(**fields))


def test_unknown_categories_and_balances_are_kept_and_missing_ones_are_named() -> None:
    [odd] = entries.entries(transaction(reporting_category="newly_invented", balance_type="risk_reserved"))
    assert (odd.category, odd.balance_type) == ("newly_invented", "risk_reserved")
    [bare] = entries.entries(transaction(reporting_category=None, balance_type=None, available_on=None, source=None))
    assert (bare.category, bare.balance_type, bare.available_on, bare.source_id) == ("other", "payments", None, None)


def test_connected_accounts_money_is_not_this_accounts() -> None:
    assert entries.entries(transaction("acct_X/txn_1")) == ()
    assert entries.control_totals(balance({"available": [], "pending": []}, "acct_X/balance"), NOW) == ()


def test_control_totals_are_available_and_pending_per_currency_and_balance() -> None:
    body = {
        "object": "balance",
        "available": [{"amount": 100, "currency": "usd"}, {"amount": -5, "currency": "eur"}],
        "pending": [{"amount": 20, "currency": "usd"}, {"amount": 7, "currency": "jpy"}],
        "instant_available": [{"amount": 90, "currency": "usd"}],
        "connect_reserved": [{"amount": 40, "currency": "usd"}],
        "issuing": {"available": [{"amount": 3, "currency": "usd"}]},
        "refund_and_dispute_prefunding": {
            "available": [{"amount": 1, "currency": "usd"}], "pending": [{"amount": 2, "currency": "usd"}],
        },
    }  # fmt: skip
    assert entries.control_totals(balance(body), NOW) == (
        ControlTotal("main", "payments", Money(-5, "EUR"), NOW),
        ControlTotal("main", "payments", Money(7, "JPY"), NOW),
        ControlTotal("main", "payments", Money(120, "USD"), NOW),
        ControlTotal("main", "issuing", Money(3, "USD"), NOW),
        ControlTotal("main", "refund_and_dispute_prefunding", Money(3, "USD"), NOW),
    )


def test_published_balance_has_totals_and_a_broken_one_is_refused() -> None:
    assert entries.control_totals(balance(corpus.resources()["balance"]), NOW) == (
        ControlTotal("main", "payments", Money(0, "USD"), NOW),
    )
    for line in ({"amount": "1", "currency": "usd"}, {"amount": 1}, {"amount": 1.5, "currency": "usd"}):
        with pytest.raises(BadReply):
            entries.control_totals(balance({"available": [line], "pending": []}), NOW)


@pytest.mark.parametrize(
    ("currency", "exponent"),
    [("usd", 2), ("JPY", 0), ("KRW", 0), ("MGA", 0), ("ISK", 2), ("UGX", 2), ("HUF", 2), ("TWD", 2), ("KWD", 3)],
)
def test_minor_units_are_stripes_not_isos(currency: str, exponent: int) -> None:
    assert EXPONENTS.of(currency) == exponent
    assert len(EXPONENTS.exceptions) == 20
