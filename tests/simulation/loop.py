"""An event loop that never waits: time jumps to the next timer, and what is ready runs in an order that a seed picks.

Processes are told apart by a context variable that every callback carries: those of a process that was killed never
run again, not even a `finally`, and those of a paused one wait until it goes on. That is what SIGKILL and SIGSTOP do.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import inspect
import random
import selectors
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVarTuple, Unpack

_Ts = TypeVarTuple("_Ts")

EPOCH = datetime(2026, 11, 2, 12, tzinfo=UTC)
"""When every simulation begins."""

_AWAITS_IN_FINALLY = 4
"""More than any coroutine of ours has inside each other."""


class Process:
    """One life of a process of ours: everything that was started in its `context` is part of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.paused = False
        self.context = contextvars.copy_context()
        self.context.run(_PROCESS.set, self)
        self.held: list[asyncio.Handle] = []
        """What would have run while it was paused."""


_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class _NoSelector(selectors.BaseSelector):
    """Nothing is ever read from outside: asking the kernel would only cost time."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class Stuck(RuntimeError):
    """Nothing is ready and nothing is planned: whoever still waits, waits for ever."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Overrides three hooks of CPython's loop: the clock, the turn, and the door for other threads (there are none)."""

    _ready: Any
    _scheduled: Any

    def __init__(self, seed: int) -> None:
        super().__init__(_NoSelector())
        self._time = 0.0
        self._dice = random.Random(seed)
        self._watching = False
        self._left: list[asyncio.Task[Any]] = []
        self.turns = 0
        self.set_exception_handler(_silence)

    def time(self) -> float:
        return self._time

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise Stuck("nothing is ready and no timer is set")
            self._time = max(self._time, scheduled[0]._when)
            while scheduled and scheduled[0]._when <= self._time:
                handle = heapq.heappop(scheduled)
                handle._scheduled = False
                ready.append(handle)
        if self._watching:
            self._sort_out()
        if len(ready) > 1:
            order = list(ready)
            self._dice.shuffle(order)
            ready.clear()
            ready.extend(order)
        self.turns += 1
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    # --- processes ---

    def kill(self, process: Process) -> None:
        process.dead = True
        _drop(process.held)
        process.held.clear()
        self._watching = True

    def pause(self, process: Process, seconds: float) -> None:
        if process.dead or process.paused:
            return
        process.paused = True
        self._watching = True
        self.call_later(seconds, self._go_on, process, context=contextvars.Context())

    def _go_on(self, process: Process) -> None:
        process.paused = False
        if not process.dead:
            self._ready.extend(process.held)
        process.held.clear()

    def end(self) -> None:
        """Whatever still waits never goes on; asyncio is told not to complain of it."""
        self._left = list(asyncio.all_tasks(self))
        self._scheduled.clear()
        self._ready.clear()
        for task in self._left:
            vars_of_task: Any = task
            vars_of_task._log_destroy_pending = False
        self.close()
        vars(self)["_check_closed"] = lambda: None  # what a coroutine that is swept up asks for is never done

    def sweep_up(self) -> None:
        """Close what `end` has left, so that the garbage collector finds nothing to complain of."""
        for task in self._left:
            coroutine: Any = task.get_coro()
            for _ in range(_AWAITS_IN_FINALLY):
                with suppress(RuntimeError):  # it awaits something in a `finally`: once more
                    coroutine.close()
        self._left.clear()

    def _sort_out(self) -> None:
        """Callbacks of the dead are dropped, those of the paused put aside."""
        ready = list(self._ready)
        self._ready.clear()
        for handle in ready:
            process = handle._context.get(_PROCESS)
            if process is None or not (process.dead or process.paused):
                self._ready.append(handle)
            elif process.paused and not process.dead:
                process.held.append(handle)
            else:
                _drop([handle])


def _drop(handles: Iterable[asyncio.Handle]) -> None:
    """These callbacks never run. A coroutine whose first turn was one of them is closed, which runs nothing of it: else
    Python complains, whenever it finds the coroutine, that nobody has awaited it."""
    for handle in handles:
        task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]  # its stub leaves it out
        if isinstance(task, asyncio.Task):
            coroutine: Any = task.get_coro()
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()


def _silence(_loop: asyncio.AbstractEventLoop, _context: Mapping[str, Any]) -> None:
    """Tasks of killed processes are never awaited, on purpose."""


class SimulatedClock:
    """A wall clock of one machine: `offset` is how wrong it is."""

    def __init__(self, loop: SimulatedLoop, offset: timedelta = timedelta(0)) -> None:
        self._loop = loop
        self.offset = offset

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time()) + self.offset

    def monotonic(self) -> float:
        return self._loop.time()
