"""Sign-offs, late facts, work on breaks, and the audit log that remembers them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from sqlalchemy import text

from reconciler.errors import Conflict, UsageError
from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.breaks import LockPolicy, audit_head, events_of_break, kept_report, period_locks, verify_audit
from reconciler.ledger.transaction import Transaction
from reconciler.report import canonical, signoff
from reconciler.report.model import Report, Rules
from tests.report.books import BEGINNING, END, Books, block, break_types, line, net, on, standing
from tests.report.histories import KNOWN, SECOND, Story, Teller, stories
from tests.report.test_invariants import FEBRUARY, PROPERTY, ask, fill, nets

SIGNED_AT = on(11, month=2)
FEB: dict[str, Any] = {"from_day": date(2026, 2, 1), "to_day": date(2026, 2, 28)}


@pytest.fixture
def books(ledger: Ledger) -> Books:
    """A balanced January."""
    books = Books(ledger)
    books.states(0, at=BEGINNING)
    charge = books.charge(10000, at=on(5))
    books.sale("100.00", at=on(5), authorization=charge)
    books.states(10000, at=END)
    books.covers()
    return books


def sign(books: Books, report: Report, policy: LockPolicy = LockPolicy.ROLL_FORWARD, reason: str = "") -> None:
    with books.ledger.store.write() as tx:
        signoff.prepare(tx, report, by="ada", now=SIGNED_AT, policy=policy)
        signoff.lock(tx, report, by="grace", now=SIGNED_AT, policy=policy, override_reason=reason)


# --- locks ----------------------------------------------------------------------------------------


def test_a_locked_report_is_reproduced_byte_for_byte(books: Books) -> None:
    signed = books.report()
    sign(books, signed)
    books.entry("charge", 500, at=on(20), known=on(15, month=2))

    again = books.report()

    with books.ledger.store.read() as tx:
        (_, locked) = period_locks(tx, ["main"])
        kept = kept_report(tx, signed.report_id)
    assert canonical.digest(again) == locked.digest
    assert canonical.encode(again) == kept


@pytest.mark.parametrize("by", ["Ada Byron", "ada byron", " Ada  Byron ", "ADA\u00a0BYRON", "\uff21da Byron"])
def test_nobody_reviews_their_own_report_however_the_name_is_typed(books: Books, by: str) -> None:
    report = books.report()
    with books.ledger.store.write() as tx:
        signoff.prepare(tx, report, by="Ada Byron", now=SIGNED_AT, policy=LockPolicy.RESTATE)
        with pytest.raises(UsageError, match="another person"):
            signoff.lock(tx, report, by=by, now=SIGNED_AT, policy=LockPolicy.RESTATE)


def test_what_was_not_prepared_or_has_changed_is_not_locked(books: Books) -> None:
    report = books.report()
    with books.ledger.store.write() as tx:
        with pytest.raises(UsageError, match="nobody has prepared"):
            signoff.lock(tx, report, by="grace", now=SIGNED_AT, policy=LockPolicy.RESTATE)
        signoff.prepare(tx, report, by="ada", now=SIGNED_AT, policy=LockPolicy.RESTATE)
        other = books.report(rules=Rules(grace_days=5))
        with pytest.raises(UsageError, match="not the one that ada prepared"):
            signoff.lock(tx, other, by="grace", now=SIGNED_AT, policy=LockPolicy.RESTATE)


def test_who_locks_at_the_same_moment_is_told_of_the_lock_before(books: Books, postgres_ledger_url: str) -> None:
    """Two nodes on one Postgres: whoever comes second decides on what the first has stored."""
    january = books.report()
    later = books.report(from_day=date(2026, 1, 16))
    policy = LockPolicy.ROLL_FORWARD
    with closing(open_ledger(postgres_ledger_url)) as here, closing(open_ledger(postgres_ledger_url)) as there:
        with here.store.write() as tx:
            signoff.prepare(tx, january, by="ada", now=SIGNED_AT, policy=policy)
            signoff.prepare(tx, later, by="ada", now=SIGNED_AT, policy=policy)

        def lock_there() -> str:
            with there.store.write() as tx:
                return signoff.lock(tx, later, by="grace", now=SIGNED_AT, policy=policy, override_reason="as agreed")

        with ThreadPoolExecutor(1) as pool:
            with here.store.write() as tx:
                signoff.lock(tx, january, by="grace", now=SIGNED_AT, policy=policy, override_reason="as agreed")
                second = pool.submit(lock_there)
                _await_a_waiter(tx)
            with pytest.raises(UsageError, match="overlaps"):
                second.result()


def test_a_lock_that_somebody_took_back_meanwhile_is_not_taken_back_again(books: Books) -> None:
    report = books.report()
    sign(books, report)
    with books.ledger.store.write() as tx:
        locked = period_locks(tx, ["main"])[-1]
        signoff.reopen(tx, locked, by="ada", reason="a late fact", now=SIGNED_AT)
        with pytest.raises(UsageError, match="not locked any more"):
            signoff.reopen(tx, locked, by="grace", reason="a late fact", now=SIGNED_AT)


def _await_a_waiter(tx: Transaction) -> None:
    """Until somebody else's statement waits for a lock of ours."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    for _ in range(2000):
        tx.run(text("SELECT pg_stat_clear_snapshot()"))
        if tx.run(waiting).scalar_one():
            return
        time.sleep(0.005)
    pytest.fail("nobody waited")


