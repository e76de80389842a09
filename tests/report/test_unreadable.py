"""A body that nobody can read takes no report away: it is named, and nothing of its kind is proved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from reconciler.report import canonical
from reconciler.report.aside import SettingAside
from reconciler.report.model import Report
from tests.report.books import BEGINNING, END, STRIPE_TERMS, TERMS, Books, line, net, on, standing
from tests.report.histories import KNOWN

SEEN = on(20, month=2)
"""When the body came, ten days after the instant that was asked about before."""
BROKEN = "10.005"
"""More decimals than a dollar has."""


def sale(books: Books, known: datetime, amount: str = BROKEN) -> None:
    books.sale(amount, at=on(6), order=2, transaction_id=77, known=known)


def dispute(books: Books, known: datetime, amount: int | str = "10.00") -> None:
    body = {"id": "dp_77", "status": "lost", "amount": amount, "currency": "usd", "charge": None}
    books.read("dispute", body | {"created": int(on(6).timestamp())}, at=known)


def order(books: Books, known: datetime, amount: str = BROKEN) -> None:
    books.order(77, at=on(6), total_line_items_price=amount, known=known)


@pytest.fixture
def january(books: Books) -> Books:
    """Balanced, and looked at until March."""
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    books.states(10000, at=END)
    books.covers(until=on(5, month=2))
    return books


@pytest.mark.parametrize("kept", [False, True], ids=["from bodies", "from rows"])
@pytest.mark.parametrize(
    ("ref", "comes", "mended"),
    [
        ("shopify/shop/transaction/77", sale, "10.00"),
        ("stripe/main/dispute/dp_77", dispute, 1000),
        ("shopify/shop/order/77", order, "10.00"),
    ],
    ids=["sale", "dispute", "order"],
)
def test_it_is_named_from_when_it_came_until_it_can_be_read(
    january: Books, ref: str, comes: Callable[..., None], mended: object, kept: bool
) -> None:
    def ask(as_of: datetime) -> Report:
        if kept:
            SettingAside(TERMS, ("stripe",)).run(january.ledger)
        return january.report(as_of=as_of, sales=True)

    before = canonical.encode(ask(on(10, month=2)))
    comes(january, SEEN)

    assert canonical.encode(ask(on(10, month=2))) == before, "an earlier instant is closed"
    now = ask(SEEN)
    account, kind = ref.split("/")[1:3]
    assert [(each.account, each.stream, each.gaps) for each in now.coverage if not each.complete] == [
        (account, kind, (f"cannot be read: {ref}",))
    ]
    assert (standing(now), now.exit_code, net(now, "difference")) == ("UNPROVEN", 3, 0)
    assert line(now, "matched").count == 1, "what can be read is reported as ever"

    comes(january, KNOWN, mended)
    assert all(each.complete for each in ask(KNOWN).coverage)


def test_many_are_counted_and_another_accounts_report_does_not_know_them(january: Books) -> None:
    for number in range(7):
        january.sale(BROKEN, at=on(6), order=2, transaction_id=70 + number, known=SEEN)

    (gap,) = [gap for each in january.report(as_of=SEEN).coverage for gap in each.gaps]
    assert gap.startswith("cannot be read: shopify/shop/transaction/70, ")
    assert gap.endswith("/74 and 2 more")
    january.terms = (STRIPE_TERMS,)
    assert standing(january.report(as_of=SEEN)) == "BALANCED"


def test_a_word_for_a_payment_that_nobody_knows_is_pending_and_not_passed_over(january: Books) -> None:
    january.sale("10.00", at=on(6), order=2, status="unknown", known=SEEN)

    report = january.report(as_of=SEEN)

    assert (line(report, "pending_memo").count, line(report, "pending_memo").left.minor) == (1, 1000)


@pytest.mark.parametrize("created", [0, -62135596800, 253402300799], ids=["1970", "year 1", "year 9999"])
@pytest.mark.parametrize("timezone", ["America/New_York", "Asia/Tokyo"])
def test_a_time_at_the_ends_of_the_calendar_or_of_the_epoch_ends_no_report(
    january: Books, created: int, timezone: str
) -> None:
    """A program writes such a time where it has none, and no day of ours is theirs."""
    body = {"currency": "usd", "created": created, "amount": 100, "metadata": {}}
    january.read("payment_intent", {"id": "pi_77", "status": "processing", **body}, at=on(6))
    january.read("charge", {"id": "ch_77", "status": "succeeded", "captured": True, **body}, at=on(6))
    january.read("dispute", {"id": "dp_77", "status": "lost", "charge": "ch_77", **body}, at=on(6))

    from_bodies = january.report(timezone=timezone)
    SettingAside(TERMS, ("stripe",)).run(january.ledger)

    assert canonical.encode(january.report(timezone=timezone)) == canonical.encode(from_bodies)
    assert all(each.complete for each in from_bodies.coverage)
