"""Amounts near the bound of what is read add up exactly; those that an older version stored beyond it are named."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from reconciler.errors import BadReply, TooLargeToSum
from reconciler.ledger import Ledger
from reconciler.money import LARGEST
from reconciler.report.aside import SettingAside
from tests.report.books import BEGINNING, END, TERMS, Books, net, on, standing
from tests.report.test_invariants import PROPERTY, fill

MOST = 2**63 - 1
AMOUNTS = st.integers(-LARGEST, LARGEST) | st.sampled_from((LARGEST, -LARGEST, LARGEST - 1))
LONG_AGO = {"month": 11, "year": 2025}


def older(ledger: Ledger, grosses: dict[str, int]) -> None:
    """As if these entries had been stored by a version that took whatever fits into 64 bits."""
    with ledger.together() as tx:
        for name, gross in grosses.items():
            tx.run(
                text("UPDATE entry SET gross = :gross, net = :gross - fee WHERE remote_id = :name"),
                {"gross": gross, "name": name},
            )


@pytest.mark.long
@PROPERTY
@given(before=st.lists(AMOUNTS, max_size=4), inside=st.lists(AMOUNTS, min_size=1, max_size=4), carried=st.booleans())
def test_amounts_at_the_bound_add_up_to_the_unit(
    ledger: Ledger, before: list[int], inside: list[int], carried: bool
) -> None:
    fill(ledger, [])
    books = Books(ledger)
    books.states(0, at=on(1, **LONG_AGO))
    for day, minor in enumerate(before, start=2):
        books.entry("charge", minor, at=on(day, **LONG_AGO))
    for day, minor in enumerate(inside, start=2):
        books.entry("charge", minor, at=on(day))
    if carried:
        SettingAside(TERMS, ("stripe",)).run(ledger)

    report = books.report()

    assert (net(report, "opening"), net(report, "closing")) == (sum(before), sum(before + inside))


def test_a_payment_of_an_invoice_beyond_it_is_named_and_ends_no_report(books: Books) -> None:
    absurd = {"amount_paid": LARGEST * 10, "payment": {"payment_intent": "pi_1"}}
    books.charge(100, at=on(3), payment_intent="pi_1")
    books.read(
        "invoice",
        {
            "id": "in_1", "status": "paid", "amount_paid": 100, "currency": "usd", "created": int(on(3).timestamp()),
            "payments": {"data": [absurd]},
        },
        at=on(3),
    )  # fmt: skip
    books.states(0, at=BEGINNING)
    books.states(100, at=END)
    books.covers()
    assert standing(books.report()) == "UNPROVEN"


@pytest.mark.parametrize("minor", [LARGEST + 1, -LARGEST - 1, MOST])
def test_an_amount_beyond_it_is_refused_where_it_is_read(books: Books, minor: int) -> None:
    with pytest.raises(BadReply, match=r"beyond 10\^16 minor units"):
        books.entry("charge", minor, at=on(5))
    books.entry("charge", 100, at=on(6))
    books.states(0, at=BEGINNING)
    books.states(100, at=END)
    books.covers()
    assert standing(books.report()) == "BALANCED"


@pytest.mark.parametrize(
    "when",
    [(on(5, **LONG_AGO),) * 2, (on(5),) * 2, (on(5, **LONG_AGO), on(5)), (on(5), on(6))],
    ids=["in the opening", "on one day", "across the start", "on two days"],
)
@pytest.mark.parametrize("carried", [False, True], ids=["from entries", "carried forward"])
@pytest.mark.parametrize(("one", "other"), [(MOST, MOST), (-MOST, -MOST), (MOST // 2 + 1, MOST // 2 + 1)])
def test_what_an_older_version_stored_is_named_and_no_sum_is_wrong(
    books: Books, when: tuple[datetime, ...], carried: bool, one: int, other: int
) -> None:
    """The same words on both databases, and only where it has to do with what is asked."""
    books.charge(100, at=on(7))
    names = [books.entry("charge", 0, at=at, known=on(8)) for at in when]
    older(books.ledger, dict(zip(names, (one, other), strict=True)))
    if carried:
        SettingAside(TERMS, ("stripe",)).run(books.ledger)

    with pytest.raises(TooLargeToSum, match=re.escape(f"{one} minor units of USD, of stripe/main/")):
        books.report()

    assert net(books.report(as_of=on(8, 11)), "closing") == 100, "before they became known"
    books.terms = (TERMS[1],)
    assert books.report().balance == ()
