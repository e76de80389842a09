"""Whatever was kept and set aside, and however much of it is behind: a report is the same, to the byte."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from datetime import date, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from reconciler.ledger import Ledger, aside, open_ledger
from reconciler.ledger.redaction import Asked, Keeping
from reconciler.model import Redaction
from reconciler.movements import trait
from reconciler.report import canonical
from reconciler.report.aside import BEGINNING, HELD, JOB, SettingAside
from reconciler.report.engine import report
from reconciler.report.facts import AccountTerms
from reconciler.report.gathering import gather
from reconciler.report.model import FeeRule, Params, Report, Rules
from tests.databases import as_shipped, plain_address
from tests.report.books import TERMS, Books, break_types, on
from tests.report.histories import KNOWN, SECOND, THIRD, Story, Teller, stories, write
from tests.report.test_invariants import BOTH, FEBRUARY, JANUARY, PROPERTY, fill

RULES = Rules(fee_rules=(FeeRule("main", "charge", 290, 30, "USD", 150, "US"),))
FORGET = ("unread", "movement", "movement_name", "aside_group", "aside_flow", "aside_state")
INSTANTS = (SECOND, SECOND + timedelta(days=6), THIRD, KNOWN)
WEEK = timedelta(days=7)
PERIODS = (JANUARY, FEBRUARY, BOTH, (date(2026, 1, 9), date(2026, 1, 12)))
Question = tuple[tuple[date, date], datetime, tuple[str, ...]]
QUESTIONS: tuple[Question, ...] = tuple(product(PERIODS, INSTANTS, (("main", "shop"), ("main",), ("shop",))))
some_questions = st.lists(st.sampled_from(QUESTIONS), min_size=4, max_size=4, unique=True)


def ask(
    ledger: Ledger,
    days: tuple[date, date],
    as_of: datetime,
    accounts: tuple[str, ...],
    terms: tuple[AccountTerms, ...] = TERMS,
) -> Report:
    params = Params(*days, as_of=as_of, accounts=accounts, rules=RULES)
    with ledger.store.read() as tx:
        return report(gather(tx, terms, params), params)


def answers(ledger: Ledger, questions: Iterable[Question], terms: tuple[AccountTerms, ...] = TERMS) -> list[bytes]:
    return [canonical.encode(ask(ledger, *question, terms)) for question in questions]


def forget(ledger: Ledger) -> None:
    """As in a ledger in which nobody ever kept a reading."""
    with ledger.together() as tx:
        for table in FORGET:
            tx.run(text(f"DELETE FROM {table}"))


def count(ledger: Ledger, table: str, where: str = "1 = 1") -> int:
    with ledger.store.read() as tx:
        return int(tx.run(text(f"SELECT count(*) FROM {table} WHERE {where}")).scalar_one())


def behind(ledger: Ledger) -> int:
    with ledger.store.read() as tx:
        return aside.behind(tx)


@pytest.mark.long
@PROPERTY
@given(
    story=stories,
    cuts=st.lists(st.integers(0, 100), max_size=3),
    batches=st.integers(1, 4),
    questions=some_questions,
)
def test_a_report_does_not_depend_on_what_is_set_aside(
    ledger: Ledger, story: Story, cuts: list[int], batches: int, questions: list[Question]
) -> None:
    facts = Teller().tell(story)
    fill(ledger, [])
    setting = SettingAside(TERMS, RULES.gateways)
    before = 0
    for cut in sorted(cuts):
        upto = len(facts) * cut // 100
        write(ledger, facts[before:upto])
        before = upto
        setting.run(ledger, steps=batches)
    write(ledger, facts[before:])
    behind = answers(ledger, questions)
    setting.run(ledger)
    assert count(ledger, "unread") == 0
    assert count(ledger, "movement", "group_id IS NULL") == 0
    kept = answers(ledger, questions)
    forget(ledger)
    plain = answers(ledger, questions)
    assert kept == plain
    assert behind == plain


# --- what is kept and set aside -----------------------------------------------------------------------


def test_disputes_and_payments_of_orders_are_the_same_from_what_is_kept(ledger: Ledger) -> None:
    books = Books(ledger)
    charge = books.charge(3000, at=on(5))
    books.order(1, at=on(4), total_line_items_price="30.00")
    books.sale("30.00", at=on(5), order=1, authorization=charge)
    for known, status in ((on(8), "needs_response"), (on(20), "lost")):
        body = {"id": "dp_1", "status": status, "amount": 3000, "currency": "usd", "charge": charge}
        books.read("dispute", body | {"created": int(on(8).timestamp())}, at=known)
    unread = books.report(sales=True)
    setting = SettingAside(TERMS, RULES.gateways)
    assert behind(ledger) == count(ledger, "version")
    setting.run(ledger)
    assert behind(ledger) == 0
    books.read("charge", {"id": charge, "object": "charge", "status": "succeeded", "amount": 3000, "currency": "usd",
                          "created": int(on(5).timestamp()), "metadata": {"again": "1"}}, at=on(21))  # fmt: skip
    setting.run(ledger)
    kept = books.report(sales=True)
    assert kept.disputes["USD"].lost == 1
    (sold,) = kept.sales
    assert {bar.code: bar.amount.minor for bar in sold.bars if bar.amount.minor} == {
        "gross_sales": 3000,
        "tender.stripe": -3000,
    }
    assert (unread.disputes, unread.sales) == (kept.disputes, kept.sales)


def test_a_settled_pair_is_set_aside_and_what_comes_later_brings_it_back(ledger: Ledger) -> None:
    books = Books(ledger)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    missing = books.charge(700, at=on(6))
    setting = SettingAside(TERMS, RULES.gateways)
    setting.run(ledger)
    assert count(ledger, "aside_group") == 1
    assert count(ledger, "movement", "group_id = 0") == 1, missing
    shown = books.report()
    assert [pair.right for pair in shown.pairs] == [f"stripe/main/charge/{charge}"]

    again = books.sale("100.00", at=on(20), authorization=charge)
    assert break_types(books.report()).count("AMBIGUOUS") == 3, "unread as it is, it already speaks"
    setting.run(ledger)
    assert count(ledger, "aside_group") == 0, again
    assert break_types(books.report()).count("AMBIGUOUS") == 3


@pytest.mark.parametrize("gone", [each.name for each in TERMS])
def test_an_account_that_is_taken_out_of_the_configuration_and_put_back(ledger: Ledger, gone: str) -> None:
    books = Books(ledger)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    books.charge(700, at=on(6))
    before = books.report()
    setting, less = (
        SettingAside(some, RULES.gateways) for some in (TERMS, [each for each in TERMS if each.name != gone])
    )
    setting.run(ledger)
    less.run(ledger)
    assert (count(ledger, "movement", "group_id IS NULL"), behind(ledger)) == (0, 0)
    assert count(ledger, "movement", f"account = '{gone}' AND group_id <> 0") == 0, "left open until it is put back"
    setting.run(ledger)
    assert count(ledger, "aside_group") == 1
    assert books.report().breaks == before.breaks


@pytest.mark.parametrize(
    ("ago", "held"), [(timedelta(minutes=1), True), (timedelta(minutes=-1), True), (HELD, False), (-WEEK, False)]
)
def test_only_a_node_that_was_at_work_lately_holds_its_configuration(
    ledger: Ledger, ago: timedelta, held: bool
) -> None:
    """A clock that was a week ahead holds it no longer than one that was right."""
    SettingAside(TERMS, RULES.gateways).run(ledger)
    job = ledger.take_job(JOB, owner="theirs", lease=timedelta(minutes=1), now=KNOWN)
    assert job is not None
    ledger.finish_job(job, due_at=KNOWN, now=KNOWN, complete=True, watermark=KNOWN)
    ours = SettingAside(TERMS, ("stripe", "cash"))
    ours.begin(ledger, KNOWN + ago)
    assert ours.is_left_to_others(ledger) is held


def test_what_is_set_aside_is_not_read_by_a_later_period(ledger: Ledger) -> None:
    """Not even looked at: of twenty pairs of December, January's facts hold nothing."""
    books = Books(ledger)
    for day in range(1, 21):
        charge = books.charge(1000 + day, at=on(day, month=12, year=2025))
        books.sale(f"{(1000 + day) / 100:.2f}", at=on(day, month=12, year=2025), authorization=charge, order=day)
    SettingAside(TERMS, RULES.gateways).run(ledger)
    params = Params(*JANUARY, as_of=KNOWN, accounts=("main", "shop"), rules=RULES)
    with ledger.store.read() as tx:
        facts = gather(tx, TERMS, params)
    assert facts.movements == ()
    assert facts.aside == ()
    assert facts.entries == {}


