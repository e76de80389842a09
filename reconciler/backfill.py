"""Reading a chosen window again after an outage: creations, changes to old objects, and what has disappeared.

For each kind: the list of everything created in the window and, because an old object may have changed in it, of
everything that we knew before; then the provider's event feed as far as it reaches; then single reads for whatever
the list should have shown and did not. It works beside a running daemon, leaves its watermarks alone, and may be
killed at any time: the same absolute bounds and filters go on where it stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from reconciler.clock import Clock
from reconciler.errors import AccessDenied, LedgerError, ProviderError, Throttled
from reconciler.ledger import GroupCommit, Job, JobLost, Ledger, Mark
from reconciler.model import Cause, Priority, Window
from reconciler.periodic import LEASE
from reconciler.provider import Kind
from reconciler.retry import RetryPolicy, describe
from reconciler.sweeps import EPOCH, Sweeper, looked_at

log = structlog.get_logger(__name__)

SINGLY_BELOW = 100
"""Up to this many known resources from before the window are read by their ids; more are listed."""

DISPUTE_HORIZON = timedelta(days=120)
"""How far before the window known resources are read again while the event feed covers all of it."""

KINDS_AT_ONCE = 4
_TRIES = 5
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator asked for. `until` None: everything up to now."""

    since: datetime
    until: datetime | None
    accounts: frozenset[str]
    """Empty: all of them."""
    kinds: frozenset[str]
    """Empty: all of them."""

    def job(self, account: str, kind: str) -> str:
        """The same question has the same name, so that asking it again goes on where it was left."""
        until = "" if self.until is None else self.until.isoformat()
        asked = "|".join((self.since.isoformat(), until, *sorted(self.accounts), "", *sorted(self.kinds)))
        return f"backfill/{hashlib.sha256(asked.encode()).hexdigest()[:12]}/{account}/{kind}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a backfill of one kind will cost, from what the ledger knows."""

    account: str
    kind: str
    objects: int
    requests: int
    time: timedelta
    """At the rate that the budget leaves for backfills, if nothing else is read."""


@dataclass(slots=True)
class Result:
    """How the backfill of one kind went."""

    account: str
    kind: str
    pages: int = 0
    objects: int = 0
    changed: int = 0
    drift: int = 0
    singly: int = 0
    missed: int = 0
    reach: datetime | None = None
    """How far back these credentials let the list go; None: to the beginning."""
    reasons: list[str] = field(default_factory=list)
    """Why something of this kind could not be verified; empty when everything was."""

    @property
    def verified(self) -> bool:
        return not self.reasons


