"""The backfill of one kind: its list, page by page, and single reads for whatever that list did not show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from reconciler.backfill.asking import Request, Result, kept, restore
from reconciler.backfill.estimating import SINGLY_BELOW, reach_of
from reconciler.backfill.places import Places
from reconciler.clock import Clock
from reconciler.errors import AccessDenied, LedgerError, ProviderError, Throttled
from reconciler.fetcher import NoBudget
from reconciler.ledger import GroupCommit, Job, JobLost, Ledger, Mark
from reconciler.ledger.marks import follow_up
from reconciler.model import Cause, Priority, Window
from reconciler.provider import Kind
from reconciler.retry import RetryPolicy, describe
from reconciler.sweeps import EPOCH, Sweeper, Walked, looked_at

TRIES = 5
"""Failures of one list or feed that are waited out."""


class Listing:
    """Reads kinds for one backfill. Never raises for what a provider did: that is in the results."""

    def __init__(
        self,
        places: Places,
        ledger: GroupCommit,
        clock: Clock,
        *,
        policy: RetryPolicy,
        lag: Callable[[str], timedelta],
        watch: Callable[[Result], None],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._places = places
        self._ledger = ledger
        self._clock = clock
        self._policy = policy
        self._lag = lag
        self._watch = watch
        self._sleep = sleep

    async def read(self, sweeper: Sweeper, kind: Kind, request: Request) -> Result:
        result = Result(sweeper.account, kind.name)
        job = await self._places.take(request.job(sweeper.account, kind.name))
        if job is None:
            result.reasons.append("the same backfill of this kind is running elsewhere")
            return result
        progress = self._places.resumable(job, request)
        began = datetime.fromisoformat(progress.get("began", self._clock.now().isoformat()))
        result.began = began
        window = Window(request.since, max(request.since, request.until or began))
        try:
            if "done" in progress:
                restore(result, progress["done"])
                await self._places.leave(job)
            else:
                if not progress:
                    await self._revive(sweeper.account, kind, began, result)
                await self._list(sweeper, kind, job, progress, window, began, result)
        except JobLost:
            result.reasons.append("the same backfill of this kind was taken over elsewhere")
        except (ProviderError, LedgerError) as error:
            result.reasons.append(describe(error))
            await self._places.leave(job, error=describe(error))
        self._watch(result)
        return result

    async def _revive(self, account: str, kind: Kind, began: datetime, result: Result) -> None:
        """What was given up on is tried once more: perhaps that was the outage. What an operator discarded rests."""

        def act(ledger: Ledger) -> int:
            waiting = [
                each
                for name in (kind.name, *kind.covers)
                for each in ledger.pending(account, name, marked_before=began)
            ]
            dead = [each.ref for each in waiting if each.dead and not each.discarded]
            return ledger.mark([Mark(ref, Cause.BACKFILL) for ref in dead], self._clock.now())

        result.singly += await self._ledger.call(act)

    async def _list(
        self,
        sweeper: Sweeper,
        kind: Kind,
        job: Job,
        progress: Mapping[str, Any],
        window: Window,
        began: datetime,
        result: Result,
    ) -> None:
        reach = reach_of(sweeper.provider, window, began)
        account = sweeper.account
        _, known, _ = await self._ledger.read(
            lambda ledger: ledger.known_counts(account, kind.name, window=window, reach=reach)
        )
        oldest = await self._ledger.read(lambda ledger: ledger.oldest_known(account, kind.name, reach=reach))
        listed = window
        if known > SINGLY_BELOW and oldest is not None and oldest < window.since:
            listed = Window(oldest, window.until)
        await self._walk(sweeper, kind, job, progress, listed, began, result)
        looked_until = min(window.until, max(window.since, began - self._lag(kind.name)))
        sight = result.reach
        unseen_since = min(max(min(reach, window.since), sight or EPOCH), looked_until)
        await self._mark_rest(account, kind, Window(unseen_since, looked_until), began, result)
        looked = Window(window.since, looked_until)
        coverage = looked_at(account, kind, looked, reach=sight, reason="backfill")
        if sight is not None and sight > window.since:
            result.reasons.append(f"scope: these credentials see only what was created since {sight:%Y-%m-%d}")
        now = self._clock.now()

        def act(ledger: Ledger) -> None:
            ledger.record_coverage(coverage, now)
            done = {"began": began.isoformat(), "done": kept(result)}
            ledger.renew_job(job, progress=done, now=now)
            ledger.finish_job(job, due_at=now, now=now, complete=False)

        await self._ledger.call(act)

    async def _mark_rest(self, account: str, kind: Kind, window: Window, began: datetime, result: Result) -> None:
        """Have read singly what the list should have shown and did not, and what is open from before the window."""

        def act(ledger: Ledger) -> int:
            refs = ledger.unseen(account, kind.name, window=window, before=began)
            if refs:
                gone = [follow_up(ref, Cause.BACKFILL, kind.settle) for ref in refs]
                return ledger.mark(gone, self._clock.now())
            refs = ledger.still_open(
                account, kind.name, sorted(kind.open_states), created_before=window.since, read_before=began
            )
            return ledger.mark([Mark(ref, Cause.BACKFILL) for ref in refs], self._clock.now())

        # What is marked is dirty, and so not found again.
        while marked := await self._ledger.call(act):
            result.singly += marked

    async def _walk(
        self,
        sweeper: Sweeper,
        kind: Kind,
        job: Job,
        progress: Mapping[str, Any],
        window: Window,
        began: datetime,
        result: Result,
    ) -> None:
        """The list, from where a former run stopped; a failure that may pass is waited out and tried again."""
        reach = progress.get("reach")
        result.reach = None if reach is None else datetime.fromisoformat(reach)
        if progress.get("ended"):
            return
        cursor, marker = progress.get("cursor"), {"began": began.isoformat()}
        failures = 0
        while True:
            try:
                walked = await sweeper.walk(
                    kind,
                    window if kind.windowed else None,
                    job=job,
                    cause=Cause.BACKFILL,
                    priority=Priority.BACKFILL,
                    cursor=cursor,
                    marker=marker,
                    on_page=lambda walked: self._moved(result, walked),
                )
            except ProviderError as error:
                if not isinstance(error, NoBudget):
                    failures += 1
                    await sweeper.failed(kind, window, error, job, marker=marker)
                    if isinstance(error, AccessDenied) or failures == TRIES:
                        raise
                await self._sleep(pause(error, failures, self._policy).total_seconds())
                cursor = (await self._places.progress(job.name)).get("cursor")
                continue
            self._moved(result, walked)
            result.reach = walked.reach or result.reach
            return

    def _moved(self, result: Result, walked: Walked) -> None:
        result.pages, result.objects, result.changed = walked.pages, walked.rows, walked.changed
        self._watch(result)


def pause(error: ProviderError, failures: int, policy: RetryPolicy) -> timedelta:
    """How long to wait before a list or feed is asked again."""
    asked = error.retry_after if isinstance(error, Throttled) else None
    return asked or policy.backoff(max(failures, 1), 0.5)
