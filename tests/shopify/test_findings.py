"""What is wrong with the account itself, told as findings, and mended on request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from pydantic import ValidationError

from providers.sandbox.shopify import Shop, ShopServer
from providers.shopify import Shopify
from providers.shopify.topics import REQUIRED
from providers.shopify.versions import served
from reconciler.clock import ManualClock
from reconciler.errors import UsageError
from reconciler.model import Finding
from tests.shopify.server import settings
from tests.shopify.shops import a_shop, reader_of
from tests.transports import patient

_ADDRESS = "https://pay.example.com/webhooks/shopify/shop"

T = TypeVar("T")


def _told(shop: Shop, story: Callable[[ShopServer, Shopify], Awaitable[T]], **changes: Any) -> T:
    async def run() -> T:
        transport = patient()
        try:
            async with ShopServer(shop) as server:
                return await story(server, reader_of(server, transport, **changes))
        finally:
            await transport.aclose()

    return asyncio.run(run())


def _codes(found: Sequence[Finding]) -> set[tuple[str, str]]:
    return {(each.code, each.subject) for each in found}


async def _findings(server: ShopServer, shop: Shopify) -> Sequence[Finding]:
    server.subscribe(_ADDRESS, REQUIRED)
    return await shop.findings()


def test_a_shop_that_is_well_set_up_has_none() -> None:
    assert _told(a_shop(), _findings) == []


def test_missing_scopes_name_what_is_not_looked_at() -> None:
    found = _told(a_shop(scopes=("write_orders", "read_products")), _findings)
    subjects = {each.subject for each in found if each.code == "scope_missing"}
    # write_orders grants read_orders.
    assert "read_orders" not in subjects
    assert {"read_all_orders", "read_customers", "read_locations", "read_shopify_payments_payouts"} <= subjects
    assert "60 days" in next(each.text for each in found if each.subject == "read_all_orders")


def test_without_shopify_payments_its_scopes_and_topics_are_not_missed() -> None:
    scopes = tuple(one for one in a_shop().scopes if "payments" not in one)

    async def story(server: ShopServer, shop: Shopify) -> Sequence[Finding]:
        server.subscribe(_ADDRESS, [topic for topic in REQUIRED if not topic.startswith("disputes/")])
        return await shop.findings()

    assert _told(a_shop(scopes=scopes, payments=False), story) == []


def test_a_subscription_that_is_gone_is_named_and_made_again() -> None:
    async def story(server: ShopServer, shop: Shopify) -> tuple[Sequence[Finding], Sequence[str], Sequence[Finding]]:
        server.subscribe(_ADDRESS, REQUIRED)
        gone = next(int(key) for key, row in server.shop.shelf.all("webhook") if row["topic"] == "orders/updated")
        server.shop.unsubscribe(gone)
        before = await shop.findings()
        return before, await shop.repair_subscriptions(), await shop.findings()

    before, done, after = _told(a_shop(), story, webhook_url=_ADDRESS)
    assert _codes(before) == {("webhook_topics_missing", "")}
    assert "orders/updated" in before[0].text
    assert done == [f"subscribed {_ADDRESS} to orders/updated"]
    assert after == []


def test_no_subscription_at_all_is_an_error_and_needs_an_address_to_be_mended() -> None:
    async def story(_server: ShopServer, shop: Shopify) -> Sequence[Finding]:
        with pytest.raises(UsageError, match="webhook_url"):
            await shop.repair_subscriptions()
        return await shop.findings()

    assert _codes(_told(a_shop(), story)) == {("webhook_missing", "")}


def test_topics_of_the_app_s_own_file_can_be_declared_because_the_api_hides_them() -> None:
    async def story(_server: ShopServer, shop: Shopify) -> Sequence[Finding]:
        return await shop.findings()

    assert _told(a_shop(), story, declared_topics=REQUIRED) == []


def test_falling_forward_and_deprecated_calls_are_told() -> None:
    async def story(server: ShopServer, shop: Shopify) -> Sequence[Finding]:
        server.subscribe(_ADDRESS, REQUIRED)
        server.api.deprecated.append(
            {
                "api_type": "REST", "endpoint": "Product", "version": "2024-10", "description": "Use GraphQL.",
                "last_call_at": "2026-11-01T00:00:00Z", "migration_deadline": "2027-01-01T00:00:00Z",
                "documentation_url": "x",
            }
        )  # fmt: skip
        return await shop.findings()

    found = _told(a_shop(), story, api_version="2024-10")
    assert _codes(found) == {("version_fell_forward", "2026-01"), ("deprecated_call", "REST Product")}


def test_a_version_is_named_before_it_ends() -> None:
    clock = ManualClock(datetime(2027, 9, 1, tzinfo=UTC))
    assert _codes(_told(a_shop(clock=clock), _findings)) == {("version_ends", "2026-10")}


def test_a_token_that_is_not_valid_ends_the_diagnosis() -> None:
    async def story(server: ShopServer, shop: Shopify) -> Sequence[Finding]:
        server.grants.revoke_all()
        return await shop.findings()

    assert _codes(_told(a_shop(), story)) == {("credentials_rejected", "")}


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2026-13", "2026-02", "latest", "unstable", ""])
def test_a_version_that_shopify_never_released_is_refused_with_those_that_it_does(version: str) -> None:
    with pytest.raises(ValidationError, match=r"-01, .*-04, .*-07, .*-10"):
        settings(api_version=version)


def test_the_versions_that_are_served_are_the_last_four() -> None:
    assert served(datetime(2026, 11, 21, tzinfo=UTC)) == ("2026-01", "2026-04", "2026-07", "2026-10")
    eve = datetime(2027, 1, 1, 17, tzinfo=UTC)
    assert served(eve - timedelta(seconds=1))[0] == "2026-01"
    assert served(eve)[-1] == "2027-01"


@pytest.mark.parametrize(("given", "name"), [("example", "example.myshopify.com"),
                                             ("https://Example.myshopify.com", "example.myshopify.com")])  # fmt: skip
def test_a_shop_is_known_by_its_permanent_name(given: str, name: str) -> None:
    assert settings(shop=given).shop == name
    assert settings(shop=given).origin == f"https://{name}"


@pytest.mark.parametrize("given", ["shop.example.com", "", "evil.com/x.myshopify.com", "a b.myshopify.com"])
def test_another_name_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="permanent name"):
        settings(shop=given)


@pytest.mark.parametrize("changes", [{"access_token": None}, {"client_id": "x"},
                                     {"access_token": None, "client_id": "x"}])  # fmt: skip
def test_there_is_exactly_one_way_in(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="set either access_token"):
        settings(**changes)
