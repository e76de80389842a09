"""Ten thousand dirty payments at once: read by the page, inside every limit, while a fresh payment hardly waits."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from providers.sandbox import FaultPlan, Limits
from providers.sandbox.journal import Entry
from reconciler.clock import from_micros
from reconciler.ledger import Mark
from reconciler.model import Cause
from tests.loop.harness import SECOND, Loop, looping

MANY = 10_000
PER_SECOND = 25
RETRY_AFTER = 3 * SECOND


async def a_backlog(loop: Loop) -> None:
    """Created within an hour and told of since; dense in time, as after an endpoint that was down came back."""
    for at in range(0, MANY, 100):
        for number in range(at, at + 100):
            loop.world.payments.create(1_000 + number)
        loop.advance(36 * SECOND)
    loop.lose_all()
    settle = loop.account.provider.kinds["payment_intent"].settle
    intents = loop.world.truth.all_of("payment_intent")
    marks = [
        Mark(
            loop.ref("payment_intent", each["id"]),
            Cause.WEBHOOK,
            settle=settle,
            created_at=datetime.fromtimestamp(each["created"], loop.now().tzinfo),
        )
        for each in intents
    ]
    for at in range(0, MANY, 500):
        await loop.commit.call(lambda ledger, part=marks[at : at + 500]: ledger.mark(part, loop.now()))  # type: ignore[misc]  # mypy does not infer a default's type
        loop.advance(37 * SECOND / 1000)


async def waits_of_fresh_payments(loop: Loop) -> list[timedelta]:
    """One payment a second until the backlog is gone: from its webhook's answer until its state was proven."""
    born: dict[str, datetime] = {}
    proven: dict[str, timedelta] = {}

    def look() -> bool:
        for each in born.keys() - proven.keys():
            row = loop.resource(loop.ref("payment_intent", each))
            if row is not None and row.version and row.generation == row.settled_generation:
                proven[each] = loop.now() - born[each]
        return False

    await loop.run_for(SECOND)
    while loop.ledger.unsettled():
        fresh = loop.world.payments.create(77)["id"]
        await loop.deliver_all()
        born[fresh] = loop.now()
        await loop.run_for(SECOND, until=look)
        assert len(born) < 300, "the backlog does not drain"
    look()
    assert born.keys() == proven.keys()
    return sorted(proven.values())


def busiest_second(requests: Sequence[Entry]) -> int:
    """The most requests of one endpoint that any second, wherever it begins, had in it."""
    most = 0
    for operation in {each.operation for each in requests}:
        times = [each.at_micros for each in requests if each.operation == operation]
        most = max(most, *(bisect_left(times, at + 1_000_000) - place for place, at in enumerate(times)))
    return most


@pytest.mark.long
def test_ten_thousand_dirty_payments_cost_at_most_a_thousand_requests_and_delay_no_fresh_one(url: str) -> None:
    async def story() -> None:
        async with looping(url, work=False) as loop:
            await a_backlog(loop)
            loop.server.limiter.limits = Limits(per_endpoint=PER_SECOND, per_account=PER_SECOND)
            throttled = {"only": "GET /v1/payment_intents", "after": 40, "rate": 0.05, "times": 4}
            loop.server.set_faults(
                FaultPlan.parse({"throttle": throttled, "retry_after_seconds": int(RETRY_AFTER.total_seconds())})
            )
            loop.server.journal.clear()
            for node in loop.nodes:
                node.start()
            waits = await waits_of_fresh_payments(loop)
            requests = loop.requests()
            fresh = len(waits)
            assert len(requests) - 2 * fresh <= 1_000, len(requests)
            assert waits[int(0.99 * fresh)] <= 10 * SECOND
            assert loop.unlike_truth(["payment_intent"]) == []

            assert busiest_second(requests) <= PER_SECOND
            refusals = [each for each in requests if each.status == 429]
            assert len(refusals) == 4, "only what the fault plan refused: no limit of the provider was ever met"
            for refusal in refusals:
                end = from_micros(refusal.at_micros) + RETRY_AFTER
                inside = [
                    each
                    for each in requests
                    if each.operation == refusal.operation
                    and refusal.at_micros < each.at_micros
                    and from_micros(each.at_micros) < end
                ]
                assert inside == []

    asyncio.run(story())


def test_a_second_denser_than_the_budget_is_walked_once_and_to_its_end(url: str) -> None:
    """Five pages of customers imported within one second; a backfill may send two or three requests at once."""

    async def story() -> None:
        async with looping(url) as loop:
            customers = [loop.world.customers.create() for _ in range(450)]
            loop.lose_all()
            loop.advance(60 * SECOND)
            created_at = datetime.fromtimestamp(customers[0]["created"], loop.now().tzinfo)
            marks = [
                Mark(loop.ref("customer", each["id"]), Cause.BACKFILL, created_at=created_at) for each in customers
            ]
            await loop.commit.call(lambda ledger: ledger.mark(marks, loop.now()))
            await loop.settle()
            assert loop.unlike_truth(["customer"]) == []
            assert len(loop.requests()) <= 10

    asyncio.run(story())
