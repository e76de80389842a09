"""Marking: each mark counts once, and decides when the resource is read next."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from reconciler.clock import ManualClock
from reconciler.ledger import Ledger, Mark, Release, mark_of
from reconciler.ledger.marks import ROLL_LIMIT
from reconciler.model import Cause, Hint, Priority
from tests.ledger.factories import (
    LEASE,
    SETTLE,
    answer,
    by_hand,
    claim_all,
    claim_one,
    expecting,
    ref,
    row,
    seconds,
    settle,
    snapshot,
    webhook,
)

CHARGE = ref()
REFUND = ref("re_1", kind="refund")


def test_first_mark_makes_a_dirty_resource_that_is_due_now(ledger: Ledger, clock: ManualClock) -> None:
    assert ledger.mark([webhook(CHARGE)], clock.now()) == 1
    marked = row(ledger, CHARGE)
    assert (marked.generation, marked.settled_generation, marked.dirty) == (1, 0, True)
    assert marked.due_at == marked.first_marked_at == marked.last_marked_at == clock.now()
    assert (marked.state, marked.version, marked.priority) == ("unknown", 0, Priority.LIVE)


def test_repeated_marks_count_each_and_keep_the_first_wake_up(ledger: Ledger, clock: ManualClock) -> None:
    began = clock.now()
    for _ in range(5):
        ledger.mark([webhook(CHARGE)], clock.now())
        clock.advance(seconds(1))
    marked = row(ledger, CHARGE)
    assert marked.generation == 5
    assert marked.due_at == marked.first_marked_at == began
    assert marked.last_marked_at == began + seconds(4)


def test_marks_of_one_call_are_coalesced_with_their_sum(ledger: Ledger, clock: ManualClock) -> None:
    other = ref("ch_2")
    marks = [by_hand(CHARGE, Cause.SWEEP), webhook(other), webhook(CHARGE), webhook(CHARGE)]
    assert ledger.mark(marks, clock.now()) == 2
    marked = row(ledger, CHARGE)
    assert marked.generation == 3
    assert (marked.cause, marked.priority) == ("sweep", Priority.LIVE), "the first says why, the most urgent says when"
    assert row(ledger, other).generation == 1


def test_delay_postpones_and_a_later_mark_brings_forward(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([Mark(CHARGE, Cause.DEADLINE, delay=seconds(30))], clock.now())
    assert row(ledger, CHARGE).due_at == clock.now() + seconds(30)
    assert claim_all(ledger, clock.now()) == []
    ledger.mark([webhook(CHARGE)], clock.now())
    assert row(ledger, CHARGE).due_at == clock.now()
    ledger.mark([Mark(CHARGE, Cause.DEADLINE, delay=seconds(30))], clock.now())
    assert row(ledger, CHARGE).due_at == clock.now(), "no mark ever delays what is already due"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Cause.BACKFILL, Cause.WEBHOOK, Priority.LIVE),
        (Cause.WEBHOOK, Cause.BACKFILL, Priority.LIVE),
        (Cause.SWEEP, Cause.MANUAL, Priority.MANUAL),
        (Cause.BACKFILL, Cause.SWEEP, Priority.SWEEP),
        (Cause.DEADLINE, Cause.SWEEP, Priority.LIVE),
    ],
)
def test_priority_only_rises_while_dirty(
    ledger: Ledger, clock: ManualClock, first: Cause, second: Cause, expected: Priority
) -> None:
    ledger.mark([by_hand(CHARGE, first)], clock.now())
    ledger.mark([by_hand(CHARGE, second)], clock.now())
    marked = row(ledger, CHARGE)
    assert marked.priority == expected
    assert marked.cause == first, "the cause is what first made us look"


def test_a_clean_resource_takes_the_priority_of_its_next_mark(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now(), started_at=clock.now() + SETTLE)
    assert not row(ledger, CHARGE).dirty
    ledger.mark([by_hand(CHARGE, Cause.BACKFILL)], clock.now())
    marked = row(ledger, CHARGE)
    assert (marked.priority, marked.cause) == (Priority.BACKFILL, "backfill")


def test_own_priority_overrides_the_cause(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([Mark(CHARGE, Cause.SWEEP, priority=Priority.BACKFILL)], clock.now())
    assert row(ledger, CHARGE).priority == Priority.BACKFILL


def test_mark_under_lease_counts_but_leaves_the_reclaim_time(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    clock.advance(seconds(1))
    ledger.mark([webhook(CHARGE)], clock.now())
    marked = row(ledger, CHARGE)
    assert (marked.generation, marked.due_at) == (2, claim.lease_until)
    assert claim_all(ledger, clock.now()) == [], "a leased resource is never handed out twice"


def test_mark_after_an_expired_lease_is_claimable_at_once(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    claim_one(ledger, clock.now())
    clock.advance(LEASE)
    ledger.mark([webhook(CHARGE)], clock.now())
    assert claim_one(ledger, clock.now()).generation == 2


def test_mark_during_backoff_waits_for_its_end(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    until = clock.now() + seconds(90)
    ledger.release([Release(claim_one(ledger, clock.now()), until, error="503")], clock.now())
    clock.advance(seconds(10))
    ledger.mark([webhook(CHARGE)], clock.now())
    marked = row(ledger, CHARGE)
    assert (marked.generation, marked.due_at) == (2, until), "a storm of webhooks must not defeat the backoff"


def test_mark_within_the_least_interval_waits_for_it(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE), clock.now())
    ledger.mark([by_hand(CHARGE)], clock.now())
    answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now(), least=seconds(10))
    ledger.mark([by_hand(CHARGE)], clock.now() + seconds(1))
    assert row(ledger, CHARGE).due_at == clock.now() + seconds(10)


# --- the settle window ----------------------------------------------------------------------------


def provisionally_read(ledger: Ledger, clock: ManualClock) -> None:
    """Marked by a webhook and read at once: stored, but not settled."""
    ledger.mark([webhook(CHARGE)], clock.now())
    applied = answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now())
    assert applied.dirty


def test_mark_after_a_provisional_read_waits_for_the_end_of_its_own_window(ledger: Ledger, clock: ManualClock) -> None:
    provisionally_read(ledger, clock)
    assert row(ledger, CHARGE).due_at == clock.now() + SETTLE
    clock.advance(seconds(2))
    ledger.mark([webhook(CHARGE)], clock.now())
    assert row(ledger, CHARGE).due_at == clock.now() + SETTLE


def test_a_change_that_was_announced_after_a_read_that_did_not_show_the_last_one_waits_too(
    ledger: Ledger, clock: ManualClock
) -> None:
    """The read began in the very instant of the first mark: it is no read from before it."""
    ledger.mark([webhook(CHARGE, expected=expecting(2))], clock.now())
    assert answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now()).dirty
    clock.advance(seconds(2))
    ledger.mark([webhook(CHARGE, expected=expecting(3))], clock.now())
    assert row(ledger, CHARGE).due_at == clock.now() + SETTLE


def test_rolling_wait_is_bounded(ledger: Ledger, clock: ManualClock) -> None:
    """A resource marked without pause is read all the same: once in ROLL_LIMIT windows, and not at every mark."""
    provisionally_read(ledger, clock)
    reads = []
    for _ in range(4 * ROLL_LIMIT * 5):
        clock.advance(seconds(1))
        ledger.mark([webhook(CHARGE)], clock.now())
        for claim in claim_all(ledger, clock.now()):
            answer(ledger, claim, snapshot(CHARGE), now=clock.now())
            reads.append(clock.now())
    gaps = [later - earlier for earlier, later in pairwise(reads)]
    assert len(reads) in (3, 4), "in four times the limit"
    assert all(ROLL_LIMIT * SETTLE - SETTLE <= gap <= ROLL_LIMIT * SETTLE + SETTLE for gap in gaps), gaps


def test_mark_that_announces_nothing_soon_after_a_read_waits_out_its_window(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE), clock.now())
    clock.advance(seconds(2))
    ledger.mark([webhook(CHARGE)], clock.now())
    assert row(ledger, CHARGE).due_at == clock.now() + SETTLE, "the read would be provisional; one read serves"


def test_mark_with_a_hint_soon_after_a_settled_read_is_due_at_once(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE), clock.now())
    clock.advance(seconds(2))
    ledger.mark([webhook(CHARGE, expected=expecting(2))], clock.now())
    assert row(ledger, CHARGE).due_at == clock.now()


def test_mark_by_an_operator_soon_after_a_read_is_due_at_once(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE), clock.now())
    clock.advance(seconds(2))
    ledger.mark([by_hand(CHARGE)], clock.now())
    assert row(ledger, CHARGE).due_at == clock.now()


# --- when it is said to have been created ---------------------------------------------------------


def test_what_a_later_mark_says_of_the_creation_is_kept_where_nothing_was_known(
    ledger: Ledger, clock: ManualClock
) -> None:
    said, later = clock.now() - timedelta(days=2), clock.now() - timedelta(days=1)
    ledger.mark([webhook(CHARGE), webhook(REFUND, created_at=said)], clock.now())
    assert (row(ledger, CHARGE).created_at, row(ledger, REFUND).created_at) == (None, said)
    ledger.mark([webhook(CHARGE, created_at=said), webhook(REFUND)], clock.now())
    assert (row(ledger, CHARGE).created_at, row(ledger, REFUND).created_at) == (said, said)
    ledger.mark([webhook(CHARGE, created_at=later), webhook(REFUND, created_at=later)], clock.now())
    assert (row(ledger, CHARGE).created_at, row(ledger, REFUND).created_at) == (said, said)


def test_what_a_mark_says_of_the_creation_is_no_news_after_a_read(ledger: Ledger, clock: ManualClock) -> None:
    read = clock.now() - timedelta(days=3)
    settle(ledger, CHARGE, snapshot(CHARGE, created_at=read), clock.now())
    ledger.mark([webhook(CHARGE, created_at=clock.now())], clock.now())
    assert row(ledger, CHARGE).created_at == read


# --- hints ----------------------------------------------------------------------------------------


def test_hints_of_pending_marks_are_joined(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE, expected='{"a":1}')], clock.now())
    ledger.mark([webhook(CHARGE, expected='{"b":2}')], clock.now())
    assert claim_one(ledger, clock.now()).hints == ('{"a":1}', '{"b":2}')


def test_hints_of_one_call_are_joined_without_repetition(ledger: Ledger, clock: ManualClock) -> None:
    marks = [webhook(CHARGE, expected=each) for each in ('{"a":1}', '{"b":2}', '{"a":1}')]
    ledger.mark(marks, clock.now())
    assert claim_one(ledger, clock.now()).hints == ('{"a":1}', '{"b":2}')


def test_a_hint_that_is_pending_already_is_kept_once(ledger: Ledger, clock: ManualClock) -> None:
    for expected in ('{"a":1}', '{"a":1}', '{"b":{"a":1}}', '{"a":1}', '{"b":{"a":1}}'):
        ledger.mark([webhook(CHARGE, expected=expected)], clock.now())
    assert claim_one(ledger, clock.now()).hints == ('{"a":1}', '{"b":{"a":1}}')


def test_a_hint_that_is_a_part_of_a_pending_one_is_kept(ledger: Ledger, clock: ManualClock) -> None:
    for expected in ('{"b":{"a":1}}', '{"a":1}'):
        ledger.mark([webhook(CHARGE, expected=expected)], clock.now())
    assert claim_one(ledger, clock.now()).hints == ('{"b":{"a":1}}', '{"a":1}')


def test_one_hint_again_and_again_never_becomes_too_many(ledger: Ledger, clock: ManualClock) -> None:
    for _ in range(4):
        ledger.mark([webhook(CHARGE, expected=f'{{"a":"{"x" * 1500}"}}')], clock.now())
    assert claim_one(ledger, clock.now()).hints is not None


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", [0, 1])
def test_one_mark_without_a_hint_leaves_nothing_to_check(
    ledger: Ledger, clock: ManualClock, together: bool, order: int
) -> None:
    marks = [webhook(CHARGE, expected='{"a":1}'), webhook(CHARGE)]
    marks = marks[::-1] if order else marks
    for batch in [marks] if together else [[each] for each in marks]:
        ledger.mark(batch, clock.now())
    assert claim_one(ledger, clock.now()).hints is None


@pytest.mark.parametrize("together", [True, False])
def test_too_many_hints_leave_the_decision_to_the_settle_window(
    ledger: Ledger, clock: ManualClock, together: bool
) -> None:
    marks = [webhook(CHARGE, expected=f'{{"a":"{number}{"x" * 1500}"}}') for number in range(3)]
    for batch in [marks] if together else [[each] for each in marks]:
        ledger.mark(batch, clock.now())
    assert claim_one(ledger, clock.now()).hints is None


def test_one_overlong_hint_is_not_kept(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE, expected=expecting("x" * 5000))], clock.now())
    assert claim_one(ledger, clock.now()).hints is None


def test_hints_of_an_answered_generation_are_forgotten(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE, expected='{"a":1}')], clock.now())
    answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now(), satisfied=True)
    clock.advance(SETTLE)
    ledger.mark([webhook(CHARGE, expected='{"b":2}')], clock.now())
    assert claim_one(ledger, clock.now()).hints == ('{"b":2}',)


def test_mark_of_a_hint_carries_its_expectation() -> None:
    mark = mark_of(Hint(CHARGE, {"status": "paid"}), Cause.WEBHOOK, SETTLE)
    assert (mark.ref, mark.settle, mark.expected) == (CHARGE, SETTLE, '{"status":"paid"}')
    assert mark_of(Hint(CHARGE), Cause.WEBHOOK, SETTLE).expected is None


# --- strangers ------------------------------------------------------------------------------------


def test_only_strangers_are_marked_where_they_are_named(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE), clock.now())
    stranger = ref("ch_9")
    for value in (1, 2):
        settle(ledger, ref("ch_2"), snapshot(ref("ch_2"), value, related=(CHARGE, stranger, stranger)), clock.now())
        assert not row(ledger, CHARGE).dirty
        assert row(ledger, stranger).generation == 2, "named twice, when nobody knew it"


def test_nothing_to_mark_is_nothing(ledger: Ledger, clock: ManualClock) -> None:
    assert ledger.mark([], clock.now()) == 0


def test_accounts_and_kinds_do_not_meet(ledger: Ledger, clock: ManualClock) -> None:
    refs = [ref("x", account="a"), ref("x", account="b"), ref("x", account="a", kind="refund")]
    ledger.mark([webhook(each) for each in refs], clock.now())
    (claim,) = claim_all(ledger, clock.now(), account="b")
    answer(ledger, claim, snapshot(claim.ref), now=clock.now() + timedelta(minutes=1))
    assert [row(ledger, each).dirty for each in refs] == [True, False, True]
