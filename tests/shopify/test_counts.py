"""Control counts at a shop: one missing order among two thousand costs a few requests, not eight pages."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from providers.sandbox.shopify import Shop, ShopServer
from providers.sandbox.shopify.bucket import BucketLimit
from providers.shopify import Shopify, reading
from reconciler.clock import ManualClock
from reconciler.counting import Counting
from reconciler.errors import BadReply, UsageError
from reconciler.fetcher import Fetcher, FetchSettings
from reconciler.ledger import GroupCommit, Job, Ledger, PageRow, open_ledger
from reconciler.model import Cause, State, Window
from reconciler.retry import RetryPolicy
from reconciler.sweeps import COUNT_DIFFERS, Sweeper, SweepSettings
from reconciler.transport import HttpTransport
from tests.shopify.server import API, NOW, Script, body, offline, played
from tests.shopify.shops import ACCOUNT, START, a_shop, reader_of, ref
from tests.transports import patient

_WIDE = BucketLimit(size=800, leak_per_second=40.0)


def _orders(shop: Shop, clock: ManualClock, number: int) -> list[int]:
    """A week of them, a few in each minute."""
    made = []
    for _ in range(number):
        made.append(int(shop.place_order()["id"]))
        clock.advance(timedelta(minutes=5) * random.Random(number + len(made)).random())
    return made


def _know(ledger: Ledger, shop: Shop, *, but: set[int], now: Any) -> None:
    for kind in ("order", "product", "customer"):
        rows = [
            PageRow(reading.snapshot(ACCOUNT, kind, body, "2026-10"))
            for key, body in shop.shelf.all(kind)
            if not (kind == "order" and int(body["id"]) in but)
        ]
        ledger.apply_page(rows, start=ledger.tick(), started_at=now - timedelta(minutes=5), cause=Cause.SWEEP,
                          settle={kind: timedelta(0)}, now=now)  # fmt: skip


class _Night:
    """One run of the counts, in the middle of the night."""

    def __init__(self, server: ShopServer, ledger: Ledger, clock: ManualClock, transport: HttpTransport) -> None:
        self.server, self.ledger, self.clock = server, ledger, clock
        self.commit = GroupCommit(ledger, clock)
        provider = reader_of(server, transport)
        self.provider = provider
        fetcher = Fetcher(ACCOUNT, provider, self.commit, clock, policy=RetryPolicy(), settings=FetchSettings(),
                          rng=random.Random(7))  # fmt: skip
        self.sweeper = Sweeper(fetcher, self.commit, clock, lambda _: SweepSettings())
        self.counting = Counting(self.sweeper, provider, lambda _: SweepSettings())

    async def run(self) -> list[str]:
        """What was asked of the shop meanwhile."""
        before = self.server.journal.count()
        job = await self.commit.call(
            lambda ledger: ledger.take_job("counts", owner="t", lease=timedelta(minutes=1), now=self.clock.now())
        )
        assert isinstance(job, Job)
        ended = await self.counting.run(job)
        also = ended.also
        assert also is not None
        await self.commit.call(also)
        await self.commit.call(
            lambda ledger: ledger.finish_job(job, due_at=self.clock.now(), now=self.clock.now(), complete=True)
        )
        return [entry.operation for entry in self.server.journal.entries()[before:]]


@pytest.mark.long
def test_one_order_that_nobody_told_of_is_found_among_two_thousand(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        clock = ManualClock(START)
        shop = a_shop(clock=clock)
        orders = _orders(shop, clock, 2_000)
        missing = orders[1_234]
        clock.advance(timedelta(hours=1))
        transport = patient()
        with closing(open_ledger(sqlite_ledger_url)) as ledger:
            _know(ledger, shop, but={missing}, now=clock.now())
            async with ShopServer(shop, bucket=_WIDE) as server:
                night = _Night(server, ledger, clock, transport)
                asked = await night.run()
                with ledger.view() as view:
                    found = view.resource(ref("order", missing))
                    assert found is not None
                    assert found.state is State.PRESENT
                    assert view.open_findings() == []
                lists = [each for each in asked if each == "GET orders"]
                counts = [each for each in asked if each == "GET orders/count"]
                assert len(lists) == 1
                assert len(counts) <= 8
                again = await night.run()
                assert sorted(again) == ["GET customers/count", "GET orders/count", "GET products/count"]
                await night.commit.close()
        await transport.aclose()

    asyncio.run(story())


def test_what_was_deleted_untold_is_marked_and_what_no_list_explains_is_a_finding(ledger_url: str) -> None:
    async def story() -> None:
        clock = ManualClock(START)
        shop = a_shop(clock=clock)
        orders = _orders(shop, clock, 30)
        clock.advance(timedelta(hours=1))
        transport = patient()
        with closing(open_ledger(ledger_url)) as ledger:
            _know(ledger, shop, but=set(), now=clock.now() - timedelta(minutes=10))
            shop.cancel(orders[7])
            shop.delete_order(orders[7])
            async with ShopServer(shop, bucket=_WIDE) as server:
                night = _Night(server, ledger, clock, transport)
                await night.run()
                with ledger.view() as view:
                    gone = view.resource(ref("order", orders[7]))
                    assert gone is not None
                    assert gone.dirty, "it is read, and the 404 makes it a tombstone"
                    assert view.open_findings() == []
                # The mark is not worked on, so that the next count differs for a reason that no list shows.
                clock.advance(timedelta(hours=1))
                await night.run()
                with ledger.view() as view:
                    assert [(each.code, each.subject) for each in view.open_findings()] == [(COUNT_DIFFERS, "order")]
                await night.commit.close()
        await transport.aclose()

    asyncio.run(story())


def test_a_row_that_cannot_be_held_is_no_finding_of_the_counts(ledger_url: str) -> None:
    """Counted at the shop and never here: the lists name it, and nothing that a count's remedy says would mend it."""

    async def story() -> None:
        clock = ManualClock(START)
        shop = a_shop(clock=clock)
        orders = _orders(shop, clock, 3)
        clock.advance(timedelta(hours=1))
        transport = patient()
        with closing(open_ledger(ledger_url)) as ledger:
            _know(ledger, shop, but={orders[1]}, now=clock.now() - timedelta(minutes=10))
            shop.shelf.need("order", orders[1])["refunds"] = [{"id": 9, "order_id": 3}]
            async with ShopServer(shop, bucket=_WIDE) as server:
                night = _Night(server, ledger, clock, transport)
                assert "GET orders" in await night.run(), "the counts differ"
                with ledger.view() as view:
                    assert view.open_findings() == []
                await night.commit.close()
        await transport.aclose()

    asyncio.run(story())


