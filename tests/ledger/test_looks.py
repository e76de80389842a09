"""What sweeps, backfills, counts and deadlines ask the ledger: what to look at again, and what came of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.clock import ManualClock
from reconciler.ledger import Job, Ledger, Outcome, Release
from reconciler.ledger.candidates import Deadline, KnownCount, LateAccounts, overdue
from reconciler.ledger.causes import Caused
from reconciler.ledger.expectations import due_expectations
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, ResourceRef, Window
from tests.ledger.factories import (
    NOON,
    by_hand,
    claim_all,
    receipt,
    ref,
    seconds,
    settle,
    show_page,
    snapshot,
    table,
    tombstone,
    webhook,
)

HOUR = timedelta(hours=1)
A, B, C = ref("ch_a"), ref("ch_b"), ref("ch_c")


def created(ledger: Ledger, of: ResourceRef, at: datetime, *, status: str | None = None) -> None:
    settle(ledger, of, snapshot(of, created_at=at, status=status), NOON)


# --- how many are known -----------------------------------------------------------------------------


def test_what_a_window_holds_is_counted_beside_what_lies_before_it(ledger: Ledger) -> None:
    for hours, of in ((1, A), (2, B), (5, C)):
        created(ledger, of, NOON - hours * HOUR)
    gone = ref("ch_gone")
    created(ledger, gone, NOON - HOUR)
    settle(ledger, gone, tombstone(gone), NOON)
    last_two_hours = Window(NOON - 2 * HOUR, NOON)
    assert ledger.known_counts("main", "charge", window=last_two_hours, reach=NOON - 9 * HOUR) == (2, 1, 0)
    assert ledger.known_counts("main", "charge", window=last_two_hours, reach=NOON - 5 * HOUR) == (2, 1, 0)
    assert ledger.known_counts("main", "charge", window=last_two_hours, reach=NOON - HOUR) == (2, 0, 0)
    four = Window(NOON - 4 * HOUR, NOON - HOUR)
    assert ledger.known_counts("main", "charge", window=four, reach=NOON - 9 * HOUR) == (1, 1, 1)


def test_the_one_in_the_middle_of_a_window_says_where_to_halve_it(ledger: Ledger) -> None:
    whole = Window(NOON - 9 * HOUR, NOON)
    assert ledger.known_count("main", "charge", whole) == KnownCount(0, None)
    for hours, of in ((1, A), (2, B), (5, C)):
        created(ledger, of, NOON - hours * HOUR)
    assert ledger.known_count("main", "charge", whole) == KnownCount(3, NOON - 2 * HOUR)
    assert ledger.known_count("main", "charge", Window(NOON - 5 * HOUR, NOON - 2 * HOUR)) == KnownCount(
        1, NOON - 5 * HOUR
    )


def test_the_oldest_known_one_within_reach(ledger: Ledger) -> None:
    assert ledger.oldest_known("main", "charge", reach=NOON - 9 * HOUR) is None
    created(ledger, A, NOON - 2 * HOUR)
    created(ledger, B, NOON - 5 * HOUR)
    assert ledger.oldest_known("main", "charge", reach=NOON - 9 * HOUR) == NOON - 5 * HOUR
    assert ledger.oldest_known("main", "charge", reach=NOON - 3 * HOUR) == NOON - 2 * HOUR


# --- what is still open, or was not read yet --------------------------------------------------------


def still_open(ledger: Ledger, *statuses: str, read_before: datetime = NOON + HOUR) -> list[ResourceRef]:
    return ledger.still_open("main", "charge", statuses, created_before=NOON - HOUR, read_before=read_before, limit=10)


def test_what_is_open_is_named_oldest_first_and_only_when_it_is_old_and_clean(ledger: Ledger) -> None:
    created(ledger, A, NOON - 2 * HOUR, status="open")
    created(ledger, B, NOON - 3 * HOUR, status="waiting")
    created(ledger, C, NOON - HOUR, status="open")
    assert still_open(ledger, "open", "waiting") == [B, A]
    assert still_open(ledger, "open") == [A]
    assert still_open(ledger) == [], "no state is open"
    assert still_open(ledger, "open", "waiting", read_before=NOON) == []
    ledger.mark([by_hand(A)], NOON)
    assert still_open(ledger, "open", "waiting") == [B], "a dirty one is read anyway"


def test_what_waits_for_its_read_is_named_with_what_it_met(ledger: Ledger) -> None:
    ledger.mark([by_hand(A), by_hand(B), by_hand(C)], NOON)
    claims = {claim.ref: claim for claim in claim_all(ledger, NOON)}
    ledger.release(
        [
            Release(claims[A], NOON + HOUR, error="500"),
            Release(claims[B], NOON + HOUR, error="nothing but errors", bury=True),
            Release(claims[C], NOON + HOUR, error="404", bury=True),
        ],
        NOON,
    )
    assert ledger.discard(C, NOON)
    found = {each.ref: each for each in ledger.pending("main", "charge", marked_before=NOON)}
    assert {ref: (each.dead, each.discarded) for ref, each in found.items()} == {
        A: (False, False),
        B: (True, False),
        C: (True, True),
    }
    assert found[B].error == "nothing but errors"
    late = ref("ch_late")
    ledger.mark([by_hand(late)], NOON + HOUR)
    assert late not in {each.ref for each in ledger.pending("main", "charge", marked_before=NOON)}
    (fresh,) = [each for each in ledger.pending("main", "charge", marked_before=NOON + HOUR) if each.ref == late]
    assert (fresh.error, fresh.dead) == ("not read yet", False)
    assert len(ledger.pending("main", "charge", marked_before=NOON + HOUR, limit=2)) == 2


def test_whoever_has_looked_at_nothing_records_nothing(ledger: Ledger) -> None:
    assert ledger.record_coverage([], NOON) == 0
    assert table(ledger, "coverage") == []


# --- what came of it --------------------------------------------------------------------------------


def test_what_a_backfill_stored_is_told_from_what_it_found_changed(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, A, snapshot(A, 1), NOON)
    settle(ledger, B, snapshot(B, 1), NOON)
    began = NOON + HOUR

    def read(of: ResourceRef, value: int, at: datetime) -> None:
        outcomes = show_page(
            ledger, snapshot(of, value), start=ledger.tick(), started_at=at, now=at, cause=Cause.BACKFILL
        )
        assert [each.outcome for each in outcomes] == [Outcome.CHANGED]

    nothing = ledger.caused("main", "charge", Cause.BACKFILL, since=began)
    assert nothing == Caused(0, 0, ())
    read(C, 1, began)
    assert ledger.caused("main", "charge", Cause.BACKFILL, since=began) == Caused(1, 0, ())
    read(B, 2, began + seconds(10))
    read(A, 2, began + seconds(20))
    read(B, 3, began + seconds(30))
    assert ledger.caused("main", "charge", Cause.BACKFILL, since=began) == Caused(4, 3, (B, A))
    assert ledger.caused("main", "charge", Cause.BACKFILL, since=began, limit=1).drifted == (B,)
    assert ledger.caused("main", "charge", Cause.BACKFILL, since=began + seconds(30)) == Caused(1, 1, (B,))
    assert ledger.caused("main", "charge", Cause.SWEEP, since=began) == Caused(0, 0, ())
    assert ledger.caused("main", "refund", Cause.BACKFILL, since=began) == Caused(0, 0, ())


def test_deliveries_that_named_a_resource_newest_first_and_each_once(ledger: Ledger) -> None:
    for number, event in enumerate(("evt_1", "evt_2", "evt_1", "evt_3")):
        at = NOON + seconds(number)
        ledger.receive([receipt(event, webhook(A), at=at)], at)
    ledger.receive([receipt("evt_other", webhook(B))], NOON)
    assert ledger.announced_by(A, before=NOON + HOUR, limit=10) == ["evt_3", "evt_1", "evt_2"]
    assert ledger.announced_by(A, before=NOON + seconds(1), limit=10) == ["evt_2", "evt_1"]
    assert ledger.announced_by(A, before=NOON + HOUR, limit=1) == ["evt_3"]


def test_an_expectation_is_closed_by_a_read_that_is_no_longer_open(ledger: Ledger) -> None:
    for of in (A, B):
        ledger.expect(of, due_at=NOON + HOUR, note="", now=NOON)
    created(ledger, A, NOON, status="open")
    assert ledger.confirm_expectations("main", "charge", ["open"], NOON) == 0
    settle(ledger, A, snapshot(A, 2, status="paid"), NOON)
    assert ledger.confirm_expectations("main", "charge", ["open"], NOON) == 1
    assert ledger.looked(lambda tx: due_expectations(tx, "main", NOON + 2 * HOUR, limit=10)) == [B]
    created(ledger, B, NOON, status="open")
    assert ledger.confirm_expectations("main", "charge", [], NOON) == 1, "a kind without open states is never open"


def test_of_many_accounts_those_are_named_that_have_something_late(ledger: Ledger) -> None:
    """More of them than one statement asks of, each with what is as old as its number, and two rules for that."""
    after = {number: (timedelta(minutes=number), timedelta(minutes=2 * number)) for number in range(120)}
    names = {number: f"account-{number}" for number in after}
    deadlines = {
        names[number]: [Deadline(names[number], "charge", ["open"], each) for each in both]
        for number, both in after.items()
    }
    for number, name in names.items():
        of = ref("ch_1", account=name)
        if number % 2:
            created(ledger, of, NOON, status="open" if number % 3 else "paid")
        elif number % 7 == 0:
            ledger.expect(of, due_at=NOON + HOUR, note="", now=NOON)
    ledger.expect(ref("ch_2", account=names[1]), due_at=NOON, note="", now=NOON)
    created(ledger, ref("ch_2", account=names[1]), NOON, status="paid")
    assert ledger.confirm_expectations(names[1], "charge", ["open"], NOON) == 1
    late = LateAccounts(deadlines)
    expecting = {names[number] for number in after if number % 14 == 0}

    def one_by_one(tx: Transaction, now: datetime) -> set[str]:
        return {name for name, rules in deadlines.items() if any(overdue(tx, rule, now=now, limit=1) for rule in rules)}

    for minutes in (0, 1, 30, 100, 119, 500):
        with ledger.together() as tx:
            now = NOON + timedelta(minutes=minutes)
            found = one_by_one(tx, now)
            assert len(found) == sum(number < minutes and number % 2 == 1 and number % 3 > 0 for number in after)
            assert late.find(tx, now) == found | expecting


def test_of_no_account_nothing_is_late(ledger: Ledger) -> None:
    assert ledger.looked(lambda tx: LateAccounts({}).find(tx, NOON)) == frozenset()


def test_a_job_says_how_far_it_got(ledger: Ledger) -> None:
    assert ledger.job_progress("complete/main/charge") == {}
    job = ledger.take_job("complete/main/charge", owner="one", lease=HOUR, now=NOON)
    assert isinstance(job, Job)
    ledger.renew_job(job, progress={"cursor": "ch_9"}, now=NOON)
    assert ledger.job_progress("complete/main/charge") == {"cursor": "ch_9"}


# --- whose resources they are -----------------------------------------------------------------------


def test_what_was_known_for_longest_comes_first_and_few_of_a_kind(ledger: Ledger) -> None:
    gone, refund = ref("ch_gone"), ref("re_1", kind="refund")
    for of, hours in ((ref("ch_old"), 40), (gone, 3), (A, 1), (refund, 2), (B, 5), (C, 4)):
        created(ledger, of, NOON - hours * HOUR)
    settle(ledger, gone, tombstone(gone), NOON)
    since, later = NOON - 30 * HOUR, NOON + HOUR

    def known(*kinds: str, limit: int = 9, before: datetime = later) -> list[ResourceRef]:
        return ledger.longest_known("main", kinds, since=since, before=before, each=2, limit=limit)

    assert known("refund", "charge") == [A, refund, B]
    assert known("refund", "charge", limit=1) == [A]
    assert known("payout") == []
    assert known("refund", "charge", before=NOON - HOUR) == [], "they were created then, and known later"


def test_one_account_under_two_names_is_known_by_what_both_hold(ledger: Ledger) -> None:
    theirs = {name: ref(name, account="other") for name in ("ch_a", "ch_b", "ch_c")}
    ours = ((A, 3, 1), (B, 2, 1), (C, 1, 1))
    same = ((theirs["ch_a"], 3, 1), (theirs["ch_b"], 2, 1), (theirs["ch_c"], 1, 2))
    shown = [snapshot(of, value, created_at=NOON - hours * HOUR) for of, hours, value in (*ours, *same)]
    show_page(ledger, *shown, start=ledger.tick(), started_at=NOON, now=NOON)
    assert ledger.shared("main", ["other", "third"], ["charge"], each=2) == {"other": theirs["ch_b"]}
    assert ledger.shared("main", ["other"], ["charge"], each=1) == {}, "the same id with another body is another one"
    assert ledger.shared("main", [], ["charge"], each=2) == {}
