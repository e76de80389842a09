"""Worked examples, by hand and to the minor unit: what comes back, and what is exchanged."""

from __future__ import annotations

import pytest

from tests.report.books import BEGINNING, END, Books, break_types, line, net, on, standing

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


def test_a_refund_that_fails_after_the_end_waits_for_what_is_known_to_come(books: Books) -> None:
    """January's books are right: the refund left them, and what brought it back is dated February."""
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    refund = books.refund(charge, 4000, at=on(29), status="failed", known=on(5, month=2))
    books.entry("refund_failure", 4000, at=on(5, month=2), source=refund)
    books.states(6000, at=END)
    books.states(10000, at=on(1, 0, month=3))
    books.covers(until=on(5, month=3))

    january = books.report(as_of=on(6, month=3))

    (waiting,) = january.timing
    assert (waiting.type.value, waiting.difference.minor) == ("OBJECT_DIFF", -4000)
    assert (waiting.opened_at, waiting.clears_on) == (on(29), on(5, month=2).date())
    assert (january.breaks, standing(january)) == ((), "BALANCED_WITH_TIMING")
    february = books.report(as_of=on(6, month=3), from_day=on(1, month=2).date(), to_day=on(28, month=2).date())
    assert (february.timing, february.breaks) == ((), ())


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


def test_money_that_comes_back_after_a_dispute_was_won_is_known_to_come(books: Books) -> None:
    """Won in the last hour of January, booked in the first of February; one that brings back too little is a break."""
    books.states(0, at=BEGINNING)
    charge = books.charge(3000, at=on(5))
    books.sale("30.00", at=on(5), authorization=charge)
    books.entry("dispute", -3000, fee=1500, at=on(8), source="dp_1")
    body = {"id": "dp_1", "status": "won", "amount": 3000, "currency": "usd", "charge": charge}
    books.read("dispute", body | {"created": int(on(8).timestamp())}, at=on(31, 23))
    books.entry("dispute_reversal", 2999, at=on(1, 1, month=2), source="dp_1")
    books.states(-1500, at=END)
    books.covers()

    short = books.report()
    books.entry("dispute_reversal", 1, at=on(1, 2, month=2), source="dp_1", known=on(11, month=2))
    whole = books.report(as_of=on(12, month=2))

    assert break_types(short) == ["OBJECT_DIFF"]
    assert [(each.type.value, each.clears_on) for each in whole.timing] == [("OBJECT_DIFF", on(1, month=2).date())]
    assert (whole.breaks, standing(whole)) == ((), "BALANCED_WITH_TIMING")


def test_disputes_that_were_first_read_after_the_end_are_named(books: Books) -> None:
    """How they stood at the end nobody recorded; an inquiry moves nothing, and later ones are of no concern."""
    books.states(0, at=BEGINNING)
    for name, status, opened in (
        ("dp_1", "needs_response", on(8)),
        ("dp_2", "warning_closed", on(8)),
        ("dp_3", "lost", on(1, month=2)),
    ):
        body = {"id": name, "status": status, "amount": 3000, "currency": "usd", "charge": "ch_1"}
        books.read("dispute", body | {"created": int(opened.timestamp())}, at=on(3, month=2))
    books.covers()

    report, earlier = books.report(), books.report(as_of=on(2, month=2))

    (note,) = report.header.notes
    assert note.startswith("main: 1 dispute(s) that began before the end were first read after it.")
    assert (earlier.header.notes, report.disputes) == ((), {})


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


# --- money that was taken back, and money that still is contested ---------------------------------


def _failed_charge(books: Books, *, returned_on: int | None, month: int = 1) -> None:
    """A debit that was booked while it was pending, and refused by the customer's bank."""
    books.states(0, at=BEGINNING)
    charge = books.charge(5000, at=on(6), charge_id="py_1", status="failed", known=on(20, month=2))
    if returned_on is not None:
        books.entry("charge_failure", -5000, at=on(returned_on, month=month), source=charge)
    books.states(0 if returned_on is not None and month == 1 else 5000, at=END)
    books.covers(until=on(5, month=3))


def test_a_charge_that_failed_and_was_never_taken_back_is_a_difference(books: Books) -> None:
    _failed_charge(books, returned_on=None)

    report = books.report(as_of=on(6, month=3))

    (found,) = [each for each in report.breaks if each.plane == "P5"]
    assert (found.type.value, found.difference.minor, found.left) == ("OBJECT_DIFF", 5000, "stripe/main/charge/py_1")
    assert standing(report) == "BREAKS"


