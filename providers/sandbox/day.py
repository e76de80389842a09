"""A shop's day as data: what happens when, from a seed; and the two ways to live through it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from providers.sandbox.currencies import grain
from providers.sandbox.dice import Dice
from providers.sandbox.shopify.shop import Shop
from providers.sandbox.truth import ActionRefused, Pace
from providers.sandbox.world import World

FULL_DAY = timedelta(hours=24)
_SETTLE, _ARRIVAL = timedelta(hours=4), timedelta(hours=1)
_PAYOUT_TIMES = (timedelta(hours=11), timedelta(hours=17), timedelta(hours=23))
CURRENCIES: Mapping[str, tuple[int, int, int]] = {
    "usd": (78, 500, 25_000), "eur": (14, 500, 20_000), "jpy": (5, 300, 40_000), "kwd": (3, 1_000, 60_000),
}  # fmt: skip
"""Weight, smallest and largest amount in minor units."""
_COURSES: Mapping[str, int] = {
    "paid": 690, "slow": 60, "declined": 40, "declined_then_paid": 30, "challenged": 30, "captured": 30,
    "authorised": 10, "canceled": 15, "abandoned": 55, "abandoned_confirmation": 10, "abandoned_challenge": 15,
    "stuck_processing": 15,
}  # fmt: skip
"""How a payment goes, in parts of a thousand."""
UNCONFIRMED = frozenset({"abandoned", "abandoned_confirmation", "abandoned_challenge", "stuck_processing",
                         "authorised", "declined"})  # fmt: skip
"""Courses that end in `processing` or `requires_*`: what a deadline must find."""


@dataclass(frozen=True, slots=True)
class Step:
    """One action at one time of the day; its result gets `name`, which later arguments say as `$name`."""

    at: timedelta
    action: str
    arguments: Mapping[str, Any]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Day:
    seed: int
    steps: tuple[Step, ...]
    courses: Mapping[str, str] = field(default_factory=dict)
    """Payment's name -> its course."""


def pace_of(seconds: float) -> Pace:
    """How long things take in a day that is lived through in `seconds`."""
    scale = seconds / FULL_DAY.total_seconds()
    return Pace(settle=_SETTLE * scale, arrival=_ARRIVAL * scale)


def plan_day(seed: int, *, payments: int = 500) -> Day:
    """The same seed plans the same day. Amounts, courses, customers, refunds, disputes, payouts, edits, deletions."""
    return _Planner(seed).plan(payments)


