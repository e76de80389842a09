"""One queue of ledger calls and the thread that commits them, a group at a time.

While one commit runs, everything that arrives meanwhile gathers; it becomes the next commit. There is no timer: a
group waits only as long as the event loop still brings more of it, because the loop holds the interpreter's lock then,
and the commit would wait for it call by call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from reconciler.clock import Clock
from reconciler.errors import LedgerContention, LedgerUnavailable
from reconciler.ledger.deliveries import Receipt, Rejection
from reconciler.ledger.ledger import Ledger

GROUP_BOUND = 256
"""Calls that one commit may hold."""

GATHER_SECONDS = 0.003
"""How long a group may gather while the loop keeps bringing more of it."""

TURN_SECONDS = 0.008
"""After so long no further call joins a commit: a delivery may be waiting for the next one, and somebody for its
locks. A call that takes longer on its own still runs whole."""

_CONTENTION_TRIES = 3


@dataclass(slots=True, eq=False)
class Waiting:
    """A call and who waits for it: either one function of the ledger, or one receipt that joins the others."""

    act: Callable[[Ledger], Any] | None
    receipt: Receipt | None
    done: Callable[[Any, BaseException | None], None]
    result: Any = None
    error: BaseException | None = None


class Lane:
    """Belongs to one event loop; `Lane._run` and what it calls, to the thread."""

    def __init__(
        self, ledger: Ledger, clock: Clock, thread: Executor, *, bound: int, on_receipts: Callable[[], None]
    ) -> None:
        """`bound` is on the rejections that wait. `on_receipts` is called on the loop after a commit that held some."""
        self._ledger = ledger
        self._clock = clock
        self._thread = thread
        self._bound = bound
        self._on_receipts = on_receipts
        self._waiting: deque[Waiting] = deque()
        self._rejections: deque[Rejection] = deque(maxlen=bound)
        self._running = False
        self._gathered = 0
        self._gather_until = 0.0
        self._away = False
        """The last commit found the database away: rejections wait for the next call instead of trying again."""
        self.idle = asyncio.Event()
        self.idle.set()

    # --- on the loop ---

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiting: Waiting) -> None:
        self._waiting.append(waiting)
        if not self._running:
            self._start()

    def note(self, rejection: Rejection, *, start: bool) -> None:
        """Goes with the next commit; without `start` none is made for it. Beyond the bound the oldest are dropped."""
        self._rejections.append(rejection)
        if start and not (self._away or self._running):
            self._start()

    def _start(self) -> None:
        self._running = True
        self.idle.clear()
        self._gather()

    def _gather(self) -> None:
        """One trip through the loop first, so that requests which are ready now share this commit."""
        loop = asyncio.get_running_loop()
        self._gathered = len(self._waiting)
        self._gather_until = loop.time() + GATHER_SECONDS
        loop.call_soon(self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._gathered < len(self._waiting) < GROUP_BOUND and loop.time() < self._gather_until:
            self._gathered = len(self._waiting)
            loop.call_soon(self._look)
            return
        group = [self._waiting.popleft() for _ in range(min(GROUP_BOUND, len(self._waiting)))]
        rejections = [self._rejections.popleft() for _ in range(min(GROUP_BOUND, len(self._rejections)))]
        self._thread.submit(self._run, loop, group, rejections)

    def _done(
        self, group: Sequence[Waiting], left: Collection[Waiting], unstored: Sequence[Rejection], away: bool
    ) -> None:
        """After the commit."""
        self._away = away
        if unstored:
            self._rejections = deque([*unstored, *self._rejections], maxlen=self._bound)
        self._waiting.extendleft(reversed([*left]))
        for waiting in group:
            try:
                waiting.done(waiting.result, waiting.error)
            except Exception as error:
                # One who cannot take his answer must not cost the others theirs.
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a caller of the ledger failed over its answer", "exception": error}
                )
        if self._waiting or (self._rejections and not away):
            self._gather()
        else:
            self._running = False
            self.idle.set()
        if any(waiting.receipt is not None for waiting in group):
            self._on_receipts()

    # --- on the thread ---

    def _run(self, loop: asyncio.AbstractEventLoop, group: list[Waiting], rejections: list[Rejection]) -> None:
        away = False
        left: Collection[Waiting] = ()
        for attempt in range(1, _CONTENTION_TRIES + 1):
            try:
                left = self._commit(group, rejections)
            except LedgerContention as error:
                if attempt < _CONTENTION_TRIES:
                    continue
                away = True
                _fail(group, error)
            except BaseException as error:
                away = isinstance(error, LedgerUnavailable)
                _fail(group, error)
            break
        done = [waiting for waiting in group if waiting not in left] if left else group
        loop.call_soon_threadsafe(self._done, done, left, rejections if away else (), away)

    def _commit(self, group: Sequence[Waiting], rejections: Sequence[Rejection]) -> Collection[Waiting]:
        """All receipts, and as many calls as the time allows; those that are left for the next commit."""
        receipts = [waiting for waiting in group if waiting.receipt is not None]
        if len(receipts) == len(group) and not rejections and self._receive_alone(receipts):
            return ()
        calls = dict.fromkeys(waiting for waiting in group if waiting.receipt is None)
        ends_at = self._clock.monotonic() + TURN_SECONDS
        with self._ledger.together():
            self._receive(receipts)
            self._reject(rejections)
            for waiting in tuple(calls):
                _settle(waiting, self._ledger)
                del calls[waiting]
                if self._clock.monotonic() > ends_at:
                    break
        return calls

    def _receive_alone(self, group: list[Waiting]) -> bool:
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

    def _receive(self, group: list[Waiting]) -> None:
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


def _settle(waiting: Waiting, ledger: Ledger) -> None:
    """One call, whole or not at all, inside the group's transaction: its own failure hurts nobody else.

    A database that went away fails the whole group instead.
    """
    assert waiting.act is not None, "receipts are stored together"
    try:
        with ledger.together():
            waiting.result, waiting.error = waiting.act(ledger), None
    except LedgerUnavailable:
        raise
    except Exception as error:
        waiting.error = error


def _fail(group: list[Waiting], error: BaseException) -> None:
    """What a call had as its result inside the transaction never happened: the commit itself may be what failed."""
    for waiting in group:
        waiting.result, waiting.error = None, error
