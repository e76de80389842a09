"""Money whose cause nobody ever read: it exists, no list showed it, and so nothing is proved of it."""

from __future__ import annotations

import pytest

from reconciler.report.model import Report
from tests.ledger.factories import ref, settle, snapshot, tombstone
from tests.report.books import BEGINNING, END, START, Books, net, on, standing
from tests.report.test_own_payments import OWN, OwnPayments

TO_DO = "; `reconcile mark` them, or read them with `reconcile --since`"


def reasons(of: Report, currency: str = "USD") -> tuple[str, ...]:
    (found,) = [each.reasons for each in of.verdicts if each.currency == currency]
    return found


@pytest.fixture
def january(books: Books) -> Books:
    """Balanced, and looked at until March."""
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    books.covers()
    return books


def bring(books: Books, category: str, source: str | None, minor: int = -2500) -> Report:
    """An entry, and a provider's balance that agrees with it."""
    books.entry(category, minor, at=on(20), source=source)
    books.states(10000 + minor, at=END)
    return books.report()


@pytest.mark.parametrize(
    ("category", "source", "kind"),
    [
        ("payout", "po_1", "payout"),
        ("payout_reversal", "po_1", "payout"),
        ("refund", "re_1", "refund"),
        ("refund_failure", "pyr_1", "refund"),
        ("partial_capture_reversal", "re_1", "refund"),
        ("charge", "py_1", "charge"),
        ("dispute", "du_1", "dispute"),
        ("dispute_reversal", "dp_1", "dispute"),
    ],
)
def test_money_whose_cause_was_never_read_proves_nothing(january: Books, category: str, source: str, kind: str) -> None:
    report = bring(january, category, source)
    assert net(report, "unexplained") == 0, "the sums foot, and that is not enough"
    said = f"main: 1 {kind}(s) that entries name were never read: stripe/main/{kind}/{source}{TO_DO}"
    assert (standing(report), reasons(report)) == ("UNPROVEN", (said,))
    assert (said in report.header.notes, report.exit_code) == (True, 3)


@pytest.mark.parametrize(
    ("category", "source"),
    [("transfer", "tr_1"), ("topup", "tu_1"), ("fee", None), ("refund", None), ("charge_failure", "pyr_1")],
)
def test_what_the_report_compares_with_nothing_needs_no_cause(
    january: Books, category: str, source: str | None
) -> None:
    assert standing(bring(january, category, source)) == "BALANCED"


def test_it_is_asked_as_of_the_reports_instant_and_of_its_period(january: Books) -> None:
    payout = {"id": "po_1", "object": "payout", "status": "paid", "amount": 2500, "currency": "usd"}
    payout |= {"created": int(on(20).timestamp()), "automatic": False, "balance_transaction": "txn_po"}
    january.entry("payout", -2500, at=on(20), source="po_1", entry_id="txn_po")
    january.states(7500, at=END)
    january.read("payout", payout, at=on(20, month=2))
    january.covers(until=on(25, month=2))
    assert standing(january.report(as_of=on(19, month=2))) == "UNPROVEN"
    assert standing(january.report(as_of=on(21, month=2))) == "BALANCED"
    assert standing(january.report(as_of=on(19, month=2), to_day=START.date())) != "UNPROVEN"


@pytest.mark.parametrize(("category", "kind", "name"), [("refund", "refund", "re_1"), ("payout", "payout", "po_1")])
def test_money_whose_cause_does_not_exist_is_named(january: Books, category: str, kind: str, name: str) -> None:
    """The provider has booked it, and says so; it was looked at, and the page must not pass over it."""
    bring(january, category, name)
    of = ref(name, kind=kind)
    settle(january.ledger, of, tombstone(of), on(10, month=2))
    january.covers(until=on(25, month=2))
    said = (
        f"main: 1 {kind}(s) that USD entries name do not exist (any more), as the provider says: {of};"
        " ask it what that money was"
    )

    def at(day: int) -> tuple[str, bool]:
        report = january.report(as_of=on(day, month=2))
        return standing(report), said in report.header.notes

    assert at(9) == ("UNPROVEN", False)
    assert at(11) == ("BALANCED", True)
    settle(january.ledger, of, snapshot(of, {"id": name}), on(20, month=2))
    assert [at(day)[1] for day in (9, 11, 21)] == [False, True, False], "as it was known then"


def test_many_are_counted_and_a_few_of_them_named(january: Books) -> None:
    january.entry("charge", 700, at=on(19))
    for number in range(7):
        january.entry("refund", -100, at=on(20), source=f"re_{number}")
    named = ", ".join(f"stripe/main/refund/re_{number}" for number in range(5))
    said = f"main: 7 refund(s) that entries name were never read: {named} and 2 more{TO_DO}"
    assert reasons(bring(january, "refund_failure", "re_1", 0)) == (said,)


def test_another_currency_is_not_held_up_by_it(january: Books) -> None:
    january.states(0, at=BEGINNING, currency="EUR")
    january.entry("payout", -2500, at=on(20), source="po_1", currency="eur")
    january.states(-2500, at=END, currency="EUR")
    january.states(10000, at=END)
    report = january.report()
    assert (standing(report, "EUR"), standing(report)) == ("UNPROVEN", "BALANCED")
    assert january.report(currency="USD").exit_code == 0


def test_it_is_the_same_of_a_shops_own_payments(books: Books) -> None:
    shop = OwnPayments(books)
    shop.sold("100.00", day=3)
    shop.row("payout", "-60.00", day=8, source_id=501, source_type="payout", payout_id=501)
    shop.row("dispute", "-10.00", day=9, source_id=601, source_type="Payments::Dispute")
    shop.states(3000)
    said = [f"shop: 1 {kind}(s) that entries name were never read: shopify/shop/{kind}/{name}{TO_DO}"
            for kind, name in (("dispute", 601), ("payout", 501))]  # fmt: skip
    assert reasons(books.report(rules=OWN)) == tuple(said)
    shop.pays_out(501, "60.00", day=8)
    shop.dispute(601, "needs_response", "10.00", day=9)
    assert standing(books.report(rules=OWN)) == "BALANCED"


def test_of_a_shops_things_an_order_or_a_row_of_the_same_number_is_no_cause(books: Books) -> None:
    shop = OwnPayments(books)
    shop.sold("100.00", day=3, order=601)
    order = {"id": 601, "currency": "USD", "presentment_currency": "USD", "created_at": on(3).isoformat()}
    books.read("order", order, at=on(3), account="shop")
    shop.row("dispute", "-10.00", day=9, source_id=601, source_type="Payments::Dispute")
    shop.row("payout", "-60.00", day=8)  # its source is the number that the row itself has
    shop.states(3000)
    (dispute, payout) = reasons(books.report(rules=OWN))
    assert "shopify/shop/dispute/601;" in dispute
    assert "1 payout(s)" in payout
