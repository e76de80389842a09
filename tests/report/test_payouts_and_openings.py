"""Worked examples, by hand and to the minor unit: payouts, openings, and the totals that prove them."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from reconciler.ledger.bank import BankLine, record_statement
from reconciler.report.model import Amount, PayoutState
from tests.report.books import BEGINNING, END, START, Books, block, break_types, net, on, standing

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
    lines = [line.code for line in block(report).lines]
    assert lines[:7] == ["opening", "charge", "refund", "net_activity", "payout", "payouts_total", "closing"]


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


def test_a_payout_that_fails_after_the_end_was_on_its_way_at_the_end(books: Books) -> None:
    """January's books are right: the money had left them, and what brought it back is dated February."""
    books.states(0, at=BEGINNING)
    one = books.entry("charge", 10000, at=on(5))
    books.payout(10000, at=on(30), members=[one], payout_id="po_1", status="failed", arrives=on(2, month=2))
    books.entry("payout_reversal", 10000, at=on(4, month=2), source="po_1")
    books.states(0, at=END)
    books.states(10000, at=on(1, 0, month=3))
    books.covers(until=on(5, month=3))

    january = books.report(as_of=on(6, month=3))
    february = books.report(as_of=on(6, month=3), from_day=on(1, month=2).date(), to_day=on(28, month=2).date())

    assert [(each.state, each.status) for each in january.payouts] == [(PayoutState.IN_TRANSIT, "failed")]
    assert (break_types(january), standing(january)) == ([], "BALANCED")
    assert (net(january, "closing"), net(january, "bridge")) == (0, 10000)
    assert [each.state for each in february.payouts] == []
    assert (net(february, "payouts_total"), break_types(february), standing(february)) == (10000, [], "BALANCED")


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


def test_a_bank_debit_on_its_way_takes_from_the_bridge_what_it_brought_to_the_closing(books: Books) -> None:
    """Of -40.00 and 100.00 on their way Stripe's own report still holds 60.00 that the closing does not: their absolute
    values, as the formula was first written, would make it 140.00 (docs/decisions/0105)."""
    books.states(0, at=BEGINNING)
    out = books.entry("charge", 10000, at=on(5))
    books.payout(10000, at=on(30), members=[out], status="in_transit", arrives=on(3, month=2))
    debt = books.entry("refund", -4000, at=on(31, 1))
    books.payout(-4000, at=on(31), members=[debt], status="in_transit", arrives=on(4, month=2))
    books.states(0, at=END)
    books.covers()

    report = books.report()

    stripes_own = 10000 - 4000  # its payouts are deducted on the day on which they arrive
    assert (net(report, "closing"), net(report, "bridge")) == (0, stripes_own)


def test_an_automatic_payout_that_nobody_listed_is_named(books: Books) -> None:
    """It has no composition, like a manual one; but here there is a list, and nobody read it."""
    books.states(0, at=BEGINNING)
    books.entry("charge", 10000, at=on(5))
    books.payout(6000, at=on(8), reconciliation_status="completed")
    books.payout(4000, at=on(9), automatic=False)
    books.states(0, at=END)
    books.covers()

    report = books.report()

    assert {each.state for each in report.payouts} == {PayoutState.NO_COMPOSITION}
    assert report.header.notes == (
        "main: of 1 automatic payout(s) it was never read what they paid out, so nobody knows whether they add up.",
    )
    assert books.report(from_day=on(9).date()).header.notes == ()


def test_a_payout_that_came_back_is_not_in_the_bridge(books: Books) -> None:
    books.states(0, at=BEGINNING)
    one = books.entry("charge", 10000, at=on(5))
    books.payout(10000, at=on(29), members=[one], status="failed", payout_id="po_1", arrives=on(3, month=2))
    books.entry("payout_reversal", 10000, at=on(30), source="po_1")
    books.states(10000, at=END)
    books.covers()

    report = books.report()

    assert (net(report, "closing"), net(report, "bridge")) == (10000, 10000)
    still_away = books.report(to_day=on(29).date())
    assert (net(still_away, "closing"), net(still_away, "bridge")) == (0, 10000)


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
    assert standing(report) == "BALANCED"


def test_a_later_total_proves_nothing_through_days_that_nobody_looked_at(books: Books) -> None:
    """The balance is read on, and the entries no longer: what moved it meanwhile is unknown, not unexplained."""
    books.states(0, at=BEGINNING)
    books.entry("charge", 1000, at=on(5))
    books.states(1700, at=on(8, month=2))
    books.covers(until=on(3, month=2))

    report = books.report()
    books.entry("charge", 700, at=on(7, month=2), known=on(12, month=2))
    books.covers(until=on(12, month=2))

    assert (net(report, "difference"), standing(report), report.exit_code) == (700, "UNPROVEN", 3)
    assert standing(books.report(as_of=on(13, month=2))) == "BALANCED"


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


# --- a payout that costs something itself ---------------------------------------------------------------


@pytest.mark.parametrize(("sold", "sent", "fee"), [(10000, 9900, 100), (-4000, -4100, 100), (10000, 10050, -50)])
def test_a_payout_with_a_fee_of_its_own_foots_with_it(books: Books, sold: int, sent: int, fee: int) -> None:
    """What it paid out is what reaches the bank and what that cost; a bank debit takes in the fee as well."""
    books.states(0, at=BEGINNING)
    entry = books.entry("charge" if sold > 0 else "dispute", sold, at=on(5))
    books.payout(sent, at=on(6), members=[entry], fee=fee, trace_id={"value": "TRACE"})
    books.states(0, at=END)
    books.covers()
    with books.ledger.together() as tx:
        line = BankLine("giro", "1", 1, "USD", sent, 2, date(2026, 1, 8), None, "TRACE")
        record_statement(tx, [line], on(31))

    report = books.report()

    (payout,) = report.payouts
    assert payout.components is not None
    assert payout.difference is not None
    assert (payout.state, payout.amount.minor, payout.fee.minor) == (PayoutState.FOOTED, sent, fee)
    assert (payout.components.minor, payout.difference.minor) == (sold, 0)
    assert (payout.bank_difference and payout.bank_difference.minor, break_types(report)) == (0, [])
    assert [total.difference.minor for total in report.unsettled_totals] == [0]
    assert (net(report, "closing"), standing(report)) == (0, "BALANCED")


def test_a_payout_that_is_off_by_its_fee_is_a_difference_of_so_much(books: Books) -> None:
    """Its members come to what reached the bank, and the balance paid the fee besides."""
    books.states(0, at=BEGINNING)
    entry = books.entry("charge", 10000, at=on(5))
    books.payout(10000, at=on(6), members=[entry], fee=100)
    books.states(-100, at=END)
    books.covers()

    (found,) = books.report().breaks

    assert (found.type.value, found.left_amount.minor, found.right_amount.minor) == ("PAYOUT_DIFF", 10000, 9900)
    assert found.difference.minor == 100


def test_the_bridge_counts_what_a_payout_on_its_way_took_from_the_balance(books: Books) -> None:
    books.states(0, at=BEGINNING)
    entry = books.entry("charge", 10000, at=on(29))
    books.payout(9900, at=on(30), members=[entry], fee=100, arrives=on(3, month=2), status="in_transit")
    books.states(0, at=END)
    books.covers()

    assert (net(books.report(), "closing"), net(books.report(), "bridge")) == (0, 10000)
