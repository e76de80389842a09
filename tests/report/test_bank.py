"""Which payouts the imported statements speak of at all: one that lies in a statement nobody brought is not missing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import pytest

from reconciler.ledger.bank import BankLine, record_statement
from tests.report.books import BEGINNING, END, LATER, Books, break_types, on, standing


def pays(books: Books, destinations: Mapping[int, str]) -> Books:
    """Payouts of 100.00, 200.00 and 300.00, due on the 7th, the 14th and the 21st; `destinations` by the day on which
    they were made."""
    books.states(0, at=BEGINNING)
    for day, minor in ((5, 10000), (12, 20000), (19, 30000)):
        entry = books.entry("charge", minor, at=on(day))
        books.payout(
            minor,
            at=on(day),
            members=[entry],
            arrives=on(day + 2),
            trace_id={"value": f"TRACE{day}"},
            destination=destinations.get(day),
        )
    books.states(0, at=END)
    books.covers()
    return books


@pytest.fixture
def paid(books: Books) -> Books:
    """By a provider that does not say where to."""
    return pays(books, {})


def brings(
    books: Books,
    name: str,
    lines: dict[int, tuple[int, str]],
    *,
    opening: int | None,
    currency: str = "USD",
    known: int = 31,
    account: str = "giro",
) -> None:
    """A statement: day -> (minor units, reference)."""
    found = [
        BankLine(account, name, ordinal, currency, minor, 2, date(2026, 1, day), None, reference)
        for ordinal, (day, (minor, reference)) in enumerate(lines.items(), start=1)
    ]
    with books.ledger.together() as tx:
        record_statement(tx, found, on(known), opening=opening)


def brings_the_outer_ones(books: Books, *, opens: int | None, reopens: int | None) -> None:
    brings(books, "1", {2: (500, "rent"), 7: (10000, "TRACE5")}, opening=opens)
    brings(books, "3", {18: (-100, "fee"), 21: (30000, "TRACE19"), 30: (-100, "fee")}, opening=reopens)


def test_a_payout_in_a_statement_that_nobody_brought_is_not_looked_at(paid: Books) -> None:
    """The second statement is missing: the third begins with 200.00 more than the first ended with."""
    brings_the_outer_ones(paid, opens=0, reopens=30500)

    report = paid.report()

    said = (
        "giro: a statement between 2026-01-07 and 2026-01-18 was not imported (it closed with 105.00 USD, and opens"
        " again with 305.00 USD), so 1 payout(s) that came to the bank then were not looked for"
    )
    assert break_types(report) == []
    assert (standing(report), report.exit_code) == ("UNPROVEN", 3)
    assert report.verdicts[0].reasons == (said,)
    assert said in report.header.notes
    assert [payout.bank_difference is not None for payout in report.payouts] == [True, False, True]


@pytest.mark.parametrize(("first", "second"), [("9", "10"), ("a", "b")])
def test_of_two_statements_that_end_on_one_day_either_may_be_the_last(paid: Books, first: str, second: str) -> None:
    """Their names say nothing of their order; the balances do."""
    brings(paid, first, {7: (10000, "TRACE5")}, opening=0)
    brings(paid, second, {7: (-500, "fee")}, opening=10000)
    brings(paid, "z", {18: (-100, "fee"), 21: (30000, "TRACE19"), 30: (-100, "fee")}, opening=9500)

    report = paid.report()

    assert break_types(report) == ["BANK_MISSING"], "the next one goes on where the last one ended"


@pytest.mark.parametrize(("first", "second"), [("9", "10"), ("a", "b")])
def test_of_two_statements_that_begin_on_one_day_either_may_be_the_first(paid: Books, first: str, second: str) -> None:
    brings(paid, "1", {2: (500, "rent"), 7: (10000, "TRACE5")}, opening=0)
    brings(paid, second, {18: (-100, "fee"), 21: (30000, "TRACE19"), 30: (-100, "fee")}, opening=10400)
    brings(paid, first, {18: (-100, "fee")}, opening=10500)

    assert break_types(paid.report()) == ["BANK_MISSING"]


def test_once_it_is_brought_the_payout_has_its_line_or_is_missing(paid: Books) -> None:
    brings_the_outer_ones(paid, opens=0, reopens=30500)
    brings(paid, "2", {10: (-50, "fee"), 14: (20000, "TRACE12"), 15: (50, "back")}, opening=10500, known=31)

    report = paid.report()

    assert (break_types(report), standing(report)) == ([], "BALANCED")
    assert all(payout.bank_difference is not None for payout in report.payouts)


def test_where_the_next_statement_goes_on_the_payout_never_came(paid: Books) -> None:
    brings_the_outer_ones(paid, opens=0, reopens=10500)

    report = paid.report()

    (found,) = report.breaks
    assert (found.type.value, found.difference.minor) == ("BANK_MISSING", -20000)
    assert (found.suggestion, standing(report)) == (None, "BREAKS")


@pytest.mark.parametrize(("opens", "reopens"), [(None, None), (None, 30500), (0, None)])
def test_without_balances_nobody_knows_whether_a_statement_is_missing(
    paid: Books, opens: int | None, reopens: int | None
) -> None:
    brings_the_outer_ones(paid, opens=opens, reopens=reopens)

    report = paid.report()

    (found,) = report.breaks
    assert found.type.value == "BANK_MISSING"
    assert found.suggestion == (
        "The statements of giro do not say whether one between 2026-01-07 and 2026-01-18 is missing: bring it, or bring"
        " them with their balances."
    )


def test_a_payout_due_before_the_hole_may_have_come_in_it(paid: Books) -> None:
    """Banks are late: within the grace the money may stand in the statement that is missing."""
    brings(paid, "1", {2: (500, "rent"), 13: (10000, "TRACE5"), 14: (1, "x")}, opening=0)
    brings(paid, "3", {17: (-100, "fee"), 21: (30000, "TRACE19"), 30: (-100, "fee")}, opening=30501)

    assert (break_types(paid.report()), standing(paid.report())) == ([], "UNPROVEN")


def test_a_hole_elsewhere_says_nothing(paid: Books) -> None:
    """In another currency's account, or on days on which no payout was due."""
    brings(paid, "1", {2: (500, "rent"), 7: (10000, "TRACE5"), 14: (1, "x"), 17: (1, "x")}, opening=0)
    brings(paid, "3", {19: (-100, "fee"), 21: (30000, "TRACE19"), 30: (-100, "fee")}, opening=77777)
    brings(paid, "e1", {2: (5, "x")}, opening=0, currency="EUR")
    brings(paid, "e2", {30: (5, "x")}, opening=99, currency="EUR")

    assert break_types(paid.report()) == ["BANK_MISSING"]


