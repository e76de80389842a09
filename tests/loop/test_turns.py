"""When the worker looks for more: a turn is a transaction, so the ends of reads share one where there is a backlog."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from providers.stripe import Stripe
from reconciler.model import Cause, Priority
from tests.ledger.factories import by_hand, ref
from tests.loop.turning import CONCURRENCY, SLOWLY, told, until


def test_a_backlog_is_claimed_from_when_a_quarter_of_the_reads_has_ended(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            await loop.mark(40)
            await loop.quiet()
            assert loop.reads.begun == CONCURRENCY
            turns = loop.commit.calls
            loop.clock.advance(SLOWLY)
            loop.reads.end(3)
            await loop.quiet()
            assert (loop.reads.begun, loop.commit.calls - turns) == (CONCURRENCY, 0)
            loop.reads.end(1)
            await loop.quiet()
            assert (loop.reads.begun, loop.commit.calls - turns) == (CONCURRENCY + 4, 1)

    asyncio.run(story())


def test_answers_are_stored_beside_the_next_reads_and_do_not_pile_up(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            loop.reads.storing.clear()
            await loop.mark(3 * CONCURRENCY)
            await loop.quiet()
            for begun in (2 * CONCURRENCY, 2 * CONCURRENCY):
                loop.reads.end(CONCURRENCY)
                await loop.quiet()
                assert loop.reads.begun == begun
            loop.reads.storing.set()
            await loop.quiet()
            assert loop.reads.begun == 3 * CONCURRENCY
            loop.reads.end(CONCURRENCY)
            await loop.quiet()
            assert loop.worker.idle.is_set()

    asyncio.run(story())


def test_what_was_answered_during_a_turn_that_took_all_the_room_brings_the_next_one_at_once(
    sqlite_ledger_url: str,
) -> None:
    """Nobody knew of a backlog when the answers came, and none of them is stored yet."""

    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            loop.reads.storing.clear()
            await loop.mark(10)
            await loop.quiet()
            backlog = [by_hand(ref(f"refund_{number}", kind="refund")) for number in range(40)]
            await loop.commit.call(lambda ledger: ledger.mark(backlog, loop.clock.now()))
            loop.clock.advance(SLOWLY)
            asked = [*loop.reads.under_way]

            def end() -> None:
                for each in asked:
                    each.set()

            loop.commit.before_call = end
            loop.worker.wake()
            await loop.quiet()
            assert loop.reads.begun == 10 + CONCURRENCY
            loop.reads.storing.set()

    asyncio.run(story())


def test_the_end_of_a_read_that_stays_alone_is_looked_at_all_the_same(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url, linger=timedelta(milliseconds=1)) as loop:
            await loop.mark(40)
            await loop.quiet()
            loop.clock.advance(SLOWLY)
            loop.reads.end(1)
            await until(lambda: loop.reads.begun == CONCURRENCY + 1)

    asyncio.run(story())


def test_a_mark_waits_for_nothing_while_there_is_room(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            await loop.mark(CONCURRENCY - 1)
            await loop.quiet()
            await loop.mark(1, kind="refund")
            await loop.quiet()
            assert loop.reads.begun == CONCURRENCY

    asyncio.run(story())


def test_one_turn_claims_from_every_lane_that_there_is_room_for(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            await loop.quiet()
            turns = loop.commit.calls
            kinds = ("charge", "refund", "payout", "dispute")
            marks = [by_hand(ref(f"{kind}_{number}", kind=kind)) for kind in kinds for number in range(3)]
            await loop.commit.call(lambda ledger: ledger.mark(marks, loop.clock.now()))
            loop.worker.wake()
            await loop.quiet()
            assert loop.reads.begun == 12
            assert loop.commit.calls - turns == 2, "the marks, and the turn"

    asyncio.run(story())


def test_what_more_lanes_there_are_than_one_turn_takes_the_next_one_takes(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url, concurrency=100) as loop:
            await loop.quiet()
            turns = loop.commit.calls
            kinds = sorted(Stripe.kinds)[:11]
            marks = [
                replace(by_hand(ref(f"{kind}_{urgency}", kind=kind)), priority=urgency.value)
                for kind in kinds
                for urgency in Priority
            ]
            await loop.commit.call(lambda ledger: ledger.mark(marks, loop.clock.now()))
            loop.worker.wake()
            await loop.quiet()
            assert loop.reads.begun == len(marks) == 44
            assert loop.commit.calls - turns == 3, "the marks, and two turns"

    asyncio.run(story())


def test_after_the_last_read_the_worker_is_idle(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with told(sqlite_ledger_url) as loop:
            await loop.mark(5)
            await loop.quiet()
            assert not loop.worker.idle.is_set()
            loop.reads.end(4)
            await loop.quiet()
            assert not loop.worker.idle.is_set()
            loop.reads.end(1)
            await loop.quiet()
            assert loop.worker.idle.is_set()

    asyncio.run(story())


def test_every_second_claim_is_of_what_fell_due_last_and_every_eighth_of_what_waited_longest(
    sqlite_ledger_url: str,
) -> None:
    """A backlog of sixteen, marked a second apart, and one lane that is less urgent and older than all of them."""

    async def story() -> None:
        async with told(sqlite_ledger_url, linger=timedelta(0), concurrency=1) as loop:
            swept = by_hand(ref("swept", kind="refund"), Cause.SWEEP)
            for each in (swept, *(by_hand(ref(f"{number}")) for number in range(16))):
                await loop.mark_later(each)
            loop.worker.wake()
            for _ in range(10):
                await loop.quiet()
                loop.clock.advance(SLOWLY)
                loop.reads.end(1)
            await loop.quiet()
            assert loop.reads.read[:10] == ["0", "15", "1", "14", "2", "13", "3", "swept", "12", "4"]

    asyncio.run(story())