def test_a_charge_that_failed_and_was_taken_back_is_settled(books: Books) -> None:
    _failed_charge(books, returned_on=9)

    report = books.report(as_of=on(6, month=3))

    assert (net(report, "charge"), net(report, "charge_failure"), net(report, "closing")) == (5000, -5000, 0)
    assert (break_types(report), standing(report)) == ([], "BALANCED")


def test_a_charge_that_is_taken_back_after_the_end_is_timing(books: Books) -> None:
    _failed_charge(books, returned_on=4, month=2)

    report = books.report(as_of=on(6, month=3))

    assert break_types(report) == []
    assert [(str(each.clears_on), each.difference.minor) for each in report.timing] == [("2026-02-04", 5000)]


def test_what_took_a_failed_charge_back_is_known_by_what_the_charge_names(books: Books) -> None:
    """Its own entry may name something else as its source, such as the refund that Stripe made of it."""
    books.states(0, at=BEGINNING)
    back = books.entry("charge_failure", -5000, at=on(9), source="pyr_1")
    books.charge(5000, at=on(6), status="failed", failure_balance_transaction=back)
    books.states(0, at=END)
    books.covers()

    report = books.report()

    assert (break_types(report), standing(report)) == ([], "BALANCED")


@pytest.mark.parametrize("status", ["appeal_needs_response", "appeal_under_review"])
def test_a_dispute_that_is_appealed_is_open_again(books: Books, status: str) -> None:
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    books.entry("dispute", -10000, fee=1500, at=on(7), source="dp_1")
    body = {"id": "dp_1", "amount": 10000, "currency": "usd", "charge": charge, "created": int(on(7).timestamp())}
    books.read("dispute", body | {"status": "lost"}, at=on(12))
    books.read("dispute", body | {"status": status}, at=on(14))
    books.states(-1500, at=END)
    books.covers()

    section = books.report().disputes["USD"]

    assert (section.open, section.lost, section.at_risk.minor) == (1, 0, 10000)


# --- money abroad that should have come back --------------------------------------------------------


def _won_abroad(books: Books, *, back: int | None, month: int = 1) -> None:
    """A euro charge, disputed and won: 110.00 USD went, and what comes back comes at the rate of its day."""
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, currency="eur", at=on(5), settled=(11000, "usd", 1.1))
    books.sale("100.00", currency="EUR", at=on(5), authorization=charge)
    books.entry("dispute", -11000, at=on(7), source="dp_1")
    body = {"id": "dp_1", "amount": 10000, "currency": "eur", "charge": charge, "created": int(on(7).timestamp())}
    books.read("dispute", body | {"status": "needs_response"}, at=on(7))
    books.read("dispute", body | {"status": "won"}, at=on(20))
    if back is not None:
        books.entry("dispute_reversal", back, at=on(20, month=month), source="dp_1")
    books.states(back if back is not None and month == 1 else 0, at=END)
    books.covers(until=on(5, month=3))


@pytest.mark.parametrize("back", [11000, 11170])
def test_what_comes_back_at_another_rate_has_come_back(books: Books, back: int) -> None:
    _won_abroad(books, back=back)

    report = books.report(as_of=on(6, month=3))

    assert (break_types(report), standing(report)) == ([], "BALANCED")


def test_money_abroad_that_never_came_back_is_a_difference_in_the_currency_that_it_went_in(books: Books) -> None:
    _won_abroad(books, back=None)

    report = books.report(as_of=on(6, month=3))

    (found,) = report.breaks
    assert (found.type.value, found.left) == ("OBJECT_DIFF", "stripe/main/dispute/dp_1")
    assert (found.currency, found.difference.minor, found.right_amount.minor) == ("USD", -11000, -11000)
    assert (standing(report), standing(report, "EUR")) == ("BREAKS", "BALANCED")


def test_money_abroad_that_comes_back_after_the_end_is_timing(books: Books) -> None:
    _won_abroad(books, back=11170, month=2)

    report = books.report(as_of=on(6, month=3))

    assert break_types(report) == []
    assert [(str(each.clears_on), each.currency) for each in report.timing] == [("2026-02-20", "USD")]