def test_periods_are_locked_once_and_in_their_order(books: Books) -> None:
    books.states(10000, at=on(1, 0, month=3))
    books.covers(until=on(5, month=3))
    january = books.report(as_of=on(6, month=3))
    sign(books, books.report(as_of=on(6, month=3), **FEB))
    with books.ledger.store.write() as tx, pytest.raises(UsageError, match="in their order"):
        signoff.prepare(tx, january, by="ada", now=SIGNED_AT, policy=LockPolicy.RESTATE)


def test_an_unbalanced_report_needs_a_reason(books: Books) -> None:
    books.states(10300, at=END, known=on(5, month=2))
    report = books.report()
    assert standing(report) == "BREAKS"
    with pytest.raises(UsageError, match="needs a reason"):
        sign(books, report)
    sign(books, report, reason="known; asked Stripe")


@pytest.mark.parametrize(
    ("policy", "opening", "adjustment"), [(LockPolicy.ROLL_FORWARD, 10000, 500), (LockPolicy.RESTATE, 10500, None)]
)
def test_late_facts_of_a_locked_period(books: Books, policy: LockPolicy, opening: int, adjustment: int | None) -> None:
    """5.00 of January became known on 15 February: not in January's report, but an exception and an adjustment."""
    sign(books, books.report(), policy)
    late = books.entry("charge", 530, fee=30, at=on(20), known=on(15, month=2))
    books.states(10500, at=on(1, 0, month=3))
    books.covers(until=on(5, month=3))

    february = books.report(as_of=on(6, month=3), **FEB)

    assert (net(february, "opening"), net(february, "closing"), net(february, "difference")) == (opening, 10500, 0)
    codes = [each.code for each in block(february).lines]
    if adjustment is None:
        assert "prior_period_adjustment" not in codes
        assert block(february).opening_basis != "locked"
    else:
        adjusted = block(february).line("prior_period_adjustment")
        assert adjusted.gross is not None
        assert adjusted.fee is not None
        assert (adjusted.count, adjusted.gross.minor, adjusted.fee.minor) == (1, 530, 30)
        assert net(february, "prior_period_adjustment") == adjustment
    assert [(each.id, each.net.minor, str(each.period_to)) for each in february.exceptions] == [
        (late, 500, "2026-01-31")
    ]


def test_what_only_repeats_itself_is_no_late_fact(books: Books) -> None:
    """A balance transaction is read again when its money becomes available: nothing changed since the lock."""
    pending = {
        "id": "txn_late", "object": "balance_transaction", "amount": 1000, "fee": 30, "net": 970, "currency": "usd",
        "created": int(on(30).timestamp()), "available_on": int(on(12, month=2).timestamp()), "status": "pending",
        "reporting_category": "topup", "source": None, "fee_details": [],
    }  # fmt: skip
    books.read("balance_transaction", pending, at=on(30))
    books.states(10970, at=END, known=on(2, month=2))
    books.states(10970, at=on(1, 0, month=3))
    sign(books, books.report())
    books.read("balance_transaction", pending | {"status": "available"}, at=on(12, month=2))
    books.covers(until=on(5, month=3))

    february = books.report(as_of=on(6, month=3), **FEB)

    assert (february.exceptions, standing(february)) == ((), "BALANCED")
    assert block(february).line("prior_period_adjustment").count == 0
    assert books.report(as_of=on(6, month=3), compare=on(11, month=2)).changes == ()
    moved = pending | {"status": "available", "reporting_category": "charge"}
    books.read("balance_transaction", moved, at=on(7, month=3))
    again = books.report(as_of=on(8, month=3), **FEB)
    assert [each.net.minor for each in again.exceptions] == [-970, 970], "another category is another line"


