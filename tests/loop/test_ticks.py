"""Ticks: as APScheduler makes them, by a wall clock that somebody sets, and what they find due."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing
from datetime import datetime, timedelta, tzinfo

import pytest
from apscheduler.schedulers import base
from apscheduler.triggers import interval

from reconciler.clock import ManualClock, SystemClock
from reconciler.ledger import GroupCommit, Job, Ledger, open_ledger
from reconciler.periodic import Ended, Periodic, Runner
from reconciler.retry import RetryPolicy
from reconciler.scheduler import Scheduler
from tests.ledger.factories import NOON

_TICK = timedelta(milliseconds=20)
_PATIENCE_SECONDS = 120.0
"""A run that is under way while the clock is set is found due half a minute later, when the ledger is read anew."""


class Wall(SystemClock):
    """The machine's clock, wrong by as much as somebody set it."""

    def __init__(self) -> None:
        self.wrong_by = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.wrong_by


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    """Ours, and what APScheduler asks for the time: it takes no clock of anybody's."""
    wall = Wall()

    class OnTheWall(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> OnTheWall:
            return cls.fromtimestamp(wall.now().timestamp(), tz)

    monkeypatch.setattr(base, "datetime", OnTheWall)
    monkeypatch.setattr(interval, "datetime", OnTheWall)
    return wall


@pytest.mark.parametrize("by", [timedelta(hours=-1), timedelta(hours=1)], ids=["back", "forward"])
def test_what_is_due_still_runs_after_the_clock_was_set(sqlite_ledger_url: str, wall: Wall, by: timedelta) -> None:
    async def story() -> None:
        with closing(open_ledger(sqlite_ledger_url)) as ledger:
            commit = GroupCommit(ledger, wall)
            ran = asyncio.Event()

            async def run(_: Job) -> Ended:
                return Ended(complete=True)

            job = Periodic("often", lambda: 5 * _TICK, run)
            runner = Runner(commit, wall, owner="t", policy=RetryPolicy(), rng=random.Random(0), on_run=ran.set)
            scheduler = Scheduler([job], runner, commit, wall, rng=random.Random(0), tick=_TICK)
            scheduler.start()
            async with asyncio.timeout(_PATIENCE_SECONDS):
                for wrong_by in (timedelta(0), by, timedelta(0)):
                    wall.wrong_by = wrong_by
                    ran.clear()
                    await ran.wait()
            await scheduler.stop(timedelta(seconds=5))
            await commit.close()

    asyncio.run(story())


@pytest.mark.parametrize("ahead", [timedelta(minutes=10), timedelta(minutes=-10)], ids=["ahead", "behind"])
def test_a_node_whose_clock_differs_has_nothing_run_more_often(ledger: Ledger, ahead: timedelta) -> None:
    """Judged by the other's clock, each rest of a job would look too long, and it would run at every look."""

    async def story() -> None:
        ran: list[str] = []

        def node(name: str, clock: ManualClock) -> tuple[Scheduler, GroupCommit]:
            async def run(_: Job) -> Ended:
                ran.append(name)
                return Ended(complete=True)

            commit = GroupCommit(ledger, clock)
            runner = Runner(commit, clock, owner=name, policy=RetryPolicy(), rng=random.Random(0))
            job = Periodic("sweep", lambda: timedelta(minutes=5), run)
            return Scheduler([job], runner, commit, clock, rng=random.Random(0)), commit

        clocks = [ManualClock(NOON), ManualClock(NOON + ahead)]
        nodes = [node(f"node {number}", clock) for number, clock in enumerate(clocks)]
        for _ in range(120):
            for clock, (scheduler, _commit) in zip(clocks, nodes, strict=True):
                clock.advance(timedelta(seconds=30))
                await scheduler.tick()
                while not scheduler.idle:  # noqa: ASYNC110  # it tells nobody
                    await asyncio.sleep(0)
        assert len(ran) <= 60 / 5 + 1, ran
        for _, commit in nodes:
            await commit.close()

    asyncio.run(story())


@pytest.mark.parametrize("dies", [False, True], ids=["both live", "the one ahead dies"])
@pytest.mark.parametrize("ahead", [timedelta(minutes=5), timedelta(minutes=20)], ids=str)
def test_a_node_whose_clock_is_ahead_hides_no_window(ledger: Ledger, ahead: timedelta, dies: bool) -> None:
    """It says that it has looked at what is still to come; what is created then must be asked for all the same."""
    lag, overlap, end = timedelta(minutes=1), timedelta(minutes=10), NOON + timedelta(minutes=40)

    async def story() -> None:
        clocks = [ManualClock(NOON), ManualClock(NOON + ahead)]
        asked: list[tuple[datetime, datetime]] = []

        def node(name: str, clock: ManualClock) -> tuple[Scheduler, GroupCommit]:
            async def run(job: Job) -> Ended:
                until = clock.now() - lag
                since = NOON - timedelta(days=1) if job.watermark is None else min(job.watermark, until)
                asked.append((since, min(until, clocks[0].now())))
                return Ended(complete=True, watermark=max(since, until - overlap))

            commit = GroupCommit(ledger, clock)
            runner = Runner(commit, clock, owner=name, policy=RetryPolicy(), rng=random.Random(0))
            job = Periodic("feed", lambda: timedelta(minutes=5), run)
            return Scheduler([job], runner, commit, clock, rng=random.Random(0)), commit

        nodes = [node("right", clocks[0]), node("ahead", clocks[1])]
        while clocks[0].now() < end:
            for clock in clocks:
                clock.advance(timedelta(seconds=30))
            for scheduler, _ in reversed(nodes[:1] if dies and clocks[0].now() > NOON + lag * 10 else nodes):
                await scheduler.tick()
                while not scheduler.idle:  # noqa: ASYNC110  # it tells nobody
                    await asyncio.sleep(0)
        looked_until = NOON
        for since, until in sorted(asked):
            assert since <= looked_until, f"nobody asked for what was created before {since}"
            looked_until = max(looked_until, until)
        assert looked_until > end - timedelta(minutes=7)
        for _, commit in nodes:
            await commit.close()

    asyncio.run(story())
