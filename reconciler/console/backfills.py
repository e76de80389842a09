"""Backfills that were started in the console: previewed, watched while they run, cancelled."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import structlog

from reconciler.backfill import Backfill, Estimate, Request, Result
from reconciler.clock import Clock
from reconciler.errors import ReconcilerError, UsageError

log = structlog.get_logger(__name__)

_KEPT: Final = 50
_AT_ONCE: Final = 4

Maker = Callable[[Callable[[Result], None]], Backfill]
"""Makes a backfill over all accounts; what it is given is called whenever a result has moved."""


@dataclass(slots=True)
class Running:
    """One backfill, and how far it is."""

    id: str
    request: Request
    by: str
    started_at: datetime
    state: str = "reading lists"
    """`reading lists`, `reading what was marked`, `verified`, `not all verified`, `cancelled`, `failed`."""
    ended_at: datetime | None = None
    error: str = ""
    results: dict[tuple[str, str], Result] = field(default_factory=dict)


class Backfills:
    """Belongs to one event loop. They live as long as this process: the same question, asked again, goes on where a
    restart or a cancel left it."""

    def __init__(self, make: Maker | None, clock: Clock) -> None:
        """`make` None: this process has nothing to read with."""
        self._make = make
        self._clock = clock
        self._known: OrderedDict[str, Running] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._number = 0

    def listed(self) -> list[Running]:
        """The last started first."""
        return [replace(each, results=dict(each.results)) for each in reversed(list(self._known.values()))]

    async def preview(self, request: Request) -> list[Estimate]:
        return await self._made(lambda _: None).preview(request)

    def start(self, request: Request, by: str) -> Running:
        """Raises UsageError where too many run, or the very same one does."""
        if len(self._tasks) >= _AT_ONCE:
            raise UsageError(f"{_AT_ONCE} backfills are running; wait for one of them, or cancel it")
        if any(each.request == request and each.id in self._tasks for each in self._known.values()):
            raise UsageError("the same backfill is running already")
        self._number += 1
        running = Running(f"b{self._number}", request, by, self._clock.now())
        work = self._made(lambda result: self._moved(running, result))
        self._known[running.id] = running
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        self._tasks[running.id] = asyncio.create_task(self._run(running, work), name=f"backfill {running.id}")
        log.info("backfill started", by=by, since=request.since.isoformat())
        return running

    def cancel(self, backfill_id: str, by: str) -> None:
        """What was read stays read; the same question goes on from there. Raises UsageError."""
        task = self._tasks.get(backfill_id)
        if task is None:
            raise UsageError("this backfill is not running (any more)")
        log.info("backfill cancelled", by=by, backfill=backfill_id)
        task.cancel()

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _made(self, watch: Callable[[Result], None]) -> Backfill:
        if self._make is None:
            raise UsageError("this process has no accounts to read from; use `reconcile --since` where they are")
        return self._make(watch)

    def _moved(self, running: Running, result: Result) -> None:
        running.results[result.account, result.kind] = replace(result, reasons=list(result.reasons))

    async def _run(self, running: Running, work: Backfill) -> None:
        try:
            results = await work.run(running.request)
            running.state = "reading what was marked"
            await work.settle(results)
            for result in results:
                self._moved(running, result)
            running.state = "verified" if all(result.verified for result in results) else "not all verified"
        except asyncio.CancelledError:
            running.state = "cancelled"
            raise
        except ReconcilerError as error:
            running.state, running.error = "failed", str(error)
            log.warning("backfill failed", error=str(error))
        finally:
            running.ended_at = self._clock.now()
            self._tasks.pop(running.id, None)