def test_an_opening_rests_only_on_the_lock_of_the_period_just_before(books: Books) -> None:
    """January is signed, February is not: what moved in February is no adjustment of January, and nobody signed it."""
    sign(books, books.report())
    books.entry("topup", 500, at=on(20, month=2))
    late = books.entry("topup", 70, at=on(20), known=on(15, month=2))
    for month, minor in ((3, 10570), (4, 10570)):
        books.states(minor, at=on(1, 0, month=month))
    books.covers(until=on(5, month=4))

    march = books.report(as_of=on(6, month=4), from_day=date(2026, 3, 1), to_day=date(2026, 3, 31))

    assert (net(march, "opening"), block(march).opening_basis) == (10570, "control_total")
    assert "prior_period_adjustment" not in [each.code for each in block(march).lines]
    assert [each.id for each in march.exceptions] == [late]
    february = books.report(as_of=on(6, month=4), **FEB)
    assert (net(february, "opening"), net(february, "prior_period_adjustment")) == (10000, 70)


def test_a_lock_speaks_for_its_own_instant(books: Books) -> None:
    """A report of an instant before the lock's does not know it, whenever the lock was made."""
    sign(books, books.report())
    books.states(10000, at=on(1, 0, month=3))
    february = books.report(as_of=on(9, month=2), **FEB)
    assert block(february).opening_basis == "control_total"
    assert block(books.report(as_of=on(2, month=3), **FEB)).opening_basis == "locked"


@PROPERTY
@given(story=stories)
def test_a_lock_changes_the_presentation_and_never_the_closing(ledger: Ledger, story: Story) -> None:
    fill(ledger, Teller().tell(story))
    signed_as_of = SECOND + timedelta(hours=30)
    restated = nets(ask(ledger, FEBRUARY))
    signed = ask(ledger, as_of=signed_as_of)
    with ledger.store.write() as tx:
        signoff.prepare(tx, signed, by="ada", now=KNOWN, policy=LockPolicy.ROLL_FORWARD)
        signoff.lock(tx, signed, by="grace", now=KNOWN, policy=LockPolicy.ROLL_FORWARD, override_reason="as it is")
    february = ask(ledger, FEBRUARY)
    rolled, closed = nets(february), nets(signed)
    for (currency, code), minor in restated.items():
        if code == "closing":
            assert rolled[currency, "closing"] == minor
            assert rolled[currency, "opening"] == closed.get((currency, "closing"), 0)
            late = [each for each in february.exceptions if each.net.currency == currency]
            assert sum(each.net.minor for each in late) == rolled[currency, "prior_period_adjustment"]
    assert canonical.encode(ask(ledger, as_of=signed_as_of)) == canonical.encode(signed)


# --- breaks ---------------------------------------------------------------------------------------


def test_notes_and_owners_stay_with_a_break_as_it_stood_then(books: Books) -> None:
    books.sale("20.00", at=on(6), order=2)
    missing = signoff.find(books.report(), "brk_")
    with books.ledger.store.write() as tx:
        signoff.assign(tx, missing.break_id, "ada", by="grace", now=on(12, month=2))
        signoff.note(tx, missing.break_id, "asked the shop", by="ada", now=on(13, month=2))

    now, before = books.report(as_of=on(14, month=2)), books.report(as_of=on(11, month=2))

    assert (now.breaks[0].owner, now.breaks[0].note) == ("ada", "asked the shop")
    assert (before.breaks[0].owner, before.breaks[0].note) == (None, None)


