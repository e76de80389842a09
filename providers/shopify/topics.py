"""From a delivery's topic and body to the resources that it names. The topic says which sort, never what happened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from providers.shopify import expectations, names
from providers.shopify.kinds import KINDS
from providers.shopify.names import SCOPES_ID, ref
from providers.shopify.reading import instant
from providers.shopify.signatures import header
from reconciler.errors import MalformedDelivery
from reconciler.model import Hint, Notice, Redaction

_OWN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "orders": "order",
        "draft_orders": "draft_order",
        "products": "product",
        "customers": "customer",
        "inventory_items": "inventory_item",
        "disputes": "dispute",
        "tender_transactions": "tender_transaction",
    }
)
"""Families whose body is the resource itself."""

_PARTS: Final[Mapping[str, str]] = MappingProxyType({"refunds": "refunds", "fulfillments": "fulfillments"})
"""Families whose body is a part of an order: the order is read, and brings the part along."""

_FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "orders": ("order_edit", "order_id"),
        "returns": ("order", "id"),
        "fulfillment_orders": ("fulfillment_order", "order_id"),
    }
)
"""Where else an order's id stands: in `orders/edited`, and in families that we do not store but that change orders."""

REQUIRED: Final = tuple(
    sorted(
        f"{family}/{ending}"
        for family, endings in {
            "orders": "create updated paid cancelled fulfilled partially_fulfilled edited delete",
            "order_transactions": "create",
            "refunds": "create",
            "fulfillments": "create update",
            "draft_orders": "create update delete",
            "products": "create update delete",
            "customers": "create update delete merge",
            "inventory_items": "create update delete",
            "inventory_levels": "connect update disconnect",
            "disputes": "create update",
            "tender_transactions": "create",
            "app": "uninstalled scopes_update",
        }.items()
        for ending in endings.split()
    )
)
"""What the shop should be subscribed to. Payouts and balance transactions have no topic: they are swept."""

_KNOWN: Final = frozenset(REQUIRED)
"""Each of them names a resource that we follow."""

COMPLIANCE: Final = frozenset({"customers/data_request", "customers/redact", "shop/redact"})
"""Subscribed to in the app's TOML file only."""


def notice(headers: Mapping[str, str], body: Mapping[str, Any], raw: bytes, account: str, shop: str) -> Notice:
    """What one delivery says. Raises `MalformedDelivery` for one without a topic, or of another shop.

    One action of a merchant has one event id, which its deliveries of all topics and to all subscriptions share; so
    the id in the log holds the topic and the resource too. What is known of neither is told apart by its body.
    """
    topic = header(headers, "topic")
    if topic is None:
        raise MalformedDelivery("no_topic", "the X-Shopify-Topic header is missing; the signed body does not say it")
    sender = header(headers, "shop-domain")
    if sender is not None and sender.lower() != shop:
        raise MalformedDelivery("other_shop", f"this delivery is about {sender}, and this address is {shop}'s")
    family, _, ending = topic.partition("/")
    hints = tuple(_unique(_hints(family, ending, body, account)))
    event = header(headers, "event-id") or header(headers, "webhook-id") or hashlib.sha256(raw).hexdigest()[:32]
    subject = names.whole(body.get("id")) or (hints[0].ref.id if hints else "")
    redact = tuple(_redactions(topic, body))
    nameless = not hints and topic in _KNOWN
    return Notice(
        f"{event}:{topic}:{subject}", topic, instant(header(headers, "triggered-at")), hints, redact, nameless
    )


def _hints(family: str, ending: str, body: Mapping[str, Any], account: str) -> Iterator[Hint]:
    if family == "app":
        # The token may be worth nothing now: one read finds out, and closes the account's gate.
        yield Hint(ref(account, "access_scopes", SCOPES_ID))
        return
    if f"{family}/{ending}" in COMPLIANCE:
        return
    own = names.whole(body.get("id"))
    order = names.whole(body.get("order_id"))
    if family == "inventory_levels":
        item, location = names.whole(body.get("inventory_item_id")), names.whole(body.get("location_id"))
        if item and location:
            gone = ending == "disconnect"
            expected = expectations.GONE if gone else expectations.of_body("inventory_level", body)
            yield Hint(ref(account, "inventory_level", names.part(item, location)), expected)
        return
    if f"{family}/{ending}" == "customers/merge":
        for kept in ("admin_graphql_api_customer_kept_id", "admin_graphql_api_customer_deleted_id"):
            if named := names.whole(body.get(kept)):
                yield Hint(ref(account, "customer", named))
        return
    if family in _OWN and own:
        kind = _OWN[family]
        yield Hint(ref(account, kind, own), _announced(kind, ending, body), created_at=instant(body.get("created_at")))
    if family == "order_transactions" and order:
        yield Hint(ref(account, "order_transactions", order), expectations.of_transaction(body))
        yield Hint(ref(account, "order", order))
    if family in _PARTS and order:
        yield Hint(ref(account, "order", order), expectations.of_part(_PARTS[family], body))
        if family == "refunds":
            yield Hint(ref(account, "order_transactions", order), _refunded(body))
    if family == "disputes" and order:
        yield Hint(ref(account, "order", order))
    if named := _order_elsewhere(family, body):
        yield Hint(ref(account, "order", named))


def _announced(kind: str, ending: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if ending == "delete":
        return expectations.GONE if KINDS[kind].deletable else None
    if kind == "tender_transaction":
        return expectations.EXISTS
    return expectations.of_body(kind, body)


def _refunded(refund: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A refund's own transactions are listed with its order's."""
    listed = [row for row in refund.get("transactions") or () if isinstance(row, Mapping)]
    return expectations.of_transaction(listed[-1]) if listed else None


def _order_elsewhere(family: str, body: Mapping[str, Any]) -> str | None:
    outer, inner = _FIELDS.get(family, ("", ""))
    holder = body.get(outer)
    if isinstance(holder, Mapping):
        return names.whole(holder.get(inner))
    if family in _FIELDS and names.whole(body.get("id")) is None:
        return names.whole(body.get("order_id"))
    return None


def _redactions(topic: str, body: Mapping[str, Any]) -> Iterator[Redaction]:
    """Raises `MalformedDelivery` for a request of a person that names nobody: it must not pass as done."""
    if topic == "shop/redact":
        yield Redaction()
    if topic == "customers/redact":
        customer = body.get("customer")
        named = names.whole(customer.get("id")) if isinstance(customer, Mapping) else None
        orders = [order for row in body.get("orders_to_redact") or () if (order := names.whole(row))]
        if named is None and not orders:
            raise MalformedDelivery("nobody", "customers/redact names neither a customer nor an order")
        if named is not None:
            yield Redaction("customer", named)
        for order in orders:
            yield Redaction("order", order)


def _unique(hints: Iterator[Hint]) -> Iterator[Hint]:
    """Each resource once, by its first hint: the subject's own comes before what is named along with it."""
    seen = set()
    for hint in hints:
        if hint.ref not in seen:
            seen.add(hint.ref)
            yield hint
