"""The same day in the shop: an order in Shopify for what is paid at Stripe, and a shop's own life around it.

An order's transaction carries the ids that Stripe's gateway writes there: the charge, or the payment intent where the
charge is not known yet. So each payment of the day has its two sides, as finance compares them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from providers.sandbox.day import FULL_DAY, Day, Step
from providers.sandbox.dice import Dice

GATEWAY = "stripe"
_PAID_BY = {"captured": "payments.capture"}
"""Which action takes the money of a course; by default the success of the payment."""
_UNPAID = frozenset({"declined", "canceled", "authorised"})
"""Courses with an order that nobody pays."""


def with_orders(day: Day) -> Day:
    """The day's own steps, and the shop's between them. The same day gives the same orders."""
    ordered = sorted(enumerate((*day.steps, *_Shop(day).steps())), key=lambda pair: (pair[1].at, pair[0]))
    return replace(day, steps=tuple(step for _, step in ordered))


class _Shop:
    def __init__(self, day: Day) -> None:
        self._day = day
        self._dice = Dice(day.seed, "orders")
        self._opened = {step.name: step for step in day.steps if step.action in ("payments.create", "checkout.open")}
        size = len(self._opened)
        self._goods = [f"good{each}" for each in range(max(4, size // 25))]
        self._buyers = [f"buyer{each}" for each in range(max(4, size // 20))]

    def steps(self) -> Iterator[Step]:
        yield from self._stock()
        for step in self._day.steps:
            at, what = step.at, step.arguments
            match step.action.split("."):
                case ["payments", "process"] if self._course(what) == "slow":
                    yield from self._place(what["payment"], at)
                    yield from self._pay(what["payment"], at, pending=True)
                case ["payments", "succeed"] if self._course(what) == "slow":
                    yield from self._settle(what["payment"], at)
                case ["payments", "succeed" | "capture"] if step.action == self._paid_by(what):
                    yield from self._place(what["payment"], at)
                    yield from self._pay(what["payment"], at)
                case ["payments", "create"] if self._day.courses.get(step.name or "") in _UNPAID:
                    yield from self._give_up(f"${step.name}", at)
                case ["checkout", "complete"]:
                    yield from self._place(what["session"], at)
                    yield from self._pay(what["session"], at)
                case ["refunds", "create"] if step.name is not None and not what.get("pending"):
                    yield self._refund(step.name, at)
                case ["refunds", "succeed"]:
                    yield self._refund(what["refund"][1:], at)
                case _:
                    pass

    def _course(self, what: Mapping[str, Any]) -> str:
        return self._day.courses.get(what["payment"][1:], "")

    def _paid_by(self, what: Mapping[str, Any]) -> str:
        return _PAID_BY.get(course, "payments.succeed") if (course := self._course(what)) not in _UNPAID else ""

    # --- goods and people -------------------------------------------------------------------------

    def _stock(self) -> Iterator[Step]:
        start = timedelta(0)
        for number, name in enumerate(self._goods):
            yield _step(start, "create_product", {"title": f"Thing {number}", "minor": 1_000 + 10 * number}, name)
        for number, name in enumerate(self._buyers):
            yield _step(start, "create_customer", {"email": f"buyer{number}@example.com"}, name)
        yield _step(start, "create_product", {"title": "Short-lived"}, "short_lived")
        yield _step(start, "create_customer", {"email": "leaving@example.com"}, "leaving")
        yield _step(self._moment(), "delete_product", {"product": "$short_lived"})
        yield _step(self._moment(), "delete_customer", {"customer": "$leaving"})
        for name in self._goods[::2]:
            yield _step(self._moment(), "update_product", {"product": f"${name}", "tags": "sale"})
        for name in self._buyers[::3]:
            yield _step(self._moment(), "update_customer", {"customer": f"${name}", "note": "called"})
            yield _step(self._moment(), "create_draft_order", {"customer": f"${name}", "minor": 4_200})

    def _moment(self) -> timedelta:
        return timedelta(seconds=self._dice.whole(3_600, 23 * 3_600))

    # --- orders -----------------------------------------------------------------------------------

    def _place(self, payment: str, at: timedelta) -> Iterator[Step]:
        price = self._opened[payment[1:]].arguments
        arguments = {
            "product": f"${self._dice.pick(self._goods)}", "customer": f"${self._dice.pick(self._buyers)}",
            "minor": price["amount"], "currency": price.get("currency", "usd"),
        }  # fmt: skip
        yield _step(at, "place_order", arguments, f"order_{payment[1:]}")

    def _pay(self, payment: str, at: timedelta, *, pending: bool = False) -> Iterator[Step]:
        """A checkout's session knows its payment intent only; so does a payment that is still under way."""
        is_session = self._opened[payment[1:]].action == "checkout.open"
        intent = f"{payment}.payment_intent" if is_session else payment
        arguments: dict[str, Any] = {
            "order": f"$order_{payment[1:]}", "gateway": GATEWAY, "receipt": {"payment_intent": intent},
        }  # fmt: skip
        if pending:
            arguments["pending"] = True
        elif not is_session:
            arguments["authorization"] = f"{payment}.latest_charge"
        yield _step(at, "pay", arguments, f"sale_{payment[1:]}")
        if self._dice.hits(0.2):
            fulfilled = {"order": f"$order_{payment[1:]}", "touch": self._dice.hits(0.7)}
            yield _step(self._later(at, 20, 240), "fulfill", fulfilled)
        if self._dice.hits(0.05):
            edited = {"order": f"$order_{payment[1:]}", "note": f"gift {self._dice.whole(1, 99)}"}
            yield _step(self._later(at, 5, 120), "update_order", edited)

    def _settle(self, payment: str, at: timedelta) -> Iterator[Step]:
        arguments = {"order": f"$order_{payment[1:]}", "transaction": f"$sale_{payment[1:]}",
                     "authorization": f"{payment}.latest_charge"}  # fmt: skip
        yield _step(at, "settle_payment", arguments)

    def _refund(self, refund: str, at: timedelta) -> Step:
        """Some move no timestamp of their order, which happens; a few tell nobody either."""
        order = f"$order_{refund.removesuffix('_refund')}"
        quiet = self._dice.hits(0.3)
        arguments = {"order": order, "minor": f"${refund}.amount", "authorization": f"${refund}", "touch": not quiet,
                     "silent": quiet and self._dice.hits(0.3)}  # fmt: skip
        return _step(at, "refund", arguments)

    def _give_up(self, payment: str, at: timedelta) -> Iterator[Step]:
        """Ordered, never paid: cancelled, and some are deleted for good."""
        yield from self._place(payment, at)
        order = {"order": f"$order_{payment[1:]}"}
        cancelled = self._later(at, 250, 400)
        yield _step(cancelled, "cancel", order)
        if self._dice.hits(0.3):
            yield _step(self._later(cancelled, 10, 100), "delete_order", order)

    def _later(self, at: timedelta, low_minutes: int, high_minutes: int) -> timedelta:
        return at + timedelta(seconds=self._dice.whole(low_minutes * 60, high_minutes * 60))


def _step(at: timedelta, action: str, arguments: Mapping[str, Any], name: str | None = None) -> Step:
    return Step(min(at, FULL_DAY - timedelta(seconds=1)), f"shop.{action}", arguments, name)
