"""The pool that tells subscribers: claims what is due, sends it, and ends the claim. Nobody else's work waits in it.

A subscriber that hangs must not hold up the others. So each begins with one request at a time and gets more while it
answers, one failure takes it back to one, and the circuit breaker in the ledger stops even that; the pool itself has
room for far more than one request each.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

import structlog

from reconciler.clock import Clock
from reconciler.errors import LedgerError
from reconciler.ledger import GroupCommit, Ledger
from reconciler.ledger.changes import Change
from reconciler.ledger.outbox import Attempt, Door, Ended, Ending, Outcome, Parcel
from reconciler.ledger.subscriptions import Standing, Subscriber
from reconciler.outbox.bell import Bell, Listener
from reconciler.outbox.keys import Keys
from reconciler.outbox.metrics import OutboxMetrics
from reconciler.outbox.policy import Again, GiveUp, NeverAgain, Policy, Sent, decide
from reconciler.outbox.sending import Sender, message_of
from reconciler.outbox.signing import Signer, UnusableSecret

log = structlog.get_logger(__name__)

_AFTER_A_FAILURE: Final = timedelta(seconds=1)
_AT_ONCE: Final = 64
"""Subscriptions that one ledger call claims for: the intake's commits wait behind it."""
_NOTHING_THERE: Final = timedelta(milliseconds=250)
"""How long a subscription rests whose due rows could not be claimed: they wait for an older one, or another node."""
_GATHER: Final = timedelta(milliseconds=20)
"""How long changes gather while nobody is being told of any: most are wanted by nobody, and each look is a query."""
_LEAST_INTERVAL: Final = timedelta(milliseconds=100)
"""Between two such looks, while one change follows the other."""
_UNUSABLE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    concurrency: int = 500
    """Requests under way at once, of this node."""
    lease: timedelta = timedelta(seconds=60)
    """Longer than any request may take."""
    poll: timedelta = timedelta(seconds=1)
    """The longest rest between two looks: what other nodes and commands made due is found by looking."""
    drain: timedelta = timedelta(seconds=4)
    """How long a stop waits for requests under way; what has not ended then is sent again, with the same id."""