def test_a_report_about_one_account_does_not_read_what_is_set_aside_either(ledger: Ledger) -> None:
    books = Books(ledger)
    for month, year in ((12, 2025), (1, 2026)):
        for day in range(2, 12):
            charge = books.charge(1000 + day, fee=59 + month, at=on(day, month=month, year=year))
            books.sale(f"{(1000 + day) / 100:.2f}", at=on(day, month=month, year=year), authorization=charge, order=day)
    SettingAside(TERMS, RULES.gateways).run(ledger)
    params = Params(*JANUARY, as_of=KNOWN, accounts=("main",), rules=RULES)
    with ledger.store.read() as tx:
        facts = gather(tx, TERMS, params)
    assert facts.movements == ()
    kept = report(facts, params)
    forget(ledger)
    assert canonical.encode(ask(ledger, JANUARY, KNOWN, ("main",))) == canonical.encode(kept)
    assert kept.fees["USD"].expected is not None


def test_other_gateways_make_other_groups(ledger: Ledger) -> None:
    """Cash is out of scope until somebody says that it is not."""
    books = Books(ledger)
    books.sale("9.00", at=on(5), gateway="cash")
    SettingAside(TERMS, ("stripe",)).run(ledger)
    assert count(ledger, "aside_group") == 1
    wider = Rules(gateways=("stripe", "cash"))
    assert break_types(books.report(rules=wider)) == ["MISSING_IN_STRIPE"], "groups of other terms are not believed"
    SettingAside(TERMS, ("stripe", "cash")).run(ledger)
    assert count(ledger, "aside_group") == 0
    assert break_types(books.report(rules=wider)) == ["MISSING_IN_STRIPE"]


