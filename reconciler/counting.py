"""Control counts: where a provider can count without listing, its counts are held against what we hold.

A window whose counts differ is cut in two until what differs is one page long, and only that is listed. Equal counts
prove nothing of each resource (one too many hides one too few); the complete lists stay the proof. A count is the
cheap question that may be asked often.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from reconciler.errors import ProviderError
from reconciler.ledger import Job
from reconciler.ledger.candidates import KnownCount
from reconciler.model import Cause, Finding, Page, Priority, Severity, Window
from reconciler.periodic import Ended, behind_gates
from reconciler.provider import Counts, Kind
from reconciler.spending import NoBudget
from reconciler.sweeps import COUNT_DIFFERS, EPOCH, Sweeper, SweepSettings

log = structlog.get_logger(__name__)

MOST_COUNTS: Final = 60
"""Requests for counts in one run, of one kind. Where that is not enough the next run goes on: what this one listed no
longer differs, and a window of all time is one page long after less than that."""

_SECOND: Final = timedelta(seconds=1)

Theirs = Callable[[Window], Awaitable[int | None]]
Ours = Callable[[Window], Awaitable[KnownCount]]


@dataclass(slots=True)
class Bisected:
    """Where counts differ."""

    windows: list[Window]
    """Each at most one page long, or one second."""
    counts: int = 0
    """How often the provider was asked."""
    finished: bool = True
    """False: there is more, and the bound was reached."""


async def bisect(window: Window, theirs: Theirs, ours: Ours, *, page_size: int, most: int = MOST_COUNTS) -> Bisected:
    """Cut a window that begins and ends at whole seconds until each part that differs is small enough to list.

    Where we only lack something, every hole lies in one of the parts.
    """
    found = Bisected([])

    async def asked(part: Window) -> int | None:
        found.counts += 1
        return await theirs(part)

    known = await ours(window)
    open_parts = [(window, await asked(window), known)]
    while open_parts:
        part, number, known = open_parts.pop()
        if number == known.number:
            continue
        if (number is not None and number <= page_size) or part.until - part.since <= _SECOND:
            found.windows.append(part)
            continue
        if found.counts + 2 > most:
            found.finished = False
            break
        at = _cut(part, known)
        left, right = Window(part.since, at), Window(at, part.until)
        on_left = await asked(left)
        # What was deleted between two counts makes the difference negative: nothing is then left on the right.
        on_right = await asked(right) if number is None or on_left is None else max(0, number - on_left)
        open_parts += [(left, on_left, await ours(left)), (right, on_right, await ours(right))]
    return found


def _cut(part: Window, known: KnownCount) -> datetime:
    """The middle of what we know, else of the time: all time is mostly empty."""
    if known.middle is not None:
        at = known.middle.replace(microsecond=0)
        if part.since < at < part.until:
            return at
    return part.since + timedelta(seconds=(part.until - part.since) // _SECOND // 2)


class Counting:
    """The control counts of one account."""

    def __init__(self, sweeper: Sweeper, provider: Counts, settings: Callable[[str], SweepSettings]) -> None:
        self._sweeper = sweeper
        self._provider = provider
        self._settings = settings

    async def run(self, job: Job) -> Ended:
        """Every counted kind once. What the lists cannot explain either is a finding."""
        sweeper, found = self._sweeper, list[Finding]()
        now = sweeper.clock.now()
        skipped = False
        for name in sorted(self._provider.counted):
            kind = sweeper.provider.kinds[name]

            async def counted(kind: Kind = kind) -> Ended:
                found.extend(await self._hold_against(kind, job))
                return Ended(complete=True)

            ended = await behind_gates(sweeper.ledger, now, sweeper.account, name, counted)
            skipped = skipped or not ended.complete
        # Of a kind that could not be counted nothing new is known, so that what was found before stays.
        codes = frozenset[str]() if skipped else frozenset({COUNT_DIFFERS})
        at = sweeper.clock.now()
        return Ended(
            complete=True, also=lambda ledger: ledger.note_findings(sweeper.account, found, codes=codes, now=at)
        )

    async def _hold_against(self, kind: Kind, job: Job) -> list[Finding]:
        sweeper = self._sweeper
        until = (sweeper.clock.now() - self._settings(kind.name).lag).replace(microsecond=0)
        reach = self._provider.counts_from(kind.name)
        since = EPOCH if reach is None else min(reach.replace(microsecond=0) + _SECOND, until)

        async def theirs(window: Window) -> int | None:
            await sweeper.fetcher.budget.acquire(str(kind.list_endpoint), Priority.SWEEP)
            number = await self._provider.count(kind.name, window)
            sweeper.fetcher.answered(kind)
            return number

        async def ours(window: Window) -> KnownCount:
            return await sweeper.ledger.read(lambda ledger: ledger.known_count(sweeper.account, kind.name, window))

        try:
            bisected = await bisect(Window(since, until), theirs, ours, page_size=kind.page_size)
            found = [each for window in bisected.windows if (each := await self._list(kind, window, ours, job))]
        except ProviderError as error:
            if not isinstance(error, NoBudget):
                await sweeper.fetcher.failed(kind, [], error, endpoint=kind.list_endpoint)
            raise
        if bisected.windows or not bisected.finished:
            log.info(
                "counts differed", account=sweeper.account, kind=kind.name, counts=bisected.counts,
                windows=len(bisected.windows), finished=bisected.finished,
            )  # fmt: skip
        return found

    async def _list(self, kind: Kind, window: Window, ours: Ours, job: Job) -> Finding | None:
        """Read what lies in the window, and have read what should lie there and does not."""
        sweeper = self._sweeper
        began = sweeper.clock.now()
        walked = await sweeper.walk(
            kind, window, job=job, cause=Cause.SWEEP, priority=Priority.SWEEP, cursor=None, marker={},
            turn=self._turn,
        )  # fmt: skip
        unseen = await sweeper.mark_unseen(kind, job, window, began, walked)
        known = await ours(window)
        if unseen or walked.deferred or walked.broken or known.number == walked.rows:
            return None  # a broken row is counted there and never here: coverage names it, with what to do
        return Finding(
            COUNT_DIFFERS, Severity.WARNING, sweeper.account,
            f"{kind.name} created from {window.since:%Y-%m-%d %H:%M:%S}Z to {window.until:%Y-%m-%d %H:%M:%S}Z:"
            f" the provider lists {walked.rows}, the ledger holds {known.number}",
            "it is counted again within the hour; if it stays, run `reconcile --since` over that time and look at"
            " `reconcile dead-letters`",
            subject=kind.name,
        )  # fmt: skip

    async def _turn(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        assert window is not None
        return await self._provider.created(kind, window, cursor)
