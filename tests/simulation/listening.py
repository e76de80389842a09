"""Who follows the change feed of a simulation: subscribers that are told, on bad days too, and a reader that asks.

They live outside our processes: what was on its way to them when a process died arrives all the same.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Protocol
from urllib.parse import urlencode

import orjson

from providers.sandbox.post import PostFailed
from reconciler.errors import Unavailable
from reconciler.ledger.changes import Cursor, Filter
from reconciler.ledger.subscriptions import Form, Ordering, Subscription
from reconciler.outbox.policy import Policy
from reconciler.provider import Reply, Request
from tests.simulation.feed import FeedOracle
from tests.simulation.loop import SimulatedLoop
from tests.simulation.scenario import Scenario

TOKEN: Final = "reader"
SIGNING_SECRET: Final = "whsec_" + "c2ltdWxhdGVkLXNlY3JldC1vZi0yNC1ieXRlcw=="
COPY: Final = Subscription("copy", "https://copy.example/hook", form=Form.FULL)
"""Wants every version of everything, whole."""
CACHE: Final = Subscription(
    "cache",
    "https://cache.example/hook",
    wanted=Filter(kinds=frozenset({"customer", "charge", "payment_intent"})),
    ordering=Ordering.NEWEST,
    concurrency=2,
)
"""Wants to know of some kinds what is newest."""
SUBSCRIPTIONS: Final = (COPY, CACHE)


def policy_of(scenario: Scenario) -> Policy:
    usual = Policy(max_wait=timedelta(seconds=30), probe_wait=timedelta(seconds=20))
    if not scenario.gives_up:
        return usual
    return Policy(
        attempts=3,
        give_up_after=timedelta(seconds=30),
        max_wait=usual.max_wait,
        probe_wait=usual.probe_wait,
        longest_retry_after=timedelta(seconds=30),
    )


class Subscribers:
    """Implements `Transport`: every subscriber's side of the wire, and the wire. The dice decide what goes wrong."""

    def __init__(self, scenario: Scenario, loop: SimulatedLoop, oracle: FeedOracle) -> None:
        self._scenario = scenario
        self._loop = loop
        self._oracle = oracle
        self._dice = random.Random(f"subscribers/{scenario.seed}")
        self._patience = min(15.0, scenario.lease.total_seconds() / 2)
        """Seconds after which a request is given up; a lease is longer than any request."""
        self.well = False

    async def send(self, request: Request) -> Reply:
        """Once it is on its way it arrives, whatever becomes of the sender."""
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._loop.create_task(self._arrive(request, answer), context=contextvars.Context())
        try:
            async with asyncio.timeout(self._patience):
                return await answer
        except TimeoutError as late:
            raise Unavailable("no answer in time") from late

    async def _arrive(self, request: Request, answer: asyncio.Future[Reply]) -> None:
        await asyncio.sleep(self._dice.uniform(0.005, 0.2))
        if self._strikes("lost"):
            return
        told = self._oracle.received(request)
        if self._strikes("hang"):
            await asyncio.sleep(self._patience * self._dice.choice([0.5, 2.0]))
        status, headers = self._status()
        if 200 <= status < 300:
            self._oracle.taken(told)
        if self._strikes("unanswered"):
            return
        await asyncio.sleep(self._dice.uniform(0.005, 0.2))
        if not answer.done():
            answer.set_result(Reply(status, headers, b""))

    def _status(self) -> tuple[int, dict[str, str]]:
        if self._strikes("error"):
            return 500, {}
        if self._strikes("busy"):
            return self._dice.choice([429, 503]), {"retry-after": str(self._dice.choice([1, 20]))}
        if self._strikes("gone"):
            return 410, {}
        return 204, {}

    def _strikes(self, fault: str) -> bool:
        return not self.well and self._dice.random() < self._scenario.rates.get(f"told_{fault}", 0.0)


class Door(Protocol):
    async def ask(self, query: bytes) -> tuple[int, bytes]:
        """What the process that lives now answers. Raises PostFailed where none does, or it dies of it."""


class Reader:
    """Follows the feed by its cursor, through whichever process is there; an answer that is lost is asked for again."""

    def __init__(
        self, scenario: Scenario, oracle: FeedOracle, door: Callable[[], Door], *, pause_seconds: float = 8.0
    ) -> None:
        self._scenario = scenario
        self._oracle = oracle
        self._door = door
        self._dice = random.Random(f"reader/{scenario.seed}")
        self._pause = pause_seconds * scenario.stretch
        self._cursor: str | None = None

    def calm_down(self) -> None:
        """Ask now and then."""
        self._pause = 300.0

    async def live(self) -> None:
        while True:
            await asyncio.sleep(self._dice.expovariate(1 / self._pause))
            try:
                status, body = await self._door().ask(urlencode(self._question()).encode())
            except PostFailed:
                continue
            if self._scenario.rates and self._dice.random() < 0.1:
                continue  # the answer was lost
            if status == 200:
                page = orjson.loads(body)
                self._cursor = page["cursor"]
                self._oracle.read(page["changes"], Cursor.parse(page["cursor"]))
            elif status != 503:
                self._oracle.broken(f"the reader of the feed was answered {status}: {body.decode()}")

    def _question(self) -> dict[str, str]:
        asked = {"limit": str(self._dice.choice([1, 3, 100])), "wait": self._dice.choice(["0s", "0s", "3s"])}
        return asked if self._cursor is None else asked | {"after": self._cursor}