def test_a_resolved_break_is_closed_until_a_fact_contradicts_it(books: Books) -> None:
    unsold = books.charge(10000, at=on(6))
    broken = [each for each in books.report().breaks if each.type == "MISSING_IN_SHOPIFY"]
    assert [each.right for each in broken] == [f"stripe/main/charge/{unsold}"]
    with books.ledger.store.write() as tx:
        signoff.resolve(tx, broken[0], reason="data_entry", words="by phone", by="ada", now=on(11, month=2))

    closed = books.report(as_of=on(12, month=2))

    assert "MISSING_IN_SHOPIFY" not in break_types(closed)
    assert line(closed, "resolved").right.minor == 10000
    assert [each.reason for each in closed.resolved] == ["data_entry"]
    body = {"id": unsold, "status": "succeeded", "amount": 10000, "amount_captured": 9000, "currency": "usd"}
    body |= {"created": int(on(6).timestamp()), "balance_transaction": None, "metadata": {}}
    books.read("charge", body, at=on(13, month=2))
    contradicted = books.report(as_of=on(14, month=2))
    (open_again,) = [each for each in contradicted.breaks if each.type == "MISSING_IN_SHOPIFY"]
    assert open_again.break_id == broken[0].break_id
    assert "Reopened by itself" in str(open_again.suggestion)
    assert open_again.note == "by phone"


def test_a_resolution_explains_the_balance_and_nothing_beyond_it(books: Books) -> None:
    books.states(10300, at=END, known=on(5, month=2))
    (broken,) = books.report().breaks
    with books.ledger.store.write() as tx:
        signoff.resolve(tx, broken, reason="provider_correction", words="ticket 9", by="ada", now=on(11, month=2))
    explained = books.report(as_of=on(12, month=2))
    books.states(10400, at=END, known=on(13, month=2))
    grown = books.report(as_of=on(14, month=2))

    assert (net(explained, "explained"), net(explained, "unexplained")) == (300, 0)
    assert standing(explained) == "BALANCED"
    assert (net(grown, "explained"), net(grown, "unexplained")) == (300, 100)
    assert standing(grown) == "BREAKS"


def test_an_acceptance_of_more_than_there_is_explains_nothing(books: Books) -> None:
    """3.00 were accepted; a late fact left 1.00 of them, and of that nobody said what it is."""
    books.states(10300, at=END, known=on(5, month=2))
    (broken,) = books.report().breaks
    with books.ledger.store.write() as tx:
        signoff.resolve(tx, broken, reason="provider_correction", words="ticket 9", by="ada", now=on(11, month=2))
    books.states(10100, at=END, known=on(13, month=2))

    shrunk = books.report(as_of=on(14, month=2))

    assert (net(shrunk, "explained"), net(shrunk, "unexplained")) == (0, 100)
    assert (standing(shrunk), break_types(shrunk)) == ("BREAKS", ["BALANCE_UNEXPLAINED"])


@pytest.mark.parametrize(
    ("reason", "words", "reviewer", "materiality", "complaint"),
    [
        ("because", "x", None, 0, "is no reason"),
        ("data_entry", " ", None, 0, "note or evidence"),
        ("write_off", "x", "grace", 2000, "not below the materiality"),
        ("write_off", "x", None, 2001, "needs a reviewer"),
        ("write_off", "x", "ada", 2001, "another person"),
        ("write_off", "x", "Ada ", 2001, "another person"),
        ("write_off", "x", " ", 2001, "needs a reviewer"),
    ],
)
def test_a_resolution_needs_its_reasons(
    books: Books, reason: str, words: str, reviewer: str | None, materiality: int, complaint: str
) -> None:
    books.sale("20.00", at=on(6), order=2)
    (broken,) = books.report().breaks
    with books.ledger.store.write() as tx, pytest.raises(UsageError, match=complaint):
        signoff.resolve(
            tx,
            broken,
            reason=reason,
            words=words,
            by="ada",
            now=SIGNED_AT,
            reviewer=reviewer,
            item_materiality_minor=materiality,
        )


