"""A shop's day: rich, repeatable, and without a single step that its own world refuses."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

from providers.sandbox import SandboxServer, World
from providers.sandbox.day import FULL_DAY, UNCONFIRMED, pace_of, plan_day, play, relive
from reconciler.clock import ManualClock
from tests.sandbox_fixtures import START, a_world

DAY_SECONDS = FULL_DAY.total_seconds()


def lived(seed: int, payments: int = 500) -> tuple[World, list[str]]:
    clock = ManualClock(START)
    world = a_world(seed=seed, clock=clock, pace=pace_of(DAY_SECONDS))
    server = SandboxServer(world)
    return world, relive(plan_day(seed, payments=payments), world, server.advance)


def test_day_holds_everything_that_finance_has_to_survive() -> None:
    world, refused = lived(7)
    assert refused == []
    statuses = Counter(intent["status"] for intent in world.truth.all_of("payment_intent"))
    assert statuses.keys() == {
        "succeeded", "canceled", "processing", "requires_payment_method", "requires_confirmation", "requires_action",
        "requires_capture",
    }  # fmt: skip
    assert statuses.total() >= 500
    assert {refund["status"] for refund in world.truth.all_of("refund")} == {"succeeded", "failed"}
    assert len({dispute["status"] for dispute in world.truth.all_of("dispute")}) >= 3
    assert {payout["status"] for payout in world.truth.all_of("payout")} >= {"paid", "failed"}
    categories = {entry["reporting_category"] for entry in world.truth.all_of("balance_transaction")}
    assert categories >= {
        "charge", "refund", "refund_failure", "dispute", "dispute_reversal", "payout", "payout_reversal", "fee",
    }  # fmt: skip
    assert len({entry["currency"] for entry in world.truth.all_of("balance_transaction")}) == 4
    deleted = world.snapshot()["deleted"]
    assert deleted["customer"]
    assert deleted["product"]
    assert deleted["invoice"]
    assert any("note" in intent["metadata"] for intent in world.truth.all_of("payment_intent"))


def test_unconfirmed_payments_are_the_planned_ones() -> None:
    day = plan_day(7)
    world, _ = lived(7)
    planned = Counter(course for course in day.courses.values() if course in UNCONFIRMED)
    open_orders = {
        intent["metadata"]["order_id"]
        for intent in world.truth.all_of("payment_intent")
        if "order_id" in intent["metadata"] and intent["status"] not in ("succeeded", "canceled")
    }
    assert open_orders == {name[3:] for name, course in day.courses.items() if course in UNCONFIRMED}
    assert planned.keys() == UNCONFIRMED


def test_same_seed_lives_the_same_day_and_another_seed_another() -> None:
    assert plan_day(3) == plan_day(3)
    assert plan_day(3).steps != plan_day(4).steps
    assert lived(3, 60)[0].snapshot() == lived(3, 60)[0].snapshot()


def test_other_seeds_live_through_it_too() -> None:
    for seed in range(8):
        assert lived(seed, 120)[1] == []


def test_day_is_played_in_the_time_it_is_given() -> None:
    async def run() -> None:
        world = World(seed=5, pace=pace_of(0.5))
        loop = asyncio.get_running_loop()
        start = loop.time()
        refused = await play(plan_day(5, payments=40), world, seconds=0.5)
        # Where the machine stood still for a tenth of a second, the money for the payout that bounces had not settled.
        assert [each for each in refused if "payouts.fail: nothing is called" not in each] == []
        assert loop.time() - start >= 0.4
        assert len(world.truth.all_of("payment_intent")) >= 40

    asyncio.run(run())


def test_steps_are_in_order_and_within_the_day() -> None:
    times = [step.at for step in plan_day(9).steps]
    assert times == sorted(times)
    assert times[0] >= timedelta(0)
    assert times[-1] < FULL_DAY
