"""The worker: claims what is due, by urgency and within budget, and has it read; many at once, for all accounts.

It waits for a signal (a mark was committed here), for the next wake-up time in the ledger, or for at most
`IDLE_POLL`, whichever comes first: the poll is the net under both, and under other nodes' marks.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from reconciler.clock import Clock
from reconciler.errors import LedgerError
from reconciler.fetcher import Fetcher
from reconciler.ledger import Claim, Density, Gate, GroupCommit, Lane, Ledger, Offer, Release
from reconciler.model import Priority
from reconciler.planner import LIST_PATIENCE, TURN_FOR_THE_NEWEST, Choice, Door, Singly, Walk, choose, in_turn, plan
from reconciler.provider import Kind

log = structlog.get_logger(__name__)

IDLE_POLL = timedelta(seconds=5)
_AFTER_A_FAILURE = timedelta(seconds=1)
_LEAST_WAIT = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    concurrency: int = 16
    """Reads under way at once, for each account: an account that hangs holds up only itself."""
    lease: timedelta = timedelta(seconds=60)
    drain: timedelta = timedelta(seconds=6)
    """How long a stop waits for reads under way before their claims are given back."""


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


@dataclass(frozen=True, slots=True)
class _Read:
    """A read under way: whose, what it answers, and which gates it asks about."""

    account: str
    claims: Sequence[Claim]
    doors: frozenset[Door]


@dataclass(frozen=True, slots=True)
class _Turn:
    """What the ledger gave for one turn of the loop."""

    choice: Choice
    gates: list[Gate]
    batches: Sequence[Sequence[Claim]] = ()
    """One request each; with a walk, all its claims together."""
    walk: Density | None = None
    wait: timedelta = timedelta(0)
    """How long the budget refuses the lane."""


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
        self._running: dict[asyncio.Task[None], _Read] = {}
        self._paused: dict[tuple[str, str, int], datetime] = {}
        self._turns = 0
        self._served: Counter[tuple[str, str]] = Counter()
        """Claims made of each kind. Turns would not do: those that the budget refused fall into step with it."""
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
            if wait is None:
                continue
            if not self._running and wait > timedelta(0):
                self.idle.set()
            await self._wait(self._wake, min(max(wait, _LEAST_WAIT), IDLE_POLL).total_seconds())
        await self._drain()

    # --- one turn ---

    async def _turn(self) -> timedelta | None:
        """Claim and start one batch. None: look again at once; else how long to wait if nothing happens."""
        room = self._room()
        now = self._clock.now()
        self._paused = {door: until for door, until in self._paused.items() if until > now}
        self._turns += 1
        probing = {door for read in self._running.values() for door in read.doors}
        turn = await self._ledger.call(lambda ledger: self._take(ledger, room, probing, now))
        for account, fetcher in self._fetchers.items():
            fetcher.know_gates([gate for gate in turn.gates if gate.account == account])
        lane = turn.choice.lane
        if lane is None:
            return turn.choice.look_again or IDLE_POLL
        if turn.wait:
            self._paused[lane.account, lane.kind, lane.priority] = now + turn.wait
            return None
        if turn.batches:
            self._served[lane.account, lane.kind] += 1
            self.idle.clear()
            self._start(lane, turn)
        return None

    def _room(self) -> dict[str, int]:
        busy = Counter(read.account for read in self._running.values())
        return {account: self._settings.concurrency - busy[account] for account in self._fetchers}

    def _take(self, ledger: Ledger, room: Mapping[str, int], probing: Collection[Door], now: datetime) -> _Turn:
        """On the ledger's thread, in one transaction: choose a lane, claim what its budget can pay for, draw that."""
        lanes, gates = ledger.lanes()
        known = [lane for lane in lanes if self._kind(lane) is not None]
        choice = choose(known, gates, room, self._paused, probing=probing, turn=self._turns, now=now)
        lane = choice.lane
        kind = None if lane is None else self._kind(lane)
        if lane is None or kind is None:
            return _Turn(choice, gates)
        gathered_at = lane.due_at + kind.gather
        if gathered_at > now and not choice.probe:
            return _Turn(choice, gates, wait=gathered_at - now)
        fetcher = self._fetchers[lane.account]
        dense = (
            ledger.density(lane.account, lane.kind, lane.priority, page_size=kind.page_size, now=now)
            if kind.list_endpoint is not None and not choice.probe and fetcher.may_walk(kind, now)
            else None
        )
        limits, priority = fetcher.limits, Priority(lane.priority)

        def ask(endpoint: str, want: int) -> Offer:
            return ledger.offer_requests(lane.account, endpoint, limits, want=want, priority=priority, now=now)

        newest = self._served[lane.account, lane.kind] % TURN_FOR_THE_NEWEST == 1 and not choice.probe
        chosen, want = in_turn(kind, plan(kind, dense), 1 if choice.probe else room[lane.account], newest=newest)
        endpoint = kind.endpoint if isinstance(chosen, Singly) else str(kind.list_endpoint)
        offer = ask(endpoint, want)
        if not offer.granted and isinstance(chosen, Walk) and offer.wait > LIST_PATIENCE:
            chosen = Singly(kind.id_batch)
            offer = ask(kind.endpoint, room[lane.account])
        granted = offer.granted
        if not granted:
            # The budget may become larger meanwhile, so that the wait is only a guess.
            return _Turn(choice, gates, wait=min(max(offer.wait, _LEAST_WAIT), IDLE_POLL))
        if choice.probe:
            count = 1
        else:
            count = granted * chosen.batch if isinstance(chosen, Singly) else chosen.pages * kind.page_size
        density = chosen.density if isinstance(chosen, Walk) else None

        def claim(*, newest: bool) -> list[Claim]:
            return ledger.claim(
                lane.account,
                lane.kind,
                lane.priority,
                owner=self._owner,
                count=count,
                lease=self._settings.lease,
                now=now,
                window=None if density is None else density.window,
                newest=newest,
            )

        claims = (claim(newest=True) if newest and density is None else []) or claim(newest=False)
        batches = [claims] if density is not None and claims else _batches(claims, kind.id_batch)
        if len(batches) > granted:
            surplus = [claim for batch in batches[granted:] for claim in batch]
            ledger.release([Release(claim, now, counted=False) for claim in surplus], now)
        batches = batches[:granted]
        ledger.take_requests(offer, len(batches))
        return _Turn(choice, gates, batches, density)

    def _kind(self, lane: Lane) -> Kind | None:
        fetcher = self._fetchers.get(lane.account)
        return None if fetcher is None else fetcher.provider.kinds.get(lane.kind)

    def _start(self, lane: Lane, turn: _Turn) -> None:
        fetcher = self._fetchers[lane.account]
        kind = fetcher.provider.kinds[lane.kind]

        async def draw(endpoint: str) -> bool:
            return not await fetcher.wait_for(endpoint, Priority(lane.priority), LIST_PATIENCE)

        for batch in turn.batches:
            reading = (
                fetcher.fetch(kind, batch, draw)
                if turn.walk is None
                else fetcher.walk(kind, batch, turn.walk.window, draw)
            )
            self._spawn(reading, _Read(lane.account, batch, turn.choice.doors))

    def _spawn(self, work: Coroutine[None, None, None], read: _Read) -> None:
        task = asyncio.create_task(work, name=f"{self._owner} reads {read.account}")
        self._running[task] = read
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The claim comes back by itself when its lease ends: nothing is lost but time.
            log.error("a read ended in an error of ours", error=repr(error), exc_info=error)
        self._wake.set()

    # --- beginnings and ends ---

    async def _end_former_life(self) -> None:
        try:
            ended = await self._ledger.call(lambda ledger: end_former_lives(ledger, self._owner, self._clock.now()))
        except LedgerError as error:
            log.warning("ledger unavailable at the start", error=str(error))
            return
        if ended:
            log.info("ended the leases of a process that died", leases=ended)

    async def _drain(self) -> None:
        """Let reads end for a while, then cancel the rest and give their claims back."""
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


def _batches(claims: Sequence[Claim], size: int) -> list[Sequence[Claim]]:
    """One request each. A resource whose last read failed is read alone, so that it cannot spoil a batch again."""
    fresh = [claim for claim in claims if claim.attempts <= 1]
    alone = [[claim] for claim in claims if claim.attempts > 1]
    return [*(fresh[at : at + size] for at in range(0, len(fresh), size)), *alone]
