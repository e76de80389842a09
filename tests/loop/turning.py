"""What stories of the worker's turns are told with: reads that end when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

from providers.stripe import Stripe
from reconciler.ahead import Read
from reconciler.clock import ManualClock
from reconciler.fetcher import Draw, Fetcher
from reconciler.ledger import Answer, Claim, Gate, Ledger, Mark, Release, open_ledger
from reconciler.provider import Kind
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
    budget = SimpleNamespace(limits={})

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

    async def put_back(self, reads: Sequence[Read]) -> None:
        claims, now = [claim for read in reads for claim in read.claims], self._clock.now()
        await self._ledger.call(
            lambda ledger: ledger.release([Release(claim, now, counted=False) for claim in claims], now)
        )
        self.put_aside += [claim.ref.id for claim in claims]

    def know_gates(self, gates: Sequence[Gate]) -> None:
        pass

    def may_walk(self, kind: Kind, now: object) -> bool:
        return False


class Story:
    def __init__(self, ledger: Ledger, clock: ManualClock, linger: timedelta, concurrency: int) -> None:
        self.clock = clock
        self.watched = UnderWay()
        self.commit = WatchedLedger(ledger, clock, self.watched)
        self.reads = Reads(self.commit, clock)
        self.waits: list[float] = []
        """How many seconds the worker was ready to wait, each time that it did."""
        self.worker = Worker(
            {"main": cast("Fetcher", self.reads)},
            self.commit,
            clock,
            owner="node1:1:0",
            settings=WorkerSettings(concurrency=concurrency, linger=linger, drain=timedelta(0)),
            wait=self._without_polls,
        )

    async def _without_polls(self, event: asyncio.Event, seconds: float) -> None:
        """However long the test's machine stands still, nobody looks without a reason."""
        self.waits.append(seconds)
        await event.wait()

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
