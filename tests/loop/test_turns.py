"""When the worker looks for more: a turn is a transaction, so the ends of reads share one where there is a backlog."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from providers.stripe import Stripe
from reconciler.ahead import Hands, Read
from reconciler.clock import ManualClock
from reconciler.fetcher import Draw, Fetcher
from reconciler.ledger import Answer, Claim, Gate, Ledger, Mark, Release, open_ledger
from reconciler.model import Cause, Priority
from reconciler.provider import Kind, Limit
from reconciler.worker import Worker, WorkerSettings
from tests.ledger.factories import LEAST, NOON, by_hand, ref, snapshot
from tests.loop.timeline import UnderWay, WatchedLedger

NEVER = timedelta(hours=1)
SLOWLY = timedelta(seconds=1)
"""After which nothing is claimed ahead: the provider is not quick enough for that."""
CONCURRENCY = 16


class Reads:
    """Stands for a fetcher without limits, each of whose reads ends when the test says so."""

    provider = Stripe
    limits: dict[str, object] = {}  # noqa: RUF012 - as a provider has it

    def __init__(self, ledger: WatchedLedger, clock: ManualClock) -> None:
        self._ledger = ledger
        self._clock = clock
        self.under_way: list[asyncio.Event] = []
        self.begun = 0
        self.read: list[str] = []
        """The ids that were asked for, in order."""
        self.storing = asyncio.Event()
        """Cleared: no answer is stored."""
        self.storing.set()
        self.put_aside: list[str] = []
        """The ids that were claimed, and given back before they were asked for."""
        self.fails = False
        """What ends now ends without an answer."""
        self.patience: list[timedelta] = []
        """How long each answer may wait to be stored."""

    async def fetch(self, kind: Kind, claims: Sequence[Claim], draw: Draw, on_answer: Callable[[], timedelta]) -> None:
        ended = asyncio.Event()
        self.under_way.append(ended)
        self.begun += 1
        self.read += [claim.ref.id for claim in claims]
        await ended.wait()
        if self.fails:
            return
        self.patience.append(on_answer())
        await self.storing.wait()
        answers = [Answer(claim, snapshot(claim.ref), self._clock.now()) for claim in claims]
        await self._ledger.apply(answers, least_interval=LEAST)

    def end(self, count: int) -> None:
        for _ in range(count):
            self.under_way.pop().set()

    async def release(self, claims: Sequence[Claim]) -> None:
        pass

    async def put_back(self, claims: Sequence[Claim], endpoint: str, priority: Priority) -> None:
        self.put_aside += [claim.ref.id for claim in claims]
        now = self._clock.now()
        await self._ledger.call(
            lambda ledger: ledger.release([Release(claim, now, counted=False) for claim in claims], now)
        )

    def know_gates(self, gates: Sequence[Gate]) -> None:
        pass

    def may_walk(self, kind: Kind, now: object) -> bool:
        return False


async def _without_polls(event: asyncio.Event, seconds: float) -> None:
    """However long the test's machine stands still, nobody looks without a reason."""
    await event.wait()


class Story:
    def __init__(self, ledger: Ledger, clock: ManualClock, linger: timedelta, concurrency: int) -> None:
        self.clock = clock
        self.watched = UnderWay()
        self.commit = WatchedLedger(ledger, clock, self.watched)
        self.reads = Reads(self.commit, clock)
        self.worker = Worker(
            {"main": cast("Fetcher", self.reads)},
            self.commit,
            clock,
            owner="node1:1:0",
            settings=WorkerSettings(concurrency=concurrency, linger=linger, drain=timedelta(0)),
            wait=_without_polls,
        )

    async def mark(self, count: int, kind: str = "charge") -> None:
        marks = [by_hand(ref(f"{kind}_{number}", kind=kind)) for number in range(count)]
        await self.commit.call(lambda ledger: ledger.mark(marks, self.clock.now()))
        self.worker.wake()

    async def mark_later(self, mark: Mark) -> None:
        """A second after what was before it; the worker is not told."""
        now = self.clock.advance(timedelta(seconds=1))
        await self.commit.call(lambda ledger: ledger.mark([mark], now))

    async def hold_of(self, count: int) -> None:
        """So many are marked, and one was answered quickly: as many are under way as may be, and others are held."""
        await self.mark(count)
        await self.quiet()
        self.reads.end(1)
        await self.quiet()

    async def quiet(self) -> None:
        await self.watched.quiet()


@asynccontextmanager
async def told(url: str, *, linger: timedelta = NEVER, concurrency: int = CONCURRENCY) -> AsyncIterator[Story]:
    with closing(open_ledger(url)) as ledger:
        story = Story(ledger, ManualClock(NOON), linger, concurrency)
        running = asyncio.create_task(story.worker.run())
        try:
            yield story
        finally:
            story.worker.stop()
            await running
            await story.commit.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not true():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.005)


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


@pytest.mark.parametrize(("rate", "held"), [(20.0, 0), (250.0, 5), (10_000.0, 16)])
def test_no_more_is_held_than_a_limit_refills_in_a_moment(rate: float, held: int) -> None:
    hands = Hands(CONCURRENCY, lambda: {"": Limit(rate, 4)})
    first = Read("main", (), frozenset(), 0, "", 0.0, lambda _: asyncio.sleep(0))
    hands.hold(first)
    assert hands.next(0.0) is first
    hands.answered(first, 0.08)
    hands.ended(first)
    assert hands.room == CONCURRENCY + held


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