def test_the_first_decision_stands_until_it_is_taken_back(books: Books) -> None:
    """Two people with the same break before them, and one whose answer was lost on its way."""
    books.sale("20.00", at=on(6), order=2)
    (broken,) = books.report().breaks
    accepted: dict[str, Any] = {"reason": "data_entry", "words": "by phone", "seen": 2000}
    with books.ledger.store.write() as tx:
        with pytest.raises(Conflict, match="is open already"):
            signoff.reopen_break(tx, broken, by="ada", words="no", now=SIGNED_AT)
        with pytest.raises(Conflict, match=r"20\.00 USD now \(2000 minor units\), which is not what you were shown"):
            signoff.resolve(tx, broken, by="ada", now=SIGNED_AT, **(accepted | {"seen": 1999}))
        for seconds in (0, 1):  # an hour that is set back does not make it another decision either
            signoff.resolve(tx, broken, by="ada", now=SIGNED_AT - timedelta(seconds=seconds), **accepted)
        for other in ({"words": "by mail"}, {"reason": "order_cancelled"}):
            with pytest.raises(Conflict, match="is resolved already, by ada; reopen it first"):
                signoff.resolve(tx, broken, by="ada", now=SIGNED_AT, **(accepted | other))
        with pytest.raises(Conflict, match="is resolved already, by ada"):
            signoff.resolve(tx, broken, by="grace", now=SIGNED_AT, **accepted)
        for seconds in (1, 2):
            signoff.reopen_break(tx, broken, by="grace", words="no", now=SIGNED_AT + timedelta(seconds=seconds))
        with pytest.raises(Conflict, match="is open already"):
            signoff.reopen_break(tx, broken, by="ada", words="no", now=SIGNED_AT + timedelta(seconds=3))
    with books.ledger.store.read() as tx:
        kept = [(each.actor, each.action.value) for each in events_of_break(tx, broken.break_id)]
    assert kept == [("ada", "resolve"), ("grace", "reopen")]


def test_who_resolves_at_the_same_moment_is_told_who_was_first(books: Books, postgres_ledger_url: str) -> None:
    """Two nodes on one Postgres, neither of which has seen the other's decision when it begins."""
    books.sale("20.00", at=on(6), order=2)
    (broken,) = books.report().breaks
    with closing(open_ledger(postgres_ledger_url)) as here, closing(open_ledger(postgres_ledger_url)) as there:

        def resolve(ledger: Ledger, by: str, after: Callable[[Transaction], None] = lambda _: None) -> None:
            with ledger.store.write() as tx:
                signoff.resolve(tx, broken, reason="data_entry", words="by phone", by=by, now=SIGNED_AT)
                after(tx)

        with ThreadPoolExecutor(1) as pool:
            second: list[Future[None]] = []

            def other_one(tx: Transaction) -> None:
                second.append(pool.submit(resolve, there, "grace"))
                _await_a_waiter(tx)

            resolve(here, "ada", other_one)
            with pytest.raises(Conflict, match="resolved already, by ada"):
                second[0].result()


# --- the audit log --------------------------------------------------------------------------------


def _write_some(ledger: Ledger) -> None:
    with ledger.store.write() as tx:
        for number in range(4):
            signoff.note(tx, f"brk_{number}", "looked", by="ada", now=datetime.fromisoformat("2026-02-11T00:00:00Z"))


def test_an_untouched_audit_log_verifies(ledger: Ledger) -> None:
    _write_some(ledger)
    with ledger.store.read() as tx:
        assert verify_audit(tx) == []
        assert len(audit_head(tx)) == 64


@pytest.mark.parametrize(
    ("tampering", "where"),
    [
        ("UPDATE audit_log SET actor = 'mallory' WHERE seq = 2", 2),
        ("UPDATE audit_log SET detail = '{}' WHERE seq = 4", 4),
        ("DELETE FROM audit_log WHERE seq = 3", 3),
        ("UPDATE audit_log SET seq = 9 WHERE seq = 4", 4),
        ("UPDATE audit_log SET at = at + 1 WHERE seq = 1", 1),
    ],
)
def test_tampering_with_the_audit_log_is_found_where_it_was_done(ledger: Ledger, tampering: str, where: int) -> None:
    _write_some(ledger)
    with ledger.store.write() as tx:
        tx.run(text(tampering))
    with ledger.store.read() as tx:
        faults = verify_audit(tx)
    assert faults
    assert faults[0].seq == where


@pytest.mark.parametrize("behind", [timedelta(0), timedelta(seconds=1), timedelta(hours=1)])
def test_whoever_decides_last_is_last_also_by_a_clock_that_is_behind(ledger: Ledger, behind: timedelta) -> None:
    books = Books(ledger)
    books.charge(100, at=on(3))
    books.states(100, at=END)
    books.covers()
    (found,) = books.report().breaks
    with ledger.store.write() as tx:
        signoff.resolve(tx, found, reason="data_entry", by="ann", now=SIGNED_AT, words="known")
    with ledger.store.write() as tx:
        signoff.reopen_break(tx, found, by="bob", words="not so", now=SIGNED_AT - behind)
    report = books.report(as_of=SIGNED_AT + timedelta(seconds=1))
    assert (len(report.breaks), report.resolved) == (1, ())
