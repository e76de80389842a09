"""One queue of ledger calls and the thread that commits them, a group at a time.

While one commit runs, everything that arrives meanwhile gathers; it becomes the next commit. A group waits only as long
as the event loop still brings more of it, because the loop holds the interpreter's lock then, and the commit would wait
for it call by call. Only for what is patient no commit is begun before its time, but for a full group of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, islice
from typing import Any, TypeVar

import structlog

from reconciler.clock import Clock
from reconciler.errors import LedgerUnavailable
from reconciler.ledger.again import WHILE_OTHERS_WAIT, Again
from reconciler.ledger.deciding import Answer
from reconciler.ledger.deliveries import Receipt, Rejection
from reconciler.ledger.ledger import Ledger

GROUP_BOUND = 256
"""Calls that one commit may hold."""

GATHER_SECONDS = 0.003
"""How long a group may gather while the loop keeps bringing more of it."""

TURN_SECONDS = 0.008
"""After so long no further call joins a commit: a delivery may be waiting for the next one, and somebody for its
locks. A call that takes longer on its own still runs whole."""

YIELD_SECONDS = 0.002
"""The same for one who gives way, where another process waits for SQLite's file."""

ANSWERS_AT_ONCE = 32
"""Applied by the same statements."""

_TOO_MANY = "too many wait for the next commit"

T = TypeVar("T")
Poison = tuple[Rejection, str]
"""A rejection that the database refuses, and the class of the error."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Brought:
    """What one request brought for its claims."""

    answers: Sequence[Answer]
    least_interval: timedelta


@dataclass(slots=True, eq=False)
class Waiting:
    """A call and who waits for it: one function of the ledger, or one receipt or what was brought, with all others."""

    act: Callable[[Ledger], Any] | None
    receipt: Receipt | None
    done: Callable[[Any, BaseException | None], None]
    brought: Brought | None = None
    patient_until: float = 0.0
    """By the loop's clock: until then it waits for a commit that somebody else needs."""
    result: Any = None
    error: BaseException | None = None


