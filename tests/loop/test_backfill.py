"""`reconcile --since`: after an outage the ledger is the truth again, or what was not verified is named exactly."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pytest

from providers.sandbox import ApiKey, FaultPlan
from reconciler.backfill import Backfill, Request, Result
from tests.loop.harness import DAY, HOUR, MINUTE, SECOND, START, Loop, looping

SWEEPS = ("feed", "recent", "complete", "open", "members", "totals")
OUTAGE = 33 * DAY


def since(loop: Loop, span: timedelta) -> Request:
    return Request(loop.now() - span, None, frozenset(), frozenset())


async def backfilled(loop: Loop, request: Request, work: Backfill | None = None) -> Sequence[Result]:
    """As the command does it: everything asked for, and then whatever it marked."""
    work = work or loop.backfill()
    results = await loop.passing(work.run(request))
    await loop.passing(work.settle(results))
    return results


def watermarks(loop: Loop) -> Mapping[str, datetime | None]:
    with loop.ledger.view() as view:
        return {job.name: job.watermark for job in view.jobs() if not job.name.startswith("backfill/")}


def not_verified(results: Sequence[Result]) -> dict[str, list[str]]:
    return {result.kind: result.reasons for result in results if not result.verified}


async def open_for_business(loop: Loop) -> dict[str, str]:
    """A shop that the ledger knows completely; the names of what will change while nobody looks."""
    world = loop.world
    customers = [world.customers.create()["id"] for _ in range(4)]
    product = world.catalogue.create_product()["id"]
    price = world.catalogue.create_price(product)["id"]
    draft = world.invoices.create(customers[0], amount=900)["id"]
    slow = world.payments.create(800)["id"]
    world.payments.process(slow)
    paid, disputed = world.payments.pay(5_000), world.payments.pay(7_000)
    dispute = world.disputes.open(disputed["latest_charge"])["id"]
    found = {
        "edited": customers[1], "gone": customers[2], "product": product, "draft": draft, "slow": slow,
        "charge": paid["latest_charge"], "dispute": dispute,
        "subscription": world.subscriptions.create(customers[3], price)["id"],
    }  # fmt: skip
    await loop.deliver_all()
    await loop.settle()
    for kind in loop.account.provider.kinds.values():
        if kind.list_endpoint is not None:
            await loop.run_job(f"complete/main/{kind.name}")
            await loop.run_job(f"recent/main/{kind.name}")
    await loop.run_job("feed/main")
    await loop.settle()
    assert loop.unlike_truth() == []
    return found


async def live_through_an_outage(loop: Loop, known: Mapping[str, str]) -> None:
    """The endpoint is disabled. The first day's events are older than the feed keeps when anybody looks again."""
    world = loop.world
    loop.advance(DAY)
    world.refunds.create(known["charge"], amount=700)
    world.customers.update(known["edited"], name="Ada")
    world.customers.delete(known["gone"])
    world.invoices.delete_draft(known["draft"])
    world.subscriptions.cancel(known["subscription"])
    world.payments.succeed(known["slow"])
    early = world.payments.pay(1_100)
    loop.advance(15 * DAY)
    world.disputes.lose(known["dispute"])
    world.catalogue.update_product(known["product"], name="Cap")
    world.refunds.create(early["latest_charge"])
    loop.advance(OUTAGE - 16 * DAY - 2 * MINUTE)
    # Told of in the feed minutes after it happened: later than anybody reads it here.
    world.customers.update(known["edited"], name="Countess")
    world.payments.pay(2_200)
    loop.advance(2 * MINUTE)
    loop.lose_all()
    assert loop.unlike_truth() != []


@pytest.mark.long
def test_after_33_days_the_ledger_equals_the_truth_and_no_watermark_moved(ledger_url: str) -> None:
    async def story() -> None:
        async with looping(ledger_url, faults=FaultPlan(feed_lag_seconds=240)) as loop:
            known = await open_for_business(loop)
            before = watermarks(loop)
            await live_through_an_outage(loop, known)
            results = await backfilled(loop, since(loop, OUTAGE))
            assert not_verified(results) == {}
            assert loop.unlike_truth() == []
            assert {ref.id for ref in loop.tombstones()} == {known["gone"], known["draft"]}
            assert watermarks(loop) == before
            drifted = {ref.id for result in results for ref in result.drifted}
            assert drifted >= set(known.values()), "it is named what had gone by unnoticed"

    asyncio.run(story())


