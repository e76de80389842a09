"""The worker: claims what is due, by urgency and within budget, and has it read; many at once, for all accounts.

It waits for a signal (a mark was committed here, reads have ended), for the next wake-up time in the ledger, or for at
most `IDLE_POLL`, whichever comes first: the poll is the net under all of them, and under other nodes' marks.

A read that ends does not bring a turn of its own: a turn is a transaction, and one that claims several resources costs
little more than one that claims a single one. So where an account's reads were all under way, the next turn waits until
a good share of them is free (decision 0097), and claims more than can be read at once where the provider is quick
(`ahead`). A read is free when its answer is there, which is stored beside the next one.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from reconciler.ahead import Hands, Read
from reconciler.clock import Clock
from reconciler.errors import LedgerError, LedgerUnavailable
from reconciler.fetcher import AT_ONCE, Fetcher
from reconciler.ledger import GroupCommit, Ledger
from reconciler.model import Priority
from reconciler.planner import LIST_PATIENCE
from reconciler.provider import Limit
from reconciler.taking import IDLE_POLL, LEAST_WAIT, LaneKey, Taken, Taker, Turn

log = structlog.get_logger(__name__)

_AFTER_A_FAILURE = timedelta(seconds=1)

_LONGEST_HELD = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    concurrency: int = 16
    """Reads under way at once, for each account: an account that hangs holds up only itself."""
    lease: timedelta = timedelta(seconds=60)
    drain: timedelta = timedelta(seconds=6)
    """How long a stop waits for reads under way before their claims are given back."""
    linger: timedelta = timedelta(milliseconds=25)
    """How long the end of a read waits for others to end, before somebody looks what is due now."""
    gather: timedelta = timedelta(milliseconds=25)
    """How long an answer waits for others to be stored with, while claims are held that wait for a read."""

    @property
    def held(self) -> timedelta:
        """How long a claim may wait for its read: a tenth of its lease at most, of which a read may take eight."""
        return min(_LONGEST_HELD, self.lease / 10)


def owner_name(boot: datetime) -> str:
    """Names this process in leases, so that its next life can end what the last one left."""
    return f"{socket.gethostname()}:{os.getpid()}:{int(boot.timestamp() * 1000):x}"


def is_gone(owner: str, *, self_name: str) -> bool:
    """Whether a lease's owner was a process of this machine that no longer runs. False when in doubt."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not rest.isdigit() or owner == self_name:
        return False
    if int(rest) == os.getpid():
        return True
    try:
        with suppress(PermissionError):  # somebody else's, so that it runs
            os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    return False


def end_former_lives(ledger: Ledger, self_name: str, now: datetime) -> int:
    """Leases of a process of this machine that died need not wait for their end; how many that were."""
    gone = [owner for owner in ledger.lease_owners() if is_gone(owner, self_name=self_name)]
    return sum(ledger.void_leases(owner, now) for owner in gone)


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


