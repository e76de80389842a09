"""The provider's own feed of events, and what is read again until it is final."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest
from sqlalchemy import text

from providers.sandbox import Chance, FaultPlan
from reconciler.clock import from_micros
from reconciler.sweeps import SweepSettings
from tests.loop.harness import DAY, HOUR, MINUTE, SECOND, START, Loop, looping
from tests.loop.sweeping import SWEEPS, coverage, members_of, missed

# --- the feed -------------------------------------------------------------------------------------


def test_missed_deliveries_are_counted_by_type_once_and_a_late_webhook_takes_it_back(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            await loop.run_job("feed/main")
            loop.world.payments.pay(5_000)
            [created, *_] = loop.account.events
            await loop.deliver(*loop.account.events[1:2])
            reached = loop.account.events[1]["type"]
            loop.advance(2 * MINUTE)
            for _ in range(3):
                await loop.run_job("feed/main")
                await loop.settle()
                await loop.run_for(MINUTE)
            assert loop.unlike_truth() == []
            assert missed(loop)[created["type"]] == 1
            assert reached not in missed(loop)
            assert loop.reads_of(created["data"]["object"]["id"]) <= 2, "a missed event is read for once, not each time"
            await loop.deliver(created)
            assert created["type"] not in missed(loop)

    asyncio.run(story())


def test_events_that_show_up_late_in_the_feed_are_found_by_the_overlap(url: str) -> None:
    async def story() -> None:
        async with looping(url, faults=FaultPlan(feed_lag_seconds=240)) as loop:
            customer = loop.world.customers.create()["id"]
            await loop.deliver_all()
            await loop.settle()
            await loop.run_job("feed/main")
            loop.advance(MINUTE)
            loop.world.customers.update(customer, name="late")
            for _ in range(3):
                loop.advance(2 * MINUTE)
                await loop.run_job("feed/main")
            await loop.settle()
            assert loop.unlike_truth() == []

    asyncio.run(story())


def test_a_feed_that_no_longer_reaches_back_is_a_finding_and_everything_is_listed(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=SWEEPS) as loop:
            await loop.run_for(10 * SECOND)
            paid = loop.world.payments.pay(5_000)
            loop.advance(33 * DAY)
            fresh = loop.world.customers.create()["id"]
            await loop.run_for(7 * MINUTE)
            await loop.settle()
            assert "feed-aged-out" in loop.findings()
            assert loop.resource(loop.ref("customer", fresh)) is not None
            assert loop.resource(loop.ref("payment_intent", paid["id"])) is not None
            assert [each for each in coverage(loop, "customer") if "reach back" in each.reason]

    asyncio.run(story())


def test_a_feed_that_is_interrupted_goes_on_where_it_was(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            await loop.run_job("feed/main")
            for _ in range(120):
                loop.world.customers.create()
            loop.advance(2 * MINUTE)
            loop.server.set_faults(
                FaultPlan.parse({"server_error": {"only": "GET /v1/events", "after": 2, "times": 1}})
            )
            before = loop.watermark("feed/main")
            await loop.run_job("feed/main")
            assert loop.watermark("feed/main") == before
            asked = loop.server.journal.count("GET /v1/events")
            await loop.run_job("feed/main")
            again = loop.server.journal.count("GET /v1/events") - asked
            loop.server.journal.clear()
            await loop.run_job("feed/main")
            assert again == loop.server.journal.count("GET /v1/events") - 2
            assert missed(loop) == {"customer.created": 120}

    asyncio.run(story())


# --- what is not final yet ------------------------------------------------------------------------


@pytest.mark.long
def test_pending_money_is_read_again_until_it_is_available_ever_more_rarely(url: str) -> None:
    async def story() -> None:
        often = SweepSettings(every=30 * MINUTE)
        async with looping(url, jobs=("open/main/balance_transaction",), sweeps=often) as loop:
            paid = loop.world.payments.pay(5_000)
            await loop.deliver_all()
            await loop.settle()
            entry = loop.world.store.get(paid["latest_charge"])["balance_transaction"]
            assert loop.known(loop.ref("balance_transaction", entry)).status == "pending"
            for _ in range(4 * 24):
                await loop.run_for(HOUR)
            assert loop.known(loop.ref("balance_transaction", entry)).status == "available"
            assert loop.reads_of(entry) <= 20

    asyncio.run(story())


def test_what_is_open_is_not_asked_for_again_while_a_replica_may_be_older_than_what_is_known(url: str) -> None:
    """However often sweeps run: nothing was announced, so whatever that read showed would be final."""

    async def story() -> None:
        async with looping(
            url, jobs=("open/main/balance_transaction",), sweeps=SweepSettings(every=SECOND, full_every=SECOND)
        ) as loop:
            paid = loop.world.payments.pay(5_000)
            entry = loop.world.store.get(paid["latest_charge"])["balance_transaction"]
            await loop.mark(loop.ref("balance_transaction", entry))
            await loop.quiet()
            assert loop.known(loop.ref("balance_transaction", entry)).status == "pending"
            for _ in range(4):
                await loop.run_for(SECOND)
                assert loop.reads_of(entry) == 1
            await loop.run_for(2 * SECOND)
            assert loop.reads_of(entry) == 2

    asyncio.run(story())


def test_members_of_a_payout_are_recorded_once_it_is_itemised_and_equal_the_providers(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=("members", "recent/main/payout")) as loop:
            for number in range(130):
                loop.world.payments.pay(1_000 + number)
            loop.server.advance(3 * DAY)
            # Manual payouts are never itemised, and must not stand in the way of the others.
            for _ in range(105):
                loop.world.payouts.create_manual(1)
            payout = loop.world.payouts.create_automatic()
            assert payout is not None
            await loop.run_for(12 * MINUTE)
            await loop.settle()
            own = payout["balance_transaction"]
            expected = {entry for entry in loop.world.truth.members[payout["id"]] if entry != own}
            assert members_of(loop) == {payout["id"]: expected}
            assert loop.server.journal.count("GET /v1/balance_transactions") <= 6
            await loop.run_for(12 * MINUTE)
            assert loop.server.journal.count("GET /v1/balance_transactions") <= 6

    asyncio.run(story())


def test_members_are_listed_when_lists_no_longer_lag_behind_what_made_them_final(url: str) -> None:
    """And a row that the list repeats is one member."""

    async def story() -> None:
        async with looping(url, jobs=("members",)) as loop:
            for number in range(3):
                loop.world.payments.pay(1_000 + number)
            loop.server.advance(3 * DAY)
            payout = loop.world.payouts.create_automatic()
            assert payout is not None
            loop.server.advance(HOUR)
            await loop.mark(loop.ref("payout", payout["id"]))
            await loop.quiet()
            loop.server.set_faults(FaultPlan(repeat_row=Chance(1.0)))
            await loop.run_job("members/main/payout")
            assert members_of(loop) == {}, "a replica may not know yet who is in it"
            await loop.run_for(5 * SECOND)
            await loop.run_job("members/main/payout")
            expected = set(loop.world.truth.members[payout["id"]]) - {payout["balance_transaction"]}
            assert members_of(loop) == {payout["id"]: expected}

    asyncio.run(story())


def test_members_that_cannot_be_listed_are_listed_when_they_can_be(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            loop.world.payments.pay(5_000)
            loop.server.advance(3 * DAY)
            payout = loop.world.payouts.create_automatic()
            assert payout is not None
            loop.advance(10 * MINUTE)
            await loop.run_job("recent/main/payout")
            loop.advance(MINUTE)
            loop.server.set_faults(FaultPlan.parse({"deny": {"only": "GET /v1/balance_transactions"}}))
            await loop.run_job("members/main/payout")
            assert members_of(loop) == {}, "an answer that did not come is no empty list"
            assert loop.gates() == {"main/payout": "permission"}
            loop.server.set_faults(FaultPlan())
            await loop.run_for(16 * MINUTE)
            await loop.run_job("members/main/payout")
            own = payout["balance_transaction"]
            assert members_of(loop) == {payout["id"]: {*loop.world.truth.members[payout["id"]]} - {own}}

    asyncio.run(story())


def test_control_totals_are_recorded_each_hour_and_at_the_cut_off(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=("totals",)) as loop:
            loop.advance(30 * MINUTE)
            for _ in range(13 * 4):
                await loop.run_for(15 * MINUTE)
            instants = control_totals_at(loop)
            hours = {at.replace(minute=0, second=0, microsecond=0) for at in instants}
            assert len(hours) >= 13
            midnight = datetime.combine(loop.now().date(), datetime.min.time(), tzinfo=START.tzinfo)
            assert any(midnight <= at <= midnight + MINUTE for at in instants)

    asyncio.run(story())


def control_totals_at(loop: Loop) -> set[datetime]:
    with loop.ledger.store.read() as tx:
        return {from_micros(row.as_at) for row in tx.run(text("SELECT as_at FROM control_total"))}
