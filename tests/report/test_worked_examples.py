"""Worked examples, by hand and to the minor unit."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.ledger import Ledger
from reconciler.ledger.bank import BankLine, record_statement
from reconciler.report import canonical
from reconciler.report.model import Amount, FeeRule, PayoutState, Rules
from tests.report.books import BEGINNING, END, START, TERMS, Books, block, break_types, line, net, on, standing


@pytest.fixture
def books(ledger: Ledger) -> Books:
    return Books(ledger)


def test_a_month_as_on_the_first_page(books: Books) -> None:
    """Opening 120.00, charges 300.00 with 9.30 fees, a refund of 40.00, a payout of 300.00; Stripe says 75.70."""
    books.states(0, at=BEGINNING)
    books.entry("other_adjustment", 12000, at=on(15, month=12, year=2025))
    one = books.charge(10000, fee=320, at=on(5))
    two = books.charge(20000, fee=610, at=on(28))
    books.refund(one, 4000, at=on(10), metadata={"order_transaction_id": "3"})
    books.payout(30000, at=on(30), automatic=False)
    books.sale("100.00", at=on(5), transaction_id=1, authorization=one)
    books.sale("40.00", kind="refund", at=on(10), transaction_id=3)
    books.states(7570, at=END)
    books.covers()

    report = books.report()

    assert net(report, "opening") == 12000
    charges = block(report).line("charge")
    assert charges.count == 2
    assert charges.gross is not None
    assert charges.fee is not None
    assert (charges.gross.minor, charges.fee.minor, net(report, "charge")) == (30000, 930, 29070)
    assert net(report, "refund") == -4000
    assert net(report, "net_activity") == 25070
    assert net(report, "payouts_total") == -30000
    assert net(report, "closing") == 7070
    assert net(report, "provider") == 7570
    assert net(report, "difference") == net(report, "unexplained") == 500
    assert line(report, "matched").count == 2
    assert line(report, "matched").left.minor == 6000
    assert break_types(report) == ["BALANCE_UNEXPLAINED", "MISSING_IN_SHOPIFY"]
    (missing,) = [each for each in report.breaks if each.type == "MISSING_IN_SHOPIFY"]
    assert (missing.right, missing.difference.minor, missing.age_days) == (f"stripe/main/charge/{two}", -20000, 3)
    assert standing(report) == "BREAKS"
    assert report.exit_code == 1


# --- currencies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("currency", "minor", "sold", "exponent", "text"),
    [("jpy", 12000, "12000.0", 0, "12000"), ("kwd", 12340, "12.340", 3, "12.340"), ("isk", 50000, "500", 2, "500.00")],
)
def test_zero_and_three_decimal_currencies(
    books: Books, currency: str, minor: int, sold: str, exponent: int, text: str
) -> None:
    books.states(0, at=BEGINNING, currency=currency.upper())
    charge = books.charge(minor, currency=currency, at=on(5))
    books.sale(sold, currency=currency.upper(), at=on(5), authorization=charge)
    books.states(minor, at=END, currency=currency.upper())
    books.covers()

    report = books.report()

    matched = line(report, "matched", currency.upper())
    assert (matched.left.minor, matched.right.minor, matched.left.exponent) == (minor, minor, exponent)
    assert matched.left.text == text
    assert standing(report, currency.upper()) == "BALANCED"
    assert report.exit_code == 0


def test_currencies_are_never_added(books: Books) -> None:
    for currency, minor in (("usd", 1000), ("eur", 2000)):
        books.states(0, at=BEGINNING, currency=currency.upper())
        books.entry("charge", minor, currency=currency, at=on(5))
        books.states(minor, at=END, currency=currency.upper())
    books.covers()

    report = books.report()

    assert (net(report, "closing", "USD"), net(report, "closing", "EUR")) == (1000, 2000)
    assert {verdict.currency: verdict.standing.value for verdict in report.verdicts} == {
        "EUR": "BALANCED",
        "USD": "BALANCED",
    }


# --- refunds and captures -------------------------------------------------------------------------


def test_a_refund_across_the_periods_end_waits_and_then_matches(books: Books) -> None:
    """The shop refunds on the 31st, Stripe books it on 1 February: timing in January, matched in February."""
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    refund = books.refund(charge, 2500, at=on(1, month=2))
    books.sale("25.00", kind="refund", at=on(31), authorization=refund)
    books.states(10000, at=END)
    books.states(7500, at=on(1, 0, month=3), known=on(1, 0, month=3))
    books.covers(until=on(10, month=3))

    january = books.report(as_of=on(10, month=3))
    february = books.report(as_of=on(10, month=3), from_day=on(1, month=2).date(), to_day=on(28, month=2).date())

    (waiting,) = january.timing
    assert (waiting.type.value, waiting.left_amount.minor, waiting.right_amount.minor) == (
        "MISSING_IN_STRIPE",
        -2500,
        0,
    )
    assert str(waiting.clears_on) == "2026-02-01"
    assert standing(january) == "BALANCED_WITH_TIMING"
    assert line(january, "timing").left.minor == -2500
    assert not february.timing
    assert line(february, "matched").right.minor == -2500
    (moved,) = february.roll_forward
    assert (moved.opening.count, moved.new.count, moved.cleared.count, moved.closing.count) == (1, 0, 1, 0)


def test_partial_refunds_match_one_by_one(books: Books) -> None:
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    for day, amount, text in ((6, 3000, "30.00"), (7, 1500, "15.00")):
        refund = books.refund(charge, amount, at=on(day))
        books.sale(text, kind="refund", at=on(day), authorization=charge, receipt={"refund": {"id": refund}})
    books.states(5500, at=END)
    books.covers()

    report = books.report()

    matched = line(report, "matched")
    assert (matched.count, matched.left.minor, matched.right.minor) == (3, 5500, 5500)
    assert net(report, "refund") == -4500
    assert standing(report) == "BALANCED"


def test_a_charge_id_on_a_refund_names_the_charge_and_is_no_counterpart(books: Books) -> None:
    """Shopify writes the refunded charge into `authorization` of a refund."""
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    books.sale("100.00", kind="refund", at=on(6), authorization=charge)
    books.states(10000, at=END)
    books.covers()

    report = books.report()

    assert line(report, "matched").count == 1
    assert break_types(report) == ["MISSING_IN_STRIPE"]
    assert report.breaks[0].difference.minor == -10000


def test_a_partial_capture_by_an_older_api_version_is_two_rows_and_one_leg(books: Books) -> None:
    """Authorised 100.00, captured 60.00: a full charge row and a reversal, and no refund in the shop's eyes."""
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, at=on(5), amount_captured=6000)
    reversal = books.next_id("re")
    entry = books.entry("partial_capture_reversal", -4000, at=on(5), source=reversal)
    books.read(
        "refund",
        {
            "id": reversal,
            "status": "succeeded",
            "amount": 4000,
            "currency": "usd",
            "created": int(on(5).timestamp()),
            "charge": charge,
            "balance_transaction": entry,
        },
        at=on(5),
    )
    books.sale("60.00", kind="capture", at=on(5), authorization=charge)
    books.states(6000, at=END)
    books.covers()

    report = books.report()

    matched = line(report, "matched")
    assert (matched.count, matched.left.minor, matched.right.minor) == (1, 6000, 6000)
    assert not report.breaks
    assert standing(report) == "BALANCED"