def test_two_at_once_write_nothing_twice(ledger: Ledger) -> None:
    books = Books(ledger)
    books.charge(10000, at=on(5))
    setting = SettingAside(TERMS, RULES.gateways)
    setting.begin(ledger)
    slow, fast = setting.next_step(ledger, BEGINNING), setting.next_step(ledger, BEGINNING)
    assert slow is not None
    assert fast is not None
    assert fast.carry_out(ledger)
    assert not slow.carry_out(ledger)
    setting.run(ledger)
    assert count(ledger, "movement") == 1


def test_what_is_forgotten_of_a_person_is_forgotten_here_too(ledger: Ledger) -> None:
    books = Books(ledger)
    charge = books.charge(10000, at=on(5), billing_details={"email": "ann@example.com"})
    SettingAside(TERMS, RULES.gateways).run(ledger)
    likeness = f"reading LIKE '%{trait('email', 'ann@example.com')}%'"
    assert count(ledger, "movement", likeness) == 1
    assert count(ledger, "movement", "reading LIKE '%@%'") == 0, "a hash is enough to find the same again"
    ledger.redactions.shrink(
        Asked("main", Redaction("charge", charge), "evt_1"),
        lambda _: Keeping({"charge": frozenset({"id", "status", "amount", "amount_captured", "currency", "created"})}),
        after=(0, 0),
        limit=100,
    )
    assert count(ledger, "movement", likeness) == 0
    SettingAside(TERMS, RULES.gateways).run(ledger)
    assert count(ledger, "movement", likeness) == 0
    assert count(ledger, "movement", "kind = 'charge'") == 1


def _forget_all(ledger: Ledger, account: str) -> None:
    """Everything of an account that may be about a person; the books' fields stay."""
    asked = Asked(account, Redaction("", ""), f"evt_{account}")
    keeping = Keeping({"charge": _OF_CHARGE, "transaction": _OF_SALE})
    ledger.redactions.shrink(asked, lambda _: keeping, after=(-(2**63), 0), limit=99)


_OF_CHARGE = frozenset({"id", "status", "amount", "amount_captured", "currency", "created", "balance_transaction"})
_OF_SALE = frozenset(
    {"id", "order_id", "kind", "gateway", "status", "amount", "currency", "processed_at", "authorization"}
)


@pytest.mark.parametrize("accounts", [("shop",), ("main",), ("shop", "main"), ("main", "shop")])
def test_what_was_set_aside_and_is_forgotten_counts_once(ledger: Ledger, accounts: tuple[str, ...]) -> None:
    """A group whose every reading is thrown away has nobody left by whom it could be found."""
    books = Books(ledger)
    books.sale("25.00", at=on(4), gateway="gift_card", order=2)
    charge = books.charge(3000, at=on(5))
    books.sale("30.00", at=on(5), authorization=charge)
    setting = SettingAside(TERMS, RULES.gateways)
    setting.run(ledger)
    before = books.report()
    assert count(ledger, "aside_flow") == 2

    for account in accounts:
        _forget_all(ledger, account)
    forgotten = books.report()
    setting.run(ledger)
    again = books.report()

    assert [(each.code, each.count) for each in before.match_lines] == [("matched", 1), ("out_of_scope.gift_card", 1)]
    assert (forgotten.match_lines, again.match_lines) == (before.match_lines, before.match_lines)
    assert count(ledger, "aside_flow") == 2


def test_what_is_set_aside_while_it_is_forgotten_is_looked_at_anew(ledger: Ledger) -> None:
    """A step that was worked out before the bodies shrank must not be written after it."""
    books = Books(ledger)
    books.sale("25.00", at=on(4), gateway="gift_card")
    setting = SettingAside(TERMS, RULES.gateways)
    setting.begin(ledger)
    reading = setting.next_step(ledger, BEGINNING)
    assert reading is not None
    assert reading.carry_out(ledger)
    looking = setting.next_step(ledger, reading.place)
    assert looking is not None

    _forget_all(ledger, "shop")

    assert not looking.carry_out(ledger)
    setting.run(ledger)
    assert [(each.code, each.count) for each in books.report().match_lines] == [("out_of_scope.gift_card", 1)]


def test_postgres_does_not_end_a_report_that_thinks_for_long(postgres_ledger_url: str) -> None:
    """Where nothing is kept yet, minutes may lie between two statements."""
    with as_shipped(), closing(open_ledger(plain_address(postgres_ledger_url))) as ledger, ledger.store.read() as tx:
        before = tx.run(text("SHOW idle_in_transaction_session_timeout")).scalar_one()
        gather(tx, TERMS, Params(*JANUARY, as_of=KNOWN, accounts=("main",)))
        assert (before, tx.run(text("SHOW idle_in_transaction_session_timeout")).scalar_one()) == ("10s", "15min")
