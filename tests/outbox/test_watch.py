"""A subscriber that fails for hours, for days, and comes back: pool, watch and alarm on one virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any

from prometheus_client import CollectorRegistry

from reconciler.alerts import Alarm, Manners, Message, Rules
from reconciler.ledger import GroupCommit, Ledger, open_ledger
from reconciler.ledger.subscriptions import Standing, Subscription
from reconciler.model import Severity
from reconciler.outbox.bell import Bell
from reconciler.outbox.keys import Keys
from reconciler.outbox.metrics import OutboxMetrics
from reconciler.outbox.pool import Pool, PoolSettings
from reconciler.outbox.sending import Sender
from reconciler.outbox.watch import Watch
from reconciler.periodic import Periodic, Runner
from reconciler.provider import Reply, Request
from reconciler.retry import RetryPolicy
from tests.ledger.factories import ref, settle, snapshot
from tests.outbox.harness import BASE_URL, SECRET
from tests.outbox.virtual import OnTheLoop, virtual_loop
from tests.simulation.loop import SimulatedClock, SimulatedLoop

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(slots=True)
class Subscribed:
    """A subscriber without a socket: answers what it is told to."""

    status: int = 500
    asked_at: list[float] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)

    async def send(self, request: Request) -> Reply:
        await asyncio.sleep(0.1)
        self.asked_at.append(asyncio.get_running_loop().time())
        if self.status == 200:
            self.delivered.append(request.headers["webhook-id"])
        return Reply(self.status, {}, b"")


@dataclass(slots=True)
class Phone:
    """Implements the alarm's `Sender`; keeps what is about whether the subscriber is well."""

    rung: list[Message] = field(default_factory=list)

    async def send(self, message: Message) -> str | None:
        if ("subscription-failing", "/erp") in message.about:
            self.rung.append(message)
        return None


@dataclass(frozen=True, slots=True)
class Days:
    """Who lives through them."""

    ledger: Ledger
    commit: GroupCommit
    clock: SimulatedClock
    subscribed: Subscribed
    phone: Phone
    applied: Bell
    runner: Runner
    jobs: tuple[Periodic, ...]

    async def change(self, name: str) -> None:
        await self.commit.call(lambda ledger: settle(ledger, ref(name), snapshot(ref(name)), self.clock.now()))
        self.applied.ring()

    async def pass_(self, span: timedelta, *, every: timedelta) -> None:
        """Time goes by; the periodic jobs run now and then, as the scheduler runs them each minute."""
        until = self.clock.now() + span
        while self.clock.now() < until:
            await asyncio.sleep(min(every, until - self.clock.now()).total_seconds())
            for job in self.jobs:
                await self.runner.run(job)

    async def resume(self) -> None:
        await self.commit.call(lambda ledger: ledger.telling.stand("erp", Standing.ACTIVE, "", self.clock.now()))

    def standing(self) -> Standing:
        return self.ledger.telling.subscribers()[0].standing

    def told(self) -> list[tuple[Severity, bool]]:
        return [(message.severity, message.recovered) for message in self.phone.rung]


def lived(story: Callable[[Days], Coroutine[Any, Any, None]]) -> None:
    with virtual_loop() as loop, closing(open_ledger("sqlite://")) as ledger:
        ledger.require_current_schema()
        loop.run_until_complete(_live(loop, ledger, story))


async def _live(loop: SimulatedLoop, ledger: Ledger, story: Callable[[Days], Coroutine[Any, Any, None]]) -> None:
    clock, thread, applied = SimulatedClock(loop), OnTheLoop(loop), Bell()
    commit = GroupCommit(ledger, clock, thread=thread, readers=thread)
    erp = Subscription("erp", "https://erp.example/hook")
    await commit.call(lambda ledger: ledger.telling.declare([erp], clock.now()))
    subscribed, phone, metrics = Subscribed(), Phone(), OutboxMetrics(CollectorRegistry())
    pool = Pool(
        commit,
        clock,
        Sender(subscribed, subscribed, clock),
        Keys({"erp": [SECRET]}, None),
        lambda: BASE_URL,
        applied,
        metrics,
        owner="node",
        settings=PoolSettings(poll=10 * MINUTE),
        rng=random.Random(1),
    )
    watch = Watch(commit, clock, metrics, disable_after=5 * DAY, keep=30 * DAY)
    alarm = Alarm([], commit, clock, sender=phone, rules=Rules(), manners=Manners(repeat=30 * DAY), every=MINUTE)
    running = asyncio.create_task(pool.run())
    runner = Runner(commit, clock, owner="node", policy=RetryPolicy(), rng=random.Random(1))
    jobs = (watch.periodic(), alarm.periodic())
    try:
        await story(Days(ledger, commit, clock, subscribed, phone, applied, runner, jobs))
    finally:
        pool.stop()
        await running


