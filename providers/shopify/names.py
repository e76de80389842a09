"""What Shopify calls things: ids, parts that live inside an order, and which field of one thing names another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from reconciler.errors import BadReply
from reconciler.model import ResourceRef

PROVIDER: Final = "shopify"

SCOPES_ID: Final = "access_scopes"
BALANCE_ID: Final = "balance"
"""A shop has one of each, and Shopify gives them no id."""

PARTS: Final[Mapping[str, str]] = {"refund": "refunds", "fulfillment": "fulfillments"}
"""Kinds that an order's body holds whole, and the field that holds them."""

_OF_AN_ORDER: Final = frozenset({*PARTS, "order_transactions", "transaction"})

_WHOLE: Final = re.compile(r"[0-9]{1,20}")
_GRAPHQL: Final = re.compile(r"gid://shopify/\w+/([0-9]{1,20})(?:\?.*)?")


def whole(value: object) -> str | None:
    """The id in a field: a whole number, its text, or the end of a GraphQL id; None where it names nothing."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if value > 0 else None
    if not isinstance(value, str):
        return None
    bare = value if (found := _GRAPHQL.fullmatch(value)) is None else found[1]
    return bare if _WHOLE.fullmatch(bare) else None


def require_whole(text: str) -> str:
    """An id that may stand in an address. Raises `BadReply` for one that would lead elsewhere."""
    if not _WHOLE.fullmatch(text):
        raise BadReply(f"{text!r} is no id of Shopify's")
    return text


def part(owner: str, child: str) -> str:
    """The id of something that is read with its owner: `ORDER/REFUND`, `ITEM/LOCATION`."""
    return f"{owner}/{child}"


def split(resource_id: str) -> tuple[str, str]:
    """Owner and child. Raises `BadReply` for an id of another form."""
    owner, slash, child = resource_id.partition("/")
    if not slash:
        raise BadReply(f"{resource_id!r} is no part of anything; write OWNER/CHILD")
    return require_whole(owner), require_whole(child)


def ref(account: str, kind: str, resource_id: str) -> ResourceRef:
    return ResourceRef(PROVIDER, account, kind, resource_id)


def related(of: ResourceRef, body: Mapping[str, Any]) -> tuple[ResourceRef, ...]:
    """The other resources that a body names, each once: whichever the ledger has never seen is read."""
    found = dict.fromkeys(ref(of.account, kind, named) for kind, named in _named(of.kind, body))
    found.pop(of, None)
    return tuple(found)


def affected(of: ResourceRef, body: Mapping[str, Any]) -> tuple[ResourceRef, ...]:
    """Money that moved for an order changes the order, which does not always say so with its `updated_at`.

    Not for transactions: they are themselves read because the order changed.
    """
    field = {"tender_transaction": "order_id", "dispute": "order_id", "balance_transaction": "source_order_id"}
    order = whole(body.get(field.get(of.kind, "")))
    return (ref(of.account, "order", order),) if order else ()


def parts(of: ResourceRef) -> tuple[ResourceRef, ...]:
    """An order's transactions: the only part of it that its body does not hold."""
    return (ref(of.account, "order_transactions", of.id),) if of.kind == "order" else ()


def whole_of(part: ResourceRef) -> ResourceRef | None:
    """The order that something is a part of."""
    if part.kind not in _OF_AN_ORDER:
        return None
    return ref(part.account, "order", part.id.partition("/")[0])


def _named(kind: str, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    match kind:
        case "order" | "draft_order":
            customer = body.get("customer")
            if isinstance(customer, Mapping) and (named := whole(customer.get("id"))):
                yield "customer", named
            if kind == "draft_order" and (named := whole(body.get("order_id"))):
                yield "order", named
        case "product":
            for variant in body.get("variants") or ():
                if isinstance(variant, Mapping) and (named := whole(variant.get("inventory_item_id"))):
                    yield "inventory_item", named
        case "tender_transaction" | "dispute":
            if named := whole(body.get("order_id")):
                yield "order", named
        case "balance_transaction":
            if named := whole(body.get("payout_id")):
                yield "payout", named
            if named := whole(body.get("source_order_id")):
                yield "order", named
            source = str(body.get("source_type")).lower()
            kind = "dispute" if source.endswith("dispute") else source
            if kind in ("dispute", "payout") and (named := whole(body.get("source_id"))):
                yield kind, named
        case _:
            return
