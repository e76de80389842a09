"""What is read because another resource changed: its parts, what it affects, what it names. Such a read may come from a
replica that lags behind the very change, and nothing else would ever ask again."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from reconciler.clock import ManualClock
from reconciler.ledger import Answer, Applied, Ledger, Outcome
from reconciler.ledger.marks import EXISTS
from reconciler.model import Cause, Snapshot
from tests.ledger.factories import (
    LEASE,
    LEAST,
    NOON,
    SETTLE,
    by_hand,
    claim_all,
    claim_one,
    ref,
    row,
    seconds,
    settle,
    show_page,
    snapshot,
    tombstone,
)

ORDER, PARTS, NAMED = ref("1", kind="order"), ref("1", kind="lines"), ref("7", kind="customer")


def read(ledger: Ledger, now: datetime, shown: Snapshot) -> None:
    """A worker's read of a kind whose reads lag by `SETTLE`."""
    ledger.mark([by_hand(shown.ref)], now)
    given = Answer(claim_one(ledger, now, kind=shown.ref.kind), shown, now, settle=SETTLE)
    (applied,) = ledger.apply([given], now=now, least_interval=LEAST)
    assert applied.outcome is Outcome.CHANGED


def order(value: int = 1, *, age: timedelta | None = None) -> Snapshot:
    return snapshot(
        ORDER, value, parts=(PARTS,), related=(NAMED,), updated_at=None if age is None else NOON - age
    )  # fmt: skip


@pytest.mark.parametrize(
    "age",
    [timedelta(0), seconds(20), timedelta(days=9), -seconds(60), None],
    ids=["now", "by a clock that is behind", "days ago", "in the future", "nobody knows when"],
)
@pytest.mark.parametrize("seen_by", ["worker", "page"])
def test_parts_are_read_once_and_late_enough_to_be_believed(
    ledger: Ledger, clock: ManualClock, age: timedelta | None, seen_by: str
) -> None:
    """Whatever time of its change the order bears: it is the provider's, and a refund need not move it."""
    now = clock.now()
    if seen_by == "worker":
        read(ledger, now, order(age=age))
    else:
        show_page(ledger, order(age=age), start=ledger.tick(), started_at=now, now=now)
    assert row(ledger, PARTS).due_at == now + SETTLE
    clock.advance(SETTLE)
    (claim,) = claim_all(ledger, clock.now(), kind="lines")
    (applied,) = ledger.apply([Answer(claim, tombstone(PARTS), clock.now())], now=clock.now(), least_interval=LEAST)
    assert (applied.outcome, applied.dirty) == (Outcome.CHANGED, False)


def test_what_is_named_is_read_at_once_and_believed_when_it_is_there(ledger: Ledger, clock: ManualClock) -> None:
    read(ledger, clock.now(), order(age=timedelta(0)))
    claim = claim_one(ledger, clock.now(), kind="customer")
    assert claim.hints == (EXISTS,)
    given = Answer(claim, snapshot(NAMED), clock.now(), satisfied=True)
    (applied,) = ledger.apply([given], now=clock.now(), least_interval=LEAST)
    assert (applied.outcome, applied.dirty) == (Outcome.CHANGED, False)


def test_what_is_named_and_missing_is_asked_for_again_when_reads_no_longer_lag(
    ledger: Ledger, clock: ManualClock
) -> None:
    read(ledger, clock.now(), order(age=timedelta(0)))
    given = Answer(claim_one(ledger, clock.now(), kind="customer"), tombstone(NAMED), clock.now())
    (applied,) = ledger.apply([given], now=clock.now(), least_interval=LEAST)
    assert (applied.outcome, applied.version) == (Outcome.PROVISIONAL, 0)
    assert row(ledger, NAMED).due_at == clock.now() + SETTLE


@pytest.mark.parametrize("known", [True, False])
def test_missing_in_no_list_is_believed_when_it_is_missing_twice(
    ledger: Ledger, clock: ManualClock, known: bool
) -> None:
    """Our clock may have been set forward meanwhile, so that a window which seems over is not; and no list would ever
    show that it is there."""
    if known:
        settle(ledger, PARTS, snapshot(PARTS), clock.now())
    clock.advance(LEASE)
    ledger.mark([by_hand(PARTS)], clock.now())
    first = _missing(ledger, clock.now())
    assert (first.outcome, first.dirty) == (Outcome.CHANGED, True)
    assert row(ledger, PARTS).due_at == clock.now() + SETTLE
    clock.advance(SETTLE)
    second = _missing(ledger, clock.now())
    assert (second.outcome, second.dirty) == (Outcome.UNCHANGED, False)


def test_missing_in_no_list_is_believed_at_once_when_it_was_announced(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(PARTS)], clock.now())
    applied = _missing(ledger, clock.now(), satisfied=True)
    assert (applied.outcome, applied.dirty) == (Outcome.CHANGED, False)


def _missing(ledger: Ledger, now: datetime, *, satisfied: bool = False) -> Applied:
    claim = claim_one(ledger, now, kind="lines")
    given = Answer(claim, tombstone(PARTS), now, satisfied=satisfied, settle=SETTLE, listed=False)
    (applied,) = ledger.apply([given], now=now, least_interval=LEAST)
    return applied


def test_parts_of_what_is_gone_wait_for_its_end_to_show(ledger: Ledger, clock: ManualClock) -> None:
    inner = ref("1/5", kind="lines")
    settle(ledger, inner, snapshot(inner), clock.now())
    clock.advance(LEASE)
    assert ledger.mark_parts(ORDER, ["lines"], Cause.WEBHOOK, settle=SETTLE, now=clock.now()) == 1
    assert row(ledger, inner).due_at == clock.now() + SETTLE


def test_a_part_whose_first_read_is_under_way_while_its_whole_goes_is_read_again(
    ledger: Ledger, clock: ManualClock
) -> None:
    """That read may have seen it before, and its answer comes after."""
    ledger.mark([by_hand(PARTS)], clock.now())
    under_way = claim_one(ledger, clock.now(), kind="lines")
    assert ledger.mark_parts(ORDER, ["lines"], Cause.WEBHOOK, settle=SETTLE, now=clock.now()) == 1
    (applied,) = ledger.apply([Answer(under_way, snapshot(PARTS), NOON)], now=clock.now(), least_interval=LEAST)
    assert (applied.outcome, applied.dirty) == (Outcome.CHANGED, True)


def test_a_part_that_a_page_brings_after_its_whole_is_gone_is_read_again(ledger: Ledger, clock: ManualClock) -> None:
    """The page was asked for while both were there; nobody has heard of the part since, and it is in no list."""
    start, began = ledger.tick(), clock.now()
    clock.advance(SETTLE)
    settle(ledger, ORDER, tombstone(ORDER), clock.now())
    inner = snapshot(ref("1/5", kind="lines"), part_of=ORDER)
    show_page(ledger, inner, start=start, started_at=began, now=clock.now())
    assert row(ledger, inner.ref).due_at == clock.now() + SETTLE
    living = snapshot(ref("2/5", kind="lines"), part_of=ref("2", kind="order"))
    settle(ledger, living.part_of or ORDER, order(), clock.now())
    show_page(ledger, living, start=start, started_at=began, now=clock.now())
    assert row(ledger, living.ref).due_at is None