class Worker:
    def __init__(
        self,
        fetchers: Mapping[str, Fetcher],
        ledger: GroupCommit,
        clock: Clock,
        *,
        owner: str,
        settings: WorkerSettings,
        wait: Callable[[asyncio.Event, float], Awaitable[None]] = wait_for,
    ) -> None:
        self._fetchers = fetchers
        self._ledger = ledger
        self._clock = clock
        self._owner = owner
        self._settings = settings
        self._wait = wait
        self._wake = asyncio.Event()
        self._stopping = False
        self._running: dict[asyncio.Task[None], Read] = {}
        longest = settings.held.total_seconds()
        self._hands = {
            account: Hands(settings.concurrency, _limits_of(each), longest) for account, each in fetchers.items()
        }
        self._taker = Taker(fetchers, owner=owner, lease=settings.lease)
        self._paused: dict[LaneKey, datetime] = {}
        self._choices = 0
        self._served: Counter[tuple[str, str]] = Counter()
        self._lingering: asyncio.TimerHandle | None = None
        self.idle = asyncio.Event()
        """Set while nothing is due now and nothing is under way."""

    def wake(self) -> None:
        """Something was marked: look at once."""
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more; `run` returns after the reads under way have ended or their claims were given back."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Until `stop`."""
        await self._end_former_life()
        while not self._stopping:
            self._wake.clear()
            try:
                wait = await self._turn()
            except LedgerError as error:
                log.warning("ledger unavailable, the worker waits", error=str(error))
                wait = _AFTER_A_FAILURE
            except Exception as error:
                # A worker that ended here would leave a daemon that receives and never reads.
                log.error("a turn ended in an error of ours, the worker goes on", error=repr(error), exc_info=error)
                wait = _AFTER_A_FAILURE
            if wait <= timedelta(0):
                continue
            if not self._running:
                self.idle.set()
            await self._wait(self._wake, min(max(wait, LEAST_WAIT), IDLE_POLL).total_seconds())
        await self._drain()

    # --- one turn ---

    async def _turn(self) -> timedelta:
        """Claim and start what there is room for; how long to wait if nothing happens."""
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        await self._put_back_what_waited()
        now = self._clock.now()
        turn = Turn(
            now,
            room={account: hands.room for account, hands in self._hands.items()},
            paused={lane: until for lane, until in self._paused.items() if until > now},
            probing={door for read in self._reads() for door in read.doors},
            choices=self._choices,
            served=self._served.copy(),
        )
        turn = await self._ledger.call(lambda ledger: self._taker.take(ledger, turn.copy()))
        self._paused, self._choices, self._served = turn.paused, turn.choices, turn.served
        for account, fetcher in self._fetchers.items():
            fetcher.know_gates([gate for gate in turn.gates if gate.account == account])
        for taken in turn.taken:
            self.idle.clear()
            self._hold(taken)
        for account, hands in self._hands.items():
            hands.had_no_room = turn.room[account] <= 0
            self._start_next(account)
        if self._is_worth_a_turn():
            return timedelta(0)
        now_seconds = self._clock.monotonic()
        held = min((hands.goes_back_in(now_seconds) for hands in self._hands.values()), default=math.inf)
        return turn.wait if held == math.inf else min(turn.wait, timedelta(seconds=held))

    def _reads(self) -> Iterator[Read]:
        """Under way, or held."""
        yield from self._running.values()
        for hands in self._hands.values():
            yield from hands.held

    def _is_worth_a_turn(self) -> bool:
        return any(hands.is_worth_a_turn for hands in self._hands.values())

    def _hold(self, taken: Taken) -> None:
        lane, walk = taken.lane, taken.walk
        fetcher = self._fetchers[lane.account]
        kind = fetcher.provider.kinds[lane.kind]

        async def draw(endpoint: str) -> bool:
            return not await fetcher.budget.wait_for(endpoint, Priority(lane.priority), LIST_PATIENCE)

        def start(read: Read) -> Coroutine[None, None, None]:
            if walk is None:
                return fetcher.fetch(kind, read.claims, draw, partial(self._answered, read))
            return fetcher.walk(kind, read.claims, walk.window, draw)

        endpoint, now = kind.endpoint if walk is None else str(kind.list_endpoint), self._clock.monotonic()
        for batch in taken.batches:
            read = Read(lane.account, batch, taken.doors, lane.priority, endpoint, now, start, walk is not None)
            self._hands[lane.account].hold(read)

    def _start_next(self, account: str) -> None:
        """As many as may be under way; a turn where something that is held has to go back instead."""
        hands = self._hands[account]
        while (read := hands.next(self._clock.monotonic())) is not None:
            task = asyncio.create_task(read.start(read), name=f"{self._owner} reads {account}")
            self._running[task] = read
            task.add_done_callback(self._ended)
        if hands.has_to_let_go(self._clock.monotonic()):
            self._wake.set()

    def _answered(self, read: Read) -> timedelta:
        """How long what was said may wait to be stored: who waits for a read already waits longer than that."""
        hands = self._hands[read.account]
        hands.answered(read, self._clock.monotonic())
        self._start_next(read.account)
        if hands.is_worth_a_turn:
            self._wake.set()
        return self._settings.gather if hands.holds else AT_ONCE

    def _ended(self, task: asyncio.Task[None]) -> None:
        read = self._running.pop(task)
        hands = self._hands[read.account]
        hands.ended(read)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The claim comes back by itself when its lease ends: nothing is lost but time.
            log.error("a read ended in an error of ours", error=repr(error), exc_info=error)
        if not self._stopping:
            self._start_next(read.account)
        if not self._running or hands.is_worth_a_turn:
            self._wake.set()
        elif self._lingering is None and not (hands.holds or self._wake.is_set()):
            # What is held will end as well: what this one made due can wait for that.
            self._lingering = asyncio.get_running_loop().call_later(
                self._settings.linger.total_seconds(), self._wake.set
            )

    # --- beginnings and ends ---

    async def _end_former_life(self) -> None:
        try:
            ended = await self._ledger.call(lambda ledger: end_former_lives(ledger, self._owner, self._clock.now()))
        except LedgerError as error:
            log.warning("ledger unavailable at the start", error=str(error))
            return
        if ended:
            log.info("ended the leases of a process that died", leases=ended)

    async def _put_back_what_waited(self, *, everything: bool = False) -> None:
        """What was held for too long, because the provider stopped answering: others may read it, and the requests
        that were paid for it are not sent in a later second. And what was held when a read failed."""
        now = self._clock.monotonic()
        late = {account: hands.let_go(now, everything=everything) for account, hands in self._hands.items()}
        await asyncio.gather(*(self._put_back(account, reads) for account, reads in late.items() if reads))

    async def _put_back(self, account: str, reads: Sequence[Read]) -> None:
        try:
            await self._fetchers[account].put_back(reads)
        except LedgerUnavailable:
            self._hands[account].keep(reads)
            raise

    async def _drain(self) -> None:
        """Let reads end for a while, then cancel the rest and give their claims back."""
        try:
            await self._put_back_what_waited(everything=True)
        except LedgerError as error:
            log.warning("claims could not be given back; their leases end by themselves", error=str(error))
        running = dict(self._running)
        if running:
            await asyncio.wait(running, timeout=self._settings.drain.total_seconds())
        for task, read in running.items():
            if task.done():
                continue
            task.cancel()
            await asyncio.wait([task])
            try:
                await self._fetchers[read.account].release(read.claims)
            except LedgerError as error:
                log.warning("claims could not be given back; their leases end by themselves", error=str(error))
        self.idle.set()


def _limits_of(fetcher: Fetcher) -> Callable[[], Mapping[str, Limit]]:
    return lambda: fetcher.budget.limits
