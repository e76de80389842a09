"""Looking for what nobody told: lists, the provider's own feed, open states, members, and the account itself.

A sweep reads pages, and every row of a page is an authoritative read, applied under the same rule as any other. What
a sweep could not read is never "no change": it stays a hole in the coverage, with its reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from reconciler.broken import around, as_stored, holes, stored
from reconciler.circles import Onward
from reconciler.clock import Clock
from reconciler.errors import BadReply, ProviderError
from reconciler.feed import Feed
from reconciler.fetcher import Fetcher
from reconciler.ledger import GATE_STORM, Applied, Coverage, GroupCommit, Job, Ledger, Mark
from reconciler.ledger.findings import HOLES, ROTATION_DUE
from reconciler.ledger.marks import follow_up
from reconciler.model import BrokenRow, Cause, Priority, ResourceRef, Snapshot, Window
from reconciler.periodic import Ended, behind_gates
from reconciler.provider import Kind
from reconciler.retry import describe
from reconciler.spending import NoBudget
from reconciler.walks import PageTurner, Question, Turn, Walked, Walker

log = structlog.get_logger(__name__)

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

_MARKED_AT_ONCE = 10_000
"""How many resources one commit marks that no list showed."""

COUNT_DIFFERS = "count-differs"
"""The provider counts other than we hold, and its own list does not say why."""

CORE_CODES = HOLES | {GATE_STORM, COUNT_DIFFERS, ROTATION_DUE}
"""Findings that the core raises itself; every other code of an account comes from its provider."""


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


class Sweeper:
    """The sweeps of one account. Each method is one run of a periodic job."""

    def __init__(
        self,
        fetcher: Fetcher,
        ledger: GroupCommit,
        clock: Clock,
        settings: Callable[[str], SweepSettings],
        *,
        on_applied: Callable[[Sequence[Applied]], None] = lambda _: None,
    ) -> None:
        self.fetcher = fetcher
        self.account = fetcher.account
        self.provider = fetcher.provider
        self.events = Feed(fetcher, ledger, clock)
        self.ledger = ledger
        self.clock = clock
        self.walker = Walker(fetcher, ledger, clock, on_applied=on_applied)
        self._settings = settings

    # --- lists ---

    async def recent(self, kind: Kind, job: Job) -> Ended:
        """The newest part of a kind's list: what was created since the watermark, and the overlap before it."""
        return await self._behind_gates(kind, lambda: self._list(kind, job, full=False))

    async def complete(self, kind: Kind, job: Job) -> Ended:
        """The complete list (of the horizon, for kinds that are never deleted), and then what it did not show."""
        return await self._behind_gates(kind, lambda: self._list(kind, job, full=True))

    async def _behind_gates(self, kind: Kind, run: Callable[[], Awaitable[Ended]]) -> Ended:
        return await behind_gates(self.ledger, self.clock.now(), self.account, kind.name, run)

    async def _list(self, kind: Kind, job: Job, *, full: bool) -> Ended:
        settings = self._settings(kind.name)
        window, cursor = await self._place(kind, job, settings, full=full)
        since, until = window.since, window.until
        marker = _marker(window)
        try:
            walked = await self.walk(
                kind, None if since == EPOCH else window, job=job, cause=Cause.SWEEP, priority=Priority.SWEEP,
                cursor=cursor, marker=marker,
            )  # fmt: skip
        except ProviderError as error:
            now = self.clock.now()
            await self.failed(kind, window, error, job, lambda ledger: ledger.renew_job(job, progress=marker, now=now))
            raise
        looked_until = max(since, until - settings.lag)
        looked_since = since if walked.reach is None else min(max(since, walked.reach), looked_until)
        unseen = await self.mark_unseen(kind, job, Window(looked_since, looked_until), until, walked) if full else 0
        now = self.clock.now()

        def also(ledger: Ledger) -> None:
            looked = Window(since, looked_until)
            coverage = looked_at(self.account, kind, looked, reach=walked.reach, broken=walked.broken)
            ledger.record_coverage(coverage, now)

        note = log.info if walked.changed or unseen else log.debug
        note(
            "list swept", account=self.account, kind=kind.name, full=full, pages=walked.pages, rows=walked.rows,
            changed=walked.changed, unseen=unseen,
        )  # fmt: skip
        # The next window begins where this one may be believed: also where the lag is longer than the overlap.
        watermark = max(since, until - max(settings.overlap, settings.lag))
        return Ended(complete=True, watermark=watermark, asked_at=until, also=also)

    async def _place(self, kind: Kind, job: Job, settings: SweepSettings, *, full: bool) -> tuple[Window, str | None]:
        """The window of this run and where in it to begin: a run that could not end is gone on with."""
        if "until" in job.progress:
            bounds = (datetime.fromisoformat(job.progress[name]) for name in ("since", "until"))
            return Window(*bounds), job.progress.get("cursor")
        now = self.clock.now()
        if full:
            since = EPOCH if kind.deletable else min(now - settings.horizon, job.watermark or now)
        else:
            since = min(now, job.watermark or now - settings.overlap - settings.every)
        window = Window(since, now)
        # Before the first question: a run that fails on it is tried again over this same window. With a window of its
        # own, the next run would begin a little later, and leave a hole that no list ever looks at.
        await self.ledger.call(lambda ledger: ledger.renew_job(job, progress=_marker(window), now=now))
        return window, None

    async def mark_unseen(self, kind: Kind, job: Job, window: Window, before: datetime, walked: Walked) -> int:
        """Have read what the list should have shown and did not; how many. A row that was too close to another read
        was shown.

        That it is gone (or came to be) may be so new that a lagging replica does not know it: it is for `follow_up`.
        """
        return await self._mark_all(
            kind, job, window, before, lambda ref: follow_up(ref, Cause.SWEEP, kind.settle), shown=walked.deferred
        )

    async def _mark_all(
        self,
        kind: Kind,
        job: Job,
        window: Window,
        before: datetime,
        mark_for: Callable[[ResourceRef], Mark],
        *,
        shown: Container[ResourceRef] = (),
    ) -> int:
        """Mark all of the window that no read since `before` has shown, in as many commits as that takes.

        They come before the commit that says how far was looked: what is marked is dirty, and so named, and not found
        again.
        """
        total = 0
        passed_by = 0
        while True:
            most = _MARKED_AT_ONCE + passed_by
            refs = await self.ledger.read(
                lambda ledger, most=most: ledger.unseen(  # type: ignore[misc]  # mypy does not infer a default's type
                    self.account, kind.name, window=window, before=before, limit=most
                )
            )
            marks = [mark_for(ref) for ref in refs if ref not in shown]
            passed_by = len(refs) - len(marks)
            now = self.clock.now()

            def act(ledger: Ledger, marks: list[Mark] = marks, now: datetime = now) -> None:
                ledger.mark(marks, now)
                ledger.move_job(job, lambda progress: progress, now=now)

            if marks:
                await self.ledger.call(act)
            total += len(marks)
            if len(refs) < most:
                return total

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
        turn: PageTurner | None = None,
    ) -> Walked:
        """Read a list to its end, applying each page and saving the place in one commit with it.

        `turn` asks for a page of another list of the kind than its usual one. Raises ProviderError where it cannot go
        on; what was read until then is kept.
        """

        def save(ledger: Ledger, cursor: str | None, walked: Walked) -> None:
            reach = None if walked.reach is None else walked.reach.isoformat()
            place = {"cursor": cursor, "ended": cursor is None, "reach": reach, "broken": as_stored(walked.broken)}
            ledger.renew_job(job, progress={**marker, **place}, now=self.clock.now())

        known = () if cursor is None else stored(job.progress)
        return await self.walker.walk(Question(kind, window, cause, priority, turn), cursor, save, known=known)

    async def failed(
        self, kind: Kind, window: Window, error: ProviderError, job: Job, begin_anew: Callable[[Ledger], None]
    ) -> None:
        """A list could not be read: close what has to be closed, and record the hole with its reason, once.

        `begin_anew` forgets the place where it was to go on: perhaps the provider no longer knows what that is named
        after.
        """
        if not isinstance(error, NoBudget):
            await self.fetcher.failed(kind, [], error, endpoint=kind.list_endpoint)
        reason = describe(error)
        now = self.clock.now()

        def act(ledger: Ledger) -> None:
            if isinstance(error, BadReply):
                begin_anew(ledger)
            if _gist(reason) != _gist(job.last_error):
                ledger.record_coverage(not_looked_at(self.account, kind, window, reason), now)

        await self.ledger.call(act)

    # --- the provider's own feed ---

    async def feed(self, job: Job) -> Ended:
        """Events that the provider says it made: those that never reached us are missed deliveries, and marks."""
        settings = self._settings("")
        return await self.events.sweep(job, lag=settings.lag, overlap=settings.overlap)

    # --- what is not final yet ---

    async def open_states(self, kind: Kind, _job: Job) -> Ended:
        """Mark open resources whose next look is due: each wait is half the resource's age, and never so short that a
        lagging replica could show less than is known. Nothing was announced, so its answer would be final."""
        settings = self._settings(kind.name)
        now = self.clock.now()
        stale = await self.ledger.read(
            lambda ledger: ledger.stale_open(
                self.account,
                kind.name,
                sorted(kind.open_states),
                least=max(settings.every, kind.settle),
                oldest=now - settings.open_horizon,
                now=now,
            )
        )
        return Ended(complete=True, also=lambda ledger: ledger.mark([Mark(ref, Cause.SWEEP) for ref in stale], now))

    async def members(self, kind: Kind, job: Job) -> Ended:
        """List what belongs to resources that are complete now (a payout's balance transactions), once each.

        One whose list cannot be read keeps no other from its own: each run would end at the same one.
        """
        settings = self._settings(kind.name)
        now = self.clock.now()
        after: ResourceRef | None = None
        broken: BadReply | None = None
        while True:
            waiting = await self.ledger.read(
                lambda ledger, after=after: ledger.memberless(  # type: ignore[misc]  # mypy does not infer a default's type
                    self.account,
                    kind.name,
                    oldest=now - settings.open_horizon,
                    changed_before=now - kind.settle,
                    after=after,
                )
            )
            for snapshot in waiting:
                try:
                    await self._list_members(kind, snapshot, job)
                except BadReply as error:
                    broken = broken or error
            if not waiting:
                if broken is not None:
                    raise broken
                return Ended(complete=True)
            after = waiting[-1].ref

    async def _list_members(self, kind: Kind, snapshot: Snapshot, job: Job) -> None:
        found: dict[ResourceRef, None] = {}
        cursor: str | None = None
        endpoint = str(kind.list_endpoint)
        onward = Onward(f"the members of {snapshot.ref}")
        while True:
            await self.fetcher.budget.acquire(endpoint, Priority.SWEEP)
            start = await self.ledger.call(lambda ledger: ledger.tick())
            began = self.clock.now()
            try:
                page = await self.provider.members(snapshot, cursor)
                if page is not None:
                    onward.past(page.cursor)
            except ProviderError as error:
                await self.fetcher.failed(kind, [], error, endpoint=endpoint)
                raise
            if page is None:
                await self.fetcher.budget.give_back(endpoint, Priority.SWEEP)
                return
            at = self.clock.now()
            await self.walker.apply(
                Turn(page, start, began), Cause.SWEEP, Walked(),
                lambda ledger, at=at: ledger.renew_job(job, progress=job.progress, now=at),  # type: ignore[misc]  # mypy does not infer a default's type
            )  # fmt: skip
            found.update(dict.fromkeys(row.ref for row in page.rows))
            cursor = page.cursor
            if cursor is None:
                break
        now = self.clock.now()

        def act(ledger: Ledger) -> None:
            ledger.renew_job(job, progress=job.progress, now=now)
            ledger.record_payout_members(snapshot.ref, list(found), complete=True, now=now)

        await self.ledger.call(act)

    async def known(self, kind: Kind, job: Job) -> Ended:
        """Have everything read again of a kind that no list shows, unless it was read lately: a change or a deletion
        that no webhook told of is found in no other way."""
        now = self.clock.now()
        before = now - max(self._settings(kind.name).full_every / 2, kind.settle)
        await self._mark_all(kind, job, Window(EPOCH, now), before, lambda ref: Mark(ref, Cause.SWEEP))

        def also(ledger: Ledger) -> None:
            # What was marked is named as dirty until it is read, like what a list did not show.
            if not any(gate.account == self.account and gate.kind in ("", kind.name) for gate in ledger.gates()):
                ledger.record_coverage(looked_at(self.account, kind, Window(EPOCH, before)), now)

        return Ended(complete=True, also=also)

    async def singleton(self, kind: Kind, _job: Job) -> Ended:
        """Have the one resource of its kind read (a balance: its control totals are recorded with each read)."""
        now = self.clock.now()
        ref = ResourceRef(self.provider.name, self.account, kind.name, str(kind.singleton))
        return Ended(complete=True, also=lambda ledger: ledger.mark([Mark(ref, Cause.SWEEP)], now))

    # --- the account itself ---

    async def watch(self, _job: Job) -> Ended:
        """Permissions, subscriptions, versions: what the provider object finds wrong with the account."""
        found = await self.provider.findings()
        now = self.clock.now()

        def also(ledger: Ledger) -> None:
            with ledger.view() as view:
                known = {each.code for each in view.open_findings() if each.account == self.account}
            raging = any(gate.account == self.account and gate.reason == GATE_STORM for gate in ledger.gates())
            ours = CORE_CODES if raging else CORE_CODES - {GATE_STORM}
            codes = frozenset((known | {each.code for each in found}) - ours)
            ledger.note_findings(self.account, found, codes=codes, now=now)

        return Ended(complete=True, also=also)