def test_two_captures_of_one_charge_match_together(books: Books) -> None:
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, at=on(5))
    books.sale("60.00", kind="capture", at=on(5), authorization=charge)
    books.sale("40.00", kind="capture", at=on(6), authorization=charge)
    books.states(10000, at=END)
    books.covers()

    report = books.report()

    matched = line(report, "matched")
    assert (matched.count, matched.left.minor, matched.right.minor) == (1, 10000, 10000)
    assert len(report.pairs) == 2


def test_a_failed_refund_comes_back(books: Books) -> None:
    """The refund's own entry and the one that brought it back add up to nothing; the shop still believes in it."""
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    refund = books.refund(charge, 4000, at=on(6), status="failed")
    books.entry("refund_failure", 4000, at=on(9), source=refund)
    books.sale("40.00", kind="refund", at=on(6), authorization=refund)
    books.states(10000, at=END)
    books.covers()

    report = books.report()

    assert (net(report, "refund"), net(report, "refund_failure"), net(report, "closing")) == (-4000, 4000, 10000)
    assert break_types(report) == ["MISSING_IN_STRIPE"]


# --- disputes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "won", "lost", "cost"), [("won", 1, 0, -1500), ("lost", 0, 1, -4500)])
def test_disputes_won_and_lost(books: Books, status: str, won: int, lost: int, cost: int) -> None:
    """30.00 withdrawn with a fee of 15.00 inline: net -45.00. Won, the 30.00 come back; the fee does not, here."""
    books.states(0, at=BEGINNING)
    charge = books.charge(3000, at=on(5))
    books.sale("30.00", at=on(5), authorization=charge)
    books.entry("dispute", -3000, fee=1500, at=on(8), source="dp_1")
    if won:
        books.entry("dispute_reversal", 3000, at=on(20), source="dp_1")
    for known, word in ((8, "needs_response"), (20, status)):
        body = {"id": "dp_1", "status": word, "amount": 3000, "currency": "usd", "charge": charge}
        books.read("dispute", body | {"created": int(on(8).timestamp())}, at=on(known))
    books.states(3000 + cost, at=END)
    books.covers()

    report = books.report()

    section = report.disputes["USD"]
    assert (section.open, section.won, section.lost) == (0, won, lost)
    assert (section.at_risk.minor, section.net_cost.minor) == (0, cost)
    assert net(report, "dispute") == -4500
    assert standing(report) == "BALANCED"