def test_an_hour_of_failures_is_told_and_an_answer_takes_it_back() -> None:
    async def story(days: Days) -> None:
        await days.change("ch_1")
        await days.pass_(59 * MINUTE, every=10 * MINUTE)
        assert days.told() == [], "shorter troubles are what retries are for"
        await days.pass_(11 * MINUTE, every=10 * MINUTE)
        assert days.told() == [(Severity.WARNING, False)]
        assert "subscription erp has only failed since" in days.phone.rung[0].body
        await days.pass_(6 * HOUR, every=HOUR)
        assert days.told() == [(Severity.WARNING, False)], "once"
        days.subscribed.status = 200
        await days.change("ch_2")
        await days.pass_(6 * MINUTE, every=6 * MINUTE)
        assert len(days.subscribed.delivered) == 1, "something new is due, and the breaker asks every five minutes"
        await days.pass_(HOUR, every=10 * MINUTE)
        assert len(days.subscribed.delivered) == 2, "what failed waits an hour at most"
        assert days.told() == [(Severity.WARNING, False), (Severity.INFO, True)]
        assert "recovered" in days.phone.rung[1].title

    lived(story)


def test_five_days_of_failures_disable_with_an_error_until_somebody_resumes() -> None:
    async def story(days: Days) -> None:
        await days.change("ch_1")
        await days.pass_(5 * DAY - HOUR, every=7 * HOUR)
        assert days.standing() is Standing.ACTIVE
        for number in range(2, 5):
            await days.change(f"ch_{number}")
        await days.pass_(2 * HOUR, every=HOUR)
        assert days.standing() is Standing.DISABLED
        assert days.told() == [(Severity.WARNING, False), (Severity.ERROR, False)], "and not that it recovered"
        assert "gets nothing: it has only failed since" in days.phone.rung[1].body
        assert "reconcile subscriptions resume erp" in days.phone.rung[1].body
        asked = len(days.subscribed.asked_at)
        await days.change("ch_5")
        days.subscribed.status = 200
        await days.pass_(2 * DAY, every=6 * HOUR)
        assert (len(days.subscribed.asked_at), len(days.subscribed.delivered)) == (asked, 0), "it gets nothing more"
        await days.resume()
        await days.pass_(30 * MINUTE, every=10 * MINUTE)
        assert len(set(days.subscribed.delivered)) == 4, "what gathered meanwhile, and what had failed"
        assert days.told()[2:] == [(Severity.INFO, True)]

    lived(story)


def test_requests_to_one_who_fails_grow_rare_and_never_stop() -> None:
    async def story(days: Days) -> None:
        await days.change("ch_1")
        await days.pass_(3 * DAY - HOUR, every=DAY)
        waits = [later - sooner for sooner, later in pairwise(days.subscribed.asked_at)]
        assert 0.5 <= waits[0] <= 2
        assert all(1800 <= wait <= 3600 + 600 for wait in waits[13:]), "an hour at most, and the test's own poll"
        assert len(waits) > 60
        assert days.ledger.telling.dead("erp") == []
        await days.pass_(2 * HOUR + 10 * MINUTE, every=DAY)
        (dead,) = days.ledger.telling.dead("erp")
        assert dead.attempts == len(days.subscribed.asked_at)
        assert timedelta(seconds=days.subscribed.asked_at[-1]) >= 3 * DAY

    lived(story)
