"""When webhooks leave: each at its time, a bounded number of them under way at once. Both sandboxes send through it."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Departures(Generic[T]):
    """Runs inside an event loop between `start` and `stop`. `send` is called once for each item that was put in."""

    def __init__(self, send: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
        self._send = send
        self._slots = asyncio.Semaphore(at_once)
        self._due: list[tuple[float, int, T]] = []
        self._order = 0
        self._flying: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pump = self._loop.create_task(self._run())

    async def stop(self) -> None:
        """What is still waiting stays unsent."""
        tasks = [task for task in (self._pump, *self._flying) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def put(self, item: T, wait_seconds: float = 0.0) -> None:
        """Let it leave after that long. Call it in the loop's thread."""
        if self._loop is None:
            raise RuntimeError("the sender was not started")
        self._order += 1
        heapq.heappush(self._due, (self._loop.time() + wait_seconds, self._order, item))
        self._wake.set()

    async def flush(self, release: Callable[[], None]) -> None:
        """Send everything that waits, once, now. `release` puts in what is held back.

        What a failed attempt puts off until later still waits afterwards; what comes meanwhile is sent too.
        """
        attempted: set[T] = set()
        while True:
            release()
            fresh = sorted(each for each in self._due if each[2] not in attempted)
            if not fresh and not self._flying:
                return
            self._due = [each for each in self._due if each[2] in attempted]
            heapq.heapify(self._due)
            for _, _, item in fresh:
                attempted.add(item)
                await self._slots.acquire()
                self._fly(item)
            if self._flying:
                await asyncio.gather(*self._flying)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            while self._due and self._due[0][0] <= loop.time():
                await self._slots.acquire()
                if not self._due or self._due[0][0] > loop.time():  # a flush took it while this waited for a slot
                    self._slots.release()
                    break
                self._fly(heapq.heappop(self._due)[2])
            wait = self._due[0][0] - loop.time() if self._due else None
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _fly(self, item: T) -> None:
        task = asyncio.ensure_future(self._send(item))
        self._flying.add(task)
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        self._slots.release()
