"""Periodic jobs: what one is, and how a run of it is leased, ended and tried again. All durability is in the ledger."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from reconciler.clock import Clock
from reconciler.errors import LedgerError, ProviderError, Throttled
from reconciler.ledger import GATE_STORM, GroupCommit, Job, JobLost, Ledger
from reconciler.retry import RetryPolicy, describe

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=60)
"""How long a run is held unless configured; it renews that with each page, and a run that died is continued by whoever
ticks next after it."""

_AGAIN_IN_A_STORM = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run went. `complete` False keeps the progress, so that the next run goes on where this one stopped."""

    complete: bool
    watermark: datetime | None = None
    due_at: datetime | None = None
    """None: one interval after this run began, or after `asked_at`."""
    asked_at: datetime | None = None
    """When the question was asked that this run answered: a run that goes on with an interrupted one answers an older
    question, and what happened since waits no longer than an interval for that."""
    error: str | None = None
    also: Callable[[Ledger], Any] | None = None
    """What must be recorded in the same transaction as the end."""


@dataclass(frozen=True, slots=True)
class Periodic:
    """A job: its name (the ledger's key), its interval, and what one run does."""

    name: str
    every: Callable[[], timedelta]
    """Asked when a run begins."""
    run: Callable[[Job], Awaitable[Ended]]
    group: str = ""
    """Jobs of one group wait for each other, those of different groups never do."""
    idle: Callable[[], Awaitable[bool]] | None = None
    """Whether a run would find nothing to do. Asked before each, so that one which is due every few seconds is not
    leased and ended, two commits, for nothing; where it says so the run is left out, and nothing tells of it."""


async def behind_gates(
    ledger: GroupCommit, now: datetime, account: str, kind: str, run: Callable[[], Awaitable[Ended]]
) -> Ended:
    """Behind a closed gate nothing is asked; when its time is up this run is the probe that may open it.

    While too many resources are missing no list is read: another account's key lists another account well.
    """
    gates = await ledger.read(lambda ledger: ledger.gates())
    mine = [gate for gate in gates if gate.account == account and gate.kind in ("", kind)]
    closed = [gate for gate in mine if gate.until > now or gate.reason == GATE_STORM]
    if closed:
        last = max(closed, key=lambda gate: gate.until)
        due_at = last.until if last.until > now else now + _AGAIN_IN_A_STORM
        return Ended(complete=False, due_at=due_at, error=f"{last.reason}: {last.text}")
    ended = await run()
    if mine and ended.complete:
        await ledger.call(lambda ledger: [ledger.lift(gate) for gate in mine])
    return ended


class Runner:
    """Runs one job at a time under its lease; never raises for what a provider did."""

    def __init__(
        self,
        ledger: GroupCommit,
        clock: Clock,
        *,
        owner: str,
        policy: RetryPolicy,
        rng: random.Random,
        lease: timedelta = LEASE,
        on_run: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._owner = owner
        self._policy = policy
        self._rng = rng
        self._lease = lease
        self._on_run = on_run

    async def run(self, periodic: Periodic) -> datetime | None:
        """One run, if it is due and nobody else has it; when it is due next, None if that is somebody else's to say."""
        now = self._clock.now()
        every = periodic.every()
        if periodic.idle is not None and await periodic.idle():
            return now + every
        job = await self._ledger.call(
            lambda ledger: ledger.take_job(periodic.name, owner=self._owner, lease=self._lease, now=now)
        )
        if job is None:
            return None
        try:
            ended = await periodic.run(job)
        except JobLost as error:
            log.warning("another node continues the job", job=periodic.name, error=str(error))
            return None
        except (ProviderError, LedgerError) as error:
            ended = self._after(error, job)
        except Exception as error:
            log.error("a job ended in an error of ours", job=periodic.name, error=repr(error), exc_info=error)
            ended = Ended(complete=False, due_at=self._clock.now() + self._policy.first_wait, error=describe(error))
        usual = (ended.asked_at or now) + every
        return await self._finish(job, ended, usual)

    def _after(self, error: Exception, job: Job) -> Ended:
        wait = self._policy.backoff(job.tries + 1, self._rng.random())
        if isinstance(error, Throttled) and error.retry_after is not None:
            wait = max(error.retry_after, timedelta(milliseconds=100))
        log.warning("a job could not finish", job=job.name, error=describe(error), again_in=str(wait))
        return Ended(
            complete=False,
            due_at=self._clock.now() + wait,
            error=describe(error),
        )

    async def _finish(self, job: Job, ended: Ended, usual: datetime) -> datetime | None:
        due_at = ended.due_at if ended.due_at is not None else usual
        now = self._clock.now()

        def act(ledger: Ledger) -> None:
            if ended.also is not None:
                ended.also(ledger)
            ledger.finish_job(
                job,
                due_at=due_at,
                now=now,
                complete=ended.complete,
                watermark=ended.watermark,
                error=ended.error,
            )

        try:
            await self._ledger.call(act)
        except JobLost as error:
            log.warning("another node continues the job", job=job.name, error=str(error))
            return None
        self._on_run()
        return due_at
