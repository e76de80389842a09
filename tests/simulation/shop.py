"""The provider's side of a simulation: a busy shop, everything that was ever true in it, and the wires between us."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from providers.sandbox import FaultPlan, Limits, RetrySchedule, SandboxServer, World
from providers.sandbox.answers import Mishap
from providers.sandbox.api import read_call
from providers.sandbox.faults import Chance
from providers.sandbox.post import Post
from providers.sandbox.store import Body, Store
from providers.sandbox.truth import ActionRefused, Occurrence
from providers.stripe.kinds import ROUTES
from reconciler.clock import Clock
from reconciler.errors import Unavailable
from reconciler.model import content_hash
from reconciler.provider import Reply, Request
from tests.sandbox_fixtures import SECRET
from tests.simulation.loop import SimulatedLoop
from tests.simulation.scenario import Scenario

GONE = ""
"""The content hash of what does not exist."""

ENDPOINT = "https://us.example/webhooks/stripe/main"


@dataclass(slots=True)
class Was:
    """A state of one resource, and since when."""

    since: float
    body: Body | None
    _hash: str | None = None

    def content(self, kind: str) -> str:
        if self._hash is None:
            self._hash = GONE if self.body is None else content_hash(self.body, ROUTES[kind].volatile)
        return self._hash


class History:
    """Everything that was ever true: per (kind, id) its states, oldest first. Before the first it did not exist."""

    def __init__(self, loop: SimulatedLoop, kinds: Collection[str]) -> None:
        self._loop = loop
        self._wanted = frozenset(kinds)
        self._states: dict[tuple[str, str], list[Was]] = {}
        self._kinds: dict[str, str] = {}

    def note(self, kind: str, object_id: str, body: Body | None) -> None:
        if kind not in self._wanted:
            return
        self._kinds[object_id] = kind
        self._states.setdefault((kind, object_id), [Was(-1.0, None)]).append(Was(self._loop.time(), body))

    def kind_of(self, object_id: str) -> str | None:
        return self._kinds.get(object_id)

    def last(self, kind: str, object_id: str) -> int:
        return len(self._states.get((kind, object_id), ())) - 1

    def contents_since(self, kind: str, object_id: str, number: int) -> set[str]:
        return {each.content(kind) for each in self._states[kind, object_id][number:]}

    def current(self, kind: str, object_id: str) -> str:
        states = self._states.get((kind, object_id))
        return GONE if states is None else states[-1].content(kind)

    def contents_after(self, kind: str, object_id: str, instant: float) -> set[str]:
        """What was true at the instant or later."""
        states = self._states[kind, object_id]
        first = bisect_right([each.since for each in states], instant) - 1
        return {each.content(kind) for each in states[max(first, 0) :]}

    def resources(self) -> Iterator[tuple[str, str]]:
        return iter(self._states)


class RememberingStore(Store):
    """The sandbox's store, with everything that it forgets after ten minutes written down."""

    def __init__(self, clock: Clock, history: History) -> None:
        super().__init__(clock)
        self._history = history

    def add(self, kind: str, body: Body) -> None:
        super().add(kind, body)
        self._history.note(kind, str(body["id"]), body)

    def replace(self, body: Body) -> None:
        super().replace(body)
        self._note(str(body["id"]), body)

    def remove(self, object_id: str, stub: Body | None) -> None:
        super().remove(object_id, stub)
        self._note(object_id, None)

    def _note(self, object_id: str, body: Body | None) -> None:
        row = self.row(object_id)
        assert row is not None
        self._history.note(row.kind, object_id, body)


