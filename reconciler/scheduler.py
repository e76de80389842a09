"""Ticks: APScheduler says "look", the ledger says what is due and who may run it.

In-memory triggers only. Two processes on one APScheduler job store run jobs twice, its stored jobs are pickles, and
its default grace drops a run after a two-second stall; so nothing durable is ever given to it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from reconciler.budget import ALLOCATION_PERIOD, stretched
from reconciler.clock import Clock
from reconciler.counting import Counting
from reconciler.deadlines import Deadlines
from reconciler.errors import LedgerError
from reconciler.ledger import GroupCommit, Job, JobState, Ledger
from reconciler.periodic import Ended, Periodic, Runner
from reconciler.provider import Counts, Kind
from reconciler.sweeps import Sweeper, SweepSettings

log = structlog.get_logger(__name__)

TICK = timedelta(milliseconds=250)
DEADLINES_EVERY = timedelta(seconds=5)
TOTALS_EVERY = timedelta(hours=1)
COUNTS_EVERY = timedelta(hours=1)
WATCH_EVERY = timedelta(hours=1)
_REFRESH = timedelta(seconds=30)
"""How often the ledger is asked what other processes made due."""

_JOBS_AT_ONCE = 4
"""Of one group: complete lists that run for hours must not hold up the newest part of any list, nor one account
whose provider hangs another's jobs, nor either of them a deadline."""

_LONGEST_PATIENCE = timedelta(hours=1)
"""How long a job of a node whose clock is ahead may stand still before it is taken for dead."""

_STEP = timedelta(seconds=5)
"""A wall clock that moved this much more or less than the monotonic one was set by somebody."""


def jobs_of(
    sweeper: Sweeper,
    deadlines: Deadlines,
    settings: Callable[[str], SweepSettings],
    pace: Callable[[timedelta], timedelta],
    cut_off: Callable[[datetime], datetime],
    clock: Clock,
    *,
    watch_every: timedelta = WATCH_EVERY,
) -> list[Periodic]:
    """Every periodic job of one account. `pace` stretches an interval to what the read allocation allows."""
    account, provider = sweeper.account, sweeper.provider
    jobs = [
        Periodic(
            f"deadlines/{account}", lambda: DEADLINES_EVERY, deadlines.run, f"deadlines/{account}", deadlines.idle
        ),
        Periodic(f"watch/{account}", partial(pace, watch_every), sweeper.watch, group=f"watch/{account}"),
    ]
    if provider.feed_reach is not None:
        jobs.append(
            Periodic(f"feed/{account}", partial(pace, settings("").every), sweeper.feed, group=f"feed/{account}")
        )

    if isinstance(provider, Counts):
        counting = Counting(sweeper, provider, settings)
        jobs.append(Periodic(f"counts/{account}", partial(pace, COUNTS_EVERY), counting.run, group=f"counts/{account}"))

    def add(
        what: str, kind: Kind, every: Callable[[], timedelta], run: Callable[[Kind, Job], Awaitable[Ended]]
    ) -> None:
        group = f"{what}/{account}"
        jobs.append(Periodic(f"{group}/{kind.name}", every, partial(run, kind), group=group))

    covered = {name for kind in provider.kinds.values() for name in kind.covers}
    for kind in provider.kinds.values():
        own = settings(kind.name)
        if kind.list_endpoint is not None and kind.windowed:
            add("recent", kind, partial(pace, own.every), sweeper.recent)
        if kind.list_endpoint is not None:
            add("complete", kind, partial(pace, own.full_every), sweeper.complete)
        elif kind.singleton is None and kind.name not in covered:
            add("known", kind, partial(pace, own.full_every), sweeper.known)
        if kind.open_states:
            add("open", kind, partial(pace, own.every), sweeper.open_states)
        if kind.has_members:
            add("members", kind, partial(pace, own.every), sweeper.members)
        if kind.singleton is not None:
            add("totals", kind, lambda: min(TOTALS_EVERY, cut_off(clock.now()) - clock.now()), sweeper.singleton)
    return jobs