class Lane:
    """Belongs to one event loop; `Lane._run` and what it calls, to the thread."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        thread: Executor,
        *,
        bound: int,
        on_receipts: Callable[[], None],
        on_dropped: Callable[[int], None],
        again: Again = WHILE_OTHERS_WAIT,
        gives_way: bool = False,
    ) -> None:
        """`bound` is on the rejections that wait. Both are called on the loop: `on_receipts` after a commit that held
        some, `on_dropped` with how many rejections will never be stored. Who gives way holds fewer calls in a commit
        while another process waits for its turn."""
        self._ledger = ledger
        self._clock = clock
        self._thread = thread
        self._bound = bound
        self._on_receipts = on_receipts
        self._on_dropped = on_dropped
        self._again = again
        self._gives_way = gives_way
        self._named: set[str] = set()
        """Why rejections were dropped, as far as the log has it. Anybody can send one, so each reason is there once."""
        self._waiting: deque[Waiting] = deque()
        self._rejections: deque[Rejection] = deque(maxlen=bound)
        self._running = False
        self._gathered = 0
        self._gather_until = 0.0
        self._patience: asyncio.TimerHandle | None = None
        self._home = 0
        """The loop's thread."""
        self._receipts_wait = False
        """Some came since the loop began a commit, and are to be packed there."""
        self._slow = False
        """The last commit's calls, without the commit itself, took longer than a turn: the next one of calls only holds
        one, without a savepoint."""
        self._away = False
        """The last commit found the database away: rejections wait for the next call instead of trying again."""
        self.idle = asyncio.Event()
        self.idle.set()

    # --- on the loop ---

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiting: Waiting) -> None:
        self._waiting.append(waiting)
        self._receipts_wait |= waiting.receipt is not None
        self.idle.clear()
        if not self._running:
            self._go_on()

    def note(self, rejection: Rejection, *, start: bool) -> None:
        """Goes with the next commit; without `start` none is made for it. Beyond the bound the oldest are dropped."""
        if len(self._rejections) == self._bound:
            self._drop([self._rejections[0]], _TOO_MANY)
        self._rejections.append(rejection)
        if start and not (self._away or self._running):
            self._start()

    def _go_on(self) -> None:
        """With what waits: now, when the patience of the first of them ends, or not at all."""
        loop = asyncio.get_running_loop()
        begin_at = min([waiting.patient_until for waiting in islice(self._waiting, ANSWERS_AT_ONCE)], default=None)
        if begin_at is None:
            self._running = False
            self.idle.set()
        elif begin_at <= loop.time() or len(self._waiting) >= ANSWERS_AT_ONCE:
            self._start()
        else:
            self._running = False
            self._patience = self._patience or loop.call_at(begin_at, self._start)

    def _start(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
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
        if not self._pack(loop.time() + TURN_SECONDS):
            loop.call_soon(self._look)
            return
        self._home = threading.get_ident()
        self._receipts_wait = False
        rejections = [self._rejections.popleft() for _ in range(min(GROUP_BOUND, len(self._rejections)))]
        self._thread.submit(self._run, loop, rejections)

    def _pack(self, until: float) -> bool:
        """The bodies of what is there, now that no commit of ours runs: packing lets go of the interpreter's lock,
        which a commit beside it would take each time and hold. False: some are left, and the loop has others to serve.
        """
        loop, packing = asyncio.get_running_loop(), self._ledger.store.packing
        for waiting in islice(self._waiting, GROUP_BOUND):
            if waiting.receipt is not None and waiting.receipt.packed is None:
                if loop.time() > until:
                    return False
                try:
                    waiting.receipt.pack(packing)
                except Exception:
                    return True  # a key that cannot be read: the commit tries again, and says so to whom it belongs
        return True

    def _drop(self, rejections: Sequence[Rejection], why: str) -> None:
        """They were answered and stay unstored: that is all there is to say of them, and no more of what they held."""
        if not rejections:
            return
        if why not in self._named:
            self._named.add(why)
            first = rejections[0]
            log.warning(
                "a rejected delivery cannot be stored; others are counted and not named",
                why=why,
                provider=first.provider,
                account=first.delivery.account,
                reason=str(first.reason),
                size=first.size,
            )
        self._on_dropped(len(rejections))

    def _done(
        self,
        group: Sequence[Waiting],
        left: Collection[Waiting],
        unstored: Sequence[Rejection],
        poison: Sequence[Poison],
        away: bool,
        goes_on: bool,
    ) -> None:
        """After the commit; the thread may be at the next one already."""
        self._away = away
        if unstored:
            held = [*unstored, *self._rejections]
            self._drop(held[: -self._bound], _TOO_MANY)
            self._rejections = deque(held, maxlen=self._bound)
        for rejection, why in poison:
            self._drop([rejection], why)
        for waiting in left:
            waiting.patient_until = 0.0
        self._waiting.extendleft(reversed([*left]))
        for waiting in group:
            try:
                waiting.done(waiting.result, waiting.error)
            except Exception as error:
                # One who cannot take his answer must not cost the others theirs.
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a caller of the ledger failed over its answer", "exception": error}
                )
        if not goes_on:
            if self._rejections and not away:
                self._gather()
            else:
                self._go_on()
        if any(waiting.receipt is not None for waiting in group):
            self._on_receipts()

    # --- on the thread ---

    def _run(self, loop: asyncio.AbstractEventLoop, rejections: list[Rejection]) -> None:
        """One commit, and those for what it left: to begin each of them there, the loop would have to be free."""
        left = self._run_one(loop, rejections, ())
        while left:
            left = self._run_one(loop, [], left)

    def _run_one(
        self, loop: asyncio.AbstractEventLoop, rejections: list[Rejection], before: Collection[Waiting]
    ) -> Collection[Waiting]:
        """With those `before` that the last one left. Returns those that it leaves itself, unless the loop is to begin
        the commit for them.

        Calls are taken when the turn has come: what came while it was waited for is in this commit, not in the next.
        What is to be done after commits waits until everybody has his answer.
        """
        away = False
        taken: list[list[Waiting]] = []
        left: Collection[Waiting] = ()
        poison: Sequence[Poison] = ()

        def commit() -> tuple[Collection[Waiting], Sequence[Poison]]:
            with self._ledger.store.in_turn():
                if not taken:
                    taken.append([*before, *self._take(GROUP_BOUND - len(before))])
                return self._commit(taken[0], rejections)

        try:
            left, poison = self._again(commit)
        except BaseException as error:
            if not taken:
                taken.append([*before, *self._take(GROUP_BOUND - len(before))])
            away = isinstance(error, LedgerUnavailable)
            _fail(taken[0], error)
        (group,) = taken
        done = [waiting for waiting in group if waiting not in left] if left else group
        # Receipts are packed on the loop, rejections handed over there. And who runs on it would keep others from it.
        on_the_loop = self._receipts_wait or self._rejections or threading.get_ident() == self._home
        goes_on = bool(left) and not on_the_loop
        unstored = rejections if away else ()
        loop.call_soon_threadsafe(self._done, done, () if goes_on else left, unstored, poison, away, goes_on)
        try:
            self._ledger.store.tidy()
        except Exception as error:
            # All that was said is true, and whoever is left waits for his commit, not for this.
            log.warning("the ledger could not be tidied up after a commit", error=repr(error))
        return left if goes_on else ()

    def _take(self, most: int) -> list[Waiting]:
        """Nobody else takes any; the loop may add some meanwhile."""
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def _commit(
        self, group: Sequence[Waiting], rejections: Sequence[Rejection]
    ) -> tuple[Collection[Waiting], Sequence[Poison]]:
        """All receipts, and as many answers and calls as the time allows; those that are left for the next commit, and
        the rejections that no commit will take."""
        receipts = [waiting for waiting in group if waiting.receipt is not None]
        if len(receipts) == len(group) and not rejections and self._receive_alone(receipts):
            return (), ()
        answers = _together([waiting for waiting in group if waiting.brought is not None])
        calls = dict.fromkeys(waiting for waiting in group if waiting.act is not None)
        began = self._clock.monotonic()
        if not receipts and not rejections:
            alone = [*calls][:1] if self._slow and not answers else [*calls]
            if len(answers) + len(alone) == 1 and self._do_alone(answers, alone, began):
                return [*calls][len(alone) :], ()
        with self._ledger.together():
            _hand_back(_halving(receipts, self._receive_these))
            poison = self._reject(rejections)
            while answers:
                _hand_back(_halving(answers.popleft(), self._apply_these))
                if self._is_long(began):
                    break
            for waiting in tuple(calls):
                _settle(waiting, self._ledger)
                del calls[waiting]
                if self._is_long(began):
                    break
            self._slow = self._clock.monotonic() - began > TURN_SECONDS
        return [*chain.from_iterable(answers), *calls], poison

    def _is_long(self, began: float) -> bool:
        """Whether a commit has lasted as long as it may where there are others."""
        lasted = self._clock.monotonic() - began
        if lasted > TURN_SECONDS:
            return True
        return self._gives_way and lasted > YIELD_SECONDS and self._ledger.store.is_wanted

    def _receive_alone(self, group: Sequence[Waiting]) -> bool:
        """The usual case, a transaction without savepoints; False, with nothing stored, when a receipt is poison."""
        try:
            self._receive_these(group)
        except LedgerUnavailable:
            raise
        except Exception:
            return False
        return True

    def _do_alone(self, answers: Sequence[list[Waiting]], calls: Collection[Waiting], began: float) -> bool:
        """One call, or answers that are applied together: a transaction without savepoints, which on Postgres are three
        round trips. False, with nothing stored, when one of several answers is poison."""
        group = [*chain.from_iterable(answers), *calls]
        try:
            with self._ledger.together(alone=True):
                for waiting in calls:
                    assert waiting.act is not None, "what is no call is an answer"
                    waiting.result, waiting.error = waiting.act(self._ledger), None
                if answers:
                    self._apply_these(group)
                self._slow = self._clock.monotonic() - began > TURN_SECONDS
        except LedgerUnavailable:
            raise
        except Exception as error:
            _fail(group, error)
            return len(group) == 1
        return True

    def _receive_these(self, group: Sequence[Waiting]) -> None:
        receipts = [waiting.receipt for waiting in group if waiting.receipt is not None]
        verdicts = self._ledger.receive(receipts, self._clock.now())
        for waiting, verdict in zip(group, verdicts, strict=True):
            waiting.result, waiting.error = verdict, None

    def _apply_these(self, group: Sequence[Waiting]) -> None:
        brought = [waiting.brought for waiting in group if waiting.brought is not None]
        answers = [answer for each in brought for answer in each.answers]
        results = iter(self._ledger.apply(answers, now=self._clock.now(), least_interval=brought[0].least_interval))
        for waiting, each in zip(group, brought, strict=True):
            waiting.result, waiting.error = list(islice(results, len(each.answers))), None

    def _reject(self, rejections: Sequence[Rejection]) -> list[Poison]:
        """Nobody waits for a rejection, so those that cannot be stored are handed back."""
        # Of an error its class only: its text may quote what somebody sent.
        return [(each, type(error).__name__) for each, error in _halving(rejections, self._ledger.reject)]


