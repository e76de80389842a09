"""Worked examples, by hand and to the minor unit: a whole month, its currencies, its days, its evidence."""

from __future__ import annotations

import pytest

from reconciler.report import canonical
from tests.report.books import BEGINNING, END, START, TERMS, Books, block, break_types, line, net, on, standing


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


# --- time -----------------------------------------------------------------------------------------


def test_money_held_in_reserve_moves_between_two_balances_and_the_whole_stays(books: Books) -> None:
    """A hold of 300.00, of which 120.00 come back; meanwhile a refund takes what is left below zero."""
    for kind, held in (("payments", -5000), ("risk_reserved", 18000)):
        books.states(0, at=BEGINNING, balance_type=kind)
        books.states(held, at=END, balance_type=kind)
    books.entry("charge", 20000, at=on(3))
    books.entry("risk_reserved_funds", -30000, at=on(5))
    books.entry("risk_reserved_funds", 30000, at=on(5), balance_type="risk_reserved")
    books.entry("risk_reserved_funds", 12000, at=on(20))
    books.entry("risk_reserved_funds", -12000, at=on(20), balance_type="risk_reserved")
    books.entry("refund", -7000, at=on(22))
    books.covers()

    report = books.report()

    reserved, payments = (block(report, balance_type=kind) for kind in ("risk_reserved", "payments"))
    closings = [each.line("closing").net for each in (payments, reserved)]
    assert [each.minor for each in closings if each is not None] == [-5000, 18000]
    moved = [each.line("risk_reserved_funds") for each in (payments, reserved)]
    assert [(each.count, each.net and each.net.minor) for each in moved] == [(2, -18000), (2, 18000)]
    assert sum(each.minor for each in closings if each is not None) == 20000 - 7000
    assert [each.difference.minor for each in report.unsettled_totals] == [0, 0]
    assert (break_types(report), standing(report)) == ([], "BALANCED")


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


def test_what_lies_before_the_first_look_is_not_proved_until_a_backfill_has_looked(books: Books) -> None:
    books.entry("charge", 1000, at=on(12))
    books.states(0, at=on(10))
    books.states(1000, at=END)
    books.covers(since=on(10))

    assert standing(books.report()) == "UNPROVEN"
    books.covers(since=START, until=on(11))
    assert standing(books.report()) == "BALANCED"
