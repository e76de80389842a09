"""Several versions and configurations at one ledger: none undoes another's work, and every report is the same."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from reconciler.clock import ManualClock
from reconciler.ledger import GroupCommit, Ledger, anew, open_ledger
from reconciler.ledger.transaction import Transaction
from reconciler.periodic import Runner
from reconciler.report.aside import BEGINNING, SettingAside
from reconciler.report.facts import AccountTerms
from reconciler.report.keeping import Keeping
from reconciler.retry import RetryPolicy
from tests.report.books import TERMS, Books, on
from tests.report.histories import KNOWN, Story, Teller, stories
from tests.report.test_aside import QUESTIONS, RULES, answers, count
from tests.report.test_invariants import JANUARY, PROPERTY, fill


def test_only_an_account_that_is_read_otherwise_is_read_again(ledger: Ledger) -> None:
    """After an upgrade of one provider, or when an account is added to the configuration."""
    books = Books(ledger)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    SettingAside(TERMS[:1], RULES.gateways).run(ledger)
    SettingAside(TERMS, RULES.gateways).run(ledger)
    assert count(ledger, "movement", "account = 'shop'") == 1, "the shop was not read before it was configured"
    plain = answers(ledger, QUESTIONS[:3])

    shop = replace(TERMS[1], finance=replace(TERMS[1].finance, revision=TERMS[1].finance.revision + 1))
    upgraded = SettingAside((TERMS[0], shop), RULES.gateways)
    upgraded.begin(ledger)
    assert count(ledger, "movement", "account = 'shop'") == 1, "not in one transaction with the decision"
    while (step := upgraded.next_step(ledger, BEGINNING)) is not None and step.what.endswith("forgotten"):
        assert step.carry_out(ledger)
    assert count(ledger, "unread") == count(ledger, "resource", "account = 'shop'")
    assert count(ledger, "movement", "account = 'main'") == 1
    upgraded.run(ledger)
    assert (count(ledger, "unread"), count(ledger, "aside_group")) == (0, 1)
    assert answers(ledger, QUESTIONS[:3]) == plain


def later(by: int) -> tuple[AccountTerms, ...]:
    """As a version reads that is newer by so many upgrades of the shop's provider."""
    shop = replace(TERMS[1], finance=replace(TERMS[1].finance, revision=TERMS[1].finance.revision + by))
    return TERMS[0], shop


def turn(ledger: Ledger) -> int:
    with ledger.store.read() as tx:
        return int(tx.run(text("SELECT turn FROM aside_state")).scalar_one())


@pytest.mark.parametrize("far", [None, 0, 1, 2], ids=["done", "begun", "one step", "two steps"])
def test_two_versions_side_by_side_do_not_undo_each_other(ledger: Ledger, far: int | None) -> None:
    books = Books(ledger)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    older, newer = SettingAside(TERMS, RULES.gateways), SettingAside(later(1), RULES.gateways, batch=1)
    older.run(ledger)
    plain = answers(ledger, QUESTIONS[:3])
    newer.run(ledger, steps=far)
    before = turn(ledger)

    assert older.run(ledger) == 0
    assert older.is_left_to_newer(ledger)
    assert turn(ledger) == before
    assert answers(ledger, QUESTIONS[:3]) == plain, "which the older one reads from bodies"

    newer.run(ledger)
    assert not newer.is_left_to_newer(ledger)
    assert (count(ledger, "unread"), count(ledger, "aside_group"), count(ledger, "movement")) == (0, 1, 2)
    done = turn(ledger)
    assert (older.run(ledger), newer.run(ledger), turn(ledger)) == (0, 0, done), "and so it stays"


@pytest.mark.parametrize("far", [0, 1, 2], ids=["begun", "one step", "two steps"])
def test_who_begins_while_another_still_forgets_takes_over_what_that_left(ledger: Ledger, far: int) -> None:
    """The shop is read otherwise by the second version, and the main account by the third."""
    books = Books(ledger)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    SettingAside(TERMS, RULES.gateways).run(ledger)
    plain = answers(ledger, QUESTIONS[:3])
    second = later(1)
    SettingAside(second, RULES.gateways, batch=1).run(ledger, steps=far)
    main = replace(second[0], finance=replace(second[0].finance, revision=second[0].finance.revision + 1))

    third = SettingAside((main, second[1]), RULES.gateways)
    third.begin(ledger)
    with ledger.store.read() as tx:
        state = anew.state(tx)
    assert state is not None
    assert state.forgetting is not None
    assert state.forgetting.accounts == ("main", "shop")

    third.run(ledger)
    assert (count(ledger, "unread"), count(ledger, "aside_group"), count(ledger, "movement")) == (0, 1, 2)
    assert answers(ledger, QUESTIONS[:3], (main, second[1])) == plain