def test_a_dispute_counts_by_what_was_known_at_the_cut_off(books: Books) -> None:
    books.states(0, at=BEGINNING)
    charge = books.charge(3000, at=on(5))
    books.sale("30.00", at=on(5), authorization=charge)
    books.entry("dispute", -3000, fee=1500, at=on(8), source="dp_1")
    for known, word in ((on(8), "needs_response"), (on(3, month=2), "lost")):
        body = {"id": "dp_1", "status": word, "amount": 3000, "currency": "usd", "charge": charge}
        books.read("dispute", body | {"created": int(on(8).timestamp())}, at=known)
    books.states(-1500, at=END)
    books.covers()

    section = books.report().disputes["USD"]

    assert (section.open, section.lost, section.at_risk.minor, section.net_cost.minor) == (1, 0, 3000, 0)


# --- exchange -------------------------------------------------------------------------------------


def test_an_exchanged_charge_is_matched_in_its_own_currency_and_checked_at_its_rate(books: Books) -> None:
    """10000 JPY at 0.0067 are 67.00 USD; the rate is between amounts in major units."""
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, currency="jpy", at=on(5), settled=(6700, "usd", 0.0067))
    books.sale("10000", currency="JPY", at=on(5), authorization=charge)
    books.states(6700, at=END)
    books.covers()

    report = books.report()

    assert line(report, "matched", "JPY").right.minor == 10000
    assert net(report, "charge") == 6700
    assert not report.fx.exceptions
    assert standing(report) == "BALANCED"


def test_a_wrong_rate_is_a_break_beyond_one_minor_unit(books: Books) -> None:
    books.states(0, at=BEGINNING)
    for actual in (6701, 6702):
        charge = books.charge(10000, currency="jpy", at=on(5), settled=(actual, "usd", 0.0067))
        books.sale("10000", currency="JPY", at=on(5), authorization=charge)
    books.states(13403, at=END)
    books.covers()

    report = books.report()

    (fault,) = report.fx.exceptions
    assert (fault.expected.minor, fault.actual.minor, fault.difference.minor) == (6700, 6702, 2)
    assert break_types(report) == ["FX_DIFF"]
    assert not report.open_items


