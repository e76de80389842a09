"""A Stripe account in a simulation: the sandbox with a memory, and a busy shop."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import orjson

from providers.sandbox import Limits, RetrySchedule, SandboxServer, World
from providers.sandbox.post import Post
from providers.sandbox.store import Body, Store
from providers.sandbox.truth import ActionRefused, Occurrence
from providers.stripe.events import ALL_TYPES
from providers.stripe.kinds import ROUTES
from reconciler.clock import Clock, from_micros
from reconciler.provider import Provider
from tests.loop.wiring import Reader, Setup, stripe_reader
from tests.sandbox_fixtures import SECRET
from tests.simulation.loop import SimulatedLoop
from tests.simulation.scenario import Scenario
from tests.simulation.shop import History, Shop, Told

ENDPOINT = "https://us.example/webhooks/stripe/main"


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


class StripeShop(Shop):
    provider = "stripe"

    def __init__(self, scenario: Scenario, loop: SimulatedLoop, clock: Clock, post: Post) -> None:
        history = History(loop, {kind: ROUTES[kind].volatile for kind in scenario.kinds})
        self._world = World(seed=scenario.seed, clock=clock)
        self._world.truth.store = RememberingStore(clock, history)
        self._sandbox = SandboxServer(
            self._world,
            limits=Limits(),
            faults=scenario.plan,
            retries=RetrySchedule(),
            concurrency=4,
            longest_nap=timedelta(seconds=scenario.stretch),
            post=post,
        )
        super().__init__(scenario, loop, history, self._sandbox)
        self._sandbox.add_endpoint(ENDPOINT, secret=SECRET)
        self._world.listen(self._note)
        self._acts = Acts(self._world, random.Random(f"acts/{scenario.seed}"), scenario.kinds)

    def _note(self, occurrence: Occurrence) -> None:
        kind, object_id = str(occurrence.subject["object"]), str(occurrence.subject["id"])
        if kind in self._scenario.kinds:
            at = from_micros(int(occurrence.event["created"]) * 1_000_000)
            told = Told(kind, object_id, self.history.last(kind, object_id), at)
            self.events[occurrence.event["id"]] = (told,)

    def start_sending(self) -> None:
        self._sandbox.start_sending()

    def reader(self, made_by: type[Provider] | None) -> Reader:
        setup = Setup() if made_by is None else Setup(provider=made_by)  # type: ignore[arg-type]  # a Stripe without a guard
        return stripe_reader(self._sandbox, setup)

    def event_id(self, headers: Mapping[str, str], body: bytes) -> str | None:
        del headers
        try:
            event = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        return str(event.get("id")) if isinstance(event, dict) else None

    def follows(self, event_id: str) -> bool:
        row = self._world.store.row(event_id)
        return row is not None and row.body is not None and row.body["type"] in ALL_TYPES

    def existing(self, kind: str) -> Iterator[tuple[str, datetime]]:
        for body in self._world.truth.all_of(kind):
            yield str(body["id"]), from_micros(int(body["created"]) * 1_000_000)

    def itemised(self) -> Mapping[str, frozenset[str]]:
        truth = self._world.truth
        return {
            payout["id"]: frozenset(truth.members[payout["id"]]) - {payout["balance_transaction"]}
            for payout in truth.all_of("payout")
            if payout["automatic"] and payout["reconciliation_status"] == "completed"
        }

    def new_api_version(self) -> None:
        for kind in self._scenario.kinds:
            for body in self._world.truth.all_of(kind):
                self._world.truth.change(body["id"], {"of_a_new_version": self._loop.turns})

    def act(self) -> None:
        self._acts.one()


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