_HOUR = Window(NOW - timedelta(hours=1), NOW)


@pytest.mark.parametrize("kind", ["order", "product", "customer"])
def test_a_count_and_its_list_ask_for_the_same_and_leave_nothing_out(kind: str) -> None:
    script = Script(lambda asked: body({"count": 3} if "count" in asked.path else {f"{kind}s": []}))

    async def story(shop: Shopify) -> int | None:
        await shop.created(kind, _HOUR, None)
        return await shop.count(kind, _HOUR)

    assert played(script, story) == 3
    listed, counted = script.asked
    assert counted.path == f"{API}/{kind}s/count.json"
    # Both of Shopify's bounds are inclusive; ours is not, at the end.
    bounds = [("created_at_min", f"{_HOUR.since:%Y-%m-%dT%H:%M:%SZ}"),
              ("created_at_max", f"{_HOUR.until - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}")]  # fmt: skip
    assert counted.query == [*([("status", "any")] if kind == "order" else []), *bounds]
    assert listed.query == [("limit", "250"), *counted.query]


def test_beyond_what_shopify_counts_exactly_it_counts_nothing() -> None:
    assert played(lambda _: body({"count": 25_001}), lambda shop: shop.count("order", _HOUR)) is None
    with pytest.raises(BadReply):
        played(lambda _: body({"count": "many"}), lambda shop: shop.count("order", _HOUR))


def test_it_counts_only_as_far_back_as_it_sees() -> None:
    assert offline().counts_from("product") is None
    hidden = offline().counts_from("order")
    assert hidden is not None
    assert hidden > NOW - timedelta(days=60)
    with pytest.raises(UsageError):
        played(lambda _: body({}), lambda shop: shop.count("payout", _HOUR))
