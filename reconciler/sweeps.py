"""Looking for what nobody told: lists, the provider's own feed, open states, members, and the account itself.

A sweep reads pages, and every row of a page is an authoritative read, applied under the same rule as any other. What
a sweep could not read is never "no change": it stays a hole in the coverage, with its reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from reconciler.clock import Clock, require_utc
from reconciler.errors import ProviderError, Throttled, ThrottleScope
from reconciler.fetcher import GATE_STORM, Fetcher
from reconciler.ledger import Applied, Coverage, GroupCommit, Job, Ledger, Mark, Outcome
from reconciler.ledger.marks import mark_of
from reconciler.model import Cause, Finding, Notice, Page, Priority, ResourceRef, Severity, Snapshot, Window
from reconciler.periodic import LEASE, Ended
from reconciler.provider import Kind
from reconciler.retry import describe

log = structlog.get_logger(__name__)

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

CORE_CODES = frozenset({"missing-storm", "feed-aged-out"})
"""Findings that the core raises itself; every other code of an account comes from its provider."""

_FEED = Kind(name="event", endpoint="event.list", list_endpoint="event.list")
"""The provider's event feed, as something that has a budget and can be gated like any kind."""

_AGAIN_IN_A_STORM = timedelta(seconds=30)

_PATIENCE = timedelta(seconds=5)
"""The longest wait for budget that a run makes in place; for longer ones it ends, and goes on when it is due again."""


@dataclass(frozen=True, slots=True)
class SweepSettings:
    every: timedelta = timedelta(minutes=5)
    """How often the feed and the newest part of each list are read."""
    lag: timedelta = timedelta(seconds=60)
    """How far behind now the provider's lists and feed may be: nothing younger counts as looked at."""
    overlap: timedelta = timedelta(minutes=10)
    """How much of the window before is read again."""
    full_every: timedelta = timedelta(hours=24)
    """How often complete lists are compared with what we know."""
    horizon: timedelta = timedelta(days=30)
    """How far back a complete list of a kind that is never deleted goes."""
    open_horizon: timedelta = timedelta(days=120)
    """How long an open resource is re-read before it is left to complete lists: the time for a dispute."""


@dataclass(slots=True)
class Walked:
    """What a walk over a list saw."""

    pages: int = 0
    rows: int = 0
    changed: int = 0
    drift: int = 0
    shown: set[ResourceRef] = field(default_factory=set)
    """Every resource on its pages, also one whose row was too close to another read to be applied."""
    reach: datetime | None = None
    """How far back these credentials let the list go; None: to the beginning."""


