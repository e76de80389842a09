"""Claims that are held ahead of their reads: which are read next, and which go back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.ahead import Hands, Read
from reconciler.errors import LedgerUnavailable
from reconciler.model import Priority
from reconciler.provider import Limit
from reconciler.worker import WorkerSettings
from tests.ledger.factories import by_hand, ref
from tests.loop.turning import CONCURRENCY, told, until


def test_a_quick_provider_is_asked_by_the_end_of_the_read_before(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            await loop.mark(70)
            await loop.quiet()
            assert loop.reads.begun == CONCURRENCY, "nobody knows yet how quick it is"
            loop.reads.end(1)
            await loop.quiet()
            assert loop.reads.begun == CONCURRENCY + 1
            turns = loop.commit.calls
            loop.reads.end(11)
            await loop.quiet()
            assert (loop.reads.begun, loop.commit.calls - turns) == (CONCURRENCY + 12, 0), "without a turn"
            loop.reads.end(1)
            await loop.quiet()
            assert (loop.reads.begun, loop.commit.calls - turns) == (CONCURRENCY + 13, 1), "four are left when it comes"
            while loop.reads.under_way:
                loop.reads.end(len(loop.reads.under_way))
                await loop.quiet()
            assert sorted(loop.reads.read) == sorted(f"charge_{number}" for number in range(70)), "each once"
            assert loop.worker.idle.is_set()

    asyncio.run(story())


def test_an_answer_waits_for_others_only_while_a_claim_waits_for_its_read(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            await loop.mark(CONCURRENCY + 1)
            await loop.quiet()
            loop.reads.end(1)
            await loop.quiet()
            await loop.mark(3, kind="refund")
            await loop.quiet()
            for _ in range(3):
                loop.reads.end(2)
                await loop.quiet()
            gather = WorkerSettings().gather
            at_once = timedelta(0)
            assert loop.reads.patience == [at_once, gather, gather, at_once, at_once, at_once, at_once]

    asyncio.run(story())


def test_of_what_is_held_the_most_urgent_is_read_first(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            await loop.mark(60)
            await loop.quiet()
            loop.reads.end(12)
            await loop.quiet()
            fresh = replace(by_hand(ref("fresh")), priority=Priority.LIVE.value)
            await loop.commit.call(lambda ledger: ledger.mark([fresh], loop.clock.now()))
            while "fresh" not in loop.reads.read:
                before = loop.reads.begun
                loop.reads.end(1)
                await loop.quiet()
                assert loop.reads.begun == before + 1
            assert loop.reads.begun - CONCURRENCY < 32, "before those that were held when it came"

    asyncio.run(story())


def test_what_is_held_goes_back_when_the_provider_stops_answering(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            await loop.hold_of(40)
            loop.clock.advance(WorkerSettings().held)
            loop.worker.wake()
            await loop.quiet()
            assert len(loop.reads.put_aside) == CONCURRENCY
            assert loop.reads.begun == CONCURRENCY + 1, "and nothing is held any more"
            while loop.reads.under_way:
                loop.reads.end(len(loop.reads.under_way))
                await loop.quiet()
            assert len(loop.reads.read) == 40, "each is read all the same, and once"

    asyncio.run(story())


def test_what_was_held_for_too_long_is_not_read_by_the_end_of_another(sqlite_ledger_url: str) -> None:
    """No turn has come meanwhile: the machine stood still, or the ledger did."""

    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            await loop.hold_of(40)
            loop.clock.advance(WorkerSettings().held)
            loop.reads.end(1)
            await loop.quiet()
            assert len(loop.reads.put_aside) == CONCURRENCY
            assert loop.reads.begun == CONCURRENCY + 2, "the one that the turn after it claimed anew"

    asyncio.run(story())


def test_a_turn_in_between_lets_nothing_be_held_for_longer(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            await loop.hold_of(40)
            held = WorkerSettings().held.total_seconds()
            assert loop.waits[-1] == pytest.approx(held)
            loop.clock.advance(timedelta(seconds=0.7 * held))
            loop.worker.wake()
            await loop.quiet()
            assert loop.waits[-1] == pytest.approx(0.3 * held)
            assert loop.reads.put_aside == []

    asyncio.run(story())


@pytest.mark.parametrize("because", ["it was held for too long", "a read failed"])
def test_what_the_ledger_did_not_take_back_goes_back_as_soon_as_it_does(sqlite_ledger_url: str, because: str) -> None:
    """It is read by nobody meanwhile, and its lease, a minute, is not waited for."""

    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:

            def refuse() -> None:
                raise LedgerUnavailable("the disk is full")

            await loop.hold_of(40)
            loop.commit.before_call = refuse
            if because == "a read failed":
                loop.reads.fails = True
                loop.reads.end(1)
            else:
                loop.clock.advance(WorkerSettings().held)
                loop.worker.wake()
            await loop.quiet()
            loop.reads.fails = False
            sent = loop.reads.begun
            loop.reads.end(1)
            await loop.quiet()
            assert (loop.reads.begun, loop.reads.put_aside) == (sent, [])
            loop.commit.before_call = lambda: None
            loop.worker.wake()
            await loop.quiet()
            assert len(loop.reads.put_aside) == CONCURRENCY
            while loop.reads.under_way:
                loop.reads.end(len(loop.reads.under_way))
                await loop.quiet()
            assert len(loop.reads.read) == len(set(loop.reads.read)) == 40
            assert loop.worker.idle.is_set()

    asyncio.run(story())


def test_an_error_of_ours_over_what_goes_back_ends_no_more_than_a_turn(sqlite_ledger_url: str) -> None:
    """What went back in it is left to its leases: over and over, nothing would be claimed any more."""

    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            flaws = 0

            def fail() -> None:
                nonlocal flaws
                flaws += 1
                raise ZeroDivisionError("a bug")

            await loop.hold_of(40)
            loop.clock.advance(WorkerSettings().held)
            loop.commit.before_call = fail
            loop.worker.wake()
            await loop.quiet()
            loop.commit.before_call = lambda: None
            assert flaws == 1
            while loop.reads.under_way:
                loop.reads.end(len(loop.reads.under_way))
                loop.worker.wake()
                await loop.quiet()
            assert len(set(loop.reads.read)) == 40 - CONCURRENCY
            loop.clock.advance(WorkerSettings().lease)
            loop.worker.wake()
            await loop.quiet()
            assert len(set(loop.reads.read)) == 40

    asyncio.run(story())


def test_what_is_held_goes_back_when_a_read_fails(sqlite_ledger_url: str) -> None:
    """The account may have been throttled or shut: what was claimed before that must not be sent after it."""

    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            await loop.hold_of(40)
            sent = loop.reads.begun
            loop.reads.fails = True
            loop.reads.end(1)
            await loop.quiet()
            assert len(loop.reads.put_aside) == CONCURRENCY
            assert loop.reads.begun == sent + 1, "the one that the turn after it claimed anew"
            loop.reads.fails = False
            while loop.reads.under_way:
                loop.reads.end(len(loop.reads.under_way))
                await loop.quiet()
            assert len(set(loop.reads.read)) == 40

    asyncio.run(story())


def test_a_stop_gives_back_what_was_never_asked_for(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            await loop.hold_of(40)
            loop.worker.stop()
            await loop.quiet()
            assert len(loop.reads.put_aside) == CONCURRENCY
            assert loop.reads.begun == CONCURRENCY + 1

    asyncio.run(story())


def test_a_stop_while_the_ledger_is_away_leaves_what_is_held_to_its_leases(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:

            def refuse() -> None:
                raise LedgerUnavailable("the disk is full")

            await loop.hold_of(40)
            loop.commit.before_call = refuse
            loop.worker.stop()
            await until(loop.worker.idle.is_set)
            loop.commit.before_call = lambda: None
            assert loop.reads.put_aside == []
            assert await loop.commit.call(lambda ledger: ledger.lease_owners()) == ["node1:1:0"]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("rate", "seconds", "held"),
    [(20.0, 0.08, 0), (250.0, 0.08, 5), (10_000.0, 0.08, 16), (10_000.0, 0.5, 16), (10_000.0, 0.51, 0)],
)
def test_no_more_is_held_than_a_limit_refills_in_a_moment_and_only_of_a_quick_provider(
    rate: float, seconds: float, held: int
) -> None:
    hands = Hands(CONCURRENCY, lambda: {"": Limit(rate, 4)}, 1.0)
    first = a_read()
    hands.hold(first)
    assert hands.next(0.0) is first
    hands.answered(first, seconds)
    hands.ended(first)
    assert hands.room == CONCURRENCY + held


def test_however_many_were_stored_before_answers_do_not_pile_up() -> None:
    hands = Hands(2, dict, 1.0)

    def answer() -> Read:
        hands.hold(a_read())
        read = hands.next(0.0)
        assert read is not None
        hands.answered(read, 0.08)
        return read

    for _ in range(10):
        hands.ended(answer())
    for _ in range(3):
        answer()
    hands.hold(a_read())
    assert hands.next(0.0) is None


def a_read() -> Read:
    return Read("main", (), frozenset(), 0, "", 0.0, lambda _: asyncio.sleep(0))
