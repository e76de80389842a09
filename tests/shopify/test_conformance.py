"""Shopify keeps the provider's contract, held against the sandbox over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from providers.sandbox.shopify import Shop, ShopServer
from providers.sandbox.shopify.server import DEFAULT_SECRET
from providers.shopify import Shopify
from providers.shopify.kinds import KINDS
from reconciler.model import Delivery, Page, ResourceRef, Window
from reconciler.provider import Transport
from reconciler.testing import ProviderCase, Violations, check_provider
from tests.shopify import server as scripted
from tests.shopify.shops import ACCOUNT, START, a_shop, ref, settings_of
from tests.transports import patient


def _busy_shop() -> Shop:
    """Everything once, and more than a page of products."""
    shop = a_shop()
    products = [shop.create_product(f"Thing {n}", 1000 + n) for n in range(251)]
    buyer = shop.create_customer("ada@example.com")["id"]
    shop.create_draft_order(buyer)
    orders = [shop.place_order(products[n]["id"], buyer)["id"] for n in range(3)]
    for order in orders:
        shop.pay(order)
    shop.refund(orders[0], 300)
    shop.fulfill(orders[1])
    shop.dispute(orders[2], 1002)
    shop.cancel(orders[2])
    shop.pay_out()
    return shop


def _present(shop: Shop) -> Mapping[str, Sequence[ResourceRef]]:
    objects = shop.snapshot()["objects"]
    # First and last ones: the last product stands on the second page.
    present = {kind: [ref(kind, key) for key in [*rows][:2] + [*rows][2:][-2:]] for kind, rows in objects.items()}
    # One request reads one of these.
    present["transaction"] = present["transaction"][:1]
    orders = [ref("order_transactions", key) for key in objects["order"]]
    return {**present, "order_transactions": orders[:2], "balance": [ref("balance", "balance")],
            "access_scopes": [ref("access_scopes", "access_scopes")]}  # fmt: skip


def _delivery(topic: str, content: bytes, shop: Shop, **headers: str) -> Delivery:
    made = scripted.delivery(topic, content, secret=DEFAULT_SECRET)
    sent = {**made.headers, "x-shopify-shop-domain": shop.domain, **headers}
    return replace(made, headers=sent)


def case(provider: type[Shopify] = Shopify) -> ProviderCase:
    shop = _busy_shop()
    order = next(iter(shop.snapshot()["objects"]["order"].values()))
    servers: list[ShopServer] = []

    @asynccontextmanager
    async def connect() -> AsyncIterator[Transport]:
        transport = patient()
        async with ShopServer(shop) as server:
            servers.append(server)
            yield transport
        await transport.aclose()

    good = orjson.dumps(order)
    return ProviderCase(
        account=ACCOUNT,
        connect=connect,
        make=lambda transport: provider(ACCOUNT, settings_of(servers[-1]), transport, shop.clock),
        present=_present(shop),
        missing=[ref(kind, 1) for kind in ("product", "customer", "draft_order", "inventory_item", "order")]
        + [ref("inventory_level", f"1/{shop.location}"), ref("refund", f"{order['id']}/1"),
           ref("transaction", f"{order['id']}/1")],
        window=Window(START - timedelta(days=1), START + timedelta(days=1)),
        accepted=[
            _delivery("orders/paid", good, shop),
            _delivery("refunds/create", good[:-1] + b',"order_id":1}', shop),
            _delivery("orders/delete", b'{"id":1}', shop),
            _delivery("tender_transactions/create", b'{"id":1,"order_id":2}', shop),
        ],
        unknown=[_delivery("themes/publish", b'{"id":1}', shop)],
        malformed=[_delivery("orders/paid", body, shop) for body in (b"\xff", b"[]", b"{")],
        rejected=[
            _delivery("orders/paid", good, shop, **{"x-shopify-hmac-sha256": ""}),
            _delivery("orders/paid", good, shop, **{"x-shopify-hmac-sha256": scripted.signed(good, "another")}),
        ],
    )  # fmt: skip


def test_shopify_keeps_the_contract() -> None:
    checked = case()
    assert set(checked.present) == set(KINDS)
    check_provider(checked)


class ForgetsCancelledOrders(Shopify):
    async def page(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        page = await super().page(kind, window, cursor)
        return replace(page, rows=tuple(row for row in page.rows if not row.body.get("cancelled_at")))


class BringsStrangersAlong(Shopify):
    async def page(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        page = await super().page(kind, window, cursor)
        return replace(page, along=page.rows)


@pytest.mark.parametrize(
    ("broken", "noticed"),
    [
        (ForgetsCancelledOrders, "the complete list of order leaves out"),
        (BringsStrangersAlong, "which it does not cover"),
    ],
)
def test_the_kit_notices(broken: type[Shopify], noticed: str) -> None:
    with pytest.raises(Violations) as found:
        check_provider(case(broken))
    assert any(noticed in line for line in found.value.found), found.value.found[:10]
