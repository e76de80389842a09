"""Walking a list: page by page, one commit a page, the next page on its way while one is applied.

A page's commit holds its rows, the place behind it, and the budget and the ledger clock's reading for a later request.
The place never moves before the rows are stored: who goes on after a death asks again for what was only asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import TracebackType
from typing import Self

import structlog

from reconciler.broken import together
from reconciler.circles import Onward
from reconciler.clock import Clock
from reconciler.errors import LedgerError
from reconciler.fetcher import Fetcher
from reconciler.ledger import Applied, GroupCommit, Ledger, Outcome, PageRow
from reconciler.ledger.marks import follow_up
from reconciler.model import BrokenRow, Cause, Page, Priority, ResourceRef, Window
from reconciler.provider import Kind

log = structlog.get_logger(__name__)

PageTurner = Callable[[str, Window | None, str | None], Awaitable[Page]]
"""Asks for the page of a list (kind, window) that begins at the cursor."""

Save = Callable[["Ledger", str | None, "Walked"], None]
"""Keeps the place behind a page, in its commit: the cursor, None at the end, and what the pages have said so far."""

_NEW_SHARE = 0.5
"""From so many new rows on the page before, a page's bodies are packed before its commit, and not in it."""


@dataclass(slots=True)
class Walked:
    """What a walk over a list saw."""

    pages: int = 0
    rows: int = 0
    changed: int = 0
    drift: int = 0
    deferred: set[ResourceRef] = field(default_factory=set)
    """Resources on its pages whose rows were too close to another read to be applied."""
    reach: datetime | None = None
    """How far back in creation time these credentials let the list go; None: to the beginning."""
    broken: tuple[BrokenRow, ...] = ()
    """Rows on its pages that the ledger cannot hold."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A page, and when it was asked for: by the ledger clock, and by ours."""

    page: Page
    start: int
    began: datetime


@dataclass(frozen=True, slots=True)
class Question:
    """Which list is walked, and as what."""

    kind: Kind
    window: Window | None
    cause: Cause
    priority: Priority
    turn: PageTurner | None = None
    """Asks for a page of another list of the kind than its usual one."""
    ahead: bool = True
    """Whether a page is asked for while the one before it is applied. Where several walks share a list none is: each
    would hold a request's budget that it may only use later, and together they would send them all in one second."""


class Walker:
    """Walks the lists of one account."""

    def __init__(
        self,
        fetcher: Fetcher,
        ledger: GroupCommit,
        clock: Clock,
        *,
        on_applied: Callable[[Sequence[Applied]], None],
    ) -> None:
        self.fetcher = fetcher
        self.ledger = ledger
        self.clock = clock
        self._on_applied = on_applied
        self._settle = {name: kind.settle for name, kind in fetcher.provider.kinds.items()}

    async def walk(
        self,
        question: Question,
        cursor: str | None,
        save: Save,
        *,
        known: tuple[BrokenRow, ...] = (),
        on_page: Callable[[Walked, Page], None] = lambda _walked, _page: None,
        ends_with: Callable[[Page], bool] = lambda _: False,
    ) -> Walked:
        """Read a list to its end, or to the first page of which `ends_with` says so; `known` is of its pages before.

        Raises ProviderError where it cannot go on; what was read until then is kept.
        """
        walked = Walked(broken=known)
        onward = Onward(f"{self.fetcher.account}: the list of {question.kind.name}")
        onward.past(cursor)
        async with _Requests(self, question) as requests:
            turn = await requests.first(cursor)
            while True:
                page = turn.page
                onward.past(page.cursor)
                walked.reach = page.reach or walked.reach
                for each in page.broken:
                    log.warning("row cannot be stored", account=self.fetcher.account, said=each.said)
                walked.broken = together(walked.broken, page.broken)
                ends = page.cursor is None or ends_with(page)
                requests.before(None if ends else page.cursor)

                def also(ledger: Ledger, page: Page = page, ends: bool = ends) -> None:
                    requests.draw(ledger, ends=ends)
                    save(ledger, page.cursor, walked)

                await self.apply(turn, question.cause, walked, also)
                on_page(walked, page)
                if ends:
                    requests.used_up()
                    return walked
                turn = await requests.next(page.cursor)

    async def apply(self, turn: Turn, cause: Cause, walked: Walked, also: Callable[[Ledger], None]) -> None:
        """Store a page's rows, and what else belongs into their commit."""
        page, fetcher = turn.page, self.fetcher
        pack = walked.changed > _NEW_SHARE * walked.rows
        rows = await self.ledger.read(
            lambda ledger: prepared(ledger, fetcher.page_rows((*page.rows, *page.along)), pack=pack)
        )
        affects = {row.snapshot.ref: row.snapshot.affects for row in rows if row.snapshot.affects}
        now = self.clock.now()

        def act(ledger: Ledger) -> list[Applied]:
            applied = ledger.apply_page(
                rows, start=turn.start, started_at=turn.began, cause=cause, settle=self._settle, now=now
            )
            following = [
                follow_up(ref, cause, self._settle[each.ref.kind])
                for each in applied
                if each.outcome is Outcome.CHANGED and each.cause is cause
                for ref in affects.get(each.ref, ())
            ]
            if following:
                ledger.mark(following, now)
            also(ledger)
            return applied

        applied = await self.ledger.call(act)
        walked.pages += 1
        walked.rows += len(page.rows) + len(page.broken)
        walked.deferred.update([each.ref for each in applied if each.outcome is Outcome.DEFERRED])
        walked.changed += sum([each.outcome is Outcome.CHANGED for each in applied])
        walked.drift += sum([each.drift for each in applied])
        self._on_applied(applied)