ONE, OTHER = "ba_1", "ba_2"


@pytest.mark.parametrize(
    ("destinations", "types"),
    [
        ({5: ONE, 12: ONE, 19: ONE}, ["BANK_MISSING"]),
        ({5: ONE, 12: OTHER, 19: ONE}, []),
        ({5: ONE, 12: OTHER, 19: OTHER}, ["BANK_MISSING"]),
        ({5: ONE, 19: ONE}, []),
        ({12: ONE}, []),
        ({}, []),
    ],
    ids=["the same", "one that nobody saw", "the same as a later one", "not said", "said of this one only", "never"],
)
def test_only_a_statement_of_the_account_that_a_payout_goes_to_can_hold_it(
    books: Books, destinations: dict[int, str], types: list[str]
) -> None:
    """`giro` is whole and has the payouts of the 7th and the 21st; of `savings` a statement is missing, where the
    payout of the 14th may stand: unless others to the same place stand in `giro`."""
    pays(books, destinations)
    brings(books, "g", {2: (1, "x"), 7: (10000, "TRACE5"), 21: (30000, "TRACE19"), 30: (1, "x")}, opening=0)
    brings(books, "s1", {2: (5, "x"), 10: (5, "x")}, opening=0, account="savings")
    brings(books, "s3", {18: (5, "x"), 30: (5, "x")}, opening=20010, account="savings")

    report = books.report()

    assert break_types(report) == types
    assert standing(report) == ("BREAKS" if types else "UNPROVEN")


