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
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from reconciler.clock import Clock
from reconciler.errors import AccessDenied, LedgerError, ProviderError, Throttled
from reconciler.fetcher import NoBudget
from reconciler.health import GATE_OUTAGE
from reconciler.ledger import Gate, GroupCommit, Job, JobLost, Ledger, Mark, Pending
from reconciler.ledger.findings import HOLES
from reconciler.model import Cause, Finding, Priority, Severity, Window
from reconciler.periodic import LEASE
from reconciler.provider import Kind
from reconciler.retry import RetryPolicy, describe
from reconciler.sweeps import EPOCH, Sweeper, Walked, looked_at

log = structlog.get_logger(__name__)

SINGLY_BELOW = 100
"""Up to this many known resources from before the window are read by their ids; more are listed."""

DISPUTE_HORIZON = timedelta(days=120)
"""How far before the window known resources are read again while the event feed covers all of it."""

KINDS_AT_ONCE = 4
_TRIES = 5
_POLL_SECONDS = 0.2

RESUME_WITHIN = timedelta(hours=1)
"""A question without an end ("up to now") that was left unfinished longer ago than this is asked anew."""

_PATIENT_GATES = 3
"""How often an outage may close the account before what waits behind it is named as not verified."""


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
        self._asked: Request | None = None

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
        self._asked = request
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
        """Wait until everything that was dirty when the lists had been read is read; what could not be is named.

        Also what somebody else had marked: a window with a dead letter in it is not verified.
        """
        now = self._clock.now()
        by_key = {
            (result.account, name): result
            for result in results
            for name in (result.kind, *self._sweepers[result.account].provider.kinds[result.kind].covers)
        }
        while True:
            waiting = await self._ledger.read(
                lambda ledger: [
                    each for account, kind in by_key for each in ledger.pending(account, kind, marked_before=now)
                ]
            )
            gates = await self._ledger.read(lambda ledger: ledger.gates())
            closed = {(gate.account, gate.kind): gate for gate in gates if _is_final(gate)}
            reasons = [(each, _why(each, closed)) for each in waiting]
            if all(reason is not None for _, reason in reasons):
                break
            await self._sleep(_POLL_SECONDS)
        for each, reason in reasons:
            by_key[each.ref.account, each.ref.kind].reasons.append(f"{each.ref}: {reason}")
        if all(result.verified for result in results):
            await self._conclude(results)

    # --- one kind ---

    async def _kind(self, sweeper: Sweeper, kind: Kind, request: Request) -> Result:
        result = Result(sweeper.account, kind.name)
        job = await self._take(request.job(sweeper.account, kind.name))
        if job is None:
            result.reasons.append("the same backfill of this kind is running elsewhere")
            return result
        progress = self._resumable(job, request)
        began = datetime.fromisoformat(progress.get("began", self._clock.now().isoformat()))
        window = Window(request.since, max(request.since, request.until or began))
        try:
            if "done" in progress:
                _restore(result, progress["done"])
                await self._end(job, complete=False)
            else:
                await self._list(sweeper, kind, job, progress, window, began, result)
        except JobLost:
            result.reasons.append("the same backfill of this kind was taken over elsewhere")
        except (ProviderError, LedgerError) as error:
            result.reasons.append(describe(error))
            await self._end(job, complete=False, error=describe(error))
        self._watch(result)
        return result

    def _resumable(self, job: Job, request: Request) -> Mapping[str, Any]:
        """How far the same question got before, if it is still the same: "up to now" is another one after a while."""
        began = job.progress.get("began")
        if began is None:
            return {}
        recent = datetime.fromisoformat(began) >= self._clock.now() - RESUME_WITHIN
        return job.progress if request.until is not None or recent else {}

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
        reach = self._reach(sweeper, window, began)
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
            done = {"began": began.isoformat(), "done": _kept(result)}
            ledger.renew_job(job, progress=done, lease=LEASE, now=now)
            ledger.finish_job(job, due_at=now, now=now, complete=False)

        await self._ledger.call(act)

    async def _mark_rest(self, account: str, kind: Kind, window: Window, began: datetime, result: Result) -> None:
        """Have read singly what the list should have shown and did not, and what is open from before the window."""

        def act(ledger: Ledger) -> int:
            refs = ledger.unseen(account, kind.name, window=window, before=began)
            if not refs:
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
                wait = error.retry_after if isinstance(error, Throttled) else None
                if not isinstance(error, NoBudget):
                    failures += 1
                    await sweeper.failed(kind, window, error, job, marker=marker)
                    if isinstance(error, AccessDenied) or failures == _TRIES:
                        raise
                await self._sleep((wait or self._policy.backoff(max(failures, 1), 0.5)).total_seconds())
                cursor = (await self._progress(job.name)).get("cursor")
                continue
            self._moved(result, walked)
            result.reach = walked.reach or result.reach
            return

    def _moved(self, result: Result, walked: Walked) -> None:
        result.pages, result.objects = walked.pages, walked.rows
        result.changed, result.drift = walked.changed, walked.drift
        self._watch(result)

    # --- the feed ---

    async def _feed(self, sweeper: Sweeper, request: Request, results: Sequence[Result]) -> None:
        """Events of the window that never reached us; those older than the feed are covered by the lists above."""
        reach = sweeper.provider.feed_reach
        if reach is None:
            return
        job = await self._take(request.job(sweeper.account, "event"))
        if job is None:
            return
        now = self._clock.now()
        progress = self._resumable(job, request)
        began = datetime.fromisoformat(progress.get("began", now.isoformat()))
        since, until = max(request.since, now - reach), request.until or began
        try:
            missed = int(progress.get("missed", 0))
            if since < until and "done" not in progress:
                missed = await self._events(sweeper, replace(job, progress=progress), Window(since, until), began)
            done = {"began": began.isoformat(), "missed": missed, "done": True}
            await self._ledger.call(lambda ledger: ledger.renew_job(job, progress=done, lease=LEASE, now=now))
            await self._end(job, complete=False)
        except (ProviderError, LedgerError) as error:
            for result in results:
                result.reasons.append(f"the event feed could not be read: {describe(error)}")
            await self._end(job, complete=False, error=describe(error))
            return
        if missed and results:
            results[0].missed = missed

    async def _events(self, sweeper: Sweeper, job: Job, window: Window, began: datetime) -> int:
        failures = 0
        while True:
            try:
                return await sweeper.events.read(window, Cause.BACKFILL, job, {"began": began.isoformat()})
            except ProviderError as error:
                failures += not isinstance(error, NoBudget)
                if isinstance(error, AccessDenied) or failures == _TRIES:
                    raise
                wait = error.retry_after if isinstance(error, Throttled) else None
                await self._sleep((wait or self._policy.backoff(max(failures, 1), 0.5)).total_seconds())
                job = replace(job, progress=await self._progress(job.name))

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

    async def _progress(self, name: str) -> Mapping[str, Any]:
        return await self._ledger.read(lambda ledger: ledger.job_progress(name))

    async def _take(self, name: str) -> Job | None:
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

    async def _conclude(self, results: Sequence[Result]) -> None:
        """Everything was verified: the same question begins anew next time, and old gaps in the feed are closed."""
        assert self._asked is not None
        request, now = self._asked, self._clock.now()
        accounts = sorted({result.account for result in results})
        names = [request.job(result.account, result.kind) for result in results]
        names += [request.job(account, "event") for account in accounts]

        def act(ledger: Ledger) -> None:
            for name in names:
                job = ledger.take_job(name, owner=self._owner, lease=LEASE, now=now)
                if job is not None:
                    ledger.finish_job(job, due_at=now, now=now, complete=True)
            for account in accounts if not request.kinds and request.until is None else ():
                _close_holes(ledger, account, request.since, now)

        await self._ledger.call(act)

    async def _end(self, job: Job, *, complete: bool, error: str | None = None) -> None:
        now = self._clock.now()
        try:
            await self._ledger.call(
                lambda ledger: ledger.finish_job(job, due_at=now, now=now, complete=complete, error=error)
            )
        except LedgerError as failure:
            log.warning("the end of a backfill could not be recorded", job=job.name, error=str(failure))