class Sweeper:
    """The sweeps of one account. Each method is one run of a periodic job."""

    def __init__(
        self,
        fetcher: Fetcher,
        ledger: GroupCommit,
        clock: Clock,
        settings: Callable[[str], SweepSettings],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_applied: Callable[[Sequence[Applied]], None] = lambda _: None,
    ) -> None:
        self._fetcher = fetcher
        self.account = self._account = fetcher.account
        self.provider = self._provider = fetcher.provider
        self._ledger = ledger
        self._clock = clock
        self._settings = settings
        self._sleep = sleep
        self._on_applied = on_applied
        self._settle: Mapping[str, timedelta] = {name: kind.settle for name, kind in self._provider.kinds.items()}

    # --- lists ---

    async def recent(self, kind: Kind, job: Job) -> Ended:
        """The newest part of a kind's list: what was created since the watermark, and the overlap before it."""
        return await self._guarded(kind, lambda: self._list(kind, job, self._settings(kind.name), full=False))

    async def complete(self, kind: Kind, job: Job) -> Ended:
        """The complete list (of the horizon, for kinds that are never deleted), and then what it did not show."""
        return await self._guarded(kind, lambda: self._list(kind, job, self._settings(kind.name), full=True))

    async def _guarded(self, kind: Kind, run: Callable[[], Awaitable[Ended]]) -> Ended:
        """Behind a closed gate nothing is asked; when its time is up this run is the probe that may open it.

        While too many resources are missing no list is read: another account's key lists another account well.
        """
        now = self._clock.now()
        gates = await self._ledger.read(lambda ledger: ledger.gates())
        mine = [gate for gate in gates if gate.account == self._account and gate.kind in ("", kind.name)]
        closed = [gate for gate in mine if gate.until > now or gate.reason == GATE_STORM]
        if closed:
            last = max(closed, key=lambda gate: gate.until)
            due_at = last.until if last.until > now else now + _AGAIN_IN_A_STORM
            return Ended(complete=False, due_at=due_at, error=f"{last.reason}: {last.text}")
        ended = await run()
        if mine and ended.complete:
            names = [gate.kind for gate in mine]
            await self._ledger.call(lambda ledger: [ledger.lift(self._account, name) for name in names])
        return ended

    async def _list(self, kind: Kind, job: Job, settings: SweepSettings, *, full: bool) -> Ended:
        resumed = job.progress.get("until") is not None
        began = self._clock.now()
        until = datetime.fromisoformat(job.progress["until"]) if resumed else began
        if resumed:
            since = datetime.fromisoformat(job.progress["since"])
        elif full:
            since = EPOCH if kind.deletable else min(until - settings.horizon, job.watermark or until)
        else:
            since = job.watermark or until - settings.overlap - settings.every
        window = Window(since, until)
        marker = {"since": since.isoformat(), "until": until.isoformat()}
        if not resumed:
            # Before the first question: a run that fails on it is tried again over this same window. With a window of
            # its own, the next run would begin a little later, and leave a hole that no list ever looks at.
            await self._ledger.call(lambda ledger: ledger.renew_job(job, progress=marker, lease=LEASE, now=began))
        try:
            walked = await self.walk(
                kind, None if since == EPOCH else window, job=job, cause=Cause.SWEEP, priority=Priority.SWEEP,
                cursor=job.progress.get("cursor"), marker=marker,
            )  # fmt: skip
        except ProviderError as error:
            raise await self.gap(kind, window, error, job) from error
        looked_until = max(since, until - settings.lag)
        looked_since = since if walked.reach is None else min(max(since, walked.reach), looked_until)
        unseen: list[ResourceRef] = []
        if full:
            not_read = await self._ledger.read(
                lambda ledger: ledger.unseen(
                    self._account, kind.name, window=Window(looked_since, looked_until), before=until
                )
            )
            unseen = [ref for ref in not_read if ref not in walked.shown]
        now = self._clock.now()

        def also(ledger: Ledger) -> None:
            ledger.mark([Mark(ref, Cause.SWEEP) for ref in unseen], now)
            ledger.record_coverage(looked_at(self._account, kind, Window(since, looked_until), reach=walked.reach), now)

        note = log.info if walked.changed or unseen else log.debug
        note(
            "list swept", account=self._account, kind=kind.name, full=full, pages=walked.pages, rows=walked.rows,
            changed=walked.changed, unseen=len(unseen),
        )  # fmt: skip
        return Ended(complete=True, watermark=max(since, until - settings.overlap), also=also)

    async def walk(
        self,
        kind: Kind,
        window: Window | None,
        *,
        job: Job,
        cause: Cause,
        priority: Priority,
        cursor: str | None,
        marker: Mapping[str, Any],
        on_page: Callable[[Walked], None] = lambda _: None,
    ) -> Walked:
        """Read a list to its end, applying each page and saving the place in one commit with it.

        Raises ProviderError where it cannot go on; what was read until then is kept.
        """
        walked = Walked()
        while True:
            await self.acquire(str(kind.list_endpoint), priority)
            start = await self._ledger.call(lambda ledger: ledger.tick())
            began = self._clock.now()
            page = await self._provider.page(kind.name, window, cursor)
            cursor = page.cursor
            await self._apply_page(page, start, began, cause, walked, job, {**marker, "cursor": cursor})
            on_page(walked)
            if cursor is None:
                return walked

    async def _apply_page(
        self,
        page: Page,
        start: int,
        began: datetime,
        cause: Cause,
        walked: Walked,
        job: Job,
        progress: Mapping[str, Any],
    ) -> None:
        rows = self._fetcher.page_rows((*page.rows, *page.along))
        walked.reach = page.reach or walked.reach
        affects = {row.snapshot.ref: row.snapshot.affects for row in rows}
        now = self._clock.now()

        def act(ledger: Ledger) -> list[Applied]:
            applied = ledger.apply_page(rows, start=start, started_at=began, cause=cause, settle=self._settle, now=now)
            touched = {
                ref
                for each in applied
                if each.outcome is Outcome.CHANGED and each.cause is cause
                for ref in affects[each.ref]
            }
            ledger.mark([Mark(ref, cause) for ref in touched], now)
            ledger.renew_job(job, progress=progress, lease=LEASE, now=now)
            return applied

        applied = await self._ledger.call(act)
        walked.pages += 1
        walked.rows += len(page.rows)
        walked.shown.update(row.snapshot.ref for row in rows)
        walked.changed += sum(each.outcome is Outcome.CHANGED for each in applied)
        walked.drift += sum(each.drift for each in applied)
        self._on_applied(applied)

    async def gap(self, kind: Kind, window: Window, error: ProviderError, job: Job) -> ProviderError:
        """A list could not be read: close what has to be closed, and record the hole with its reason, once."""
        await self._fetcher.failed(kind, [], error, endpoint=kind.list_endpoint)
        reason = describe(error)
        if job.last_error != reason:
            now = self._clock.now()
            coverage = not_looked_at(self._account, kind, window, reason)
            await self._ledger.call(lambda ledger: ledger.record_coverage(coverage, now))
        return error

    async def acquire(self, endpoint: str, priority: Priority) -> None:
        """One request's worth of budget; raises Throttled when it would take too long to wait in place."""
        while True:
            granted, wait = await self._fetcher.draw(endpoint, priority)
            if granted:
                return
            if wait > _PATIENCE:
                raise Throttled(
                    f"no budget for {endpoint} within {wait}", retry_after=wait, scope=ThrottleScope.RESOURCE
                )
            await self._sleep(max(wait.total_seconds(), 0.001))

    # --- the provider's own feed ---

    async def feed(self, job: Job) -> Ended:
        """Events that the provider says it made: those that never reached us are missed deliveries, and marks."""
        return await self._guarded(_FEED, lambda: self._feed(job))

    async def _feed(self, job: Job) -> Ended:
        settings = self._settings("")
        now = self._clock.now()
        until = now - settings.lag
        if job.watermark is None:
            return Ended(complete=True, watermark=until)
        reach = self._provider.feed_reach
        assert reach is not None
        since = min(job.watermark, until)
        oldest = now - reach
        aged_out = since < oldest
        window = Window(max(since, oldest), until)
        missed = await self.read_feed(window, Cause.SWEEP, job)
        if missed:
            log.warning("deliveries missed", account=self._account, events=missed)
        also = self._after_gap_in_feed(since, oldest) if aged_out else None
        return Ended(complete=True, watermark=max(since, until - settings.overlap), also=also)

    async def read_feed(self, window: Window, cause: Cause, job: Job) -> int:
        """Read the feed over a window; how many events of it had never reached us. They are marked and recorded.

        Raises ProviderError where it cannot go on.
        """
        priority = Priority.BACKFILL if cause is Cause.BACKFILL else Priority.SWEEP
        cursor: str | None = None
        missed = 0
        while True:
            await self.acquire(str(_FEED.list_endpoint), priority)
            try:
                page = await self._provider.changes(window, cursor)
            except ProviderError as error:
                await self._fetcher.failed(_FEED, [], error)
                raise
            missed += await self._missed(page.notices, cause, job)
            cursor = page.cursor
            if cursor is None:
                return missed

    async def _missed(self, notices: Sequence[Notice], cause: Cause, job: Job) -> int:
        """Record and mark what never reached us. Events that did are marked already, by their delivery."""
        followed = [notice for notice in notices if notice.hints]
        now = self._clock.now()

        def act(ledger: Ledger) -> int:
            missed = ledger.note_missed(self._account, followed, now)
            ledger.mark(self.marks_of(missed, cause), now)
            ledger.renew_job(job, progress=job.progress, lease=LEASE, now=now)
            return len(missed)

        return await self._ledger.call(act)

    def marks_of(self, notices: Sequence[Notice], cause: Cause) -> list[Mark]:
        """The marks that events make, each with the settle window that is left of it."""
        now = self._clock.now()
        marks = []
        for notice in notices:
            for hint in notice.hints:
                kind = self._provider.kinds.get(hint.ref.kind)
                if kind is None:
                    continue
                age = now - require_utc(notice.occurred_at) if notice.occurred_at is not None else timedelta(0)
                marks.append(mark_of(hint, cause, max(timedelta(0), kind.settle - age)))
        return marks

    def _after_gap_in_feed(self, since: datetime, oldest: datetime) -> Callable[[Ledger], None]:
        """The feed no longer reaches back to where we stopped: say so, and have everything listed instead."""
        now = self._clock.now()
        finding = Finding(
            code="feed-aged-out",
            severity=Severity.ERROR,
            account=self._account,
            text=f"events from {since:%Y-%m-%d %H:%M}Z to {oldest:%Y-%m-%d %H:%M}Z are older than the provider keeps",
            remedy=f"complete lists are being read now; run `reconcile --since {since:%Y-%m-%dT%H:%M:%SZ}` to also "
            "re-read every known resource",
        )
        kinds = list(self._provider.kinds.values())

        def act(ledger: Ledger) -> None:
            ledger.note_findings(self._account, [finding], codes=frozenset(), now=now)
            for kind in kinds:
                if kind.list_endpoint is not None:
                    ledger.hurry_job(f"complete/{self._account}/{kind.name}", now)
                if kind.in_feed:
                    gap = Coverage(
                        self._account, kind.name, Window(since, oldest), False, "the event feed does not reach back"
                    )
                    ledger.record_coverage([gap], now)

        return act

    # --- what is not final yet ---

    async def open_states(self, kind: Kind, _job: Job) -> Ended:
        """Mark open resources whose next look is due: each wait is half the resource's age."""
        settings = self._settings(kind.name)
        now = self._clock.now()
        stale = await self._ledger.read(
            lambda ledger: ledger.stale_open(
                self._account,
                kind.name,
                sorted(kind.open_states),
                least=settings.every,
                oldest=now - settings.open_horizon,
                now=now,
            )
        )
        return Ended(complete=True, also=lambda ledger: ledger.mark([Mark(ref, Cause.SWEEP) for ref in stale], now))

    async def members(self, kind: Kind, job: Job) -> Ended:
        """List what belongs to resources that are complete now (a payout's balance transactions), once each."""
        settings = self._settings(kind.name)
        oldest = self._clock.now() - settings.open_horizon
        waiting = await self._ledger.read(lambda ledger: ledger.memberless(self._account, kind.name, oldest=oldest))
        for snapshot in waiting:
            await self._list_members(kind, snapshot, job)
        return Ended(complete=True)

    async def _list_members(self, kind: Kind, snapshot: Snapshot, job: Job) -> None:
        found: list[ResourceRef] = []
        cursor: str | None = None
        while True:
            start = await self._ledger.call(lambda ledger: ledger.tick())
            began = self._clock.now()
            try:
                page = await self._provider.members(snapshot, cursor)
            except ProviderError as error:
                await self._fetcher.failed(kind, [], error, endpoint=kind.list_endpoint)
                raise
            if page is None:
                return
            await self._apply_page(page, start, began, Cause.SWEEP, Walked(), job, job.progress)
            found.extend(row.ref for row in page.rows)
            cursor = page.cursor
            if cursor is None:
                break
            await self.acquire(str(kind.list_endpoint), Priority.SWEEP)
        now = self._clock.now()
        await self._ledger.call(
            lambda ledger: ledger.record_payout_members(snapshot.ref, found, complete=True, now=now)
        )

    async def singleton(self, kind: Kind, _job: Job) -> Ended:
        """Have the one resource of its kind read (a balance: its control totals are recorded with each read)."""
        now = self._clock.now()
        ref = ResourceRef(self._provider.name, self._account, kind.name, str(kind.singleton))
        return Ended(complete=True, also=lambda ledger: ledger.mark([Mark(ref, Cause.SWEEP)], now))

    # --- the account itself ---

    async def watch(self, _job: Job) -> Ended:
        """Permissions, subscriptions, versions: what the provider object finds wrong with the account."""
        found = await self._provider.findings()
        now = self._clock.now()

        def also(ledger: Ledger) -> None:
            with ledger.view() as view:
                known = {each.code for each in view.open_findings() if each.account == self._account}
            codes = frozenset((known | {each.code for each in found}) - CORE_CODES)
            ledger.note_findings(self._account, found, codes=codes, now=now)

        return Ended(complete=True, also=also)


def looked_at(
    account: str, kind: Kind, window: Window, *, reach: datetime | None = None, reason: str = ""
) -> list[Coverage]:
    """What a complete walk proves, for the kind and for those that its list covers. Beyond `reach` nothing was seen."""
    if reach is None or reach <= window.since:
        return [Coverage(account, name, window, complete=True, reason=reason) for name in (kind.name, *kind.covers)]
    seen_since = min(reach, window.until)
    hidden = f"scope: these credentials see only what was created since {reach:%Y-%m-%d}"
    return [
        *not_looked_at(account, kind, Window(window.since, seen_since), hidden),
        *looked_at(account, kind, Window(seen_since, window.until), reason=reason),
    ]


def not_looked_at(account: str, kind: Kind, window: Window, reason: str) -> list[Coverage]:
    return [Coverage(account, name, window, complete=False, reason=reason) for name in (kind.name, *kind.covers)]
