"""What the Shopify look-alike serves and sends, held against what Shopify documents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest

from providers.sandbox import FaultPlan
from providers.sandbox.api import read_call
from providers.sandbox.faults import Chance
from providers.sandbox.shopify import Shop, ShopServer
from providers.sandbox.shopify.bucket import BucketLimit
from providers.sandbox.shopify.sending import CLASSIC, EVENTS
from providers.sandbox.shopify.server import DEFAULT_TOKEN
from reconciler.clock import ManualClock
from tests import corpus
from tests.sandbox_fixtures import receiving
from tests.shopify.server import sample
from tests.shopify.shops import PATIENT, a_shop

_API = "/admin/api/2026-10"


def _ask(server: ShopServer, path: str, token: str = DEFAULT_TOKEN) -> tuple[int, Any, dict[str, str]]:
    location, _, query = (path if path.startswith("/") else f"{_API}/{path}").partition("?")
    answer = server.api.answer(
        read_call("GET", location, query.encode(), {b"x-shopify-access-token": token.encode()}, b"")
    )
    return answer.status, orjson.loads(answer.content), dict(answer.headers)


def _busy() -> Shop:
    shop = a_shop()
    order = shop.place_order()["id"]
    shop.pay(order, authorization="ch_1")
    shop.refund(order, 100)
    shop.fulfill(order)
    shop.dispute(order, 500)
    shop.create_draft_order(next(int(key) for key, _ in shop.shelf.all("customer")))
    shop.pay_out()
    shop.subscribe("orders/paid", "https://example.com/webhooks/shopify/shop")
    return shop


def _documented(kind: str) -> Any:
    order = sample("order", "orders/450789469.json")["order"]
    listed = {
        "transaction": ("transaction", "orders/450789469/transactions.json", "transactions"),
        "inventory_level": ("inventory_level", "inventory_levels.json?location_ids=655441491", "inventory_levels"),
        "tender_transaction": ("tender_transaction", "tender_transactions.json", "tender_transactions"),
        "webhook": ("webhook", "webhooks.json", "webhooks"),
        "balance_transaction": (
            "payment_transaction", "shopify_payments/balance/transactions.json?payout_id=623721858", "transactions",
        ),
    }  # fmt: skip
    single = {
        "draft_order": "draft_orders/994118539.json", "product": "products/632910392.json",
        "customer": "customers/207119551.json", "inventory_item": "inventory_items/808950810.json",
        "dispute": "shopify_payments/disputes/598735659.json", "payout": "shopify_payments/payouts/623721858.json",
    }  # fmt: skip
    if kind == "order":
        return order
    if kind in ("refund", "fulfillment"):
        return order[f"{kind}s"][0]
    if kind in single:
        return sample(kind, single[kind])[kind]
    resource, url, member = listed[kind]
    return sample(resource, url)[member][0]


@pytest.mark.parametrize(
    "kind",
    [
        "order", "refund", "fulfillment", "transaction", "draft_order", "product", "customer", "inventory_item",
        "inventory_level", "dispute", "payout", "balance_transaction", "tender_transaction", "webhook",
    ],
)  # fmt: skip
def test_what_it_serves_has_the_documented_fields(kind: str) -> None:
    shop = _busy()
    objects = shop.snapshot()["objects"] | {"webhook": dict(shop.shelf.all("webhook"))}
    served = next(iter(objects[kind].values()))
    documented = _documented(kind)
    # A transaction's card is shown only where there was one.
    assert set(documented) - {"payment_details"} == set(served) - {"payment_details"}
    for name, value in documented.items():
        ours = served.get(name)
        if value is not None and ours is not None:
            assert type(ours) is type(value), name


def test_cursors_walk_everything_once_and_take_no_other_filter() -> None:
    shop = a_shop()
    made = {shop.create_product(f"T{n}")["id"] for n in range(7)}
    server = ShopServer(shop)
    seen: list[int] = []
    status, body, headers = _ask(server, "products.json?limit=3&updated_at_min=2026-01-01T00:00:00Z")
    while True:
        assert status == 200
        seen += [row["id"] for row in body["products"]]
        if "link" not in headers:
            break
        query = urlsplit(headers["link"].partition(">")[0].removeprefix("<")).query
        assert {name for name, _ in parse_qsl(query)} == {"limit", "page_info"}
        with_filter, _, _ = _ask(server, f"products.json?{query}&status=active")
        assert with_filter == 400
        status, body, headers = _ask(server, f"products.json?{query}")
    assert len(seen) == len(set(seen)) == 7
    assert set(seen) == made


def test_cancelled_orders_hide_unless_any_status_is_asked_for() -> None:
    shop = a_shop()
    shop.cancel(shop.place_order()["id"])
    server = ShopServer(shop)
    assert _ask(server, "orders.json")[1] == {"orders": []}
    assert len(_ask(server, "orders.json?status=any")[1]["orders"]) == 1
    assert _ask(server, "orders/count.json?status=any")[1] == {"count": 1}


def test_old_orders_are_hidden_from_who_may_not_see_them_all() -> None:
    clock = ManualClock(a_shop().clock.now())
    shop = a_shop(clock=clock, scopes=("read_orders",))
    order = shop.place_order()["id"]
    server = ShopServer(shop)
    assert _ask(server, f"orders/{order}.json")[0] == 200
    clock.advance(timedelta(days=61))
    assert _ask(server, f"orders/{order}.json")[0] == 404
    assert _ask(server, "orders.json?status=any")[1] == {"orders": []}
    assert _ask(server, "products.json")[0] == 403


def test_the_bucket_leaks_two_a_second_and_says_how_full_it_is() -> None:
    clock = ManualClock(a_shop().clock.now())
    server = ShopServer(a_shop(clock=clock), bucket=BucketLimit())
    answers = [_ask(server, "products.json") for _ in range(41)]
    assert [status for status, _, _ in answers] == [200] * 40 + [429]
    assert answers[39][2]["x-shopify-shop-api-call-limit"] == "40/40"
    assert float(answers[40][2]["retry-after"]) >= 0.5
    clock.advance(timedelta(seconds=1))
    assert [_ask(server, "products.json")[0] for _ in range(3)] == [200, 200, 429]


def test_a_version_that_is_not_served_falls_forward_to_the_oldest_that_is() -> None:
    server = ShopServer(a_shop())
    assert _ask(server, "/admin/api/2024-07/products.json")[2]["x-shopify-api-version"] == "2026-01"
    assert _ask(server, "products.json")[2]["x-shopify-api-version"] == "2026-10"
    assert _ask(server, "products.json", token="shpat_other")[0] == 401


def test_a_balance_adds_up_to_its_transactions_and_a_payout_to_its_members() -> None:
    shop = a_shop()
    for _ in range(2):
        shop.pay(shop.place_order()["id"])
    before = shop.balance()["balance"][0]["amount"]
    payout = shop.pay_out()
    assert before == payout["amount"] == "19.60"
    assert shop.balance()["balance"][0]["amount"] == "0.00"


def _sent(story: Callable[[ShopServer, Any], Any]) -> None:
    async def run() -> None:
        async with receiving() as receiver, ShopServer(a_shop(), retries=PATIENT) as server:
            server.subscribe(receiver.url, ["orders/create", "orders/updated"])
            await story(server, receiver)

    asyncio.run(run())


def test_a_retry_has_the_payload_of_the_first_attempt() -> None:
    async def story(server: ShopServer, receiver: Any) -> None:
        receiver.answers += [500]
        order = server.shop.place_order()["id"]
        await server.flush()
        server.shop.shelf.put("order", order, {**server.shop.shelf.need("order", order), "note": "later"})
        await server.flush()
        first, again = (each.event for each in receiver.received)
        assert first == again
        assert again["note"] is None
        ids = {each.headers["x-shopify-webhook-id"] for each in receiver.received}
        assert len(ids) == 1

    _sent(story)


def test_after_eight_failures_the_subscription_is_gone() -> None:
    async def story(server: ShopServer, receiver: Any) -> None:
        receiver.answers += [500] * 9
        server.shop.place_order()
        for _ in range(9):
            assert len(list(server.shop.shelf.all("webhook"))) == 2
            await server.flush()
        assert [row["topic"] for _, row in server.shop.shelf.all("webhook")] == ["orders/updated"]
        assert len(server.sender.removed) == 1
        server.shop.place_order()
        await server.flush()
        assert len(receiver.received) == 9

    _sent(story)


def test_what_the_app_s_file_declares_is_sent_and_never_shown() -> None:
    async def story(server: ShopServer, receiver: Any) -> None:
        server.declare(receiver.url, ["products/create"])
        server.shop.create_product()
        await server.flush()
        assert receiver.received[-1].headers["x-shopify-topic"] == "products/create"
        _, body, _ = _ask(server, "webhooks.json")
        assert {row["topic"] for row in body["webhooks"]} == {"orders/create", "orders/updated"}

    _sent(story)


def test_faults_strike_as_planned() -> None:
    shop = a_shop()
    server = ShopServer(shop, faults=FaultPlan(throttle=Chance(1.0, times=1), server_error=Chance(1.0, times=1)))
    assert [_ask(server, "products.json")[0] for _ in range(3)] == [429, 500, 200]
    server.set_faults(FaultPlan(stale=Chance(1.0), stale_seconds=5))
    made = shop.create_product()["id"]
    assert _ask(server, f"products/{made}.json")[0] == 404


def test_the_corpus_is_the_one_that_this_was_written_against() -> None:
    assert sum(len(examples) for examples in corpus.load(corpus.SHOPIFY).values()) == 626


def test_both_families_of_headers_are_sent_in_turns() -> None:
    async def story() -> list[set[str]]:
        async with receiving() as receiver, ShopServer(a_shop(), families=(CLASSIC, EVENTS), retries=PATIENT) as server:
            server.subscribe(receiver.url, ["products/update"])
            product = server.shop.create_product()["id"]
            for _ in range(4):
                server.shop.update_product(product, tags="x")
            await server.flush()
            return [{name for name in each.headers if "hmac" in name} for each in receiver.received]

    names = asyncio.run(story())
    assert sorted(name for each in names for name in each) == [
        *["shopify-hmac-sha256"] * 2, *["x-shopify-hmac-sha256"] * 2,
    ]  # fmt: skip