def _is_final(gate: Gate) -> bool:
    """Whether to stop waiting for what lies behind a gate: an outage passes, a missing permission does not."""
    return gate.reason != GATE_OUTAGE or gate.times > _PATIENT_GATES


def _why(waiting: Pending, closed: Mapping[tuple[str, str], Gate]) -> str | None:
    """Why a resource will not be read any time soon; None: it will."""
    gate = closed.get((waiting.ref.account, "")) or closed.get((waiting.ref.account, waiting.ref.kind))
    if gate is not None:
        return gate.text
    return waiting.error if waiting.dead else None


_COUNTERS = ("pages", "objects", "changed", "drift", "singly")


def _kept(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in _COUNTERS} | {"reasons": result.reasons}


def _restore(result: Result, kept: Mapping[str, Any]) -> None:
    for name in _COUNTERS:
        setattr(result, name, kept[name])
    result.reasons.extend(kept["reasons"])


def _close_holes(ledger: Ledger, account: str, since: datetime, now: datetime) -> None:
    """Stretches that nobody had looked at wholly, and that were read again since."""
    with ledger.view() as view:
        gaps = [each for each in view.open_findings() if each.account == account and each.code in HOLES]
    left = [gap for gap in gaps if gap.subject < f"{since:%Y-%m-%dT%H:%M:%SZ}"]
    still = [Finding(gap.code, Severity(gap.severity), account, gap.text, gap.remedy, gap.subject) for gap in left]
    ledger.note_findings(account, still, codes=HOLES, now=now)
