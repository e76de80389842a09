"""The backfill of one kind: its list, page by page, and single reads for whatever that list did not show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

from reconciler.backfill.asking import Request, Result, kept, restore
from reconciler.backfill.estimating import SINGLY_BELOW, horizon_of
from reconciler.backfill.places import Places
from reconciler.backfill.reading import Reading
from reconciler.backfill.stretches import left, reach_of
from reconciler.broken import stored
from reconciler.clock import Clock
from reconciler.errors import LedgerError, ProviderError
from reconciler.ledger import GroupCommit, Job, JobLost, Ledger, Mark
from reconciler.ledger.marks import follow_up
from reconciler.model import Cause, Window
from reconciler.provider import Kind
from reconciler.retry import RetryPolicy, describe
from reconciler.sweeps import EPOCH, Sweeper, looked_at


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
        room: AbstractAsyncContextManager[object],
    ) -> None:
        self._places = places
        self._ledger = ledger
        self._clock = clock
        self._policy = policy
        self._lag = lag
        self._watch = watch
        self._sleep = sleep
        self._room = room

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
        reach = horizon_of(sweeper.provider, window, began)
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
        coverage = looked_at(account, kind, looked, reach=sight, reason="backfill", broken=result.broken)
        result.reasons += [each.said for each in result.broken]
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
        """The list, from where a former run stopped."""
        if not progress:
            progress = {"began": began.isoformat()}
            now = self._clock.now()
            # What an older question of the same name left behind is no place of this one.
            await self._ledger.call(lambda ledger: ledger.renew_job(job, progress=progress, now=now))

        def on_page(rows: int, changed: int) -> None:
            result.pages, result.objects, result.changed = (
                result.pages + 1, result.objects + rows, result.changed + changed
            )  # fmt: skip
            self._watch(result)

        reading = Reading(
            sweeper, kind, job, window, self._places, policy=self._policy, sleep=self._sleep, room=self._room,
            on_page=on_page,
        )  # fmt: skip
        try:
            await reading.read(left(progress, window))
        finally:
            said = await self._places.progress(job.name)
            result.reach, result.broken = reach_of(said), stored(said)
