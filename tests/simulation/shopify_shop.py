"""A Shopify account in a simulation: the sandbox with a memory, and a busy merchant."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

import orjson

from providers.sandbox import shopify as sandbox
from providers.sandbox.post import Post
from providers.sandbox.shopify.bodies import Body
from providers.sandbox.shopify.bucket import BucketLimit
from providers.sandbox.shopify.shelf import Shelf
from providers.sandbox.shopify.shop import Happening
from providers.shopify import Shopify
from providers.shopify.kinds import ROUTES
from providers.shopify.topics import REQUIRED
from reconciler.clock import Clock
from reconciler.provider import Provider, Transport
from tests.loop.wiring import Reader
from tests.shopify.shops import settings_of
from tests.simulation.loop import SimulatedLoop
from tests.simulation.merchant import Merchant
from tests.simulation.scenario import Scenario
from tests.simulation.shop import History, Shop, Told

ENDPOINT: Final = "https://us.example/webhooks/shopify/main"

_PARTS: Final = {"refund": "refunds", "fulfillment": "fulfillments"}
"""Kinds that live inside an order's body, and where."""
_CREATED: Final = {
    **dict.fromkeys(("order", "draft_order", "product", "customer"), "created_at"),
    **dict.fromkeys(("balance_transaction", "tender_transaction"), "processed_at"),
    "dispute": "initiated_at",
}
"""Kinds with a list of their own whose bodies say to the second when they were created."""
_OWN: Final = {
    "orders": "order", "draft_orders": "draft_order", "products": "product", "customers": "customer",
    "inventory_items": "inventory_item", "disputes": "dispute", "tender_transactions": "tender_transaction",
}  # fmt: skip
"""Families of topics whose body is the resource itself."""
_OF_ORDERS: Final = {
    "order_transactions": ("order_transactions", "order"),
    "refunds": ("order", "order_transactions"),
    "fulfillments": ("order",),
    "disputes": ("order",),
}
"""What else of an order a family speaks of."""


class RememberingShelf(Shelf):
    """The sandbox's shelf, with everything that it forgets written down, also what lives inside orders."""

    def __init__(self, clock: Clock, history: History) -> None:
        super().__init__(clock)
        self._history = history

    def put(self, kind: str, key: object, body: Body | None) -> None:
        before = self.get(kind, key)
        super().put(kind, key, body)
        self._history.note(kind, str(key), body)
        if kind == "order":
            self._note_parts(str(key), before or {}, body or {})
            if before is None or body is None:
                self._note_transactions(str(key))
        elif kind == "transaction":
            self._note_transactions(str(key).partition("/")[0])

    def _note_parts(self, order: str, before: Body, after: Body) -> None:
        for kind, field in _PARTS.items():
            was = {row["id"]: row for row in before.get(field, ())}
            now = {row["id"]: row for row in after.get(field, ())}
            for number in was | now:
                if was.get(number) != now.get(number):
                    self._history.note(kind, f"{order}/{number}", now.get(number))

    def _note_transactions(self, order: str) -> None:
        """The list of an order's transactions, which we keep as a resource of its own."""
        if self.get("order", order) is None:
            if self._history.last("order_transactions", order) > 0:
                self._history.note("order_transactions", order, None)
            return
        ids = sorted(row["id"] for _, row in self.all("transaction") if str(row["order_id"]) == order)
        listed = {"order_id": int(order), "transaction_ids": ids}
        self._history.note("order_transactions", order, listed)


class ShopifyShop(Shop):
    provider = "shopify"

    def __init__(self, scenario: Scenario, loop: SimulatedLoop, clock: Clock, post: Post) -> None:
        history = History(loop, {kind: ROUTES[kind].volatile for kind in scenario.kinds})
        self._clock = clock
        self._truth = sandbox.Shop(seed=scenario.seed, clock=clock, shelf=RememberingShelf(clock, history))
        second = self._truth.location + 1
        self._truth.shelf.put("location", second, {"id": second, "name": "Shop", "active": True})
        limit = BucketLimit(scenario.bucket, scenario.bucket / 20)
        self._sandbox = sandbox.ShopServer(self._truth, bucket=limit, faults=scenario.plan, concurrency=4, post=post)
        self._sandbox.api.most_rows = scenario.page_rows
        super().__init__(scenario, loop, history, self._sandbox)
        self._sandbox.subscribe(ENDPOINT, REQUIRED)
        self._truth.listeners.append(self._note)
        self._merchant = Merchant(self._truth, random.Random(f"acts/{scenario.seed}"), scenario.often)

    def _note(self, happening: Happening) -> None:
        family, body = happening.topic.partition("/")[0], happening.body
        named: list[tuple[str, str]] = []
        if family in _OWN:
            named.append((_OWN[family], str(body["id"])))
        if family == "inventory_levels":
            named.append(("inventory_level", _level(body)))
        named += [(kind, str(body["order_id"])) for kind in _OF_ORDERS.get(family, ())]
        now = self._clock.now()
        self.events[_event_id(happening.event_id, happening.topic, body)] = tuple(
            Told(kind, key, self.history.last(kind, key), now)
            for kind, key in named
            if kind in self._scenario.kinds and self.history.last(kind, key) >= 0
        )

    def start_sending(self) -> None:
        self._sandbox.sender.start()
        self._merchant.open()

    def reader(self, made_by: type[Provider] | None) -> Reader:
        settings = settings_of(self._sandbox)

        def reader(name: str, transport: Transport, clock: Clock) -> Provider:
            return (made_by or Shopify)(name, settings, transport, clock)

        return reader

    def event_id(self, headers: Mapping[str, str], body: bytes) -> str | None:
        try:
            event = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(event, dict):
            return None
        return _event_id(headers["x-shopify-event-id"], headers["x-shopify-topic"], event)

    def follows(self, event_id: str) -> bool:
        return event_id in self.events

    def existing(self, kind: str) -> Iterator[tuple[str, datetime]]:
        if kind in _CREATED:
            for key, row in self._truth.shelf.all(kind):
                yield key, datetime.fromisoformat(row[_CREATED[kind]])

    def itemised(self) -> Mapping[str, frozenset[str]]:
        paid = {int(key) for key, row in self._truth.shelf.all("payout") if row["status"] == "paid"}
        members: dict[int, list[str]] = {payout: [] for payout in paid}
        for key, row in self._truth.shelf.all("balance_transaction"):
            if row["payout_id"] in paid and row["type"] != "payout":
                members[row["payout_id"]].append(key)
        return {str(payout): frozenset(ids) for payout, ids in members.items()}

    def new_api_version(self) -> None:
        for kind in self._scenario.kinds:
            for key, row in list(self._truth.shelf.all(kind)):
                self._truth.shelf.put(kind, key, {**row, "of_a_new_version": self._loop.turns})

    def act(self) -> None:
        self._merchant.one()


def _event_id(event: str, topic: str, body: Body) -> str:
    """One action has one event id, which all that it causes shares: our log tells it apart by topic and subject."""
    return f"{event}:{topic}:{body['id'] if 'id' in body else _level(body)}"


def _level(body: Body) -> str:
    return f"{body['inventory_item_id']}/{body['location_id']}"
