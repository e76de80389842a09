"""Where a backfill stands: one job row for each kind, leased, renewed with each page, and taken up after a death."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from reconciler.backfill.asking import Request
from reconciler.clock import Clock
from reconciler.errors import LedgerError
from reconciler.ledger import GroupCommit, Job, Ledger
from reconciler.periodic import LEASE

log = structlog.get_logger(__name__)

RESUME_WITHIN = timedelta(hours=1)
"""A question without an end ("up to now") that was left unfinished longer ago than this is asked anew."""


class Places:
    """The jobs of one process's backfills."""

    def __init__(
        self, ledger: GroupCommit, clock: Clock, *, owner: str, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._owner = owner
        self._sleep = sleep

    async def take(self, name: str) -> Job | None:
        """The job; waits for the lease of a run that may have been killed. None: somebody else keeps renewing it."""
        give_up = self._clock.now() + LEASE + timedelta(seconds=5)
        while True:
            now = self._clock.now()
            job = await self._try_to_take(name, now)
            if job is not None or now >= give_up:
                return job
            await self._sleep(1.0)

    async def _try_to_take(self, name: str, now: datetime) -> Job | None:
        return await self._ledger.call(lambda ledger: ledger.take_job(name, owner=self._owner, lease=LEASE, now=now))

    def resumable(self, job: Job, request: Request) -> Mapping[str, Any]:
        """How far the same question got before, if it is still the same: "up to now" is another one after a while."""
        began = job.progress.get("began")
        if began is None:
            return {}
        recent = datetime.fromisoformat(began) >= self._clock.now() - RESUME_WITHIN
        return job.progress if request.until is not None or recent else {}

    async def progress(self, name: str) -> Mapping[str, Any]:
        return await self._ledger.read(lambda ledger: ledger.job_progress(name))

    async def leave(self, job: Job, *, error: str | None = None) -> None:
        """Give the job back with its place, so that the same question goes on from there."""
        now = self._clock.now()
        try:
            await self._ledger.call(
                lambda ledger: ledger.finish_job(job, due_at=now, now=now, complete=False, error=error)
            )
        except LedgerError as failure:
            log.warning("the end of a backfill could not be recorded", job=job.name, error=str(failure))

    def forget(self, ledger: Ledger, name: str, now: datetime) -> None:
        """The question was answered completely: asked again, it begins anew."""
        job = ledger.take_job(name, owner=self._owner, lease=LEASE, now=now)
        if job is not None:
            ledger.finish_job(job, due_at=now, now=now, complete=True)
