"""Where a sweep is: watermarks, windows, and places that outlive it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from providers.sandbox import FaultPlan
from providers.stripe import Stripe
from reconciler.ledger import Job
from reconciler.model import NoticePage, Page, Snapshot, Window
from reconciler.sweeps import SweepSettings
from tests.loop.harness import DAY, HOUR, MINUTE, SECOND, START, looping
from tests.loop.sweeping import coverage, members_of

# --- watermarks, windows, places ------------------------------------------------------------------


@pytest.mark.parametrize("lag", [10 * SECOND, 5 * MINUTE], ids=["shorter than the overlap", "longer"])
def test_coverage_is_without_holes_and_the_watermark_stays_behind_the_window(url: str, lag: timedelta) -> None:
    sweeps = SweepSettings(every=MINUTE, lag=lag, overlap=2 * MINUTE)

    async def story() -> None:
        async with looping(url, sweeps=sweeps, jobs=("recent/main/charge",)) as loop:
            ends = []
            for _ in range(12):
                await loop.run_for(MINUTE)
                watermark = loop.watermark("recent/main/charge")
                assert watermark is not None
                assert watermark <= loop.now() - sweeps.overlap
                ends.append(watermark)
            assert ends == sorted(ends)
            seen = coverage(loop, "charge")
            assert all(each.complete for each in seen)
            for earlier, later in pairwise(seen):
                assert later.window.since <= earlier.window.until
            assert seen[-1].window.until >= loop.now() - lag - MINUTE

    asyncio.run(story())


def test_a_killed_sweep_goes_on_at_its_page_and_its_watermark_waits(url: str) -> None:
    async def story() -> None:
        async with looping(url, sweeps=SweepSettings(overlap=HOUR, every=HOUR)) as loop:
            for _ in range(350):
                loop.world.customers.create()
            loop.advance(SECOND)
            loop.server.set_faults(FaultPlan.parse({"hang": {"only": "GET /v1/customers", "after": 2, "times": 1}}))
            run = asyncio.create_task(loop.node.runner.run(loop.node.jobs["recent/main/customer"]))
            while loop.server.journal.count("GET /v1/customers") < 3:
                await loop.transport.until_sent()
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            assert loop.watermark("recent/main/customer") is None
            loop.advance(MINUTE + SECOND)
            await loop.run_job("recent/main/customer")
            assert loop.unlike_truth() == []
            assert loop.server.journal.count("GET /v1/customers", 200) == 4
            assert loop.watermark("recent/main/customer") is not None

    asyncio.run(story())


def test_a_place_that_the_provider_no_longer_knows_does_not_stop_a_sweep_for_ever(url: str) -> None:
    """Stripe refuses to go on after a customer that was deleted meanwhile."""

    async def story() -> None:
        async with looping(url) as loop:
            loop.world.customers.create()
            loop.advance(SECOND)

            def seize(ledger: object) -> Job | None:
                return loop.ledger.take_job("complete/main/customer", owner="dead:1:0", lease=SECOND, now=loop.now())

            job = await loop.commit.call(seize)
            assert job is not None
            place = {"since": START.isoformat(), "until": loop.now().isoformat(), "cursor": "0:cus_forgotten"}
            await loop.commit.call(lambda ledger: ledger.renew_job(job, progress=place, now=loop.now()))
            loop.advance(MINUTE)
            await loop.run_job("complete/main/customer")
            assert loop.unlike_truth() != []
            await loop.run_job("complete/main/customer")
            assert loop.unlike_truth() == []

    asyncio.run(story())


class Circling(Stripe):
    """Lists and the feed promise more for ever, and lead from one of two pages to the other."""

    circling = False
    circling_payout = ""
    """Whose members do."""

    async def page(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        page = await super().page(kind, window, None if self.circling else cursor)
        return replace(page, cursor=_other(cursor)) if self.circling else page

    async def changes(self, window: Window, cursor: str | None, *, undelivered: bool = False) -> NoticePage:
        page = await super().changes(window, None if self.circling else cursor, undelivered=undelivered)
        return replace(page, cursor=_other(cursor)) if self.circling else page

    async def members(self, snapshot: Snapshot, cursor: str | None) -> Page | None:
        circling = snapshot.ref.id == self.circling_payout
        page = await super().members(snapshot, None if circling else cursor)
        return replace(page, cursor=_other(cursor)) if circling and page is not None else page


def _other(cursor: str | None) -> str:
    return "0:there" if cursor == "0:here" else "0:here"


@pytest.mark.parametrize("job", ["recent/main/customer", "feed/main"])
def test_a_list_that_leads_in_a_circle_ends_the_run_and_is_named(url: str, job: str) -> None:
    async def story() -> None:
        async with looping(url, provider=Circling) as loop:
            provider = loop.node.accounts["main"].provider
            assert isinstance(provider, Circling)
            loop.world.customers.create()
            loop.advance(MINUTE)
            await loop.run_job(job)
            before = loop.watermark(job)
            assert before is not None
            provider.circling = True
            loop.advance(HOUR)
            await loop.run_job(job)
            with loop.ledger.view() as view:
                (stands,) = [each for each in view.jobs() if each.name == job]
            assert "leads back to a page" in str(stands.last_error)
            assert loop.watermark(job) == before, "nobody may believe that it was looked at"
            provider.circling = False
            loop.advance(HOUR)
            await loop.run_job(job)
            assert (loop.watermark(job) or before) > before

    asyncio.run(story())


def test_a_payout_whose_members_lead_in_a_circle_is_named_and_keeps_no_other_from_its_own(url: str) -> None:
    async def story() -> None:
        async with looping(url, provider=Circling) as loop:
            provider = loop.node.accounts["main"].provider
            assert isinstance(provider, Circling)
            payouts = []
            for _ in range(3):
                loop.world.payments.pay(5_000)
                loop.server.advance(3 * DAY)
                payout = loop.world.payouts.create_automatic()
                assert payout is not None
                payouts.append(payout["id"])
            circling, *others = sorted(payouts)
            provider.circling_payout = circling
            await loop.mark(*(loop.ref("payout", each) for each in payouts))
            await loop.settle()
            loop.advance(MINUTE)
            await loop.run_job("members/main/payout")
            assert sorted(members_of(loop)) == others
            with loop.ledger.view() as view:
                (stands,) = [each for each in view.jobs() if each.name == "members/main/payout"]
            assert f"the members of stripe/main/payout/{circling} leads back to a page" in str(stands.last_error)
            provider.circling_payout = ""
            loop.advance(HOUR)
            await loop.run_job("members/main/payout")
            assert sorted(members_of(loop)) == sorted(payouts)

    asyncio.run(story())


def test_what_a_dead_node_was_sweeping_goes_on_the_moment_its_turn_ends(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=("complete/main/customer",)) as loop:
            held = 10 * SECOND

            def seize(ledger: object) -> Job | None:
                return loop.ledger.take_job("complete/main/customer", owner="dead:1:0", lease=held, now=loop.now())

            assert await loop.commit.call(seize) is not None
            await loop.run_for(held - SECOND)
            assert loop.server.journal.count("GET /v1/customers", 200) == 0
            await loop.run_for(SECOND)
            assert loop.server.journal.count("GET /v1/customers", 200) == 1

    asyncio.run(story())
