"""Shopify's day from hell, and how it ends at the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from providers.sandbox import FaultPlan
from providers.sandbox.faults import Chance
from providers.sandbox.post import post
from providers.sandbox.shopify import Shop, ShopServer
from providers.sandbox.shopify.bucket import BucketLimit
from providers.sandbox.shopify.sending import ShopSending
from providers.sandbox.shopify.server import DEFAULT_SECRET
from providers.sandbox.shopify.topics import TOPICS
from providers.shopify.kinds import KINDS
from providers.shopify.topics import REQUIRED
from reconciler.clock import SystemClock
from reconciler.ledger import Ledger, open_ledger
from tests.shopify.living import Living, delivered, differences, living
from tests.shopify.server import signed
from tests.shopify.shops import PATIENT, a_shop, ref

pytestmark = pytest.mark.long

_WIDE = BucketLimit(size=800, leak_per_second=40.0)
"""A shop on a large plan: these stories are about what is read, not how fast."""


def _open(shop: Shop, faults: FaultPlan | None = None) -> ShopServer:
    return ShopServer(shop, bucket=_WIDE, faults=faults, retries=PATIENT)


def _told(
    folder: Path,
    url: str,
    story: Callable[[ShopServer, Living], Awaitable[None]],
    *,
    faults: FaultPlan | None = None,
    subscribe: bool = True,
    full_every: str = "1h",
) -> Ledger:
    """Let a story happen, and wait until the ledger says what the shop says."""

    async def run() -> None:
        shop = a_shop(clock=SystemClock())
        async with (
            _open(shop, faults) as server,
            living(server, folder, url, subscribe=subscribe, full_every=full_every) as daemon,
        ):
            await story(server, daemon)
            await delivered(server)
            await daemon.until(lambda ledger: differences(server, ledger))

    asyncio.run(run())
    return open_ledger(url)


async def _again(address: str, sending: ShopSending, domain: str) -> int:
    """The same delivery once more, much later: with the payload of its first attempt."""
    headers = {
        "content-type": "application/json", "x-shopify-topic": sending.happening.topic,
        "x-shopify-hmac-sha256": signed(sending.body, DEFAULT_SECRET), "x-shopify-shop-domain": domain,
        "x-shopify-event-id": sending.happening.event_id, "x-shopify-webhook-id": sending.delivery_id,
        "x-shopify-triggered-at": sending.triggered_at,
    }  # fmt: skip
    return await post(address, headers, sending.body, timeout_seconds=120.0)


def test_lost_doubled_reordered_and_forged_webhooks_end_at_the_truth(tmp_path: Path, sqlite_ledger_url: str) -> None:
    async def story(server: ShopServer, daemon: Living) -> None:
        # The same events a second time, through the app's own file.
        server.declare(daemon.address, ["orders/create", "orders/paid"])
        shop = server.shop
        orders = [shop.place_order()["id"] for _ in range(12)]
        for order in orders:
            shop.pay(order, authorization=f"ch_{order}")
        shop.refund(orders[0], 300)
        shop.fulfill(orders[1])
        shop.cancel(orders[2])
        shop.dispute(orders[3], 100)
        shop.pay_out()

    chaos = FaultPlan(
        seed=5, drop=Chance(0.2), duplicate=Chance(0.2), reorder=Chance(0.4), forge=Chance(0.1),
        wrong_secret=Chance(0.1), server_error=Chance(0.05), stale=Chance(0.5), stale_seconds=3.0,
    )  # fmt: skip
    with closing(_told(tmp_path, sqlite_ledger_url, story, faults=chaos)) as ledger, ledger.view() as view:
        counts = view.delivery_counts()
    assert counts["stored"] > 0
    assert counts["duplicate"] > 0
    assert counts["rejected"] > 0


def test_a_retry_hours_late_with_its_old_payload_does_no_harm(tmp_path: Path, sqlite_ledger_url: str) -> None:
    async def story(server: ShopServer, daemon: Living) -> None:
        order = server.shop.place_order()["id"]
        server.shop.pay(order)
        await delivered(server)
        await daemon.until(lambda ledger: differences(server, ledger))
        created = next(each for each in server.sender.record if each.happening.topic == "orders/create")
        assert orjson.loads(created.body)["financial_status"] == "pending"
        assert await _again(daemon.address, created, server.shop.domain) == 200

    _told(tmp_path, sqlite_ledger_url, story).close()


def test_orders_that_change_while_nobody_is_subscribed_are_found(tmp_path: Path, sqlite_ledger_url: str) -> None:
    async def story(server: ShopServer, daemon: Living) -> None:
        orders = [server.shop.place_order()["id"] for _ in range(25)]
        await delivered(server)
        await daemon.until(lambda ledger: differences(server, ledger))
        for key, _ in list(server.shop.shelf.all("webhook")):
            server.shop.unsubscribe(int(key))
        sent = len(server.sender.record)
        for order in orders:
            server.shop.pay(order)
        assert len(server.sender.record) == sent

    _told(tmp_path, sqlite_ledger_url, story).close()


def test_a_refund_that_moves_no_timestamp_and_tells_nobody_is_found(tmp_path: Path, sqlite_ledger_url: str) -> None:
    async def story(server: ShopServer, daemon: Living) -> None:
        order = server.shop.place_order()["id"]
        server.shop.pay(order)
        await delivered(server)
        await daemon.until(lambda ledger: differences(server, ledger))
        before = server.shop.shelf.need("order", order)["updated_at"]
        server.shop.refund(order, 250, touch=False, silent=True)
        assert server.shop.shelf.need("order", order)["updated_at"] == before

    _told(tmp_path, sqlite_ledger_url, story).close()


def test_what_was_deleted_is_deleted_with_its_parts_told_or_not(tmp_path: Path, sqlite_ledger_url: str) -> None:
    async def story(server: ShopServer, daemon: Living) -> None:
        shop = server.shop
        told, untold = (shop.place_order()["id"] for _ in range(2))
        for order in (told, untold):
            shop.pay(order)
            shop.refund(order, 100)
        product = shop.create_product()["id"]
        item = shop.create_product()["variants"][0]["inventory_item_id"]
        await delivered(server)
        await daemon.until(lambda ledger: differences(server, ledger))
        shop.delete_order(told)
        server.set_faults(FaultPlan(drop=Chance(1.0)))
        shop.delete_order(untold)
        shop.delete_product(product)
        # No list shows inventory items, and their product's timestamp stays: what is known is read again.
        shop.update_item(item, cost="9.00")

    with closing(_told(tmp_path, sqlite_ledger_url, story, full_every="3s")) as ledger, ledger.view() as view:
        deleted = [each.ref.kind for each in view.resources() if each.state == "deleted"]
        looked = {each.kind for each in view.coverage(SystemClock().now()) if each.complete}
    assert deleted.count("refund") == deleted.count("order") == deleted.count("order_transactions") == 2
    assert looked == {name for name, kind in KINDS.items() if kind.singleton is None}


def test_an_order_that_changes_between_a_page_and_its_transactions_ends_at_the_truth(
    tmp_path: Path, sqlite_ledger_url: str
) -> None:
    async def story(server: ShopServer, daemon: Living) -> None:
        shop = server.shop
        orders = [shop.place_order()["id"] for _ in range(5)]
        for order in orders:
            # Sweeps run all the while; each payment falls somewhere between a page and what follows from it.
            shop.pay(order, minor=400)
            await asyncio.sleep(0)
            seen = server.journal.count("GET orders")
            await daemon.until(lambda _: [] if server.journal.count("GET orders") > seen else ["no page of orders yet"])  # noqa: B023 - awaited at once
            shop.pay(order)

    _told(tmp_path, sqlite_ledger_url, story, subscribe=False).close()


def test_app_uninstalled_closes_the_account_at_once(tmp_path: Path, sqlite_ledger_url: str) -> None:
    async def run() -> None:
        shop = a_shop(clock=SystemClock())
        async with _open(shop) as server, living(server, tmp_path, sqlite_ledger_url) as daemon:
            shop.place_order()
            await delivered(server)
            await daemon.until(lambda ledger: differences(server, ledger))
            server.grants.revoke_all()
            webhook = next(row for _, row in shop.shelf.all("webhook") if row["topic"] == "app/uninstalled")
            body = b'{"id": 1}'
            headers = {"content-type": "application/json", "x-shopify-topic": webhook["topic"],
                       "x-shopify-hmac-sha256": signed(body, DEFAULT_SECRET)}  # fmt: skip
            assert await post(daemon.address, headers, body, timeout_seconds=120.0) == 200

            def closed(ledger: Ledger) -> list[str]:
                return [] if any(gate.kind == "" for gate in ledger.gates()) else ["no gate"]

            await daemon.until(closed)

    asyncio.run(run())


def test_a_customer_s_redaction_reaches_the_ledger_through_the_webhook(
    tmp_path: Path, postgres_ledger_url: str
) -> None:
    async def run() -> None:
        shop = a_shop(clock=SystemClock())
        async with _open(shop) as server, living(server, tmp_path, postgres_ledger_url) as daemon:
            server.declare(daemon.address, ["customers/redact"])
            buyer = shop.create_customer("ada@example.com")["id"]
            order = shop.place_order(customer=buyer)["id"]
            shop.pay(order)
            await delivered(server)
            await daemon.until(lambda ledger: differences(server, ledger))
            shop.redact_customer(buyer)
            await delivered(server)
            async with daemon.looking() as ledger:
                asked = await asyncio.to_thread(ledger.redactions.pending, "shop")
            assert [(each.what.kind, each.what.id) for each in asked] == [
                ("customer", str(buyer)), ("order", str(order)),
            ]  # fmt: skip

    asyncio.run(run())


def test_every_topic_that_is_asked_for_names_something() -> None:
    assert len(REQUIRED) == len(set(REQUIRED)) > 20
    assert set(TOPICS) == set(REQUIRED), "the demo's shop would be told that it lacks subscriptions"
    assert ref("order", 1).kind == "order"