def test_a_hole_of_the_account_that_a_payout_goes_to_still_speaks_for_it(books: Books) -> None:
    pays(books, dict.fromkeys((5, 12, 19), ONE))
    brings_the_outer_ones(books, opens=0, reopens=30500)

    assert (break_types(books.report()), standing(books.report())) == ([], "UNPROVEN")


def test_an_account_that_was_imported_under_two_names_is_both_of_them(books: Books) -> None:
    pays(books, dict.fromkeys((5, 12, 19), ONE))
    brings(books, "1", {2: (500, "rent"), 7: (10000, "TRACE5"), 8: (1, "x")}, opening=0)
    brings(books, "1", {9: (1, "x"), 10: (1, "x")}, opening=10501, account="giro new")
    brings(books, "3", {21: (30000, "TRACE19"), 30: (1, "x")}, opening=30502, account="giro new")

    assert (break_types(books.report()), standing(books.report())) == ([], "UNPROVEN")


def test_what_a_statement_opens_with_can_be_said_later_and_changes_no_earlier_answer(paid: Books) -> None:
    brings_the_outer_ones(paid, opens=None, reopens=None)
    before = paid.report()
    brings(paid, "1", {2: (500, "rent"), 7: (10000, "TRACE5")}, opening=0, known=31)
    lines = {18: (-100, "fee"), 21: (30000, "TRACE19"), 30: (-100, "fee")}
    found = [
        BankLine("giro", "3", ordinal, "USD", minor, 2, date(2026, 1, day), None, reference)
        for ordinal, (day, (minor, reference)) in enumerate(lines.items(), start=1)
    ]
    with paid.ledger.together() as tx:
        assert record_statement(tx, found, LATER + timedelta(days=1), opening=30500) == 0, "its lines were known"

    assert paid.report() == before
    assert standing(paid.report(as_of=LATER + timedelta(days=2))) == "UNPROVEN"


@pytest.mark.parametrize(("last", "types"), [(13, []), (16, []), (17, ["BANK_MISSING"]), (30, ["BANK_MISSING"] * 2)])
def test_a_payout_is_overdue_by_the_statements_of_the_account_that_it_goes_to(
    books: Books, last: int, types: list[str]
) -> None:
    """Of the company's other account there are later ones, on which it never was to arrive. Due on the 14th and the
    21st, within two days."""
    pays(books, dict.fromkeys((5, 12, 19), ONE))
    brings(books, "g", {2: (1, "x"), 7: (10000, "TRACE5"), last: (1, "x")}, opening=0)
    brings(books, "s", {2: (5, "x"), 30: (5, "x")}, opening=0, account="savings")

    assert break_types(books.report()) == types


def test_an_account_that_changes_what_it_receives_speaks_for_its_payouts_too(books: Books) -> None:
    """Dollars that are sent to an account in euros: none of them stands on any statement in dollars."""
    pays(books, dict.fromkeys((5, 12, 19), ONE))
    brings(books, "g", {2: (1, "x"), 7: (9200, "TRACE5"), 21: (27600, "TRACE19"), 30: (1, "x")}, opening=0,
           currency="EUR")  # fmt: skip

    (found,) = books.report().breaks
    assert (found.type.value, found.difference.minor, found.currency) == ("BANK_MISSING", -20000, "USD")


def test_a_hole_in_an_account_of_another_currency_leaves_the_payouts_own_unproven(books: Books) -> None:
    pays(books, dict.fromkeys((5, 12, 19), ONE))
    brings(books, "1", {2: (1, "x"), 7: (9200, "TRACE5")}, opening=0, currency="EUR")
    brings(books, "3", {18: (1, "x"), 21: (27600, "TRACE19"), 30: (1, "x")}, opening=27601, currency="EUR")

    report = books.report()
    assert (break_types(report), standing(report)) == ([], "UNPROVEN")
    assert "giro: a statement between 2026-01-07 and 2026-01-18 was not imported" in report.verdicts[0].reasons[0]
