"""A scripted server that answers as Shopify would, and small makers of bodies and deliveries."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import orjson
from pydantic import SecretStr

from providers.shopify import Shopify, ShopifySettings
from reconciler.clock import ManualClock
from reconciler.model import Delivery, ResourceRef
from reconciler.provider import Reply, Request
from tests import corpus
from tests.stripe.server import NOW, Asked, Says, Script, body
from tests.transports import patient

ACCOUNT = "shop"
SHOP = "example.myshopify.com"
SECRET = "client_secret"
TOKEN = "shpat_test"
API = "/admin/api/2026-10"

T = TypeVar("T")


def settings(**overrides: Any) -> ShopifySettings:
    values: dict[str, Any] = {
        "provider": "shopify",
        "shop": SHOP,
        "access_token": SecretStr(TOKEN),
        "webhook_secrets": (SecretStr(SECRET),),
    }
    return ShopifySettings(**{**values, **overrides})


def ref(kind: str, resource_id: object) -> ResourceRef:
    return ResourceRef("shopify", ACCOUNT, kind, str(resource_id))


def missing() -> Says:
    return body({"errors": "Not Found"}, 404)


def refused(status: int, said: object = "no", **headers: str) -> Says:
    return body({"errors": said}, status, **headers)


def scopes(*handles: str) -> Says:
    return body({"access_scopes": [{"handle": handle} for handle in handles]})


def sample(resource: str, url: str) -> Any:
    """A documented answer to a GET, whole."""
    documented: Mapping[str, list[list[Any]]] = corpus.load(corpus.SHOPIFY)
    return next(answer for method, path, _, answer in documented[resource] if method == "get" and path == url)


def an_order(number: int, **changes: Any) -> dict[str, Any]:
    """Shopify's documented order, with another id throughout."""
    order = sample("order", "orders/450789469.json")["order"]
    parts = {name: [{**row, "order_id": number} for row in order[name]] for name in ("refunds", "fulfillments")}
    return {**order, "id": number, **parts, **changes}


def signed(content: bytes, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.new(secret.encode(), content, hashlib.sha256).digest()).decode()


def delivery(topic: str, said: Any, *, secret: str = SECRET, prefix: str = "x-shopify-", **headers: str) -> Delivery:
    """A delivery as Shopify sends it; header names are written with underscores, and None takes one away."""
    content = said if isinstance(said, bytes) else orjson.dumps(said)
    sent = {
        f"{prefix}topic": topic,
        f"{prefix}hmac-sha256": signed(content, secret),
        f"{prefix}shop-domain": SHOP,
        f"{prefix}event-id": "event-1",
        f"{prefix}webhook-id": "webhook-1",
        f"{prefix}triggered-at": "2026-11-21T11:59:59.123456789Z",
    }
    sent |= {prefix + name.replace("_", "-"): value for name, value in headers.items()}
    return Delivery(ACCOUNT, NOW, sent, content)


def offline(**overrides: Any) -> Shopify:
    """For the pure methods."""
    return Shopify(ACCOUNT, settings(**overrides), _Nowhere(), ManualClock(NOW))


class _Nowhere:
    async def send(self, request: Request) -> Reply:
        raise AssertionError(f"{request.method} {request.url}: a pure method asks nobody")


def played(
    answering: Callable[[Asked], Says] | Script,
    story: Callable[[Shopify], Awaitable[T]],
    clock: ManualClock | None = None,
    **overrides: Any,
) -> T:
    """One story of a provider against a script, over a real socket and the real transport."""
    script = answering if isinstance(answering, Script) else Script(answering)

    async def run() -> T:
        transport = patient()
        try:
            async with script.serve() as url:
                shop = Shopify(
                    ACCOUNT, settings(**{"base_url": url, **overrides}), transport, clock or ManualClock(NOW)
                )
                return await story(shop)
        finally:
            await transport.aclose()

    return asyncio.run(run())


__all__ = [
    "ACCOUNT", "API", "NOW", "SECRET", "SHOP", "TOKEN", "Asked", "Says", "Script", "an_order", "body", "delivery",
    "missing", "offline", "played", "ref", "refused", "sample", "scopes", "settings", "signed",
]  # fmt: skip
