"""Applying a claim's reading: every outcome, and every way in which a read can come too early or too late."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from reconciler.clock import ManualClock
from reconciler.errors import LedgerError
from reconciler.ledger import Answer, Ledger, Outcome, Release, Store
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, ControlTotal, State
from reconciler.money import Money
from tests.ledger.factories import (
    LEASE,
    LEAST,
    SETTLE,
    answer,
    beyond_64_bits,
    by_hand,
    claim_all,
    claim_one,
    entry,
    expecting,
    ref,
    row,
    seconds,
    settle,
    show_page,
    snapshot,
    table,
    tombstone,
    values,
    versions,
    webhook,
)

CHARGE = ref()


# --- settling -------------------------------------------------------------------------------------


def test_a_read_after_the_window_settles(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    clock.advance(SETTLE)
    applied = answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now())
    assert (applied.outcome, applied.version, applied.dirty, applied.drift) == (Outcome.CHANGED, 1, False, False)
    settled = row(ledger, CHARGE)
    assert (settled.generation, settled.settled_generation, settled.due_at) == (1, 1, None)
    assert (settled.state, settled.version, settled.fetched_at) == (State.PRESENT, 1, clock.now())
    assert (settled.attempts, settled.lease_until) == (0, None)


def test_a_read_inside_the_window_is_provisional(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    marked_at = clock.now()
    clock.advance(seconds(2))
    applied = answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now())
    assert (applied.outcome, applied.version, applied.dirty) == (Outcome.CHANGED, 1, True)
    provisional = row(ledger, CHARGE)
    assert (provisional.settled_generation, provisional.due_at) == (0, marked_at + SETTLE)
    assert values(ledger, CHARGE) == [1], "stored all the same"


@pytest.mark.parametrize(("began_after", "dirty"), [(4.999999, True), (5.0, False)])
def test_the_window_ends_to_the_microsecond(
    ledger: Ledger, clock: ManualClock, began_after: float, dirty: bool
) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    clock.advance(seconds(began_after))
    assert answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now()).dirty is dirty


def test_the_start_of_the_read_decides_not_its_end(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    began = clock.now()
    clock.advance(seconds(30))
    assert answer(ledger, claim, snapshot(CHARGE), now=clock.now(), started_at=began).dirty


def test_satisfied_hints_settle_at_once(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE, expected=expecting(1))], clock.now())
    claim = claim_one(ledger, clock.now())
    assert claim.hints == (expecting(1),)
    applied = answer(ledger, claim, snapshot(CHARGE), now=clock.now(), satisfied=True)
    assert not applied.dirty
    assert row(ledger, CHARGE).due_at is None


def test_a_mark_behind_which_no_change_was_announced_is_answered_by_any_read(
    ledger: Ledger, clock: ManualClock
) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    assert not answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now()).dirty


def test_equal_content_makes_no_version(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    before = row(ledger, CHARGE)
    clock.advance(seconds(60))
    applied = settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    assert (applied.outcome, applied.version) == (Outcome.UNCHANGED, 1)
    after = row(ledger, CHARGE)
    assert after.applied_seq > before.applied_seq, "a no-op moves the clock"
    assert after.fetched_at == clock.now()
    assert values(ledger, CHARGE) == [1]


def test_volatile_fields_make_no_version(ledger: Ledger, clock: ManualClock) -> None:
    volatile = frozenset({"value"})
    settle(ledger, CHARGE, snapshot(CHARGE, 1, volatile=volatile), clock.now())
    assert settle(ledger, CHARGE, snapshot(CHARGE, 2, volatile=volatile), clock.now()).outcome is Outcome.UNCHANGED


def test_versions_are_numbered_and_carry_their_cause(ledger: Ledger, clock: ManualClock) -> None:
    for value, cause in enumerate([Cause.BACKFILL, Cause.SWEEP, Cause.MANUAL], start=1):
        ledger.mark([by_hand(CHARGE, cause)], clock.now())
        answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE, value), now=clock.now(), least=timedelta(0))
        clock.advance(seconds(10))
    stored = versions(ledger, CHARGE)
    assert [each.version for each in stored] == [1, 2, 3]
    assert [each.cause for each in stored] == [Cause.BACKFILL, Cause.SWEEP, Cause.MANUAL]
    assert [each.changed for each in stored] == [("*",), ("value",), ("value",)]


def test_status_and_times_are_kept_for_queries(ledger: Ledger, clock: ManualClock) -> None:
    created = clock.now() - timedelta(days=3)
    settle(ledger, CHARGE, snapshot(CHARGE, 1, status="paid", created_at=created), clock.now())
    settle(ledger, CHARGE, snapshot(CHARGE, 2, status=None), clock.now())
    with ledger.view() as view:
        resource = view.resource(CHARGE)
    assert resource is not None
    assert (resource.status, resource.created_at) == (None, created), (
        "a body without its creation time does not undo it"
    )


# --- marks while a read is under way --------------------------------------------------------------


def test_mark_during_fetch_keeps_resource_dirty(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    ledger.mark([by_hand(CHARGE)], clock.now())
    applied = answer(ledger, claim, snapshot(CHARGE), now=clock.now())
    assert applied.dirty
    waiting = row(ledger, CHARGE)
    assert (waiting.generation, waiting.settled_generation) == (2, 1)
    assert waiting.due_at is not None
    clock.advance(SETTLE + LEAST)
    assert claim_one(ledger, clock.now()).generation == 2


def test_hint_during_a_satisfied_fetch_is_read_after_the_least_interval(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE, expected=expecting(1))], clock.now())
    claim = claim_one(ledger, clock.now())
    ledger.mark([webhook(CHARGE, expected=expecting(2))], clock.now())
    assert answer(ledger, claim, snapshot(CHARGE), now=clock.now(), satisfied=True).dirty
    assert row(ledger, CHARGE).due_at == clock.now() + LEAST


def test_mark_without_hint_during_a_satisfied_fetch_waits_out_its_window(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE, expected=expecting(1))], clock.now())
    claim = claim_one(ledger, clock.now())
    ledger.mark([webhook(CHARGE)], clock.now())
    assert answer(ledger, claim, snapshot(CHARGE), now=clock.now(), satisfied=True).dirty
    assert row(ledger, CHARGE).due_at == clock.now() + SETTLE


def test_oldest_unanswered_mark_is_told_from_answered_ones(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    clock.advance(seconds(600))
    claim = claim_one(ledger, clock.now())
    began = clock.now()
    clock.advance(seconds(1))
    ledger.mark([by_hand(CHARGE)], clock.now())
    answer(ledger, claim, snapshot(CHARGE), now=clock.now(), started_at=began)
    assert row(ledger, CHARGE).first_marked_at == began + seconds(1e-6), "ten minutes of waiting are over"


def test_a_mark_by_a_clock_that_is_ahead_was_not_made_earlier_than_it_says(ledger: Ledger, clock: ManualClock) -> None:
    ahead, began = clock.now() + seconds(20), clock.now()
    ledger.mark([by_hand(CHARGE)], ahead)
    claim = claim_one(ledger, ahead)
    ledger.mark([by_hand(CHARGE)], ahead + seconds(1))
    assert answer(ledger, claim, snapshot(CHARGE), now=ahead, started_at=began).dirty
    assert row(ledger, CHARGE).first_marked_at == ahead


# --- late, lost, superseded -----------------------------------------------------------------------


def test_a_late_worker_changes_nothing(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    late = claim_one(ledger, clock.now())
    clock.advance(LEASE)
    current = claim_one(ledger, clock.now())
    before = table(ledger, "resource")
    applied = answer(ledger, late, snapshot(CHARGE, "late"), now=clock.now())
    assert applied.outcome is Outcome.CLAIM_LOST
    assert ledger.release([Release(late, clock.now(), error="late", bury=True)], clock.now()) == 0
    assert table(ledger, "resource") == before
    assert values(ledger, CHARGE) == []
    assert answer(ledger, current, snapshot(CHARGE, "timely"), now=clock.now()).outcome is Outcome.CHANGED
    assert answer(ledger, late, snapshot(CHARGE, "late"), now=clock.now()).outcome is Outcome.CLAIM_LOST
    assert values(ledger, CHARGE) == ["timely"]


def test_a_slow_worker_whom_nobody_replaced_is_still_heard(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    clock.advance(LEASE * 2)
    assert answer(ledger, claim, snapshot(CHARGE), now=clock.now()).outcome is Outcome.CHANGED


def test_the_same_answer_twice_counts_once(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    assert answer(ledger, claim, snapshot(CHARGE), now=clock.now()).outcome is Outcome.CHANGED
    before = table(ledger, "resource")
    assert answer(ledger, claim, snapshot(CHARGE, 2), now=clock.now()).outcome is Outcome.CLAIM_LOST
    assert table(ledger, "resource") == before


def test_lost_claims_do_not_hold_up_the_others_of_their_call(ledger: Ledger, clock: ManualClock) -> None:
    refs = [ref(f"ch_{number}") for number in range(3)]
    ledger.mark([by_hand(each) for each in refs], clock.now())
    late = {each.ref: each for each in claim_all(ledger, clock.now())}
    clock.advance(LEASE)
    current = {each.ref: each for each in claim_all(ledger, clock.now())}
    claims = [current[refs[0]], late[refs[1]], current[refs[2]]]
    answers = [Answer(each, snapshot(each.ref), clock.now()) for each in claims]
    outcomes = [each.outcome for each in ledger.apply(answers, now=clock.now(), least_interval=LEAST)]
    assert outcomes == [Outcome.CHANGED, Outcome.CLAIM_LOST, Outcome.CHANGED]
    assert [row(ledger, each).dirty for each in refs] == [False, True, False]


def test_a_read_that_began_before_an_accepted_one_is_superseded(ledger: Ledger, clock: ManualClock) -> None:
    """On Postgres a claim may take its token, wait for a row, and find there a read that was accepted meanwhile."""
    settle(ledger, CHARGE, snapshot(CHARGE, "newer"), clock.now())
    ledger.mark([by_hand(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    with ledger.together() as tx:
        tx.run(text("UPDATE resource SET applied_seq = :token"), {"token": claim.token})
    applied = answer(ledger, claim, snapshot(CHARGE, "older"), now=clock.now())
    assert (applied.outcome, applied.dirty) == (Outcome.SUPERSEDED, True)
    assert values(ledger, CHARGE) == ["newer"]
    assert row(ledger, CHARGE).due_at == clock.now()
    assert claim_one(ledger, clock.now()).generation == claim.generation


def test_a_b_a_does_not_lose_the_last_change(ledger: Ledger, clock: ManualClock) -> None:
    """The provider goes 1, 2, 1; the read that saw 2 arrives after a read that found 1 unchanged."""
    settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    page_began, start = clock.now() + SETTLE, ledger.tick()  # this page sees 2
    clock.advance(SETTLE * 2)
    assert settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now()).outcome is Outcome.UNCHANGED
    (late,) = show_page(ledger, snapshot(CHARGE, 2), start=start, started_at=page_began, now=clock.now())
    assert late.outcome is Outcome.DEFERRED
    assert values(ledger, CHARGE) == [1]


# --- the least interval ---------------------------------------------------------------------------


def test_least_interval_counts_from_the_start_of_the_read(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    began = clock.now()
    clock.advance(seconds(3))
    ledger.mark([by_hand(CHARGE)], clock.now())
    answer(ledger, claim, snapshot(CHARGE), now=clock.now(), started_at=began, least=seconds(10))
    ledger.mark([by_hand(CHARGE)], clock.now())
    waiting = row(ledger, CHARGE)
    assert waiting.not_before == began + seconds(10)
    assert waiting.due_at == began + seconds(10)


# --- tombstones -----------------------------------------------------------------------------------


def test_a_tombstone_is_a_version_of_its_own(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    applied = settle(ledger, CHARGE, tombstone(CHARGE), clock.now())
    assert (applied.outcome, applied.version, applied.dirty) == (Outcome.CHANGED, 2, False)
    assert row(ledger, CHARGE).state == State.DELETED
    assert values(ledger, CHARGE) == [1, None]
    assert versions(ledger, CHARGE)[-1].changed == ("*",)


def test_a_second_tombstone_changes_nothing(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, tombstone(CHARGE), clock.now())
    assert settle(ledger, CHARGE, tombstone(CHARGE), clock.now()).outcome is Outcome.UNCHANGED
    assert values(ledger, CHARGE) == [None]


def test_what_comes_back_is_the_next_version(ledger: Ledger, clock: ManualClock) -> None:
    for reading in (snapshot(CHARGE, 1), tombstone(CHARGE), snapshot(CHARGE, 1)):
        settle(ledger, CHARGE, reading, clock.now())
    assert values(ledger, CHARGE) == [1, None, 1], "equal to the last but one, and different from the last"
    assert row(ledger, CHARGE).state == State.PRESENT


def test_missing_inside_the_window_is_not_believed(ledger: Ledger, clock: ManualClock) -> None:
    """A replica that has not heard of a new resource answers 404."""
    ledger.mark([webhook(CHARGE)], clock.now())
    marked_at = clock.now()
    clock.advance(seconds(1))
    applied = answer(ledger, claim_one(ledger, clock.now()), tombstone(CHARGE), now=clock.now())
    assert (applied.outcome, applied.version, applied.dirty) == (Outcome.PROVISIONAL, 0, True)
    waiting = row(ledger, CHARGE)
    assert (waiting.state, waiting.due_at, waiting.lease_until) == (State.UNKNOWN, marked_at + SETTLE, None)
    clock.advance(SETTLE)
    assert answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now()).version == 1
    assert values(ledger, CHARGE) == [1]


def test_missing_inside_the_window_is_believed_when_it_was_announced(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE), clock.now())
    clock.advance(SETTLE)
    ledger.mark([webhook(CHARGE, expected='{"deleted":true}')], clock.now())
    applied = answer(ledger, claim_one(ledger, clock.now()), tombstone(CHARGE), now=clock.now(), satisfied=True)
    assert (applied.outcome, applied.dirty) == (Outcome.CHANGED, False)


def test_deletion_of_something_never_seen_is_kept(ledger: Ledger, clock: ManualClock) -> None:
    assert settle(ledger, CHARGE, tombstone(CHARGE), clock.now()).version == 1
    assert values(ledger, CHARGE) == [None]


# --- what a version brings along ------------------------------------------------------------------


def test_resources_that_a_version_names_are_marked_when_unknown(ledger: Ledger, clock: ManualClock) -> None:
    known, stranger = ref("cus_1", kind="customer"), ref("cus_2", kind="customer")
    settle(ledger, known, snapshot(known), clock.now())
    settle(ledger, CHARGE, snapshot(CHARGE, related=(known, stranger)), clock.now())
    assert not row(ledger, known).dirty
    assert row(ledger, stranger).dirty
    assert row(ledger, stranger).cause == "manual", "the cause travels on"


def test_entries_and_totals_are_stored_with_the_version(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    total = ControlTotal("main", "payments", Money(970, "USD"), clock.now())
    given = Answer(
        claim_one(ledger, clock.now()), snapshot(CHARGE), clock.now(), entries=[entry(CHARGE)], control_totals=[total]
    )
    ledger.apply([given], now=clock.now(), least_interval=LEAST)
    (line,) = table(ledger, "entry")
    assert (line["version"], line["gross"], line["fee"], line["net"]) == (1, 1000, 30, 970)
    (stated,) = table(ledger, "control_total")
    assert (stated["minor"], stated["balance_type"]) == (970, "payments")


def test_a_lost_claim_leaves_no_entries_and_no_totals(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    late = claim_one(ledger, clock.now())
    clock.advance(LEASE)
    claim_one(ledger, clock.now())
    total = ControlTotal("main", "payments", Money(970, "USD"), clock.now())
    given = Answer(late, snapshot(CHARGE), clock.now(), entries=[entry(CHARGE)], control_totals=[total])
    ledger.apply([given], now=clock.now(), least_interval=LEAST)
    assert table(ledger, "entry") == table(ledger, "control_total") == table(ledger, "version") == []


# --- drift ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "drift"), [(Cause.WEBHOOK, False), (Cause.SWEEP, True), (Cause.DEADLINE, True), (Cause.BACKFILL, True)]
)
def test_a_change_that_no_webhook_told_is_drift(ledger: Ledger, clock: ManualClock, cause: Cause, drift: bool) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    clock.advance(SETTLE)
    ledger.mark([by_hand(CHARGE, cause)], clock.now())
    assert answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE, 2), now=clock.now()).drift is drift


def test_the_first_sight_of_a_resource_is_no_drift(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE, Cause.SWEEP)], clock.now())
    assert not answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now()).drift


def test_a_webhook_during_a_sweeps_read_explains_the_change_of_the_next(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    clock.advance(SETTLE)
    ledger.mark([by_hand(CHARGE, Cause.SWEEP)], clock.now())
    claim = claim_one(ledger, clock.now())
    ledger.mark([webhook(CHARGE)], clock.now())
    assert answer(ledger, claim, snapshot(CHARGE, 1), now=clock.now()).outcome is Outcome.UNCHANGED
    clock.advance(SETTLE * 2)
    applied = answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE, 2), now=clock.now())
    assert (applied.cause, applied.drift) == (Cause.WEBHOOK, False)


def test_nothing_to_apply_is_nothing(ledger: Ledger, clock: ManualClock) -> None:
    assert ledger.apply([], now=clock.now(), least_interval=LEAST) == []


def test_a_fenced_write_that_misses_its_locked_row_stores_nothing(ledger_url: str, clock: ManualClock) -> None:
    """It cannot be, so that it is a fault of ours; half of an answer must not be what remains of it."""

    class Missed:
        def __init__(self, cursor: Any) -> None:
            self._cursor = cursor

        @property
        def rowcount(self) -> int:
            return int(self._cursor.rowcount) - 1

    class Missing(Transaction):
        def run_driver(self, sql: str, parameters: tuple[Any, ...]) -> int:
            return super().run_driver(sql, parameters) - sql.lstrip().startswith("UPDATE resource")

        def send(self, sql: str, parameters: tuple[Any, ...]) -> Any:
            cursor = super().send(sql, parameters)
            return Missed(cursor) if sql.lstrip().startswith("UPDATE resource") else cursor

    with closing(Ledger(Store(ledger_url, transactions=Missing))) as ledger:
        ledger.mark([by_hand(CHARGE)], clock.now())
        claim = claim_one(ledger, clock.now())
        with pytest.raises(LedgerError, match="nothing of this call was stored"):
            answer(ledger, claim, snapshot(CHARGE), now=clock.now())
        assert (row(ledger, CHARGE).version, row(ledger, CHARGE).dirty) == (0, True)
        assert versions(ledger, CHARGE) == []


def test_a_number_that_no_column_holds_is_refused_with_the_whole_answer(ledger: Ledger, clock: ManualClock) -> None:
    """Beyond 64 bits: the database says so, whichever way the rows reach it, and the resource stays to be read."""
    ledger.mark([by_hand(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    with pytest.raises((OverflowError, psycopg.errors.NumericValueOutOfRange)):
        answer(ledger, claim, snapshot(CHARGE), now=clock.now(), entries=[entry(CHARGE), beyond_64_bits(CHARGE)])
    assert (table(ledger, "entry"), table(ledger, "version")) == ([], [])
    assert row(ledger, CHARGE).dirty
