"""Group commit: the ledger's calls run on a thread of their own, and calls that wait share the next commit.

While one commit runs, everything that arrives meanwhile gathers; it becomes the next commit, without any linger. One
hand-over to the thread and one back per commit, not per call: the loop stays free, and a durable write costs a
fraction of an fsync (10 to 12 times the throughput of one commit per request; CORE.md section 4).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from reconciler.clock import Clock
from reconciler.errors import LedgerContention, LedgerSaturated, LedgerUnavailable
from reconciler.ledger.deliveries import Receipt, Rejection, Verdict
from reconciler.ledger.ledger import Ledger

T = TypeVar("T")

QUEUE_BOUND = 10_000
"""Calls that may wait; beyond it the sender is told to come back, instead of memory growing."""

GROUP_BOUND = 256
"""Calls that one commit may hold."""

_CONTENTION_TRIES = 3


@dataclass(slots=True)
class _Waiting:
    """A call and who waits for it: either one function of the ledger, or one receipt that joins the others."""

    act: Callable[[Ledger], Any] | None
    receipt: Receipt | None
    done: Callable[[Any, BaseException | None], None]
    result: Any = None
    error: BaseException | None = None


class GroupCommit:
    """The asynchronous door to a ledger. Belongs to one event loop."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        *,
        bound: int = QUEUE_BOUND,
        thread: Executor | None = None,
        readers: Executor | None = None,
    ) -> None:
        """`thread` runs one commit at a time, `readers` the reading calls; a simulation brings its own."""
        self._ledger = ledger
        self._clock = clock
        self._bound = bound
        self._waiting: deque[_Waiting] = deque()
        self._rejections: deque[Rejection] = deque(maxlen=bound)
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._readers = readers or ThreadPoolExecutor(4, thread_name_prefix="ledger-read")
        self._running = False
        self._closed = False
        self._away = False
        """The last commit found the database away: rejections wait for the next call instead of trying again."""
        self._idle = asyncio.Event()
        self._idle.set()
        self.on_marked: Callable[[], None] = lambda: None
        """Called on the loop after a commit that held receipts: somebody may want to claim."""

    # --- the calls ---

    async def call(self, act: Callable[[Ledger], T]) -> T:
        """Run one ledger call; returns after its commit. Raises what it raised, having stored nothing of it."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._enqueue(_Waiting(act, None, partial(_resolve, future)))
        return await future

    async def receive(self, receipt: Receipt) -> Verdict:
        """Store one verified delivery and its marks; returns after the commit, so that a 2xx may follow."""
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self.submit(receipt, partial(_resolve, future))
        return await future

    def submit(self, receipt: Receipt, done: Callable[[Verdict | None, BaseException | None], None]) -> None:
        """The same without a task that waits: `done` is called on the loop after the commit, with the verdict or
        with what went wrong. Raises LedgerSaturated or LedgerUnavailable at once."""
        self._enqueue(_Waiting(None, receipt, done))

    def reject(self, rejection: Rejection) -> None:
        """Note a rejected delivery with the next commit that succeeds. Nobody waits for it; beyond `bound` the oldest
        are dropped."""
        self._rejections.append(rejection)
        if not (self._away or self._closed):
            self._start()

    async def read(self, act: Callable[[Ledger], T]) -> T:
        """Run a reading call beside the writer."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, act, self._ledger)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def close(self) -> None:
        """Finish what waits, then stop the threads. Further calls raise LedgerUnavailable."""
        self._closed = True
        await self._idle.wait()
        self._thread.shutdown(wait=True)
        self._readers.shutdown(wait=True)

    # --- the turn ---

    def _enqueue(self, waiting: _Waiting) -> None:
        if self._closed:
            raise LedgerUnavailable("the ledger is closing; try again after the restart")
        if len(self._waiting) >= self._bound:
            raise LedgerSaturated(f"{self._bound} ledger calls are waiting; try again in a moment")
        self._waiting.append(waiting)
        self._start()

    def _start(self) -> None:
        if self._running or not (self._waiting or self._rejections):
            return
        self._running = True
        self._idle.clear()
        # One trip through the loop first, so that requests which are ready now share this commit.
        asyncio.get_running_loop().call_soon(self._submit)

    def _submit(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(GROUP_BOUND, len(self._waiting)))]
        rejections = [self._rejections.popleft() for _ in range(min(GROUP_BOUND, len(self._rejections)))]
        loop = asyncio.get_running_loop()
        self._thread.submit(self._run, loop, group, rejections)

    def _run(self, loop: asyncio.AbstractEventLoop, group: list[_Waiting], rejections: list[Rejection]) -> None:
        """On the ledger's thread."""
        away = False
        for attempt in range(1, _CONTENTION_TRIES + 1):
            try:
                self._commit(group, rejections)
            except LedgerContention as error:
                if attempt < _CONTENTION_TRIES:
                    continue
                away = True
                _fail(group, error)
            except BaseException as error:
                away = isinstance(error, LedgerUnavailable)
                _fail(group, error)
            break
        loop.call_soon_threadsafe(self._done, group, rejections if away else (), away)

    def _commit(self, group: list[_Waiting], rejections: Sequence[Rejection]) -> None:
        receipts = [waiting for waiting in group if waiting.receipt is not None]
        if len(receipts) == len(group) and not rejections and self._receive_alone(receipts):
            return
        with self._ledger.together():
            self._receive(receipts)
            for waiting in group:
                if waiting.act is not None:
                    _settle(waiting, waiting.act, self._ledger)
            self._reject(rejections)

    def _receive_alone(self, group: list[_Waiting]) -> bool:
        """The usual case, a transaction without savepoints; False, with nothing stored, when a receipt is poison."""
        if not group:
            return True
        try:
            verdicts = self._ledger.receive([each.receipt for each in group if each.receipt], self._clock.now())
        except LedgerUnavailable:
            raise
        except Exception:
            return False
        for waiting, verdict in zip(group, verdicts, strict=True):
            waiting.result, waiting.error = verdict, None
        return True

    def _receive(self, group: list[_Waiting]) -> None:
        """All receipts in one go; if one of them is poison, the group is halved until only that one fails."""
        if not group:
            return
        now = self._clock.now()
        receipts = [waiting.receipt for waiting in group if waiting.receipt is not None]
        try:
            verdicts = self._ledger.receive(receipts, now)
        except LedgerUnavailable:
            raise
        except Exception as error:
            if len(group) == 1:
                group[0].error = error
                return
            middle = len(group) // 2
            self._receive(group[:middle])
            self._receive(group[middle:])
            return
        for waiting, verdict in zip(group, verdicts, strict=True):
            waiting.result, waiting.error = verdict, None

    def _reject(self, rejections: Sequence[Rejection]) -> None:
        """As `_receive`; but nobody waits for a rejection, so one that cannot be stored is dropped."""
        if not rejections:
            return
        try:
            self._ledger.reject(rejections)
        except LedgerUnavailable:
            raise
        except Exception:
            middle = len(rejections) // 2
            if middle:
                self._reject(rejections[:middle])
                self._reject(rejections[middle:])

    def _done(self, group: list[_Waiting], unstored: Sequence[Rejection], away: bool) -> None:
        """On the loop, after the commit."""
        self._away = away
        if unstored:
            self._rejections = deque([*unstored, *self._rejections], maxlen=self._bound)
        for waiting in group:
            try:
                waiting.done(waiting.result, waiting.error)
            except Exception as error:
                # One who cannot take his answer must not cost the others theirs.
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a caller of the ledger failed over its answer", "exception": error}
                )
        if self._waiting or (self._rejections and not away):
            self._submit()
        else:
            self._running = False
            self._idle.set()
        if any(waiting.receipt is not None for waiting in group):
            self.on_marked()


def _resolve(future: asyncio.Future[T], result: T, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _settle(waiting: _Waiting, act: Callable[[Ledger], Any], ledger: Ledger) -> None:
    """One call, whole or not at all, inside the group's transaction: its own failure hurts nobody else.

    A database that went away fails the whole group instead.
    """
    try:
        with ledger.together():
            waiting.result, waiting.error = act(ledger), None
    except LedgerUnavailable:
        raise
    except Exception as error:
        waiting.error = error


def _fail(group: list[_Waiting], error: BaseException) -> None:
    """What a call had as its result inside the transaction never happened: the commit itself may be what failed."""
    for waiting in group:
        waiting.result, waiting.error = None, error
