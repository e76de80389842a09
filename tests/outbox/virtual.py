"""A ledger on a virtual clock: its statements run as callbacks of the loop, and what is asked of it is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any, TypeVar

from reconciler.ledger import GroupCommit, Ledger
from tests.simulation.loop import SimulatedClock, SimulatedLoop

T = TypeVar("T")


class OnTheLoop(Executor):
    """The ledger's thread, as callbacks of the virtual loop."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def submit(self, act: Callable[..., T], /, *args: Any, **more: Any) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(act(*args, **more))
            except BaseException as error:
                future.set_exception(error)

        self._loop.call_later(0.001, run)
        return future


class Counted(GroupCommit):
    """Knows how often it was asked."""

    def __init__(self, ledger: Ledger, loop: SimulatedLoop) -> None:
        thread = OnTheLoop(loop)
        super().__init__(ledger, SimulatedClock(loop), thread=thread, readers=thread)
        self.reads = 0
        self.calls = 0

    async def read(self, act: Callable[[Ledger], T]) -> T:
        self.reads += 1
        return await super().read(act)

    async def call(self, act: Callable[[Ledger], T]) -> T:
        self.calls += 1
        return await super().call(act)


@contextmanager
def virtual_loop() -> Iterator[SimulatedLoop]:
    loop = SimulatedLoop(1)
    try:
        yield loop
    finally:
        loop.end()