@pytest.mark.long
def test_what_could_not_be_verified_is_named_and_nothing_else(ledger_url: str) -> None:
    """One kind that the key may not read, one deleted customer that always answers 500: the rest is the truth."""

    async def story() -> None:
        async with looping(ledger_url) as loop:
            known = await open_for_business(loop)
            await live_through_an_outage(loop, known)
            lies = {"deny": {"only": "GET /v1/disputes*"}, "server_error": {"only": known["gone"]}}
            loop.server.set_faults(FaultPlan.parse(lies))
            named = not_verified(await backfilled(loop, since(loop, OUTAGE)))
            assert set(named) == {"dispute", "customer"}
            assert any("permission" in reason for reason in named["dispute"])
            [reason] = named["customer"]
            assert str(loop.ref("customer", known["gone"])) in reason
            assert "HTTP 500" in reason
            wrong = [f"dispute/{known['dispute']} differs", f"customer/{known['gone']} was deleted there"]
            assert loop.unlike_truth() == wrong

            loop.server.set_faults(FaultPlan())
            await loop.run_for(16 * MINUTE)
            assert not_verified(await backfilled(loop, since(loop, OUTAGE + HOUR))) == {}
            assert loop.unlike_truth() == []
            assert loop.dead() == set()

    asyncio.run(story())


@pytest.mark.long
def test_killed_again_and_again_it_reads_no_page_more_than_twice(ledger_url: str) -> None:
    async def story() -> None:
        async with looping(ledger_url) as loop:
            for _ in range(450):
                loop.world.customers.create()
            loop.lose_all()
            loop.advance(HOUR)
            request = Request(START - HOUR, loop.now(), frozenset(), frozenset({"customer"}))
            before = watermarks(loop)
            for life in range(3):
                # Each life ends in the middle of a page, one page further than the life before.
                loop.server.set_faults(FaultPlan.parse({"hang": {"only": "GET /v1/customers", "after": 1}}))
                dying = asyncio.create_task(loop.backfill(owner=f"life{life}:1:0").run(request))
                await until_it_hangs(loop)
                dying.cancel()
                await asyncio.gather(dying, return_exceptions=True)
                loop.advance(MINUTE + SECOND)
            loop.server.set_faults(FaultPlan())
            assert not_verified(await backfilled(loop, request)) == {}
            assert loop.unlike_truth() == []
            assert watermarks(loop) == before
            asked = f"created[gte]={int(request.since.timestamp())}"
            pages = Counter(each.query for each in loop.requests() if each.query.startswith(asked))
            assert sorted(pages.values()) == [1, 1, 2, 2, 2], pages

    asyncio.run(story())


async def until_it_hangs(loop: Loop) -> None:
    """What waits for its turn to send is let through meanwhile; a request that hangs is never answered."""
    while not loop.server.faults.struck.get("hang"):
        turn = loop.timeline.next
        if turn is not None and turn < loop.now() + SECOND and not loop.under_way.sent.is_set():
            loop.advance(turn - loop.now())
        await asyncio.sleep(0)


@pytest.mark.long
def test_a_hole_in_the_feed_is_closed_only_by_a_verified_backfill_from_before_it(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=SWEEPS) as loop:
            await loop.run_for(10 * SECOND)
            loop.world.payments.pay(5_000)
            loop.advance(OUTAGE)
            await loop.run_for(7 * MINUTE)
            assert "feed-aged-out" in loop.findings()
            await backfilled(loop, since(loop, 30 * DAY))
            assert "feed-aged-out" in loop.findings(), "it began after the hole did"
            loop.server.keys.put(ApiKey(loop.server.api_key, permissions=frozenset({"charge_read"})))
            assert not_verified(await backfilled(loop, since(loop, OUTAGE + HOUR))) != {}
            assert "feed-aged-out" in loop.findings(), "it did not see everything"
            loop.server.keys.put(ApiKey(loop.server.api_key))
            await loop.run_for(16 * MINUTE)
            assert not_verified(await backfilled(loop, since(loop, OUTAGE + 2 * HOUR))) == {}
            assert "feed-aged-out" not in loop.findings()
            await loop.run_for(10 * MINUTE)
            assert "feed-aged-out" not in loop.findings()

    asyncio.run(story())
