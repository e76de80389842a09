"""Time under control: waits that end when the test moves the clock, and an account of what is still under way."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from reconciler.clock import Clock, ManualClock
from reconciler.fetcher import AT_ONCE
from reconciler.ledger import Answer, Applied, GroupCommit, Ledger, Receipt, Verdict
from reconciler.ledger.inline import Inline
from reconciler.provider import Reply, Request, Transport
from reconciler.taking import IDLE_POLL

T = TypeVar("T")

_CALM_TURNS = 30
"""Turns of the loop without anything under way after which nothing more follows from what happened before."""


@dataclass(order=True)
class _Sleeper:
    until: datetime
    order: int
    done: asyncio.Future[None] = field(compare=False)
    polls: bool = field(compare=False)


class Timeline:
    """Stands in for `asyncio.sleep`: `sleep(1)` ends once the clock has been moved by a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sleepers: list[_Sleeper] = []
        self._order = 0

    async def sleep(self, seconds: float) -> None:
        await self._sleeper(seconds).done

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until the event is set, or that much time has passed."""
        sleeper = self._sleeper(seconds, polls=seconds >= IDLE_POLL.total_seconds())
        waiter = asyncio.ensure_future(event.wait())
        futures: set[asyncio.Future[Any]] = {sleeper.done, waiter}
        try:
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
            sleeper.done.cancel()

    @property
    def next(self) -> datetime | None:
        """When the first sleep ends; a mere poll is nothing to wait for."""
        self._forget()
        return min((each.until for each in self._sleepers if not each.polls), default=None)

    def arrive(self) -> None:
        """End the sleeps that the clock has reached."""
        self._forget()
        while self._sleepers and self._sleepers[0].until <= self._clock.now():
            done = heapq.heappop(self._sleepers).done
            if not done.done():
                done.set_result(None)

    def _sleeper(self, seconds: float, *, polls: bool = False) -> _Sleeper:
        self._order += 1
        until = self._clock.now() + timedelta(seconds=max(seconds, 1e-6))
        sleeper = _Sleeper(until, self._order, asyncio.get_running_loop().create_future(), polls)
        heapq.heappush(self._sleepers, sleeper)
        return sleeper

    def _forget(self) -> None:
        if any(each.done.done() for each in self._sleepers):
            self._sleepers = [each for each in self._sleepers if not each.done.done()]
            heapq.heapify(self._sleepers)


class UnderWay:
    """Counts requests and ledger calls that have not been answered yet."""

    def __init__(self) -> None:
        self._count = 0
        self.sent = asyncio.Event()
        """Set while a request is under way."""
        self._none = asyncio.Event()
        self._none.set()
        self.requests = 0
        self.most_requests = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()

    async def quiet(self) -> None:
        """Until whatever runs has nothing left to do but wait for the clock."""
        calm = 0
        while calm < _CALM_TURNS:
            if self._count:
                await self._none.wait()
                calm = 0
            await asyncio.sleep(0)
            calm += 1


class WatchedLedger(GroupCommit):
    """The real door to the ledger, with its calls accounted for.

    While time stands still nothing is lost by waiting for SQLite, so it runs on the loop itself. Postgres keeps its
    threads: two of them, whose transactions meet.
    """

    def __init__(self, ledger: Ledger, clock: Clock, under_way: UnderWay) -> None:
        alone = isinstance(clock, ManualClock) and not ledger.store.dialect.is_postgres
        super().__init__(ledger, clock, thread=Inline() if alone else None, readers=Inline() if alone else None)
        self._under_way = under_way
        self.calls = 0
        self.before_call: Callable[[], None] = lambda: None
        """May raise what the database would."""

    async def call(self, act: Callable[[Ledger], T]) -> T:
        self.before_call()
        self.calls += 1
        with self._under_way.one():
            return await super().call(act)

    async def apply(
        self, answers: Sequence[Answer], *, least_interval: timedelta, patience: timedelta = AT_ONCE
    ) -> list[Applied]:
        self.before_call()
        with self._under_way.one():
            return await super().apply(answers, least_interval=least_interval, patience=patience)

    async def receive(self, receipt: Receipt) -> Verdict:
        with self._under_way.one():
            return await super().receive(receipt)

    async def read(self, act: Callable[[Ledger], T]) -> T:
        with self._under_way.one():
            return await super().read(act)


class WatchedTransport:
    """The real transport, with its requests accounted for; `redirect` sends an account's requests elsewhere, `alter`
    changes what is answered."""

    def __init__(self, transport: Transport, under_way: UnderWay) -> None:
        self._transport = transport
        self._under_way = under_way
        self.redirect: Callable[[Request], Request] = lambda request: request
        self.alter: Callable[[bytes], bytes] = lambda content: content

    async def send(self, request: Request) -> Reply:
        watched = self._under_way
        watched.requests += 1
        watched.sent.set()
        watched.most_requests = max(watched.most_requests, watched.requests)
        try:
            with watched.one():
                reply = await self._transport.send(self.redirect(request))
                return replace(reply, content=self.alter(reply.content))
        finally:
            watched.requests -= 1
            if not watched.requests:
                watched.sent.clear()

    async def until_sent(self) -> None:
        """Until a request is under way."""
        await self._under_way.sent.wait()