class _Planner:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._dice = Dice(seed, "day")
        self._steps: list[Step] = []
        self._courses: dict[str, str] = {}

    def plan(self, payments: int) -> Day:
        customers = self._customers(max(5, payments // 12))
        self._catalogue(max(3, payments // 60), customers)
        for number in range(payments):
            self._payment(f"pay{number}", customers)
        for at in _PAYOUT_TIMES:
            for currency in CURRENCIES:
                self._add(at, "payouts.create_automatic", {"currency": currency}, f"payout_{currency}_{at.seconds}")
        returned = f"payout_usd_{_PAYOUT_TIMES[0].seconds}"
        self._add(_PAYOUT_TIMES[0] + timedelta(hours=2), "payouts.fail", {"payout": f"${returned}"})
        self._add(timedelta(hours=22), "funds.charge_fee", {"amount": 500, "description": "Radar for Fraud Teams"})
        ordered = sorted(enumerate(self._steps), key=lambda pair: (pair[1].at, pair[0]))
        return Day(self._seed, tuple(step for _, step in ordered), self._courses)

    def _add(self, at: timedelta, action: str, arguments: Mapping[str, Any], name: str | None = None) -> None:
        self._steps.append(Step(min(at, FULL_DAY - timedelta(seconds=1)), action, arguments, name))

    def _moment(self, first_hour: int = 0, last_hour: int = 23) -> timedelta:
        return timedelta(seconds=self._dice.whole(first_hour * 3_600, last_hour * 3_600))

    def _after(self, at: timedelta, low_minutes: int, high_minutes: int) -> timedelta:
        return at + timedelta(seconds=self._dice.whole(low_minutes * 60, high_minutes * 60))

    def _customers(self, number: int) -> list[str]:
        names = [f"customer{each}" for each in range(number)]
        for each, name in enumerate(names):
            arguments = {"email": f"buyer{each}@example.com", "name": f"Buyer {each}"}
            self._add(timedelta(seconds=each), "customers.create", arguments, name)
        for name in names[: number // 10 + 1]:
            self._add(self._moment(21, 23), "customers.delete", {"customer": f"${name}"})
        for name in names[-(number // 8) :]:
            self._add(self._moment(6, 20), "customers.update", {"customer": f"${name}", "name": "New Name"})
        return names[number // 10 + 1 :]

    def _catalogue(self, number: int, customers: list[str]) -> None:
        for each in range(number):
            at = timedelta(minutes=10, seconds=each)
            product, price = f"product{each}", f"price{each}"
            self._add(at, "catalogue.create_product", {"name": f"Plan {each}"}, product)
            arguments = {"product": f"${product}", "unit_amount": 900 + 100 * each, "interval": "month"}
            self._add(at, "catalogue.create_price", arguments, price)
            buyer = f"${self._dice.pick(customers)}"
            start, subscription = self._moment(1, 8), f"subscription{each}"
            self._add(start, "subscriptions.create", {"customer": buyer, "price": f"${price}"}, subscription)
            if each % 4 == 0:
                later = self._after(start, 60, 600)
                self._add(later, "subscriptions.cancel", {"subscription": f"${subscription}"})
            self._invoice(f"invoice{each}", each, buyer)
            self._session(f"session{each}", each)
        self._add(self._moment(2, 9), "catalogue.create_product", {"name": "Short-lived"}, "doomed")
        self._add(self._moment(10, 20), "catalogue.delete_product", {"product": "$doomed"})

    def _invoice(self, name: str, number: int, buyer: str) -> None:
        at = self._moment(2, 15)
        self._add(at, "invoices.create", {"customer": buyer, "amount": 1_500 + 10 * number}, name)
        if number % 5 == 4:
            self._add(self._after(at, 5, 50), "invoices.delete_draft", {"invoice": f"${name}"})
            return
        self._add(self._after(at, 1, 5), "invoices.finalize", {"invoice": f"${name}"})
        action = ("pay", "pay", "fail_payment", "void")[number % 4]
        self._add(self._after(at, 6, 90), f"invoices.{action}", {"invoice": f"${name}"})

    def _session(self, name: str, number: int) -> None:
        at = self._moment(2, 18)
        self._add(at, "checkout.open", {"amount": 2_500 + 10 * number}, name)
        if number % 3 != 2:
            action = ("complete", "expire")[number % 3]
            self._add(self._after(at, 2, 45), f"checkout.{action}", {"session": f"${name}"})

    def _payment(self, name: str, customers: list[str]) -> None:
        currency = self._dice.weighted(tuple(CURRENCIES), [weight for weight, _, _ in CURRENCIES.values()])
        _, low, high = CURRENCIES[currency]
        step = grain(currency)
        course = self._dice.weighted(tuple(_COURSES), tuple(_COURSES.values()))
        self._courses[name] = course
        at = self._moment(0, 22)
        arguments: dict[str, Any] = {
            "amount": self._dice.whole(low // step, high // step) * step, "currency": currency,
            "description": f"Order {name[3:]}", "metadata": {"order_id": name[3:]},
        }  # fmt: skip
        if self._dice.hits(0.5) and at > timedelta(minutes=5):
            arguments["customer"] = f"${self._dice.pick(customers)}"
        if course in ("captured", "authorised"):
            arguments["capture_method"] = "manual"
        self._add(at, "payments.create", arguments, name)
        payment = {"payment": f"${name}"}
        country = {"country": "US" if self._dice.hits(0.8) else "DE"}
        steps: Mapping[str, tuple[tuple[str, Mapping[str, Any]], ...]] = {
            "paid": (("succeed", country),),
            "slow": (("process", {}), ("succeed", country)),
            "declined": (("fail", {}),),
            "declined_then_paid": (("fail", {}), ("succeed", country)),
            "challenged": (("require_action", {}), ("succeed", country)),
            "captured": (("succeed", country), ("capture", {})),
            "authorised": (("succeed", country),),
            "canceled": (("cancel", {}),),
            "abandoned": (),
            "abandoned_confirmation": (("attach", {}),),
            "abandoned_challenge": (("require_action", {}),),
            "stuck_processing": (("process", {}),),
        }
        for action, more in steps[course]:
            at = at + timedelta(seconds=self._dice.whole(2, 240))
            self._add(at, f"payments.{action}", {**payment, **more})
        if course in ("paid", "slow", "declined_then_paid", "challenged"):
            self._aftermath(name, at, arguments["amount"], step)
        if self._dice.hits(0.04):
            edit = {"object_id": f"${name}", "note": f"edited {self._dice.whole(1, 99)}"}
            self._add(self._after(at, 10, 300), "edits.metadata", edit)

    def _aftermath(self, name: str, at: timedelta, amount: int, step: int) -> None:
        """Some payments come back: refunded, in part, in vain, or disputed."""
        charge = {"charge": f"${name}.latest_charge"}
        fate = self._dice.weighted(
            ("kept", "refunded", "part", "pending", "bounced", "dispute", "inquiry"), (860, 50, 40, 15, 10, 20, 5)
        )
        first, second = self._after(at, 5, 200), self._after(at, 210, 400)
        match fate:
            case "refunded":
                self._add(first, "refunds.create", charge, f"{name}_refund")
            case "part":
                part = max(step, amount // (3 * step) * step)
                self._add(first, "refunds.create", {**charge, "amount": part}, f"{name}_refund")
            case "pending" | "bounced":
                self._add(first, "refunds.create", {**charge, "pending": True}, f"{name}_refund")
                end = "succeed" if fate == "pending" else "fail"
                self._add(second, f"refunds.{end}", {"refund": f"${name}_refund"})
            case "dispute":
                self._add(first, "disputes.open", charge, f"{name}_dispute")
                end = self._dice.pick(("win", "lose", "answer"))
                self._add(second, f"disputes.{end}", {"dispute": f"${name}_dispute"})
            case "inquiry":
                self._add(first, "disputes.open", {**charge, "inquiry": True})
            case _:
                pass


# --- living through it ----------------------------------------------------------------------------


class Cast:
    """Who plays whom: results by name, so that steps may speak of objects whose ids nobody knew in advance."""

    def __init__(self, world: World, shop: Shop | None = None) -> None:
        self._world = world
        self._shop = shop
        self._ids: dict[str, Any] = {}

    def perform(self, action: str, arguments: Mapping[str, Any], name: str | None = None) -> Any:
        """Raises ActionRefused, also for a name that nobody has. `shop.pay` is what the shop calls `pay`."""
        resolved = {key: self._resolve(value) for key, value in arguments.items()}
        place, _, rest = action.partition(".")
        if place == "shop" and self._shop is not None:
            result = self._shop.act(rest, **resolved)
        else:
            result = self._world.act(action, **resolved)
        if name is not None and isinstance(result, dict) and "id" in result:
            self._ids[name] = result["id"]
        return result

    def _resolve(self, value: Any) -> Any:
        """`$pay1` is the id that got that name; `$pay1.latest_charge` is what that object's field says now."""
        if isinstance(value, Mapping):
            return {key: self._resolve(each) for key, each in value.items()}
        if not isinstance(value, str) or not value.startswith("$"):
            return value
        name, _, field_name = value[1:].partition(".")
        if name not in self._ids:
            raise ActionRefused(f"nothing is called {name!r} yet")
        if not field_name:
            return self._ids[name]
        return self._world.store.get(self._ids[name])[field_name]


async def play(day: Day, world: World, *, seconds: float, shop: Shop | None = None) -> list[str]:
    """Live through the day in real time, in that many seconds; returns the steps that the world refused, and why.

    Make the world with `pace=pace_of(seconds)`, so that money settles and payouts arrive within the day.
    """
    cast, refused = Cast(world, shop), list[str]()
    loop = asyncio.get_running_loop()
    start, scale = loop.time(), seconds / FULL_DAY.total_seconds()
    for step in day.steps:
        wait = start + step.at.total_seconds() * scale - loop.time()
        await asyncio.sleep(max(0.0, wait))
        world.run_due()
        _perform(cast, step, refused)
    return refused


def relive(day: Day, world: World, advance: Callable[[timedelta], object], *, shop: Shop | None = None) -> list[str]:
    """Live through the day on a clock that `advance` moves: at once, and the same every time."""
    cast, refused, elapsed = Cast(world, shop), list[str](), timedelta(0)
    for step in day.steps:
        advance(step.at - elapsed)
        elapsed = step.at
        world.run_due()
        _perform(cast, step, refused)
    advance(FULL_DAY - elapsed)
    world.run_due()
    return refused


def _perform(cast: Cast, step: Step, refused: list[str]) -> None:
    try:
        cast.perform(step.action, step.arguments, step.name)
    except ActionRefused as no:
        refused.append(f"{step.at} {step.action}: {no}")