def kept_by(ledger: Ledger, clock: ManualClock, *terms: tuple[AccountTerms, ...]) -> None:
    """A minute after the other, as the ledger's job lets nodes with these terms run; the writer is each one's own."""

    async def minutes() -> None:
        for each in terms:
            clock.advance(timedelta(minutes=1))
            writer = GroupCommit(ledger, clock)
            runner = Runner(writer, clock, owner="node", policy=RetryPolicy(), rng=random.Random(1))
            assert await runner.run(Keeping(writer, each, RULES.gateways, clock).periodic()) is not None
            await writer.close()

    asyncio.run(minutes())


@pytest.mark.parametrize(
    ("one", "other"),
    [(TERMS, TERMS[:1]), (TERMS[:1], TERMS[1:])],
    ids=["more accounts and fewer", "others"],
)
def test_nodes_with_other_accounts_do_not_undo_each_other(
    ledger: Ledger, one: tuple[AccountTerms, ...], other: tuple[AccountTerms, ...]
) -> None:
    """They made each other's readings anew for ever, a whole ledger a minute, and no report found any."""
    books, clock = Books(ledger), ManualClock(KNOWN)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    kept_by(ledger, clock, one)
    done, plain = turn(ledger), answers(ledger, [(JANUARY, KNOWN, (other[0].name,))], other)

    kept_by(ledger, clock, *[other, one] * 5, other)
    assert turn(ledger) == done
    assert SettingAside(other, RULES.gateways).run(ledger, now=clock.now()) == 0, "nor does a report's own preparing"
    assert turn(ledger) == done
    assert answers(ledger, [(JANUARY, KNOWN, (other[0].name,))], other) == plain, "read from bodies"

    kept_by(ledger, clock, *[other] * 6)
    assert turn(ledger) > done, "the first one is gone: an account was taken out, say"
    done = turn(ledger)
    kept_by(ledger, clock, other)
    assert (count(ledger, "unread"), turn(ledger)) == (0, done)


def test_who_reads_more_accounts_does_not_wait(ledger: Ledger) -> None:
    """One was added, and the node began anew with it."""
    books, clock = Books(ledger), ManualClock(KNOWN)
    books.sale("100.00", at=on(5), authorization=books.charge(10000, at=on(5)))
    kept_by(ledger, clock, TERMS[:1], TERMS)
    assert count(ledger, "aside_group") == 1
    kept_by(ledger, clock, later(1))
    assert count(ledger, "aside_group") == 1
    done = turn(ledger)
    kept_by(ledger, clock, TERMS, later(1))
    assert turn(ledger) == done, "nor who reads them in a later way"


@pytest.mark.long
@PROPERTY
@given(
    story=stories,
    upgrades=st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.integers(0, 9)), min_size=1, max_size=5),
)
def test_a_report_does_not_depend_on_how_far_an_upgrade_got(
    ledger: Ledger, story: Story, upgrades: list[tuple[int, bool, int]]
) -> None:
    """Of any version, begun anew by another before it was done, under other gateways too. What the first version kept
    is spoilt, so that it shows wherever any of it is still taken."""
    fill(ledger, Teller().tell(story))
    asked = QUESTIONS[::7]
    plain = answers(ledger, asked)
    SettingAside(TERMS, RULES.gateways).run(ledger)
    with ledger.together() as tx:
        tx.run(text("""UPDATE movement SET reading = '["sale","settled","",7,"USD",0]'"""))
        tx.run(text("UPDATE aside_flow SET minor = minor + 1"))
    for by, widely, steps in [*upgrades, (4, False, None)]:
        terms = tuple(replace(term, finance=replace(term.finance, revision=100 + by)) for term in TERMS)
        SettingAside(terms, ("gift_card",) if widely else RULES.gateways, batch=3).run(ledger, steps=steps)
        assert answers(ledger, asked, terms) == plain
        assert answers(ledger, asked) == plain
    assert count(ledger, "unread") == 0


def test_a_newer_version_that_comes_between_a_look_and_its_write_is_left_alone(
    postgres_ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_ledger(postgres_ledger_url)) as one, closing(open_ledger(postgres_ledger_url)) as other:
        books = Books(one)
        books.sale("100.00", at=on(5), authorization=books.charge(10000, at=on(5)))
        SettingAside(TERMS, ("gift_card",)).run(one)
        newer, look = SettingAside(later(1), RULES.gateways), anew.state

        def overtaken(tx: Transaction) -> Any:
            found = look(tx)
            monkeypatch.setattr(anew, "state", look)
            newer.run(other)
            return found

        monkeypatch.setattr(anew, "state", overtaken)
        older = SettingAside(TERMS, RULES.gateways)
        older.run(one)
        assert older.is_left_to_newer(one)
        assert not newer.is_left_to_newer(one)