class Backfill:
    """The backfill of one request over several accounts. `watch` is called whenever a result moved."""

    def __init__(
        self,
        sweepers: Mapping[str, Sweeper],
        ledger: GroupCommit,
        clock: Clock,
        *,
        owner: str,
        policy: RetryPolicy,
        lag: Callable[[str], timedelta],
        watch: Callable[[Result], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sweepers = sweepers
        self._ledger = ledger
        self._clock = clock
        self._owner = owner
        self._policy = policy
        self._lag = lag
        self._watch = watch
        self._sleep = sleep

    # --- before ---

    async def preview(self, request: Request) -> list[Estimate]:
        """What it will cost, without asking the provider anything."""
        now = self._clock.now()
        window = Window(request.since, request.until or now)
        estimates = []
        for sweeper, kind in self._scope(request):
            reach = self._reach(sweeper, window, now)
            within, known, before = await self._ledger.read(
                lambda ledger, account=sweeper.account, name=kind.name, reach=reach: ledger.known_counts(  # type: ignore[misc]  # mypy does not infer a default's type
                    account, name, window=window, reach=reach
                )
            )
            objects = max(within, before) + known
            pages = max(1, math.ceil(max(within, before) / kind.page_size))
            requests = pages + (known if known <= SINGLY_BELOW else math.ceil(known / kind.page_size))
            limit = sweeper.provider.limits.get(str(kind.list_endpoint))
            rate = 10.0 if limit is None else max(limit.rate / 2, 0.1)
            estimates.append(
                Estimate(sweeper.account, kind.name, objects, requests, timedelta(seconds=requests / rate))
            )
        return estimates

    # --- the work ---

    async def run(self, request: Request) -> list[Result]:
        """Everything asked for, a few kinds at a time. Never raises for what a provider did: that is in the results."""
        room = asyncio.Semaphore(KINDS_AT_ONCE)

        async def one(sweeper: Sweeper, kind: Kind) -> Result:
            async with room:
                return await self._kind(sweeper, kind, request)

        scope = self._scope(request)
        results = await asyncio.gather(*(one(sweeper, kind) for sweeper, kind in scope))
        for sweeper in {sweeper.account: sweeper for sweeper, _ in scope}.values():
            await self._feed(sweeper, request, [result for result in results if result.account == sweeper.account])
        return list(results)

    async def settle(self, results: Sequence[Result]) -> None:
        """Wait until the worker has read what was marked; what it could not read is named in the results."""
        by_key = {(result.account, result.kind): result for result in results}
        while True:
            pending = await self._ledger.read(lambda ledger: ledger.pending_backfill())
            mine = [each for each in pending if (each.ref.account, each.ref.kind) in by_key]
            gates = await self._ledger.read(lambda ledger: ledger.gates())
            closed = {(gate.account, gate.kind): gate for gate in gates}
            stuck = [
                each
                for each in mine
                if each.dead or (each.ref.account, "") in closed or (each.ref.account, each.ref.kind) in closed
            ]
            if len(stuck) == len(mine):
                for each in stuck:
                    result = by_key[each.ref.account, each.ref.kind]
                    gate = closed.get((each.ref.account, "")) or closed.get((each.ref.account, each.ref.kind))
                    result.reasons.append(f"{each.ref}: {gate.text if gate is not None else each.error}")
                return
            await self._sleep(_POLL_SECONDS)

    # --- one kind ---

    async def _kind(self, sweeper: Sweeper, kind: Kind, request: Request) -> Result:
        result = Result(sweeper.account, kind.name)
        name = request.job(sweeper.account, kind.name)
        job = await self._take(name)
        if job is None:
            result.reasons.append("the same backfill of this kind is running elsewhere")
            return result
        began = datetime.fromisoformat(str(job.progress.get("began", self._clock.now().isoformat())))
        window = Window(request.since, request.until or began)
        try:
            await self._list(sweeper, kind, job, window, began, result)
        except JobLost:
            result.reasons.append("the same backfill of this kind was taken over elsewhere")
        except (ProviderError, LedgerError) as error:
            result.reasons.append(describe(error))
            await self._end(job, complete=False, error=describe(error))
        self._watch(result)
        return result

    async def _list(
        self, sweeper: Sweeper, kind: Kind, job: Job, window: Window, began: datetime, result: Result
    ) -> None:
        reach = self._reach(sweeper, window, began)
        account = sweeper.account
        _, known, _ = await self._ledger.read(
            lambda ledger: ledger.known_counts(account, kind.name, window=window, reach=reach)
        )
        oldest = await self._ledger.read(lambda ledger: ledger.oldest_known(account, kind.name, reach=reach))
        listed = window
        if known > SINGLY_BELOW and oldest is not None and oldest < window.since:
            listed = Window(oldest, window.until)
        await self._walk(sweeper, kind, job, listed, began, result)
        looked_until = min(window.until, max(window.since, began - self._lag(kind.name)))
        sight = result.reach
        unseen_since = min(max(min(reach, window.since), sight or EPOCH), looked_until)
        unseen = await self._ledger.read(
            lambda ledger: ledger.unseen(account, kind.name, window=Window(unseen_since, looked_until), before=began)
        )
        open_ones = await self._ledger.read(
            lambda ledger: ledger.stale_open(
                account, kind.name, sorted(kind.open_states) or [""], least=timedelta(0), oldest=EPOCH, now=began
            )
        )
        result.singly += len(unseen)
        now = self._clock.now()
        looked = Window(window.since, looked_until)
        coverage = looked_at(account, kind, looked, reach=sight, reason="backfill")
        if sight is not None and sight > window.since:
            result.reasons.append(f"scope: these credentials see only what was created since {sight:%Y-%m-%d}")

        def act(ledger: Ledger) -> None:
            marks = {ref: Mark(ref, Cause.BACKFILL) for ref in [*unseen, *open_ones]}
            ledger.mark(marks.values(), now)
            ledger.record_coverage(coverage, now)
            ledger.finish_job(job, due_at=now, now=now, complete=True)

        await self._ledger.call(act)

    async def _walk(
        self, sweeper: Sweeper, kind: Kind, job: Job, window: Window, began: datetime, result: Result
    ) -> None:
        """The list, from where a former run stopped; a failure that may pass is waited out and tried again."""
        marker = {"began": began.isoformat()}
        cursor = job.progress.get("cursor")
        for attempt in range(1, _TRIES + 1):
            try:
                walked = await sweeper.walk(
                    kind,
                    window if kind.windowed else None,
                    job=job,
                    cause=Cause.BACKFILL,
                    priority=Priority.BACKFILL,
                    cursor=cursor,
                    marker=marker,
                    on_page=lambda walked: self._moved(result, walked.pages, walked.rows, walked.changed, walked.drift),
                )
            except AccessDenied as error:
                raise await sweeper.gap(kind, window, error, job) from error
            except ProviderError as error:
                if attempt == _TRIES:
                    raise
                wait = error.retry_after if isinstance(error, Throttled) and error.retry_after else None
                await self._sleep((wait or self._policy.backoff(attempt, 0.5)).total_seconds())
                cursor = await self._ledger.read(lambda ledger: ledger.job_progress(job.name).get("cursor"))
                continue
            result.pages, result.objects = walked.pages, walked.rows
            result.changed, result.drift, result.reach = walked.changed, walked.drift, walked.reach
            return

    def _moved(self, result: Result, pages: int, objects: int, changed: int, drift: int) -> None:
        result.pages, result.objects, result.changed, result.drift = pages, objects, changed, drift
        self._watch(result)

    # --- the feed ---

    async def _feed(self, sweeper: Sweeper, request: Request, results: Sequence[Result]) -> None:
        """Events of the window that never reached us; those older than the feed are covered by the lists above."""
        reach = sweeper.provider.feed_reach
        if reach is None:
            return
        name = request.job(sweeper.account, "event")
        job = await self._take(name)
        if job is None:
            return
        now = self._clock.now()
        since, until = max(request.since, now - reach), request.until or now
        try:
            missed = 0 if since >= until else await sweeper.read_feed(Window(since, until), Cause.BACKFILL, job)
            await self._end(job, complete=True)
        except (ProviderError, LedgerError) as error:
            for result in results:
                result.reasons.append(f"the event feed could not be read: {describe(error)}")
            await self._end(job, complete=False, error=describe(error))
            return
        if missed and results:
            results[0].missed = missed

    # --- inside ---

    def _scope(self, request: Request) -> list[tuple[Sweeper, Kind]]:
        return [
            (sweeper, kind)
            for account, sweeper in sorted(self._sweepers.items())
            if not request.accounts or account in request.accounts
            for kind in sweeper.provider.kinds.values()
            if kind.list_endpoint is not None and (not request.kinds or kind.name in request.kinds)
        ]

    def _reach(self, sweeper: Sweeper, window: Window, now: datetime) -> datetime:
        """How far before the window known resources may have changed in it without any event that still tells."""
        feed = sweeper.provider.feed_reach
        if feed is None or window.since < now - feed:
            return EPOCH
        return window.since - DISPUTE_HORIZON

    async def _take(self, name: str) -> Job | None:
        now = self._clock.now()
        return await self._ledger.call(lambda ledger: ledger.take_job(name, owner=self._owner, lease=LEASE, now=now))

    async def _end(self, job: Job, *, complete: bool, error: str | None = None) -> None:
        now = self._clock.now()
        try:
            await self._ledger.call(
                lambda ledger: ledger.finish_job(job, due_at=now, now=now, complete=complete, error=error)
            )
        except LedgerError as failure:
            log.warning("the end of a backfill could not be recorded", job=job.name, error=str(failure))