def _halving(group: Sequence[T], store: Callable[[Sequence[T]], object]) -> list[tuple[T, Exception]]:
    """Store all in one go; where one of them is poison, halve until only that one fails. Those that failed, and why."""
    if not group:
        return []
    try:
        store(group)
    except LedgerUnavailable:
        raise
    except Exception as error:
        middle = len(group) // 2
        if middle == 0:
            return [(group[0], error)]
        return _halving(group[:middle], store) + _halving(group[middle:], store)
    return []


def _together(answering: Sequence[Waiting]) -> deque[list[Waiting]]:
    """What may be applied by the same statements: of one resource, one answer, because the next one is decided on what
    that one left."""
    groups: deque[list[Waiting]] = deque()
    held: set[int] = set()
    for waiting in answering:
        assert waiting.brought is not None, "only answers are applied"
        ids = {answer.claim.resource_id for answer in waiting.brought.answers}
        fits = groups and len(held) + len(ids) <= ANSWERS_AT_ONCE and held.isdisjoint(ids)
        first = groups[-1][0].brought if groups else None
        if fits and first is not None and first.least_interval == waiting.brought.least_interval:
            groups[-1].append(waiting)
            held |= ids
            continue
        groups.append([waiting])
        held = ids
    return groups


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


def _hand_back(failed: Iterable[tuple[Waiting, Exception]]) -> None:
    for waiting, error in failed:
        waiting.error = error


def _fail(group: Sequence[Waiting], error: BaseException) -> None:
    """What a call had as its result inside the transaction never happened: the commit itself may be what failed."""
    for waiting in group:
        waiting.result, waiting.error = None, error