def looked_at(
    account: str,
    kind: Kind,
    window: Window,
    *,
    reach: datetime | None = None,
    reason: str = "",
    broken: Sequence[BrokenRow] = (),
) -> list[Coverage]:
    """What a complete walk proves, for the kind and for those that its list covers. Beyond `reach` nothing was seen,
    nor where a row was `broken`."""
    if reach is None or reach <= window.since:
        left_out = holes(window, broken)
        return [
            Coverage(account, name, each, complete=True, reason=reason)
            for each in (around(window, [hole for hole, _ in left_out]) if left_out else [window])
            for name in (kind.name, *kind.covers)
        ] + [each for hole, said in left_out for each in not_looked_at(account, kind, hole, said)]
    seen_since = min(reach, window.until)
    hidden = f"scope: these credentials see only what was created since {reach:%Y-%m-%d}"
    return [
        *not_looked_at(account, kind, Window(window.since, seen_since), hidden),
        *looked_at(account, kind, Window(seen_since, window.until), reason=reason, broken=broken),
    ]


def not_looked_at(account: str, kind: Kind, window: Window, reason: str) -> list[Coverage]:
    return [Coverage(account, name, window, complete=False, reason=reason) for name in (kind.name, *kind.covers)]


def _marker(window: Window) -> dict[str, str]:
    return {"since": window.since.isoformat(), "until": window.until.isoformat()}


def _gist(reason: str | None) -> str | None:
    """A reason without what differs each time it is given: providers put a request's own id in parentheses."""
    return None if reason is None else reason.partition(" (")[0]
