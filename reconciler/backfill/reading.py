"""Reading one list for a backfill, in as many places at once as are worth it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta

from reconciler.backfill.places import Places
from reconciler.backfill.stretches import Density, Stretch, left, moved, walks_at_once
from reconciler.errors import AccessDenied, ProviderError, Throttled
from reconciler.ledger import Job, Ledger
from reconciler.model import Cause, Page, Priority, Window
from reconciler.provider import Kind
from reconciler.retry import RetryPolicy
from reconciler.spending import NoBudget
from reconciler.sweeps import Sweeper
from reconciler.walks import Question, Walked

TRIES = 5
"""Failures of one list or feed that are waited out."""


class Reading:
    """One kind's list over a window. Every stretch of it is read to its end, also where another one fails."""

    def __init__(
        self,
        sweeper: Sweeper,
        kind: Kind,
        job: Job,
        window: Window,
        places: Places,
        *,
        policy: RetryPolicy,
        sleep: Callable[[float], Awaitable[None]],
        room: AbstractAsyncContextManager[object],
        on_page: Callable[[int, int], None],
    ) -> None:
        """`room` is entered by each walk, `on_page` told of how many rows each page had, and how many were changes."""
        self._sweeper = sweeper
        self._kind = kind
        self._job = job
        self._window = window
        self._places = places
        self._policy = policy
        self._sleep = sleep
        self._room = room
        self._on_page = on_page
        self._at_once = walks_at_once(sweeper.provider, kind)
        self._open = 0
        """Stretches that are being read, or wait for room."""

    async def read(self, stretches: Sequence[Stretch]) -> None:
        """Raises ProviderError where it cannot go on, JobLost and other errors of the ledger."""
        self._open = len(stretches)
        await self._together(stretches)

    async def _together(self, stretches: Sequence[Stretch]) -> None:
        ended = await asyncio.gather(*(self._read(each) for each in stretches), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def _read(self, stretch: Stretch) -> None:
        """A failure that may pass is waited out and tried again."""
        failures = 0
        while True:
            try:
                async with self._room:
                    pieces = await self._walk(stretch)
                break
            except ProviderError as error:
                if not isinstance(error, NoBudget):
                    failures += 1
                    await self._failed(stretch, error)
                    if isinstance(error, AccessDenied) or failures == TRIES:
                        raise
                await self._sleep(pause(error, failures, self._policy).total_seconds())
                stretch = await self._place_of(stretch)
        if pieces:
            await self._together(pieces)
        else:
            self._open -= 1

    async def _walk(self, stretch: Stretch) -> list[Stretch]:
        """Read a stretch; the pieces that are left where it was cut."""
        density = Density(stretch)
        pieces: list[Stretch] = []
        counted = Walked()

        def cut(page: Page) -> bool:
            density.see(page)
            pieces.extend(density.pieces(page.cursor, self._at_once - self._open + 1))
            self._open += max(0, len(pieces) - 1)
            return bool(pieces)

        def save(ledger: Ledger, cursor: str | None, walked: Walked) -> None:
            rest = pieces or ([] if cursor is None else [replace(stretch, cursor=cursor)])
            self._move(ledger, stretch, rest, walked)

        def on_page(walked: Walked, _: Page) -> None:
            self._on_page(walked.rows - counted.rows, walked.changed - counted.changed)
            counted.rows, counted.changed = walked.rows, walked.changed

        question = Question(
            self._kind, stretch.window if self._kind.windowed else None, Cause.BACKFILL, Priority.BACKFILL,
            ahead=self._open == 1,
        )  # fmt: skip
        try:
            await self._sweeper.walker.walk(question, stretch.cursor, save, on_page=on_page, ends_with=cut)
        except BaseException:
            self._open -= max(0, len(pieces) - 1)
            raise
        return pieces

    async def _failed(self, stretch: Stretch, error: ProviderError) -> None:
        anew = replace(stretch, cursor=None)
        await self._sweeper.failed(
            self._kind, stretch.window, error, self._job, lambda ledger: self._move(ledger, stretch, [anew], Walked())
        )

    async def _place_of(self, stretch: Stretch) -> Stretch:
        progress = await self._places.progress(self._job.name)
        return next((each for each in left(progress, self._window) if each.until == stretch.until), stretch)

    def _move(self, ledger: Ledger, stretch: Stretch, rest: Sequence[Stretch], walked: Walked) -> None:
        ledger.move_job(
            self._job,
            lambda progress: moved(progress, self._window, stretch, rest, walked.reach, walked.broken),
            now=self._sweeper.clock.now(),
        )


def pause(error: ProviderError, failures: int, policy: RetryPolicy) -> timedelta:
    """How long to wait before a list or feed is asked again."""
    asked = error.retry_after if isinstance(error, Throttled) else None
    return asked or policy.backoff(max(failures, 1), 0.5)