def test_a_refund_at_another_rate_realises_a_result(books: Books) -> None:
    """100.00 EUR came as 110.00 USD; refunding 50.00 EUR cost 56.00 USD, of which 55.00 had come in."""
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, currency="eur", at=on(5), settled=(11000, "usd", 1.1))
    books.sale("100.00", currency="EUR", at=on(5), authorization=charge)
    refund = books.refund(charge, 5000, currency="eur", at=on(9), settled=(-5600, "usd", 1.12))
    books.sale("50.00", currency="EUR", kind="refund", at=on(9), authorization=refund)
    books.states(5400, at=END)
    books.covers()

    (result,) = books.report().fx.results

    assert (result.refund, result.charge, result.amount.minor, result.amount.currency) == (refund, charge, -100, "USD")


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


# --- payouts --------------------------------------------------------------------------------------


def test_payouts_foot_and_what_they_did_not_pay_out_adds_up_to_the_closing(books: Books) -> None:
    books.states(0, at=BEGINNING)
    one = books.entry("charge", 10000, fee=300, at=on(5))
    two = books.entry("refund", -2000, at=on(6))
    books.payout(7700, at=on(8), members=[one, two])
    books.entry("charge", 4000, fee=100, at=on(20))
    books.states(3900, at=END)
    books.covers()

    report = books.report()

    (payout,) = report.payouts
    assert (payout.state, payout.amount.minor, payout.count) == (PayoutState.FOOTED, 7700, 2)
    assert sum(each.net.minor for each in report.unsettled) == net(report, "closing") == 3900
    assert report.unsettled_totals[0].difference.minor == 0


def test_a_payout_that_does_not_foot_is_a_break(books: Books) -> None:
    books.states(0, at=BEGINNING)
    one = books.entry("charge", 10000, at=on(5))
    books.payout(9900, at=on(8), members=[one])
    books.states(100, at=END)
    books.covers()

    report = books.report()

    assert report.payouts[0].state is PayoutState.DIFF
    assert [(each.type.value, each.difference.minor) for each in report.breaks] == [("PAYOUT_DIFF", -100)]


def test_a_failed_payout_comes_back_and_is_paid_out_again(books: Books) -> None:
    books.states(0, at=BEGINNING)
    one = books.entry("charge", 10000, at=on(5))
    books.payout(10000, at=on(8), members=[one], status="failed", payout_id="po_1")
    unreturned = books.report(as_of=on(9))
    back = books.entry("payout_reversal", 10000, at=on(12), source="po_1")
    books.payout(10000, at=on(14), members=[back], payout_id="po_2")
    books.states(0, at=END)
    books.covers()

    report = books.report()

    assert [each.state for each in unreturned.payouts] == [PayoutState.FAILED_UNRETURNED]
    assert break_types(unreturned) == ["PAYOUT_FAILED_UNRETURNED"]
    assert {each.id: each.state.value for each in report.payouts} == {"po_1": "FAILED_RETURNED", "po_2": "FOOTED"}
    assert net(report, "payouts_total") == -10000
    assert net(report, "closing") == sum(each.net.minor for each in report.unsettled) == 0
    assert standing(report) == "BALANCED"


def test_a_negative_payout_is_a_bank_debit(books: Books) -> None:
    books.states(0, at=BEGINNING)
    one = books.entry("refund", -4000, at=on(5))
    books.payout(-4000, at=on(8), members=[one])
    books.states(0, at=END)
    books.covers()

    report = books.report()

    assert (report.payouts[0].direction, report.payouts[0].state) == ("bank debit", PayoutState.FOOTED)
    assert net(report, "closing") == 0


def test_a_payout_on_its_way_is_in_transit_and_in_the_bridge(books: Books) -> None:
    books.states(0, at=BEGINNING)
    one = books.entry("charge", 10000, at=on(5))
    books.payout(10000, at=on(31), members=[one], status="in_transit", arrives=on(3, month=2))
    books.states(0, at=END)
    books.covers()

    report = books.report()

    assert report.payouts[0].state is PayoutState.IN_TRANSIT
    assert (net(report, "closing"), net(report, "bridge")) == (0, 10000)


