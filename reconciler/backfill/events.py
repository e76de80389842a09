"""The provider's event feed over a backfill's window, and the holes in it that a backfill closes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime

from reconciler.backfill.asking import Request, Result
from reconciler.backfill.places import Places
from reconciler.backfill.reading import TRIES, pause
from reconciler.clock import Clock
from reconciler.errors import AccessDenied, LedgerError, ProviderError
from reconciler.ledger import GroupCommit, Job, Ledger
from reconciler.ledger.findings import HOLES
from reconciler.model import Cause, Finding, Severity, Window
from reconciler.retry import RetryPolicy, describe
from reconciler.spending import NoBudget
from reconciler.sweeps import Sweeper


class Events:
    """Reads feeds for one backfill."""

    def __init__(
        self,
        places: Places,
        ledger: GroupCommit,
        clock: Clock,
        *,
        policy: RetryPolicy,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._places = places
        self._ledger = ledger
        self._clock = clock
        self._policy = policy
        self._sleep = sleep

    async def read(self, sweeper: Sweeper, request: Request, results: Sequence[Result]) -> None:
        """Events of the window that never reached us; those older than the feed are covered by the lists."""
        reach = sweeper.provider.feed_reach
        if reach is None:
            return
        job = await self._places.take(request.job(sweeper.account, "event"))
        if job is None:
            for result in results:
                result.reasons.append("the event feed is being read by the same backfill elsewhere")
            return
        now = self._clock.now()
        progress = self._places.resumable(job, request)
        began = datetime.fromisoformat(progress.get("began", now.isoformat()))
        since, until = max(request.since, now - reach), request.until or began
        try:
            missed = int(progress.get("missed", 0))
            if since < until and "done" not in progress:
                missed = await self._read(sweeper, replace(job, progress=progress), Window(since, until), began)
            done = {"began": began.isoformat(), "missed": missed, "done": True}
            await self._ledger.call(lambda ledger: ledger.renew_job(job, progress=done, now=now))
            await self._places.leave(job)
        except (ProviderError, LedgerError) as error:
            for result in results:
                result.reasons.append(f"the event feed could not be read: {describe(error)}")
            await self._places.leave(job, error=describe(error))
            return
        if missed and results:
            results[0].missed = missed

    async def _read(self, sweeper: Sweeper, job: Job, window: Window, began: datetime) -> int:
        failures = 0
        while True:
            try:
                return await sweeper.events.read(window, Cause.BACKFILL, job, {"began": began.isoformat()})
            except ProviderError as error:
                failures += not isinstance(error, NoBudget)
                if isinstance(error, AccessDenied) or failures == TRIES:
                    raise
                await self._sleep(pause(error, failures, self._policy).total_seconds())
                job = replace(job, progress=await self._places.progress(job.name))


def close_holes(ledger: Ledger, account: str, since: datetime, now: datetime) -> None:
    """Stretches that nobody had looked at wholly, and that were read again since."""
    with ledger.view() as view:
        gaps = [each for each in view.open_findings() if each.account == account and each.code in HOLES]
    left = [gap for gap in gaps if gap.subject < f"{since:%Y-%m-%dT%H:%M:%SZ}"]
    still = [Finding(gap.code, Severity(gap.severity), account, gap.text, gap.remedy, gap.subject) for gap in left]
    ledger.note_findings(account, still, codes=HOLES, now=now)
