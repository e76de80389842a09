"""How the console reaches the ledger: reads on threads of its own, writes through the one queue of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from reconciler.ledger import GroupCommit, Ledger
from reconciler.ledger.transaction import Transaction

T = TypeVar("T")

THREADS: Final = 6
"""Pages that are made at the same time; the intake's threads are others."""


class Pen:
    """Belongs to one event loop. Reads never touch the ledger's own thread, so no page holds back a webhook."""

    def __init__(self, ledger: Ledger, writer: GroupCommit) -> None:
        self._ledger = ledger
        self._writer = writer
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="console")

    async def read(self, look: Callable[[Transaction], T]) -> T:
        """In one consistent view of the ledger, on another thread."""

        def run() -> T:
            with self._ledger.store.read() as tx:
                return look(tx)

        return await self.work(run)

    async def work(self, run: Callable[[], T]) -> T:
        """Anything that takes long, on another thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def write(self, act: Callable[[Transaction], T]) -> T:
        """Returns after the commit. Raises what `act` raised, having stored nothing of it."""

        def run(ledger: Ledger) -> T:
            with ledger.store.write() as tx:
                return act(tx)

        return await self._writer.call(run)

    async def call(self, act: Callable[[Ledger], T]) -> T:
        return await self._writer.call(act)

    def wake(self) -> None:
        """Something was marked: whoever reads it need not wait for the next poll."""
        self._writer.on_marked()

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
