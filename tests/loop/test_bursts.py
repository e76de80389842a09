"""Whatever the order, number and lateness of deliveries: the ledger ends at the provider's truth, cheaply."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import permutations

import pytest

from providers.sandbox import Chance, FaultPlan
from providers.sandbox.store import Body
from tests.loop.harness import DAY, MINUTE, SECOND, Loop, looping


def a_burst(loop: Loop) -> list[Body]:
    """Four changes of one payment within one second, as its events."""
    before = len(loop.account.events)
    intent = loop.world.payments.create(5_000)["id"]
    loop.world.payments.process(intent)
    loop.world.payments.succeed(intent)
    events = [each for each in loop.account.events[before:] if each["type"].startswith("payment_intent.")]
    assert len(events) == 3
    assert len({each["created"] for each in events}) == 1
    return events


ORDERS = [*permutations(range(3)), (0, 1, 2, 0, 1, 2), (2, 1, 0, 2, 1, 0), (2, 0, 0, 1, 1, 2)]


def test_a_burst_in_every_order_and_doubled_costs_two_reads_and_ends_at_the_truth(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            for order in ORDERS:
                events = a_burst(loop)
                loop.lose_all()
                intent = events[0]["data"]["object"]["id"]
                await loop.deliver(*(events[position] for position in order))
                await loop.settle()
                assert loop.body(loop.ref("payment_intent", intent))["status"] == "succeeded", order
                assert loop.reads_of(intent) <= 2, order
            await loop.mark(*(loop.ref("charge", each["latest_charge"]) for each in intents(loop)))
            await loop.settle()
            assert loop.unlike_truth() == []

    asyncio.run(story())


def test_a_burst_that_arrives_while_it_is_read_ends_at_the_truth_in_every_order(url: str) -> None:
    """One read more is the price of an old announcement that comes when a newer one was already seen to hold."""

    async def story() -> None:
        async with looping(url) as loop:
            for order in ORDERS:
                events = a_burst(loop)
                loop.lose_all()
                intent = events[0]["data"]["object"]["id"]
                for position in order:
                    await loop.deliver(events[position])
                    await loop.quiet()
                await loop.settle()
                assert loop.body(loop.ref("payment_intent", intent))["status"] == "succeeded", order
                assert loop.reads_of(intent) <= 3, order

    asyncio.run(story())


def intents(loop: Loop) -> list[Body]:
    return loop.world.truth.all_of("payment_intent")


def test_changes_that_arrive_one_by_one_while_the_burst_goes_on_cost_two_reads(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            intent = loop.world.payments.create(5_000)["id"]
            await loop.deliver_all()
            await loop.run_for(SECOND / 5)
            loop.world.payments.process(intent)
            await loop.deliver_all()
            await loop.run_for(SECOND / 5)
            loop.world.payments.succeed(intent)
            await loop.deliver_all()
            await loop.settle()
            assert loop.unlike_truth() == []
            assert loop.reads_of(intent) <= 2

    asyncio.run(story())


@pytest.mark.parametrize("late", [SECOND, MINUTE, 3 * DAY], ids=str)
def test_an_old_event_that_arrives_late_brings_no_old_state_back(url: str, late: timedelta) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            events = a_burst(loop)
            loop.lose_all()
            intent = events[0]["data"]["object"]["id"]
            await loop.deliver(events[2])
            await loop.settle()
            await loop.run_for(late)
            await loop.deliver(events[0], events[1], events[0])
            await loop.settle()
            ref = loop.ref("payment_intent", intent)
            assert [version.body and version.body["status"] for version in loop.versions(ref)] == ["succeeded"]

    asyncio.run(story())


def test_a_delete_whose_old_event_is_repeated_stays_deleted(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            customer = loop.world.customers.create()["id"]
            loop.world.customers.update(customer, name="Ada")
            events = list(loop.account.events)
            await loop.deliver_all()
            await loop.settle()
            loop.world.customers.delete(customer)
            await loop.deliver_all()
            await loop.settle()
            assert loop.ref("customer", customer) in loop.tombstones()
            await loop.deliver(*events)
            await loop.settle()
            assert loop.ref("customer", customer) in loop.tombstones()
            assert loop.unlike_truth() == []

    asyncio.run(story())


def test_there_and_back_again_is_three_versions_and_the_last_is_the_truth(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            customer = loop.world.customers.create(name="A")["id"]
            ref = loop.ref("customer", customer)
            for name in ("A", "B", "A"):
                loop.world.customers.update(customer, name=name)
                await loop.deliver_all()
                await loop.settle()
            assert [version.body and version.body["name"] for version in loop.versions(ref)] == ["A", "B", "A"]
            assert loop.unlike_truth() == []

    asyncio.run(story())


@pytest.mark.parametrize("seed", range(6))
def test_reads_from_a_lagging_replica_within_the_settle_window_never_end_wrong(url: str, seed: int) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            loop.server.set_faults(FaultPlan(seed=seed, stale=Chance(0.6), stale_seconds=4.5))
            ids = [loop.world.customers.create(name="A")["id"] for _ in range(5)]
            await loop.deliver_all()
            await loop.run_for(SECOND)
            for name in ("B", "A", "C"):
                for each in ids:
                    loop.world.customers.update(each, name=name)
                await loop.deliver_all()
                await loop.run_for(SECOND * (seed % 3))
            loop.world.payments.pay(5_000)
            await loop.deliver_all()
            await loop.settle()
            assert loop.unlike_truth() == []

    asyncio.run(story())
