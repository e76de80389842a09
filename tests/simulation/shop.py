"""The provider's side of a simulation: everything that was ever true there, and the wires between us."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from providers.sandbox import FaultPlan
from providers.sandbox.answers import Answer, Call, Mishap
from providers.sandbox.api import read_call
from providers.sandbox.faults import Chance, Faults
from providers.sandbox.store import Body
from reconciler.errors import Unavailable
from reconciler.model import content_hash
from reconciler.provider import Provider, Reply, Request
from tests.loop.wiring import Reader
from tests.simulation.loop import SimulatedLoop
from tests.simulation.scenario import Scenario

GONE = ""
"""The content hash of what does not exist."""


@dataclass(slots=True)
class Was:
    """A state of one resource, and since when."""

    since: float
    body: Body | None
    _hash: str | None = None

    def content(self, volatile: frozenset[str]) -> str:
        if self._hash is None:
            self._hash = GONE if self.body is None else content_hash(self.body, volatile)
        return self._hash


class History:
    """Everything that was ever true: per (kind, id) its states, oldest first. Before the first it did not exist."""

    def __init__(self, loop: SimulatedLoop, volatile: Mapping[str, frozenset[str]]) -> None:
        """`volatile`: of each kind that is wanted, the fields that are no part of its content."""
        self._loop = loop
        self._volatile = volatile
        self._states: dict[tuple[str, str], list[Was]] = {}

    def note(self, kind: str, object_id: str, body: Body | None) -> None:
        if kind not in self._volatile:
            return
        self._states.setdefault((kind, object_id), [Was(-1.0, None)]).append(Was(self._loop.time(), body))

    def last(self, kind: str, object_id: str) -> int:
        return len(self._states.get((kind, object_id), ())) - 1

    def contents_since(self, kind: str, object_id: str, number: int) -> set[str]:
        volatile = self._volatile[kind]
        return {each.content(volatile) for each in self._states[kind, object_id][number:]}

    def current(self, kind: str, object_id: str) -> str:
        states = self._states.get((kind, object_id))
        return GONE if states is None else states[-1].content(self._volatile[kind])

    def since(self, kind: str, object_id: str) -> float:
        """Since when it is as it is."""
        return self._states[kind, object_id][-1].since

    def contents_after(self, kind: str, object_id: str, instant: float) -> set[str]:
        """What was true at the instant or later."""
        states = self._states[kind, object_id]
        first = bisect_right([each.since for each in states], instant) - 1
        return {each.content(self._volatile[kind]) for each in states[max(first, 0) :]}

    def resources(self) -> Iterator[tuple[str, str]]:
        return iter(self._states)


@dataclass(frozen=True, slots=True)
class Told:
    """What one event says of one resource."""

    kind: str
    id: str
    number: int
    """Of the state that the resource was in when the event was made."""
    at: datetime


class _Answers(Protocol):
    def answer(self, call: Call) -> Answer: ...


class _Server(Protocol):
    """A look-alike of whichever provider."""

    @property
    def api(self) -> _Answers: ...

    @property
    def faults(self) -> Faults: ...

    def set_faults(self, plan: FaultPlan) -> None: ...


class Shop(ABC):
    """A look-alike without sockets, and whoever lives in it: requests and deliveries take simulated time."""

    provider: ClassVar[str]

    def __init__(self, scenario: Scenario, loop: SimulatedLoop, history: History, server: _Server) -> None:
        self._scenario = scenario
        self._loop = loop
        self._dice = random.Random(f"shop/{scenario.seed}")
        self.history = history
        self.server = server
        self.events: dict[str, tuple[Told, ...]] = {}
        """By the id under which our log knows them."""
        self._troubles: dict[str, tuple[str, Chance]] = {}
        self.busy = False

    # --- what differs from provider to provider ---

    @abstractmethod
    def start_sending(self) -> None:
        """Deliveries begin."""

    @abstractmethod
    def reader(self, made_by: type[Provider] | None) -> Reader:
        """What reads this shop for us; `made_by` in the place of the product's own."""

    @abstractmethod
    def event_id(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Under which id a genuine delivery is logged; None where its body is no JSON, as it may be on its way."""

    @abstractmethod
    def follows(self, event_id: str) -> bool:
        """Whether it is of a type that we follow."""

    @abstractmethod
    def existing(self, kind: str) -> Iterator[tuple[str, datetime]]:
        """Of a kind that has a list of its own: what exists, and when it was created."""

    @abstractmethod
    def itemised(self) -> Mapping[str, frozenset[str]]:
        """Payouts to which nothing is added any more, with the ids of the balance transactions in them."""

    @abstractmethod
    def new_api_version(self) -> None:
        """Every body has a field more, and nobody is told."""

    @abstractmethod
    def act(self) -> None:
        """One act of customers, or of the shop's own people."""

    # --- what goes wrong, beside what the plan says ---

    def trouble(self, name: str, fault: str, *kinds: str) -> None:
        """From now on a fault strikes every read (of these kinds)."""
        self._troubles[name] = (fault, Chance(1.0, only=kinds))
        self._replan(self._scenario.plan)

    def calm(self, name: str) -> None:
        self._troubles.pop(name, None)
        self._replan(self._scenario.plan)

    def end_faults(self) -> None:
        self._troubles.clear()
        self.server.set_faults(FaultPlan())

    def _replan(self, plan: FaultPlan) -> None:
        changes: dict[str, Any] = dict(self._troubles.values())
        self.server.set_faults(replace(plan, **changes))

    # --- its day ---

    async def live(self) -> None:
        self.busy = True
        while self.busy:
            await asyncio.sleep(self._dice.expovariate(1 / self._scenario.pace))
            self.act()

    # --- reads ---

    async def send(self, request: Request) -> Reply:
        """Implements `Transport`: the answer is decided when the request arrives, and arrives later still."""
        parts = urlsplit(request.url)
        headers = {name.lower().encode(): value.encode() for name, value in request.headers.items()}
        call = read_call(request.method, parts.path, parts.query.encode(), headers, request.content or b"")
        await asyncio.sleep(self._latency())
        answer = self.server.api.answer(call)
        if answer.mishap is Mishap.HANG:
            await asyncio.sleep(50.0)
            raise Unavailable(f"{call.path}: no complete answer within its time-out")
        await asyncio.sleep(self._latency())
        if answer.mishap is Mishap.CUT:
            raise Unavailable(f"{call.path}: the connection was closed within the body")
        return Reply(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.content)

    def _latency(self) -> float:
        """Seconds; now and then longer than a lease."""
        luck = self._dice.random()
        if not self._scenario.rates or luck < 0.88:
            return self._dice.uniform(0.01, 0.2)
        return self._dice.uniform(0.5, 7.0) if luck < 0.995 else self._dice.uniform(20.0, 90.0)
