"""Shops of the sandbox for tests, and the provider that reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from providers.sandbox.shopify import Shop, ShopServer
from providers.sandbox.shopify.sending import ShopRetries
from providers.sandbox.shopify.server import DEFAULT_SECRET, DEFAULT_TOKEN
from providers.shopify import Shopify, ShopifySettings
from reconciler.clock import Clock, ManualClock
from reconciler.model import ResourceRef
from reconciler.provider import Transport

ACCOUNT = "shop"
START = datetime(2026, 11, 2, 12, tzinfo=UTC)
PATIENT = ShopRetries(timeout_seconds=180)
"""A machine that stands still for five seconds is no receiver that does not answer."""


def a_shop(*, seed: int = 7, clock: Clock | None = None, **options: Any) -> Shop:
    """On a clock that stands still at `START` until it is advanced, unless a clock is given."""
    return Shop(seed=seed, clock=clock or ManualClock(START), **options)


def settings_of(server: ShopServer, **changes: Any) -> ShopifySettings:
    values: dict[str, Any] = {
        "provider": "shopify",
        "shop": server.shop.domain,
        "access_token": SecretStr(DEFAULT_TOKEN),
        "webhook_secrets": (SecretStr(DEFAULT_SECRET),),
        "base_url": server.url,
        "shopify_payments": server.shop.payments,
    }
    return ShopifySettings(**{**values, **changes})


def reader_of(server: ShopServer, transport: Transport, **changes: Any) -> Shopify:
    return Shopify(ACCOUNT, settings_of(server, **changes), transport, server.clock)


def ref(kind: str, resource_id: object) -> ResourceRef:
    return ResourceRef("shopify", ACCOUNT, kind, str(resource_id))
