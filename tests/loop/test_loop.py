"""First of all: the whole loop works, and the harness tells the truth about it."""

from __future__ import annotations

import asyncio

from tests.loop.harness import ALL_JOBS, MINUTE, looping


def test_a_delivered_payment_is_in_the_ledger_as_the_shop_has_it(ledger_url: str) -> None:
    async def story() -> None:
        async with looping(ledger_url) as loop:
            intent = loop.world.payments.pay(5_000)
            await loop.deliver_all()
            await loop.settle()
            assert loop.unlike_truth() == []
            assert loop.known(loop.ref("payment_intent", intent["id"])).status == "succeeded"
            assert loop.known(loop.ref("charge", intent["latest_charge"])).status == "succeeded"

    asyncio.run(story())


def test_the_harness_sees_a_difference(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            intent = loop.world.payments.pay(5_000)
            await loop.deliver_all()
            await loop.settle()
            loop.world.edits.metadata(intent["id"], order="7")
            assert loop.unlike_truth() == [f"payment_intent/{intent['id']} differs"]
            customer = loop.world.customers.create()
            assert f"customer/{customer['id']} is unknown here" in loop.unlike_truth()

    asyncio.run(story())


def test_all_jobs_run_side_by_side(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=ALL_JOBS) as loop:
            for amount in range(1_000, 2_000, 100):
                loop.world.payments.pay(amount)
            loop.lose_all()
            await loop.run_for(12 * MINUTE)
            assert loop.unlike_truth() == []
            assert loop.findings() <= {"webhook_missing"}

    asyncio.run(story())