def next_cut_off(now: datetime, zone: ZoneInfo, day_start: timedelta) -> datetime:
    """The next start of a business day, UTC: a wall-clock time of the zone, also on days of 23 or 25 hours."""
    day = now.astimezone(zone).date()
    for ahead in range(3):
        midnight = datetime.combine(day + timedelta(days=ahead), datetime.min.time())
        start = (midnight + day_start).replace(tzinfo=zone).astimezone(UTC)
        if start > now:
            return start
    raise AssertionError("two days from now lie in the future in every time zone")


class Allocation:
    """How fast one account's sweeps may go, given what it has used of its read allocation."""

    def __init__(self, account: str, allocation: int | None, kinds: int) -> None:
        self.account = account
        self._allocation = allocation
        self._kinds = kinds
        self._used = 0

    def pace(self, every: timedelta) -> timedelta:
        return stretched(every, used=self._used, allocation=self._allocation, kinds=self._kinds)

    async def refresh(self, ledger: GroupCommit, now: datetime) -> None:
        if self._allocation is not None:
            self._used = await ledger.read(
                lambda ledger: ledger.requests.reads_used(self.account, period=ALLOCATION_PERIOD, now=now)
            )


class Scheduler:
    """Starts due jobs with each tick; every job runs alone, a bounded number of them at once."""

    def __init__(
        self,
        jobs: Sequence[Periodic],
        runner: Runner,
        ledger: GroupCommit,
        clock: Clock,
        *,
        allocations: Sequence[Allocation] = (),
        rng: random.Random,
        tick: timedelta = TICK,
    ) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._runner = runner
        self._ledger = ledger
        self._clock = clock
        self._allocations = allocations
        self._rng = rng
        self._tick_every = tick
        self._due: dict[str, datetime] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._refresh_at: datetime | None = None
        self._seen = (clock.now(), clock.monotonic())
        self._latest = clock.now()
        """The latest time that our own clock had so far."""
        self._ahead: dict[str, tuple[JobState, float]] = {}
        """Jobs whose last run began in our future: as they were last seen, and since when they have been so, by the
        monotonic clock."""
        self._watching: asyncio.Task[None] | None = None
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        self._scheduler.add_listener(self._note, EVENT_JOB_MISSED | EVENT_JOB_ERROR)

    def start(self) -> None:
        """Begin to tick, on the running loop."""
        self._scheduler.start()
        self._arm()
        self._watching = asyncio.create_task(self._watch(), name="the wall clock")

    async def stop(self, patience: timedelta) -> None:
        """No further runs; those under way may end within `patience`, then they are cancelled and resume elsewhere."""
        self._scheduler.remove_all_jobs()
        if self._watching is not None:
            self._watching.cancel()
        running = list(self._running.values())
        if running:
            await asyncio.wait(running, timeout=patience.total_seconds())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def look_again(self) -> None:
        """With the next tick read anew what is due."""
        self._refresh_at = None

    @property
    def idle(self) -> bool:
        """Whether no job runs and none is due."""
        now = self._clock.now()
        return not self._running and all(self._due.get(name, now) > now for name in self._jobs)

    @property
    def next_due(self) -> datetime | None:
        """When the first job that does not run now is due, as far as this process knows; None: every job runs."""
        now = self._clock.now()
        return min((self._due.get(name, now) for name in self._jobs if name not in self._running), default=None)

    async def tick(self) -> None:
        """Start what is due. Called by APScheduler; tests and simulations call it themselves."""
        now = self._clock.now()
        self._latest = max(self._latest, now)
        self._watch_the_clock(now)
        try:
            await self._refresh(now)
        except LedgerError as error:
            log.warning("ledger unavailable, jobs wait", error=str(error))
            return
        waiting = sorted(
            (due, name) for name in self._jobs if (due := self._due.get(name, now)) <= now and name not in self._running
        )
        busy = Counter(self._jobs[name].group for name in self._running)
        for _, name in waiting:
            job = self._jobs[name]
            if busy[job.group] < _JOBS_AT_ONCE:
                busy[job.group] += 1
                self._running[name] = asyncio.create_task(self._run(job), name=f"job {name}")

    # --- inside ---

    def _arm(self) -> None:
        self._scheduler.add_job(
            self.tick, IntervalTrigger(seconds=self._tick_every.total_seconds()), id="tick", replace_existing=True
        )

    async def _run(self, job: Periodic) -> None:
        try:
            due = await self._runner.run(job)
            self._latest = max(self._latest, self._clock.now())
            # None: another node has it. Its next time is in the ledger, and the refresh will bring it.
            self._due[job.name] = due if due is not None else self._clock.now() + _REFRESH
        except LedgerError as error:
            log.warning("a job could not reach the ledger", job=job.name, error=str(error))
            self._due[job.name] = self._clock.now() + timedelta(seconds=1 + self._rng.random())
        except Exception as error:
            log.error("a job could not be ended", job=job.name, error=repr(error), exc_info=error)
            self._due[job.name] = self._clock.now() + _REFRESH
        finally:
            self._running.pop(job.name, None)

    async def _refresh(self, now: datetime) -> None:
        """What the ledger says of jobs' times: after a start, and because other processes hurry or run jobs too."""
        if self._refresh_at is not None and now < self._refresh_at:
            return
        self._refresh_at = now + _REFRESH
        # A run that ends while the ledger is read knows its next time better than what was read.
        running = set(self._running)
        states = await self._ledger.read(_states)
        mine = {each.name: each for each in states if each.name in self._jobs and each.name not in running}
        self._due.update({name: self._due_time(state, now) for name, state in mine.items()})
        for allocation in self._allocations:
            await allocation.refresh(self._ledger, now)

    def _due_time(self, state: JobState, now: datetime) -> datetime:
        """After a clock was set back, at once: ours, where we had that time before. Else the run was begun by a node
        whose clock is ahead, and which knows best when the next one is due; for as long as it shows a sign of life, and
        says nothing of what is still to come. Where it does, its windows would leave out what happens now: whoever
        takes the job begins a day back."""
        if not state.began_ahead_of(now):
            self._ahead.pop(state.name, None)
            return state.due
        assert state.started_at is not None, "it began"
        if state.started_at <= self._latest or (state.watermark is not None and state.watermark > now):
            return now
        monotonic = self._clock.monotonic()
        seen, since = self._ahead.setdefault(state.name, (state, monotonic))
        if seen != state:
            since = monotonic
            self._ahead[state.name] = (state, since)
        patience = min(max(2 * self._jobs[state.name].every(), 3 * _REFRESH), _LONGEST_PATIENCE)
        if monotonic - since >= patience.total_seconds():
            return now
        return now + 2 * _REFRESH  # only a look that has just been taken may find it dead

    async def _watch(self) -> None:
        """By the loop's own time. A tick would come too late to notice: APScheduler plans by the wall clock, and after
        that is set back it waits for as long as that."""
        while True:
            await asyncio.sleep(4 * self._tick_every.total_seconds())
            self._watch_the_clock(self._clock.now())

    def _watch_the_clock(self, now: datetime) -> None:
        monotonic = self._clock.monotonic()
        was, was_monotonic = self._seen
        self._seen = (now, monotonic)
        drift = (now - was) - timedelta(seconds=monotonic - was_monotonic)
        if abs(drift) <= _STEP:
            return
        log.warning("the wall clock was set", by=str(drift))
        self._refresh_at = None
        if self._scheduler.running:
            self._arm()

    def _note(self, event: JobExecutionEvent) -> None:
        log.error("a tick failed", exception=repr(event.exception))


def _states(ledger: Ledger) -> Sequence[JobState]:
    with ledger.view() as view:
        return view.jobs()
