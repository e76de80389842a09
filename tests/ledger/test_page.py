"""Applying list rows: as authoritative as single reads, but they answer no mark and never replace a later read."""

from __future__ import annotations

from datetime import datetime

from reconciler.clock import ManualClock
from reconciler.ledger import Ledger, Outcome, PageRow, Release
from reconciler.model import Cause, ResourceRef, Snapshot, State
from tests.ledger.factories import (
    LEASE,
    SETTLE,
    answer,
    by_hand,
    claim_one,
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


def read_page(ledger: Ledger, *shown: Snapshot, now: datetime) -> list[Outcome]:
    """A page that is requested and applied at once."""
    return [each.outcome for each in show_page(ledger, *shown, start=ledger.tick(), started_at=now, now=now)]


def test_a_stranger_is_stored_and_stays_clean(ledger: Ledger, clock: ManualClock) -> None:
    (applied,) = show_page(
        ledger, snapshot(CHARGE), start=ledger.tick(), started_at=clock.now(), now=clock.now(), cause=Cause.BACKFILL
    )
    assert (applied.outcome, applied.version, applied.dirty, applied.drift) == (Outcome.CHANGED, 1, False, False)
    met = row(ledger, CHARGE)
    assert (met.generation, met.due_at, met.state, met.cause) == (0, None, State.PRESENT, "backfill")
    assert versions(ledger, CHARGE)[0].cause == Cause.BACKFILL


def test_a_row_that_cannot_be_read_is_marked_and_never_half_applied(ledger: Ledger, clock: ManualClock) -> None:
    known, equal, stranger = ref("ch_known"), ref("ch_equal"), ref("ch_stranger")
    for each in (known, equal):
        settle(ledger, each, snapshot(each, 1), clock.now())
    clock.advance(SETTLE)
    shown = {known: snapshot(known, 2), equal: snapshot(equal, 1), stranger: snapshot(stranger, 1)}

    def show() -> dict[ResourceRef, tuple[Outcome, bool]]:
        applied = ledger.apply_page(
            [PageRow(each, readable=False) for each in shown.values()],
            start=ledger.tick(),
            started_at=clock.now(),
            cause=Cause.SWEEP,
            settle={"charge": SETTLE},
            now=clock.now(),
        )
        return {each.ref: (each.outcome, each.dirty) for each in applied}

    assert show() == {
        known: (Outcome.DEFERRED, True),
        equal: (Outcome.DEFERRED, False),
        stranger: (Outcome.DEFERRED, True),
    }
    assert [(row(ledger, each).version, row(ledger, each).dirty) for each in shown] == [
        (1, True),
        (1, False),
        (0, True),
    ]
    before = table(ledger, "resource")
    show()
    assert table(ledger, "resource") == before, "shown again, it is waiting for its own read already"


def test_a_page_row_never_settles(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    clock.advance(SETTLE * 2)
    assert read_page(ledger, snapshot(CHARGE), now=clock.now()) == [Outcome.CHANGED]
    seen = row(ledger, CHARGE)
    assert (seen.dirty, seen.settled_generation, seen.version) == (True, 0, 1)
    assert seen.due_at is not None


def test_a_known_resource_gets_its_next_version_and_is_named_as_drift(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    clock.advance(SETTLE)
    (applied,) = show_page(ledger, snapshot(CHARGE, 2), start=ledger.tick(), started_at=clock.now(), now=clock.now())
    assert (applied.outcome, applied.version, applied.drift) == (Outcome.CHANGED, 2, True)
    assert (row(ledger, CHARGE).dirty, values(ledger, CHARGE)) == (False, [1, 2])


def test_a_change_of_a_dirty_resource_is_no_drift(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    clock.advance(SETTLE)
    ledger.mark([webhook(CHARGE)], clock.now())
    clock.advance(SETTLE)
    (applied,) = show_page(ledger, snapshot(CHARGE, 2), start=ledger.tick(), started_at=clock.now(), now=clock.now())
    assert (applied.drift, applied.cause, applied.dirty) == (False, Cause.WEBHOOK, True)


def test_an_unchanged_row_moves_the_clock(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    before = row(ledger, CHARGE)
    clock.advance(SETTLE)
    assert read_page(ledger, snapshot(CHARGE, 1), now=clock.now()) == [Outcome.UNCHANGED]
    after = row(ledger, CHARGE)
    assert after.applied_seq > before.applied_seq
    assert after.fetched_at == clock.now()


def test_a_page_never_replaces_a_read_that_began_later(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE, "old"), clock.now())
    clock.advance(seconds(60))
    start, began = ledger.tick(), clock.now()
    settle(ledger, CHARGE, snapshot(CHARGE, "new"), clock.now())
    clock.advance(seconds(60))
    (applied,) = show_page(ledger, snapshot(CHARGE, "old"), start=start, started_at=began, now=clock.now())
    assert (applied.outcome, applied.dirty) == (Outcome.DEFERRED, True)
    assert values(ledger, CHARGE) == ["old", "new"]
    assert row(ledger, CHARGE).cause == "sweep", "it differs: a proper read decides"


def test_a_late_page_that_agrees_marks_nothing(ledger: Ledger, clock: ManualClock) -> None:
    start, began = ledger.tick(), clock.now()
    settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    (applied,) = show_page(ledger, snapshot(CHARGE, 1), start=start, started_at=began, now=clock.now())
    assert (applied.outcome, applied.dirty) == (Outcome.DEFERRED, False)


def test_deleted_stays_deleted_for_a_page_that_began_before(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    clock.advance(seconds(60))
    start, began = ledger.tick(), clock.now()
    settle(ledger, CHARGE, tombstone(CHARGE), clock.now())
    show_page(ledger, snapshot(CHARGE, 1), start=start, started_at=began, now=clock.now())
    assert row(ledger, CHARGE).state == State.DELETED
    clock.advance(SETTLE)
    assert read_page(ledger, snapshot(CHARGE, 1), now=clock.now()) == [Outcome.CHANGED], "a later page brings it back"
    assert values(ledger, CHARGE) == [1, None, 1]


def test_a_page_inside_the_window_of_a_mark_may_come_from_a_lagging_replica(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE, "new"), clock.now())
    clock.advance(SETTLE * 2)
    ledger.mark([webhook(CHARGE)], clock.now())
    clock.advance(seconds(1))
    assert read_page(ledger, snapshot(CHARGE, "lagging"), now=clock.now()) == [Outcome.DEFERRED]
    assert values(ledger, CHARGE) == ["new"]
    assert row(ledger, CHARGE).generation == 2, "it waits to be read anyway: no further mark"


def test_a_page_inside_the_window_of_a_read_may_come_from_a_lagging_replica(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE, "new"), clock.now())
    clock.advance(seconds(1))
    assert read_page(ledger, snapshot(CHARGE, "lagging"), now=clock.now()) == [Outcome.DEFERRED]
    assert values(ledger, CHARGE) == ["new"]
    assert row(ledger, CHARGE).dirty


def test_the_first_sight_is_kept_even_inside_the_window(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    assert read_page(ledger, snapshot(CHARGE, 1), now=clock.now()) == [Outcome.CHANGED]
    assert (row(ledger, CHARGE).dirty, values(ledger, CHARGE)) == (True, [1])


def test_a_leased_row_is_left_to_its_worker(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    clock.advance(seconds(60))
    ledger.mark([by_hand(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    clock.advance(SETTLE)
    assert read_page(ledger, snapshot(CHARGE, 1), now=clock.now()) == [Outcome.DEFERRED]
    assert row(ledger, CHARGE).generation == claim.generation + 1, "the worker's read may be older than the page"
    assert read_page(ledger, snapshot(CHARGE, 2), now=clock.now()) == [Outcome.DEFERRED]
    leased = row(ledger, CHARGE)
    assert leased.generation == claim.generation + 2
    assert leased.lease_token == claim.token
    answer(ledger, claim, snapshot(CHARGE, 1), now=clock.now())
    assert row(ledger, CHARGE).dirty


def test_the_same_row_twice_on_a_page_is_one(ledger: Ledger, clock: ManualClock) -> None:
    assert read_page(ledger, snapshot(CHARGE, 1), snapshot(CHARGE, 1), now=clock.now()) == [Outcome.CHANGED]
    assert values(ledger, CHARGE) == [1]


def test_known_and_unknown_rows_of_several_kinds_share_a_page(ledger: Ledger, clock: ManualClock) -> None:
    known, refund = ref("ch_known"), ref("re_1", kind="refund")
    settle(ledger, known, snapshot(known, 1), clock.now())
    clock.advance(SETTLE)
    shown = [snapshot(known, 2), snapshot(refund, 3), snapshot(CHARGE, 4)]
    applied = show_page(ledger, *shown, start=ledger.tick(), started_at=clock.now(), now=clock.now())
    assert {each.ref: each.outcome for each in applied} == dict.fromkeys((known, refund, CHARGE), Outcome.CHANGED)
    assert [values(ledger, each) for each in (known, refund, CHARGE)] == [[1, 2], [3], [4]]


def test_an_empty_page_is_nothing(ledger: Ledger, clock: ManualClock) -> None:
    assert read_page(ledger, now=clock.now()) == []
    assert table(ledger, "resource") == []


def test_a_page_row_leaves_claims_failures_and_dead_letters_alone(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    parked = clock.now() + LEASE * 60
    ledger.release([Release(claim, parked, error="broken", bury=True)], clock.now())
    clock.advance(SETTLE)
    assert read_page(ledger, snapshot(CHARGE, 1), now=clock.now()) == [Outcome.CHANGED]
    dead = row(ledger, CHARGE)
    assert (dead.dirty, dead.dead_at, dead.due_at, dead.last_error) == (
        True,
        claim.lease_until - LEASE,
        parked,
        "broken",
    )


def test_a_stranger_that_somebody_inserts_meanwhile_is_decided_as_a_known_one(
    ledger: Ledger, clock: ManualClock
) -> None:
    """On Postgres the other one may commit between the look-up and the insert; here the order is made by hand."""
    start, began = ledger.tick(), clock.now()
    settle(ledger, CHARGE, snapshot(CHARGE, "read later"), clock.now())
    other = ref("ch_2")
    applied = show_page(
        ledger, snapshot(CHARGE, "page"), snapshot(other, 1), start=start, started_at=began, now=clock.now()
    )
    assert {each.ref: each.outcome for each in applied} == {CHARGE: Outcome.DEFERRED, other: Outcome.CHANGED}
    assert values(ledger, CHARGE) == ["read later"]


def test_a_row_that_looks_like_before_marks_what_is_being_read(ledger: Ledger, clock: ManualClock) -> None:
    """A, B, A: the claim's read saw B, the page that began after it A again. Its row must not go under."""
    settle(ledger, CHARGE, snapshot(CHARGE, 1), clock.now())
    clock.advance(SETTLE)
    ledger.mark([by_hand(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    sent = clock.now()
    clock.advance(SETTLE)
    assert read_page(ledger, snapshot(CHARGE, 1), now=clock.now()) == [Outcome.DEFERRED]
    answer(ledger, claim, snapshot(CHARGE, 2), started_at=sent, now=clock.now())
    assert row(ledger, CHARGE).dirty, "only another read can tell which of the two was later"
