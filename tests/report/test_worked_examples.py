"""Worked examples, by hand and to the minor unit."""

from __future__ import annotations

import pytest

from reconciler.ledger import Ledger
from tests.report.books import (
    BEGINNING,
    END,
    Books,
    block,
    break_types,
    line,
    net,
    on,
    standing,
)


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