def test_a_manual_payout_has_no_composition_and_its_own_line(books: Books) -> None:
    books.states(0, at=BEGINNING)
    books.entry("charge", 10000, at=on(5))
    books.payout(6000, at=on(8), automatic=False)
    books.states(4000, at=END)
    books.covers()

    report = books.report()

    assert report.payouts[0].state is PayoutState.NO_COMPOSITION
    assert report.unsettled_totals[0].manual_payouts.minor == -6000
    assert sum(each.net.minor for each in report.unsettled) == 4000


def test_a_payout_that_the_bank_exchanged_has_a_rate_and_no_difference(books: Books) -> None:
    """300.00 USD arrive as 276.30 EUR: the trace id proves it, 0.921 is what it came to."""
    books.states(0, at=BEGINNING)
    entry = books.entry("charge", 30000, at=on(3))
    payout = books.payout(30000, at=on(4), members=[entry], arrives=on(6), trace_id={"value": "TRACE300"})
    books.states(0, at=END)
    books.covers()
    booked = BankLine("giro", "2026-01", 1, "EUR", 27630, 2, on(6).date(), None, "PAYOUT TRACE300")
    with books.ledger.store.write() as tx:
        record_statement(tx, [booked], on(7))

    report = books.report()

    (found,) = report.payouts
    assert (found.id, found.state, found.implied_rate) == (payout, PayoutState.FOOTED, "0.921000")
    assert found.bank_difference is None
    assert [(row.payout, row.difference, row.implied_rate) for row in report.bank] == [(found.ref, None, "0.921000")]
    assert standing(report) == "BALANCED"


# --- openings and totals --------------------------------------------------------------------------


def test_a_later_total_is_rolled_back_and_the_page_says_so(books: Books) -> None:
    books.states(0, at=BEGINNING)
    books.entry("charge", 1000, at=on(5))
    books.entry("charge", 250, at=on(1, 3, month=2))
    books.states(1250, at=on(1, 5, month=2))
    books.covers()

    report = books.report()

    assert (net(report, "provider"), net(report, "difference")) == (1000, 0)
    assert block(report).provider_basis == "rolled_back"
    assert "rolled back" in " ".join(block(report).notes)


def test_a_total_from_before_the_cut_off_proves_nothing(books: Books) -> None:
    books.states(0, at=BEGINNING)
    books.entry("charge", 1000, at=on(5))
    books.states(1000, at=on(31, 23))
    books.covers()

    report = books.report()

    assert standing(report) == "UNPROVEN"
    assert report.exit_code == 3
    assert block(report).line("provider").net is None


def test_an_opening_inside_the_history_is_anchored_once_and_swallows_nothing_later(books: Books) -> None:
    books.entry("charge", 1000, at=on(2))
    books.states(51000, at=on(3))
    books.entry("charge", 500, at=on(20))
    books.states(51700, at=END)
    books.covers(since=START)

    report = books.report()

    assert net(report, "opening") == 50000
    assert block(report).opening_basis == "anchored"
    assert "anchored" in " ".join(block(report).notes)
    assert (net(report, "closing"), net(report, "difference")) == (51500, 200)


_BUSY = timedelta(milliseconds=400)


def test_a_balance_read_in_a_second_that_moved_money_is_no_anchor(books: Books) -> None:
    """Stripe dates in whole seconds: the entry moved after the read, and is dated before it."""
    books.entry("charge", 1000, at=on(2))
    books.states(50000, at=on(2) + _BUSY)
    books.states(51000, at=on(3))
    books.entry("charge", 500, at=on(31, 23))
    books.states(51500, at=END)
    books.covers(since=START)

    report = books.report()

    assert (net(report, "opening"), net(report, "difference")) == (50000, 0)
    assert "uncertain" not in " ".join(block(report).notes)