def prepared(ledger: Ledger, rows: Sequence[PageRow], *, pack: bool) -> list[PageRow]:
    """The same rows with what takes time done before their commit: whoever waits for that waits for less."""
    made = []
    for row in rows:
        snapshot = row.snapshot
        snapshot.content_hash  # noqa: B018 - it is made once, when it is asked for first
        made.append(replace(row, packed=ledger.packed_version(snapshot.canonical)) if pack else row)
    return made


class _Requests:
    """The requests of one walk: each is paid for, and the ledger clock read, before it is sent."""

    def __init__(self, walker: Walker, question: Question) -> None:
        self._walker = walker
        self._question = question
        self._endpoint = str(question.kind.list_endpoint)
        self._turn = question.turn or walker.fetcher.provider.page
        self._starts: list[int] = []
        """A reading of the ledger clock for each request that is paid for and not sent."""
        self._drawn: list[int] = []
        """The same of a commit that may still fail."""
        self._coming: asyncio.Task[Turn] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A walk that could not go on leaves nothing under way, and gives back what it did not send."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)
        for _ in self._starts:
            with suppress(LedgerError):
                await self._walker.fetcher.budget.give_back(self._endpoint, self._question.priority)

    async def first(self, cursor: str | None) -> Turn:
        return await self._send(cursor, await self._start())

    def before(self, cursor: str | None) -> None:
        """Before a page is applied: the one behind it is asked for, if it is paid for."""
        if cursor is not None and self._starts and self._question.ahead:
            self._coming = asyncio.create_task(self._send(cursor, self._starts.pop()), name="page ahead")

    def draw(self, ledger: Ledger, *, ends: bool) -> None:
        """In a page's commit, and last in it: others hold the budget only while they commit."""
        fetcher, priority, now = self._walker.fetcher, self._question.priority, self._walker.clock.now()
        if ends:
            if self._starts:
                ledger.requests.give_back(
                    fetcher.account, self._endpoint, fetcher.budget.limits, unused=len(self._starts), priority=priority,
                    now=now,
                )  # fmt: skip
            return
        want = 1 + self._question.ahead - (self._coming is not None)
        self._drawn = ledger.requests.draw_starts(
            fetcher.account, self._endpoint, fetcher.budget.limits, want=want, priority=priority, now=now
        )

    def used_up(self) -> None:
        """What was not sent was given back in the last page's commit."""
        self._starts.clear()

    async def next(self, cursor: str | None) -> Turn:
        self._starts += self._drawn
        self._drawn = []
        if self._coming is None:
            return await self._send(cursor, await self._start())
        coming, self._coming = self._coming, None
        return await coming

    async def _start(self) -> int:
        if self._starts:
            return self._starts.pop()
        await self._walker.fetcher.budget.acquire(self._endpoint, self._question.priority)
        return await self._walker.ledger.call(lambda ledger: ledger.tick())

    async def _send(self, cursor: str | None, start: int) -> Turn:
        kind = self._question.kind
        began = self._walker.clock.now()
        page = await self._turn(kind.name, self._question.window, cursor)
        self._walker.fetcher.answered(kind)
        return Turn(page, start, began)
