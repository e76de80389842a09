"""A burst of five thousand product updates: full batches at the bucket's pace, not one read each."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing
from datetime import timedelta

import pytest

from providers.sandbox.shopify import Shop, ShopServer
from providers.sandbox.shopify.bodies import Body
from providers.sandbox.shopify.bucket import BucketLimit
from providers.sandbox.shopify.server import DEFAULT_SECRET
from providers.shopify import Shopify, reading
from reconciler.clock import ManualClock
from reconciler.fetcher import Fetcher, FetchSettings
from reconciler.ledger import PageRow, Receipt, mark_of, open_ledger
from reconciler.model import Cause, Delivery
from reconciler.retry import RetryPolicy
from reconciler.taking import IDLE_POLL
from reconciler.worker import Worker, WorkerSettings
from tests.loop.timeline import Timeline, UnderWay, WatchedLedger, WatchedTransport
from tests.shopify import server as scripted
from tests.shopify.shops import ACCOUNT, START, a_shop, reader_of
from tests.transports import patient

_PRODUCTS = 5_000
_MOMENT = timedelta(milliseconds=1)


@pytest.mark.long
def test_five_thousand_product_updates_cost_at_most_twenty_five_requests(sqlite_ledger_url: str) -> None:
    """All of them come before the first one's company is complete, however slow the machine is: time stands still."""

    async def story() -> tuple[int, int, int]:
        clock, under_way = ManualClock(START), UnderWay()
        timeline = Timeline(clock)
        shop = a_shop(clock=clock)
        products = [shop.create_product(f"Thing {n}")["id"] for n in range(_PRODUCTS)]
        transport = patient()
        with closing(open_ledger(sqlite_ledger_url)) as ledger:
            writer = WatchedLedger(ledger, clock, under_way)
            async with ShopServer(shop, bucket=BucketLimit()) as server:
                provider = reader_of(server, WatchedTransport(transport, under_way))
                # Known before, as after a sweep: now all of them change at once.
                known = _known(shop)
                await writer.call(
                    lambda ledger: ledger.apply_page(
                        known, start=ledger.tick(), started_at=clock.now(), cause=Cause.SWEEP,
                        settle={"product": timedelta(0), "inventory_item": timedelta(0)}, now=clock.now(),
                    )
                )  # fmt: skip
                clock.advance(timedelta(minutes=5))
                fetcher = Fetcher(ACCOUNT, provider, writer, clock, policy=RetryPolicy(), settings=FetchSettings(),
                                  rng=random.Random(7), sleep=timeline.sleep)  # fmt: skip
                worker = Worker({ACCOUNT: fetcher}, writer, clock, owner="burst", settings=WorkerSettings(),
                                wait=timeline.wait)  # fmt: skip
                writer.on_marked = worker.wake
                running = asyncio.create_task(worker.run())
                for at in range(0, _PRODUCTS, 250):
                    changed = [shop.update_product(one, title="Changed") for one in products[at : at + 250]]
                    receipts = [_receipt(provider, shop.domain, one) for one in changed]
                    await asyncio.gather(*(writer.receive(receipt) for receipt in receipts))
                over = clock.now() + timedelta(minutes=5)
                while ledger.unsettled():
                    assert clock.now() < over
                    await under_way.quiet()
                    clock.advance(max((timeline.next or clock.now() + IDLE_POLL) - clock.now(), _MOMENT))
                    timeline.arrive()
                worker.stop()
                await running
                requests = server.journal.count()
                refused = server.journal.count(status=429)
                with ledger.view() as view:
                    fresh = sum(1 for each in view.resources() if each.ref.kind == "product" and each.version == 2)
            await writer.close()
        await transport.aclose()
        return requests, refused, fresh

    requests, refused, fresh = asyncio.run(story())
    assert fresh == _PRODUCTS
    assert refused == 0
    assert requests <= 25


def _known(shop: Shop) -> list[PageRow]:
    return [
        PageRow(reading.snapshot(ACCOUNT, kind, body, "2026-10"))
        for kind in ("product", "inventory_item")
        for _, body in shop.shelf.all(kind)
    ]


def _receipt(provider: Shopify, domain: str, body: Body) -> Receipt:
    made = scripted.delivery("products/update", body, secret=DEFAULT_SECRET)
    sent = Delivery(ACCOUNT, made.received_at, {**made.headers, "x-shopify-shop-domain": domain}, made.body)
    notice = provider.verify(sent)
    settle = provider.kinds["product"].settle
    marks = tuple(mark_of(hint, Cause.WEBHOOK, settle) for hint in notice.hints)
    return Receipt("shopify", sent, notice.event_id, notice.type, notice.occurred_at, marks)
