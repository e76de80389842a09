"""Worked examples, by hand and to the minor unit: what has no counterpart, or another one; and what it cost."""

from __future__ import annotations

from reconciler.report.model import FeeRule, Rules
from tests.report.books import BEGINNING, END, Books, break_types, line, on, standing

# --- one side only --------------------------------------------------------------------------------


def test_an_order_without_a_charge_is_timing_within_the_grace_and_then_a_break(books: Books) -> None:
    books.states(0, at=BEGINNING)
    books.sale("10.00", at=on(29), order=1)
    books.sale("20.00", at=on(28), order=2)
    books.covers()

    report = books.report()

    (waiting,) = report.timing
    (missing,) = report.breaks
    assert (waiting.left_amount.minor, waiting.age_days, waiting.bucket) == (1000, 2, "2-3")
    assert (missing.type.value, missing.difference.minor, missing.age_days) == ("MISSING_IN_STRIPE", 2000, 3)
    assert report.open_items[0].count == 2
    assert report.open_items[0].left.minor == 3000


def test_a_charge_without_an_order(books: Books) -> None:
    books.states(0, at=BEGINNING)
    charge = books.charge(7500, at=on(20))
    books.sale("75.00", at=on(21), order=9, gateway="manual")
    books.states(7500, at=END)
    books.covers()

    report = books.report()

    (missing,) = report.breaks
    assert (missing.type.value, missing.right, missing.difference.minor) == (
        "MISSING_IN_SHOPIFY",
        f"stripe/main/charge/{charge}",
        -7500,
    )
    assert missing.bucket == "8-30"
    assert [(each.bucket, each.count, each.amount.minor) for each in report.ages] == [("8-30", 1, 7500)]


def test_an_invoices_charge_needs_no_order(books: Books) -> None:
    books.states(0, at=BEGINNING)
    charge = books.charge(9900, at=on(7), payment_intent="pi_1")
    payment = {"type": "payment_intent", "payment_intent": "pi_1"}
    invoice = {
        "id": "in_1",
        "status": "paid",
        "amount_paid": 9900,
        "currency": "usd",
        "created": int(on(7).timestamp()),
    }
    books.read("invoice", invoice | {"payments": {"data": [{"payment": payment, "amount_paid": 9900}]}}, at=on(7))
    books.states(9900, at=END)
    books.covers()

    report = books.report()

    assert line(report, "invoice").right.minor == 9900
    assert [(pair.plane.value, pair.left, pair.right) for pair in report.pairs] == [
        ("P4", "stripe/main/invoice/in_1", f"stripe/main/charge/{charge}")
    ]
    assert standing(report) == "BALANCED"


def test_a_duplicate_charge_is_open_until_it_is_refunded(books: Books) -> None:
    books.states(0, at=BEGINNING)
    first = books.charge(5000, at=on(5), metadata={"order_id": "77"})
    second = books.charge(5000, at=on(5, 13), metadata={"order_id": "77"})
    books.sale("50.00", at=on(5), order=77, authorization=first)
    books.states(10000, at=END)
    books.covers()
    before = books.report()
    books.refund(second, 2000, at=on(12), known=on(11, month=2))
    partly = books.report(as_of=on(12, month=2))
    books.refund(second, 3000, at=on(13), known=on(13, month=2))
    wholly = books.report(as_of=on(14, month=2))

    assert [(each.type.value, each.right_amount.minor, each.left_amount.minor) for each in before.breaks] == [
        ("DUPLICATE", 5000, 0)
    ]
    assert [each.right_amount.minor for each in partly.breaks if each.type == "DUPLICATE"] == [3000]
    assert not [each for each in wholly.breaks if each.plane == "P3"]
    assert line(wholly, "auto_resolved").count == 1
    assert before.breaks[0].break_id in {each.break_id for each in partly.breaks}


def test_candidates_that_cannot_be_told_apart_are_never_picked(books: Books) -> None:
    books.states(0, at=BEGINNING)
    for _ in range(2):
        books.charge(5000, at=on(5), metadata={"order_id": "77"})
    books.sale("50.00", at=on(5), order=77)
    books.states(10000, at=END)
    books.covers()

    report = books.report()

    assert break_types(report) == ["AMBIGUOUS"] * 3
    assert not report.pairs