class Shop:
    """The sandbox without sockets: requests and deliveries take simulated time."""

    def __init__(self, scenario: Scenario, loop: SimulatedLoop, clock: Clock, post: Post) -> None:
        self._scenario = scenario
        self._loop = loop
        self._dice = random.Random(f"shop/{scenario.seed}")
        self.history = History(loop, scenario.kinds)
        self.world = World(seed=scenario.seed, clock=clock)
        self.world.truth.store = RememberingStore(clock, self.history)
        self.events: dict[str, tuple[str, str, int, int]] = {}
        """By id: the kind and id of the object, its state's number when the event was made, and its creation."""
        self.server = SandboxServer(
            self.world, limits=Limits(), faults=scenario.plan, retries=RetrySchedule(), concurrency=4, post=post
        )
        self.server.add_endpoint(ENDPOINT, secret=SECRET)
        self.world.listen(self._note)
        self._troubles: dict[str, tuple[str, Chance]] = {}
        self.busy = False

    def _note(self, occurrence: Occurrence) -> None:
        kind, object_id = str(occurrence.subject["object"]), str(occurrence.subject["id"])
        if kind in self._scenario.kinds:
            number = self.history.last(kind, object_id)
            self.events[occurrence.event["id"]] = (kind, object_id, number, int(occurrence.event["created"]))

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

    def new_api_version(self) -> None:
        """Every body has a field more, and nobody is told."""
        for kind in self._scenario.kinds:
            for body in self.world.truth.all_of(kind):
                self.world.truth.change(body["id"], {"of_a_new_version": self._loop.turns})

    # --- its day ---

    async def live(self) -> None:
        self.busy = True
        acts = Acts(self.world, random.Random(f"acts/{self._scenario.seed}"), self._scenario.kinds)
        while self.busy:
            await asyncio.sleep(self._dice.expovariate(1 / self._scenario.pace))
            acts.one()

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


class Acts:
    """Customers, and the shop's own people, one act at a time."""

    def __init__(self, world: World, dice: random.Random, kinds: Collection[str]) -> None:
        self._world = world
        self._dice = dice
        self._edited = [kind for kind in ("payment_intent", "charge", "customer", "product") if kind in kinds]
        self._numbers = iter(range(1 << 40))
        money: Mapping[Callable[[], object], int] = {
            self._pay: 4,
            self._start_payment: 2,
            self._go_on_with_payment: 4,
            self._refund: 2,
        }
        others: Mapping[Callable[[], object], int] = {
            self._edit: 6,
            self._new_customer: 2,
            self._rename_customer: 3,
            self._lose_customer: 2,
            self._new_product: 1,
            self._rename_product: 2,
            self._drop_product: 1,
        }
        self._choices = {**money, **others, self._pay_out: 1} if "payment_intent" in kinds else others

    def one(self) -> None:
        """What the state of things forbids does not happen."""
        (act,) = self._dice.choices(list(self._choices), list(self._choices.values()))
        with suppress(ActionRefused, KeyError):
            act()

    def _some(self, kind: str, *statuses: str) -> str:
        bodies = [body for body in self._world.truth.all_of(kind) if not statuses or body.get("status") in statuses]
        if not bodies:
            raise ActionRefused(f"there is no {kind}")
        return str(self._dice.choice(bodies[-self._dice.choice([2, 12]) :])["id"])

    def _pay(self) -> None:
        self._world.payments.pay(self._dice.randrange(500, 9000))

    def _start_payment(self) -> None:
        self._world.payments.create(self._dice.randrange(500, 9000))

    def _go_on_with_payment(self) -> None:
        payment = self._some(
            "payment_intent", "requires_payment_method", "requires_confirmation", "requires_action", "processing"
        )
        step = self._dice.choice(["attach", "require_action", "process", "succeed", "fail", "cancel"])
        self._world.act(f"payments.{step}", payment=payment)

    def _refund(self) -> None:
        charge = self._some("charge", "succeeded")
        self._world.refunds.create(charge, amount=self._dice.randrange(1, 400))

    def _edit(self) -> None:
        """Also back and forth between two values, so that a state may come twice."""
        kind = self._dice.choice(self._edited)
        self._world.edits.metadata(self._some(kind), note=self._dice.choice(["a", "b"]))

    def _new_customer(self) -> None:
        self._world.customers.create(name=f"Buyer {next(self._numbers)}")

    def _rename_customer(self) -> None:
        self._world.customers.update(self._some("customer"), name=self._dice.choice(["Ann", "Bob"]))

    def _lose_customer(self) -> None:
        self._world.customers.delete(self._some("customer"))

    def _new_product(self) -> None:
        self._world.catalogue.create_product(name=f"Thing {next(self._numbers)}")

    def _rename_product(self) -> None:
        self._world.catalogue.update_product(self._some("product"), name=self._dice.choice(["Hat", "Cap"]))

    def _drop_product(self) -> None:
        self._world.catalogue.delete_product(self._some("product"))

    def _pay_out(self) -> None:
        self._world.payouts.create_automatic("usd")