def test_a_closing_read_in_a_second_that_moved_money_gives_way_to_a_quieter_one(books: Books) -> None:
    books.states(0, at=BEGINNING)
    books.entry("charge", 1000, at=on(5))
    books.entry("charge", 250, at=on(1, 3, month=2))
    books.states(1000, at=on(1, 3, month=2) + _BUSY)
    books.states(1250, at=on(1, 5, month=2))
    books.covers()

    assert net(books.report(), "difference") == 0


def test_where_every_balance_was_read_in_a_busy_second_the_page_says_so(books: Books) -> None:
    books.entry("charge", 1000, at=on(2))
    books.states(51000, at=on(2) + _BUSY)
    books.entry("charge", 250, at=END)
    books.states(51250, at=END + _BUSY)
    books.covers(since=START)

    notes = " ".join(block(books.report()).notes)

    assert "The opening is uncertain" in notes
    assert "The provider's balance is uncertain" in notes


def test_a_day_keeps_its_balance_where_only_a_later_day_has_a_quieter_one(books: Books) -> None:
    books.states(0, at=BEGINNING)
    books.entry("charge", 1000, at=on(5))
    books.entry("charge", 250, at=on(6, 0))
    books.states(1250, at=on(6, 0) + _BUSY)
    books.states(1250, at=END)
    books.covers()

    fifth = block(books.report()).days[4]

    assert (fifth.day, fifth.provider, fifth.unexplained) == (on(5).date(), fifth.closing, Amount(0, "USD", 2))


def test_a_balance_read_at_a_full_second_precedes_what_is_dated_in_it(books: Books) -> None:
    books.entry("charge", 1000, at=on(2))
    books.states(50000, at=on(2))
    books.states(51000, at=END)
    books.covers(since=START)

    report = books.report()

    assert (net(report, "opening"), net(report, "difference")) == (50000, 0)
    assert "uncertain" not in " ".join(block(report).notes)


# --- time -----------------------------------------------------------------------------------------


def test_a_day_of_25_hours_and_one_of_23_belong_wholly_to_their_date(books: Books) -> None:
    """Berlin, 25 October 2026: from 22:00 UTC on the 24th to 23:00 UTC on the 25th."""
    books.states(0, at=BEGINNING)
    for hour, day in ((21, 24), (22, 24), (22, 25), (23, 25)):
        books.entry("charge", 100, at=on(day, hour, month=10))
    books.states(400, at=on(1, month=11))
    books.covers(until=on(2, month=11))

    sunday = on(25, month=10).date()
    report = books.report(as_of=on(2, month=11), from_day=sunday, to_day=sunday, timezone="Europe/Berlin")

    assert block(report).line("charge").count == 2
    assert (net(report, "opening"), net(report, "closing")) == (100, 300)
    assert (report.header.start_offset, report.header.end_offset) == ("+02:00", "+01:00")


def test_the_same_question_has_the_same_bytes(books: Books) -> None:
    books.states(0, at=BEGINNING)
    charge = books.charge(5000, at=on(5))
    books.sale("50.00", at=on(5), authorization=charge)
    books.states(5000, at=END)
    books.covers()

    first = books.report()
    books.charge(100, at=on(6), known=on(11, month=2))
    again = books.report()

    assert canonical.encode(first) == canonical.encode(again)
    assert first.report_id == again.report_id
    assert books.report(as_of=on(12, month=2)).report_id != first.report_id


STREAMS = [f"{term.name}/{stream}" for term in TERMS for stream in sorted(term.finance.streams)]


@pytest.mark.parametrize("removed", STREAMS)
def test_without_the_tail_of_any_required_stream_nothing_is_proved(books: Books, removed: str) -> None:
    books.states(0, at=BEGINNING)
    books.entry("charge", 1000, at=on(5))
    books.states(1000, at=END)
    books.covers(but=removed)

    report = books.report()

    assert standing(report) == "UNPROVEN"
    assert report.exit_code == 3
    assert [f"{each.account}/{each.stream}" for each in report.coverage if not each.complete] == [removed]