def test_an_identity_with_another_amount_is_a_mismatch_and_within_tolerance_a_residual(books: Books) -> None:
    books.states(0, at=BEGINNING)
    charge = books.charge(5000, at=on(5))
    books.sale("50.03", at=on(5), authorization=charge)
    books.states(5000, at=END)
    books.covers()

    strict, lenient = books.report(), books.report(rules=Rules(tolerance_minor=3))

    (mismatch,) = strict.breaks
    assert (mismatch.type.value, mismatch.difference.minor) == ("AMOUNT_MISMATCH", 3)
    assert strict.open_items[0].count == 1
    assert line(lenient, "matched_tol").difference.minor == 3
    assert standing(lenient) == "BALANCED"


def test_another_currency_is_a_mismatch_that_is_never_added(books: Books) -> None:
    books.states(0, at=BEGINNING, currency="EUR")
    charge = books.charge(5000, currency="eur", at=on(5))
    books.sale("50.00", currency="USD", at=on(5), authorization=charge)
    books.states(5000, at=END, currency="EUR")
    books.covers()

    report = books.report()

    (mismatch,) = report.breaks
    assert mismatch.type.value == "CURRENCY_MISMATCH"
    assert (mismatch.left_amount.currency, mismatch.right_amount.currency) == ("USD", "EUR")
    assert (standing(report, "USD"), standing(report, "EUR")) == ("BREAKS", "BREAKS")
    for currency in ("USD", "EUR"):
        alone = books.report(currency=currency)
        assert alone.match_lines == tuple(each for each in report.match_lines if each.currency == currency)
        assert alone.verdicts == tuple(each for each in report.verdicts if each.currency == currency)
        assert alone.breaks == report.breaks
        assert {each.currency for each in alone.ages} | {each.currency for each in alone.open_items} <= {currency}


def test_a_pending_payment_whose_intent_was_canceled_is_a_status_mismatch(books: Books) -> None:
    books.states(0, at=BEGINNING)
    for number, status in ((1, "canceled"), (2, "processing")):
        body = {"id": f"pi_{number}", "status": status, "amount": 5000, "currency": "usd", "latest_charge": None}
        books.read("payment_intent", body | {"created": int(on(6).timestamp())}, at=on(7))
        books.sale("50.00", at=on(5), status="pending", authorization=f"pi_{number}")
    books.covers()

    report = books.report()

    (mismatch,) = report.breaks
    assert (mismatch.type.value, mismatch.left_amount.minor, mismatch.right_amount.minor) == (
        "STATUS_MISMATCH",
        5000,
        0,
    )
    assert mismatch.age_days == 25
    assert line(report, "pending_memo").count == 1
    assert report.open_items[0].count == 1


def test_gift_cards_and_cash_are_out_of_scope_on_lines_of_their_own(books: Books) -> None:
    books.states(0, at=BEGINNING)
    charge = books.charge(6000, at=on(5))
    books.sale("60.00", at=on(5), authorization=charge, order=5)
    books.sale("25.00", at=on(5), gateway="gift_card", order=5)
    books.sale("15.00", at=on(5), gateway="cash", order=5)
    books.states(6000, at=END)
    books.covers()

    report = books.report()

    assert line(report, "out_of_scope.gift_card").left.minor == 2500
    assert line(report, "out_of_scope.cash").left.minor == 1500
    assert standing(report) == "BALANCED"


# --- fees -----------------------------------------------------------------------------------------


def test_fees_against_the_contract(books: Books) -> None:
    """2.9 % + 0.30; 1.5 % more for cards from abroad: 3.20 and 4.70 are due on 100.00."""
    rule = FeeRule("main", "charge", bps=290, fixed_minor=30, currency="USD", international_bps=150, home_country="US")
    books.states(0, at=BEGINNING)
    for fee, country in ((320, "US"), (470, "DE"), (333, "US")):
        card = {"card": {"country": country}}
        charge = books.charge(10000, fee=fee, at=on(5), payment_method_details=card)
        books.sale("100.00", at=on(5), authorization=charge)
    books.entry("fee", -500, at=on(9))
    books.states(30000 - 1123 - 500, at=END)
    books.covers()

    report = books.report(rules=Rules(fee_rules=(rule,)))

    section = report.fees["USD"]
    assert section.expected is not None
    assert section.variance is not None
    assert (section.expected.minor, section.actual.minor, section.variance.minor) == (1110, 1123, 13)
    assert [(each.expected.minor, each.actual.minor) for each in section.exceptions] == [(320, 333)]
    assert break_types(report) == ["FEE_DIFF"]
    assert report.breaks[0].difference.minor == 13
