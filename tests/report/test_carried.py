"""Whatever is carried forward, and however much of it is out of date: a report is the same, to the byte."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from reconciler.ledger import Ledger
from reconciler.ledger.facts import rebuild_entries
from reconciler.model import ResourceRef
from reconciler.report.aside import BEGINNING, SettingAside
from tests.report.books import TERMS, Books, net, on
from tests.report.histories import KNOWN, Story, Teller, stories, write
from tests.report.test_aside import INSTANTS, RULES, Question, answers, count
from tests.report.test_invariants import BOTH, FEBRUARY, PROPERTY, fill

TABLES = ("carried_span", "carried_balance", "carried_paid")
QUESTIONS: tuple[Question, ...] = tuple(product((FEBRUARY, BOTH), INSTANTS, (("main",),)))
LONG_AGO = {"month": 11, "year": 2025}


def forget(ledger: Ledger) -> None:
    with ledger.together() as tx:
        for table in TABLES:
            tx.run(text(f"DELETE FROM {table}"))


def setting_aside(still: timedelta = timedelta(0)) -> SettingAside:
    return SettingAside(TERMS, RULES.gateways, still=still)


@pytest.mark.long
@PROPERTY
@given(
    story=stories,
    cuts=st.lists(st.integers(0, 100), max_size=3),
    still=st.sampled_from([0, 3, 10]),
    questions=st.lists(st.sampled_from(QUESTIONS), min_size=3, max_size=3, unique=True),
)
def test_a_report_does_not_depend_on_what_is_carried_forward(
    ledger: Ledger, story: Story, cuts: list[int], still: int, questions: list[Question]
) -> None:
    """Carried at any moment of a story, so that versions, lists and corrections come later than the sums they touch."""
    facts = Teller().tell(story)
    fill(ledger, [])
    setting = setting_aside(timedelta(days=still))
    before = 0
    for cut in sorted(cuts):
        upto = len(facts) * cut // 100
        write(ledger, facts[before:upto])
        before = upto
        setting.run(ledger)
    write(ledger, facts[before:])
    behind = answers(ledger, questions)
    setting.run(ledger)
    caught_up = answers(ledger, questions)
    forget(ledger)
    plain = answers(ledger, questions)
    assert caught_up == plain
    assert behind == plain


def sold_long_ago(books: Books) -> None:
    """Thirty days of last November, a charge on each."""
    for day in range(1, 31):
        books.charge(1000 + day, at=on(day, **LONG_AGO))


def test_days_long_past_are_carried_and_a_late_version_brings_its_day_back(ledger: Ledger) -> None:
    books = Books(ledger)
    sold_long_ago(books)
    books.charge(5000, at=on(5))
    opening = net(books.report(), "opening")
    setting = setting_aside(timedelta(days=10))
    setting.run(ledger)
    carried_before = count(ledger, "carried_span")
    assert carried_before >= 30
    assert net(books.report(), "opening") == opening

    books.charge(77, at=on(7, **LONG_AGO))
    late = net(books.report(), "opening")
    assert late > opening, "unread as it is, it already counts"
    setting.begin(ledger)
    step = setting.next_step(ledger, BEGINNING)
    assert step is not None
    assert step.carry_out(ledger)
    assert count(ledger, "carried_span") == carried_before - 1, "its day, and no other"
    assert net(books.report(), "opening") == late
    setting.run(ledger)
    assert count(ledger, "carried_span") == carried_before
    assert net(books.report(), "opening") == late


def test_sums_worked_out_before_a_list_came_are_not_written_down(ledger: Ledger) -> None:
    books = Books(ledger)
    sold_long_ago(books)
    setting = setting_aside()
    setting.run(ledger)
    forget(ledger)
    step = setting.next_step(ledger, BEGINNING)
    assert step is not None
    ledger.record_payout_members(ResourceRef("stripe", "main", "payout", "po_x"), [], complete=True, now=KNOWN)
    assert not step.carry_out(ledger)
    assert count(ledger, "carried_span") == 0


def test_entries_made_anew_are_summed_up_anew(ledger: Ledger) -> None:
    books = Books(ledger)
    sold_long_ago(books)
    setting_aside().run(ledger)
    before = count(ledger, "carried_span")
    with ledger.together() as tx:
        resource_id = int(tx.run(text("SELECT min(resource_id) FROM entry")).scalar_one())
        rebuild_entries(tx, resource_id, [(1, 0, [])])
    assert count(ledger, "carried_span") == before - 1
    kept = answers(ledger, QUESTIONS)
    forget(ledger)
    assert answers(ledger, QUESTIONS) == kept


def test_a_report_reads_the_sums_and_not_the_entries_behind_them(ledger: Ledger) -> None:
    """Seen by spoiling them: the opening is off by as much, until they are forgotten."""
    books = Books(ledger)
    sold_long_ago(books)
    setting_aside().run(ledger)
    opening = net(books.report(), "opening")
    with ledger.together() as tx:
        tx.run(text("UPDATE carried_balance SET net = net + 1"))
    assert net(books.report(), "opening") == opening + count(ledger, "carried_span")
    forget(ledger)
    assert net(books.report(), "opening") == opening
