"""The provider's own event feed: what it says that it sent, held against what reached us.

An event that is not in our delivery log is a missed delivery: it is counted, and what it names is marked. A feed
forgets after a while; a stretch that it no longer shows is a loud finding, never a silent gap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from reconciler.circles import Onward
from reconciler.clock import Clock, require_utc
from reconciler.errors import BadReply, ProviderError
from reconciler.fetcher import Fetcher
from reconciler.ledger import Coverage, GroupCommit, Job, Ledger, Mark, mark_of
from reconciler.ledger.findings import FEED_AGED_OUT
from reconciler.model import Cause, Finding, Notice, Priority, Severity, Window
from reconciler.periodic import Ended, behind_gates
from reconciler.provider import FEED, Kind
from reconciler.spending import NoBudget

log = structlog.get_logger(__name__)

_FEED = Kind(name=FEED, endpoint=f"{FEED}.list", list_endpoint=f"{FEED}.list")


class Feed:
    """Of one account."""

    def __init__(self, fetcher: Fetcher, ledger: GroupCommit, clock: Clock) -> None:
        self._fetcher = fetcher
        self._account = fetcher.account
        self._provider = fetcher.provider
        self._ledger = ledger
        self._clock = clock

    async def sweep(self, job: Job, *, lag: timedelta, overlap: timedelta) -> Ended:
        """From the watermark to now, as far as the feed is complete by now."""
        return await behind_gates(
            self._ledger, self._clock.now(), self._account, _FEED.name, lambda: self._sweep(job, lag, overlap)
        )

    async def _sweep(self, job: Job, lag: timedelta, overlap: timedelta) -> Ended:
        now = self._clock.now()
        if job.watermark is None:
            return Ended(complete=True, watermark=now - lag)
        reach = self._provider.feed_reach
        assert reach is not None
        until = datetime.fromisoformat(job.progress["until"]) if "until" in job.progress else now - lag
        since, oldest = min(job.watermark, until), now - reach
        window = Window(min(max(since, oldest), until), until)
        missed = await self.read(window, Cause.SWEEP, job, {"until": until.isoformat()})
        if missed:
            log.warning("deliveries missed", account=self._account, events=missed)
        also = self._aged_out(since, oldest) if since < oldest else None
        return Ended(complete=True, watermark=max(since, until - overlap), asked_at=until + lag, also=also)

    async def read(self, window: Window, cause: Cause, job: Job, marker: Mapping[str, Any]) -> int:
        """Read the feed over a window, from where the job stopped before; how many events had never reached us.

        They are marked and recorded, and the place saved with them. Raises ProviderError where it cannot go on.
        """
        priority = Priority.BACKFILL if cause is Cause.BACKFILL else Priority.SWEEP
        cursor: str | None = job.progress.get("cursor")
        missed = int(job.progress.get("missed", 0))
        onward = Onward(f"{self._account}: the event feed")
        onward.past(cursor)
        while True:
            try:
                await self._fetcher.budget.acquire(_FEED.endpoint, priority)
                page = await self._provider.changes(window, cursor)
                onward.past(page.cursor)
            except NoBudget:
                raise
            except ProviderError as error:
                await self._failed(error, job)
                raise
            self._fetcher.answered(_FEED)
            cursor = page.cursor
            missed += await self._note(page.notices, cause, job, {**marker, "cursor": cursor, "missed": missed})
            if cursor is None:
                return missed

    async def _failed(self, error: ProviderError, job: Job) -> None:
        await self._fetcher.failed(_FEED, [], error)
        if isinstance(error, BadReply):
            # Perhaps the event that the place is named after is too old by now: begin anew.
            now = self._clock.now()
            await self._ledger.call(lambda ledger: ledger.renew_job(job, progress={}, now=now))

    async def _note(self, notices: Sequence[Notice], cause: Cause, job: Job, progress: dict[str, Any]) -> int:
        """Record and mark what never reached us. Events that did are marked already, by their delivery."""
        followed = [notice for notice in notices if notice.hints]
        now = self._clock.now()

        def act(ledger: Ledger) -> int:
            missed = ledger.note_missed(self._account, followed, now)
            ledger.mark(self._marks(missed, cause, now), now)
            ledger.renew_job(job, progress=progress | {"missed": progress["missed"] + len(missed)}, now=now)
            return len(missed)

        return await self._ledger.call(act)

    def _marks(self, notices: Sequence[Notice], cause: Cause, now: datetime) -> list[Mark]:
        """The marks that events make, each with the settle window that is left of it."""
        marks = []
        for notice in notices:
            age = now - require_utc(notice.occurred_at) if notice.occurred_at is not None else timedelta(0)
            for hint in notice.hints:
                kind = self._provider.kinds.get(hint.ref.kind)
                if kind is not None:
                    marks.append(mark_of(hint, cause, max(timedelta(0), kind.settle - age)))
        return marks

    def _aged_out(self, since: datetime, oldest: datetime) -> Callable[[Ledger], None]:
        """The feed no longer reaches back to where we stopped: say so, and have everything listed instead."""
        now = self._clock.now()
        finding = Finding(
            code=FEED_AGED_OUT,
            severity=Severity.ERROR,
            account=self._account,
            text=f"events from {since:%Y-%m-%d %H:%M}Z to {oldest:%Y-%m-%d %H:%M}Z are older than the provider keeps",
            remedy=f"complete lists are being read now; run `reconcile --since {since:%Y-%m-%dT%H:%M:%SZ}` to also "
            "re-read every known resource",
            subject=f"{since:%Y-%m-%dT%H:%M:%SZ}",
        )
        kinds = list(self._provider.kinds.values())
        reason = "the event feed does not reach back"

        def act(ledger: Ledger) -> None:
            ledger.note_findings(self._account, [finding], codes=frozenset(), now=now)
            for kind in kinds:
                if kind.list_endpoint is not None:
                    ledger.hurry_job(f"complete/{self._account}/{kind.name}", now)
            gaps = [
                Coverage(self._account, kind.name, Window(since, oldest), complete=False, reason=reason)
                for kind in kinds
                if kind.in_feed
            ]
            ledger.record_coverage(gaps, now)

        return act