class Pool:
    def __init__(
        self,
        ledger: GroupCommit,
        clock: Clock,
        sender: Sender,
        keys: Keys,
        base_url: Callable[[], str],
        applied: Bell,
        metrics: OutboxMetrics,
        *,
        owner: str,
        is_gone: Callable[[str], bool] = lambda _: False,
        policy: Policy = Policy(),  # noqa: B008 - frozen
        settings: PoolSettings = PoolSettings(),
        rng: random.Random | None = None,
    ) -> None:
        """`is_gone` says of another owner of leases whether it is known to have died."""
        self._ledger = ledger
        self._clock = clock
        self._sender = sender
        self._keys = keys
        self._base_url = base_url
        self._applied = applied
        self._metrics = metrics
        self._owner = owner
        self._is_gone = is_gone
        self._policy = policy
        self._settings = settings
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._running: dict[asyncio.Task[None], str] = {}
        self._windows: dict[str, int] = {}
        """How many requests at once each subscription has earned."""
        self._resting: dict[str, datetime] = {}
        self._anybody = True
        """Somebody had subscribed at the last look. Whoever subscribes is found by looking."""
        self._ended = Bell()
        self._stopping = False
        self._turns = 0

    def stop(self) -> None:
        """Claim nothing more; `run` returns soon after."""
        self._stopping = True
        self._ended.ring()

    async def run(self) -> None:
        """Until `stop`."""
        await self._end_former_lives()
        loop = asyncio.get_running_loop()
        while not self._stopping:
            applied, ended = self._applied.listen(), self._ended.listen()
            next_at = loop.time() + _LEAST_INTERVAL.total_seconds()
            try:
                wait = await self._turn()
            except LedgerError as error:
                log.warning("ledger unavailable, subscribers wait", error=str(error))
                wait = _AFTER_A_FAILURE
            except Exception as error:
                log.error("a turn of the outbox ended in an error of ours", error=repr(error), exc_info=error)
                wait = _AFTER_A_FAILURE
            if wait > timedelta(0) and not self._stopping:
                await _any_of([applied, ended] if self._anybody else [ended], wait)
                if not (self._running or self._stopping):
                    await asyncio.sleep(max(_GATHER.total_seconds(), next_at - loop.time()))
        await self._drain()

    # --- one turn ---

    async def _turn(self) -> timedelta:
        """Claim and start what is due; how long nothing else can be."""
        doors = await self._ledger.read(_doors)
        self._anybody = bool(doors)
        now = self._clock.now()
        self._resting = {name: until for name, until in self._resting.items() if until > now}
        rooms = self._rooms(doors, now)
        if not rooms:
            return self._rest(doors, now)
        claimed = await self._ledger.call(
            lambda ledger: ledger.telling.claim(rooms, owner=self._owner, lease=self._settings.lease, now=now)
        )
        parcels = [parcel for each in claimed.values() for parcel in each]
        for name, each in claimed.items():
            if not each:
                self._resting[name] = now + _NOTHING_THERE
        if parcels:
            await self._start(parcels, now)
        return timedelta(0)

    def _rooms(self, doors: Sequence[Door], now: datetime) -> dict[str, int]:
        """For whom to claim how much: everybody in turn, however many there are."""
        free = self._settings.concurrency - len(self._running)
        if free <= 0:
            return {}
        busy = Counter(self._running.values())
        ready = [
            door.name
            for door in doors
            if door.ready_at is not None
            and door.ready_at <= now
            and door.name not in self._resting
            and self._window(door.name) > busy[door.name]
            and self._keys.may_sign(door.name, door.origin)
        ]
        if not ready:
            return {}
        first = self._turns * _AT_ONCE % len(ready)
        self._turns += 1
        chosen = (ready[first:] + ready[:first])[:_AT_ONCE]
        rooms: dict[str, int] = {}
        for name in chosen:
            room = min(self._window(name) - busy[name], free)
            if room <= 0:
                break
            rooms[name] = room
            free -= room
        return rooms

    def _rest(self, doors: Sequence[Door], now: datetime) -> timedelta:
        later = [*(door.ready_at for door in doors if door.ready_at is not None), *self._resting.values()]
        return min([self._settings.poll, *(each - now for each in later if each > now)])

    def _window(self, name: str) -> int:
        return self._windows.get(name, 1)

    async def _start(self, parcels: Sequence[Parcel], now: datetime) -> None:
        told, subscribers = await self._ledger.read(lambda ledger: ledger.telling.load(parcels, now))
        idle: list[Parcel] = []
        for parcel in parcels:
            subscriber, sealed = subscribers[parcel.subscription]
            signer = None if subscriber is None else self._signer(subscriber, sealed, now)
            if subscriber is None or signer is None or subscriber.standing is not Standing.ACTIVE:
                idle.append(parcel)
                continue
            work = self._tell(parcel, told[parcel], subscriber, signer)
            task = asyncio.create_task(work, name=f"{self._owner} tells {parcel.subscription}")
            self._running[task] = parcel.subscription
            task.add_done_callback(self._done)
        self._metrics.under_way(len(self._running))
        if idle:
            await self._ledger.call(lambda ledger: ledger.telling.release(idle, now))

    def _signer(self, subscriber: Subscriber, sealed: Sequence[bytes], now: datetime) -> Signer | None:
        try:
            return self._keys.signer(subscriber.subscription, sealed)
        except UnusableSecret as error:
            log.error("a subscription cannot be signed for", subscription=subscriber.name, error=str(error))
            self._resting[subscriber.name] = now + _UNUSABLE
            return None

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._metrics.under_way(len(self._running))
        if not task.cancelled() and (error := task.exception()) is not None:
            # The claim comes back by itself when its lease ends: nothing is lost but time.
            log.error("telling a subscriber ended in an error of ours", error=repr(error), exc_info=error)
        self._ended.ring()

    # --- one message ---

    async def _tell(self, parcel: Parcel, change: Change | None, subscriber: Subscriber, signer: Signer) -> None:
        subscription = subscriber.subscription
        if change is None or not subscription.wanted.wants_fields(change.changed):
            await self._end(Ending(parcel, Outcome.FILTERED), subscriber)
            return
        message = message_of(subscription, change, self._base_url())
        attempt, answer = await self._sender.send(subscription, message, signer)
        now = self._clock.now()
        decision = decide(
            answer,
            attempts=parcel.attempts,
            first_tried_at=parcel.first_tried_at,
            policy=self._policy,
            jitter=self._rng.random(),
            now=now,
        )
        match decision:
            case Sent():
                ending = Ending(parcel, Outcome.DELIVERED, attempt=attempt, healthy=True)
                self._metrics.delivered(now - parcel.created_at)
            case Again(wait, error, hold):
                ending = self._again(parcel, attempt, now + wait, error, hold=hold)
            case GiveUp(error):
                ending = Ending(parcel, Outcome.DEAD, error=error, attempt=attempt, healthy=False)
                log.warning("a change was given up on", subscription=subscription.name, error=error)
            case NeverAgain(error):
                ending = Ending(parcel, None, again_at=now, error=error, attempt=attempt, healthy=False, disable=error)
            case _:
                assert_never(decision)
        self._metrics.ended(type(decision).__name__.lower())
        self._windows[subscription.name] = (
            min(self._window(subscription.name) + 1, subscription.concurrency) if isinstance(decision, Sent) else 1
        )
        await self._end(ending, subscriber)

    def _again(self, parcel: Parcel, attempt: Attempt, at: datetime, error: str, *, hold: bool) -> Ending:
        return Ending(
            parcel,
            None,
            again_at=at,
            error=error,
            attempt=attempt,
            healthy=False,
            shut_until=at if hold else None,
        )

    async def _end(self, ending: Ending, subscriber: Subscriber) -> None:
        now, jitter = self._clock.now(), self._rng.random()

        def act(ledger: Ledger) -> Ended:
            ended = ledger.telling.end(ending, now)
            wait = self._policy.probe_after(ended.failures, jitter)
            if wait is not None:
                ledger.telling.shut(subscriber.name, now + wait)
            return ended

        try:
            ended = await self._ledger.call(act)
        except LedgerError as error:
            log.warning("what was sent could not be recorded; it is sent again, with the same id", error=str(error))
            return
        if ended.lost:
            log.info("a claim was lost, somebody else sends it too", subscription=subscriber.name)
        if ended.recovered_since is not None:
            log.info("a subscriber recovered", subscription=subscriber.name, since=str(ended.recovered_since))
        if ending.disable:
            log.error("a subscription was disabled", subscription=subscriber.name, why=ending.disable)

    # --- beginnings and ends ---

    async def _end_former_lives(self) -> None:
        """What a process of this machine that died had claimed need not wait for the end of its leases."""
        try:
            owners = await self._ledger.read(lambda ledger: ledger.telling.lease_owners())
            for owner in filter(self._is_gone, owners):
                await self._ledger.call(_voiding(owner, self._clock.now()))
        except LedgerError as error:
            log.warning("ledger unavailable at the start", error=str(error))

    async def _drain(self) -> None:
        running = list(self._running)
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=self._settings.drain.total_seconds())
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
            with_leases = await self._void_own()
            log.info("requests to subscribers were cut off, they are sent again", requests=with_leases)

    async def _void_own(self) -> int:
        try:
            return await self._ledger.call(_voiding(self._owner, self._clock.now()))
        except LedgerError as error:
            log.warning("claims could not be given back; their leases end by themselves", error=str(error))
            return 0


def _doors(ledger: Ledger) -> list[Door]:
    return ledger.telling.doors()


def _voiding(owner: str, now: datetime) -> Callable[[Ledger], int]:
    return lambda ledger: ledger.telling.void_leases(owner, now)


async def _any_of(listeners: Sequence[Listener], wait: timedelta) -> None:
    """Until one of them hears something, at most so long."""
    tasks = [asyncio.ensure_future(each.wait(wait.total_seconds())) for each in listeners]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
