"""What pages and reports ask the ledger, where an answer takes more than one page, or begins in an odd place."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from reconciler.errors import UsageError
from reconciler.ledger import Ledger, PageRow, Rejection, aside, listing, open_ledger, people
from reconciler.ledger.anomalies import LEAST, SURGE, Anomalies, anomalies
from reconciler.ledger.carried import BEFORE_ALL, Span, gaps
from reconciler.ledger.finance import BalanceKey
from reconciler.ledger.itemised import itemised
from reconciler.ledger.listing import ResourceFilter
from reconciler.ledger.people import Role as Duty
from reconciler.ledger.sums import largest, summed
from reconciler.model import Cause, Snapshot
from reconciler.money import Money
from reconciler.movements import Condition, Movement, Role
from tests.ledger.factories import NOON, SETTLE, by_hand, delivery, entry, receipt, ref, settle, snapshot, webhook

HOUR = timedelta(hours=1)


# --- pages of resources -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "after", "found"),
    [
        (ResourceFilter(), ("b", "charge", "ch_1"), ["b/charge/ch_2", "b/refund/re_1", "c/charge/ch_1"]),
        (ResourceFilter(kind="charge"), ("b", "charge", "ch_1"), ["b/charge/ch_2", "c/charge/ch_1"]),
        (ResourceFilter(kind="refund"), ("a", "charge", "ch_9"), ["b/refund/re_1"]),
        (ResourceFilter(account="b"), ("a", "refund", "re_9"), ["b/charge/ch_1", "b/charge/ch_2", "b/refund/re_1"]),
        (ResourceFilter(account="b"), ("c", "charge", "ch_1"), []),
        (ResourceFilter(account="b"), ("b", "charge", "ch_1"), ["b/charge/ch_2", "b/refund/re_1"]),
        (ResourceFilter(account="b", kind="charge"), ("b", "balance", "b_9"), ["b/charge/ch_1", "b/charge/ch_2"]),
        (ResourceFilter(account="b", kind="charge"), ("b", "charge", "ch_1"), ["b/charge/ch_2"]),
        (ResourceFilter(account="b", kind="charge"), ("b", "refund", "re_1"), []),
        (ResourceFilter(account="b", kind="charge"), ("a", "refund", "re_1"), ["b/charge/ch_1", "b/charge/ch_2"]),
    ],
)
def test_a_page_begins_behind_any_place_also_one_outside_of_what_is_asked_for(
    ledger: Ledger, wanted: ResourceFilter, after: tuple[str, str, str], found: list[str]
) -> None:
    refs = [ref("ch_1", account="a"), *(ref(name, account="b") for name in ("ch_1", "ch_2"))]
    refs += [ref("re_1", account="b", kind="refund"), ref("ch_1", account="c")]
    ledger.mark([by_hand(each) for each in refs], NOON)
    with ledger.store.read() as tx:
        pairs = {(each.account, each.kind) for each in refs}
        page = listing.resources(tx, wanted, pairs=pairs, after=after, limit=9)
    assert [f"{each.ref.account}/{each.ref.kind}/{each.ref.id}" for each in page.rows] == found


# --- entries, one after the other -------------------------------------------------------------------


def test_entries_come_in_their_order_however_many_there_are(sqlite_ledger_url: str) -> None:
    """More than are read at once, and many of one instant."""
    count = 2100
    refs = [ref(f"txn_{number:05}", kind="balance_transaction") for number in range(count)]
    rows = [
        PageRow(Snapshot(each, {"id": each.id}), (entry(each, effective_at=NOON + HOUR * (number // 700)),))
        for number, each in enumerate(refs)
    ]
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        ledger.apply_page(
            rows, start=ledger.tick(), started_at=NOON, cause=Cause.SWEEP,
            settle={"balance_transaction": SETTLE}, now=NOON,
        )  # fmt: skip
        with ledger.store.read() as tx:
            found = list(itemised(tx, [BalanceKey("main", "payments", "USD")], NOON, NOON + 9 * HOUR, NOON + HOUR))
    assert sorted(each.id for each in found) == [each.id for each in refs]
    assert [each.effective_at for each in found] == sorted(each.effective_at for each in found)


@pytest.mark.parametrize(
    ("spans", "until", "left"),
    [
        ([], 15, [(BEFORE_ALL, 15)]),
        ([(BEFORE_ALL, 10), (20, 30)], 15, [(10, 15)]),
        ([(BEFORE_ALL, 10), (20, 30)], 10, []),
        ([(BEFORE_ALL, 10), (20, 30)], 40, [(10, 20), (30, 40)]),
        ([(BEFORE_ALL, 10), (10, 30)], 30, []),
    ],
)
def test_what_no_sum_stands_for_yet(spans: list[tuple[int, int]], until: int, left: list[tuple[int, int]]) -> None:
    assert gaps([Span(*each, 0) for each in spans], until) == left


def test_of_what_plays_two_parts_only_the_one_that_has_a_group_is_looked_at_with_others(ledger: Ledger) -> None:
    """A provider may read a charge and its dispute out of one body."""
    settle(ledger, ref(), snapshot(ref()), NOON)
    charge = Movement(ref(), Role.CHARGE, Condition.SETTLED, "paid", Money(100, "USD"), NOON)
    with ledger.store.write() as tx:
        (unread,) = aside.unread(tx, after=(0, 0), limit=9)
        aside.keep(tx, [(unread, [replace(charge, role=Role.DISPUTE), charge])], ())
        assert [each.known.movement for each in aside.kept(tx, [unread.resource_id])] == [charge]
        assert aside.unlooked(tx, 9) == {unread.resource_id}


# --- who sends what ---------------------------------------------------------------------------------


def look(ledger: Ledger) -> Anomalies:
    with ledger.store.read() as tx:
        return anomalies(tx, NOON)


def test_many_deliveries_from_a_new_place_or_of_a_type_that_was_rare_are_named(ledger: Ledger) -> None:
    now = NOON - timedelta(minutes=1)
    before = NOON - 2 * HOUR
    old = receipt("evt_0", webhook(ref()), kind="refund.created", at=before)
    many = [receipt(f"evt_{number}", webhook(ref()), at=now) for number in range(1, LEAST + 1)]
    ledger.receive(many, now)
    assert look(ledger) == Anomalies(), "nothing came before that it could be held against"
    ledger.receive([old], before)
    assert look(ledger) == Anomalies(), "from where the old one came, and of a type that nobody has seen before"
    ledger.receive([receipt(f"evt_{number}", webhook(ref()), at=before) for number in range(200, 203)], before)
    ((account, kind, count, usual),) = look(ledger).surges
    assert (account, kind, count) == ("main", "charge.updated", LEAST)
    assert 0 < usual < LEAST / SURGE
    for number in range(LEAST):
        elsewhere = replace(delivery(at=now), source="198.51.100.9")
        ledger.reject([Rejection("stripe", elsewhere, "signature", number)])
    found = look(ledger)
    assert found.new_sources == (("main", "198.51.100.9", LEAST),)
    assert found.rejected == (("main", "signature", LEAST),)


# --- what is not there ------------------------------------------------------------------------------


def test_who_asks_for_what_is_not_there_is_told_so(ledger: Ledger) -> None:
    with ledger.store.write() as tx:
        assert listing.delivery(tx, 7) is None
        assert largest(tx, ["main"], NOON) is None
        with pytest.raises(UsageError, match="no token '7'"):
            people.revoke_machine_token(tx, "7", by="bob", now=NOON)


def test_a_sum_that_fails_for_another_reason_says_that_reason(ledger: Ledger) -> None:
    with ledger.store.read() as tx, pytest.raises(DBAPIError, match="nowhere"):
        summed(tx, text("SELECT sum(gross) FROM nowhere"), {})


# --- people -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " ", " ann", "ann ", "a\x00n", "x" * 200])
def test_a_name_that_could_be_taken_for_another_is_refused(ledger: Ledger, name: str) -> None:
    with ledger.store.write() as tx, pytest.raises(UsageError, match="printable characters"):
        people.add_user(tx, name, Duty.VIEWER, "hash", by="bob", now=NOON)


def test_nobody_who_is_not_there_is_changed(ledger: Ledger) -> None:
    with ledger.store.write() as tx, pytest.raises(UsageError, match="there is no user 'ann'"):
        people.change_user(tx, "ann", by="bob", now=NOON, role=Duty.FINANCE)


def test_a_new_password_ends_the_sessions_and_is_on_record(ledger: Ledger) -> None:
    with ledger.store.write() as tx:
        people.add_user(tx, "ann", Duty.VIEWER, "old", by="bob", now=NOON)
        people.open_session(
            tx, people.Session("token", "ann", Duty.VIEWER, "password", NOON, NOON + HOUR, NOON, "203.0.113.7")
        )
        assert people.change_user(tx, "ann", by="bob", now=NOON + HOUR / 2, password_hash="new") == 1
        found = people.user(tx, "ann")
    assert found is not None
    assert (found.password_hash, found.role, found.changed_at) == ("new", Duty.VIEWER, NOON + HOUR / 2)
