"""From a body that Shopify sent to snapshots: of the resource, and of what lives inside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

from providers.shopify import names
from providers.shopify.kinds import ROUTES
from providers.shopify.names import PROVIDER
from reconciler.clock import require_utc
from reconciler.errors import BadReply
from reconciler.model import BrokenRow, Page, ResourceRef, Snapshot

LONGEST_STATUS: Final = 255
"""Shopify's have twenty characters. The ledger's indexes do not take any length."""


def instant(value: object) -> datetime | None:
    """ISO 8601 with an offset, in UTC; a day alone (a payout's) is its midnight, UTC. None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
        if parsed.tzinfo is not None:
            return require_utc(parsed)
    except ValueError:
        return None
    return parsed.replace(tzinfo=UTC) if _is_day(value) else None


def _is_day(value: str) -> bool:
    try:
        return bool(date.fromisoformat(value))
    except ValueError:
        return False


def resource_id(kind: str, body: Mapping[str, Any]) -> str:
    """How the ledger names the resource of a body. Raises `BadReply` for a body without an id."""
    match kind:
        case "inventory_level":
            owner, child = names.whole(body.get("inventory_item_id")), names.whole(body.get("location_id"))
        case "transaction" | "refund" | "fulfillment":
            owner, child = names.whole(body.get("order_id")), names.whole(body.get("id"))
        case _:
            owner, child = names.whole(body.get("id")), ""
    if owner is None or child is None:
        raise BadReply(f"{PROVIDER}: a {kind} came without an id")
    return names.part(owner, child) if child else owner


def snapshot(account: str, kind: str, body: Mapping[str, Any], version: str) -> Snapshot:
    """What one body says. Raises `BadReply` for a body without an id."""
    return named(names.ref(account, kind, resource_id(kind, body)), body, version)


def named(ref: ResourceRef, body: Mapping[str, Any], version: str) -> Snapshot:
    """A snapshot of a resource whose id is not in its body (there is one, or it is a list)."""
    route = ROUTES[ref.kind]
    status = body.get(route.status) if route.status else None
    return Snapshot(
        ref=ref,
        body=body,
        status=status.lower() if isinstance(status, str) and len(status) <= LONGEST_STATUS else None,
        created_at=_created(ref.kind, body),
        updated_at=instant(body.get("updated_at")),
        api_version=version,
        volatile=route.volatile,
        related=names.related(ref, body),
        affects=names.affected(ref, body),
        parts=names.parts(ref),
        part_of=names.whole_of(ref),
    )


def _created(kind: str, body: Mapping[str, Any]) -> datetime | None:
    moments = (instant(body.get(name)) for name in ROUTES[kind].created)
    return next((moment for moment in moments if moment is not None), None)


def inside(order: Snapshot) -> Iterator[Snapshot]:
    """The refunds and fulfillments that an order's body holds. Raises `BadReply` for one that is another order's."""
    for kind, field in names.PARTS.items():
        for row in rows(order.body, field, optional=True):
            child = snapshot(order.ref.account, kind, {"order_id": int(order.ref.id), **row}, order.api_version)
            if names.split(child.ref.id)[0] != order.ref.id:
                raise BadReply(f"{order.ref}: it holds {child.ref}, which is another order's")
            yield child


def page(account: str, kind: str, rows: Sequence[Mapping[str, Any]], version: str) -> Page:
    """The rows of one answer, an order with what lives inside it, and without a place to go on. One that holds what
    belongs to another is left out whole."""
    found, along, broken = list[Snapshot](), list[Snapshot](), list[BrokenRow]()
    for row in rows:
        try:
            one = snapshot(account, kind, row, version)
            within = list(inside(one)) if kind == "order" else []
        except BadReply as error:
            broken.append(BrokenRow(str(error), _created(kind, row)))
            continue
        found.append(one)
        along += within
    return Page(tuple(found), None, along=tuple(along), broken=tuple(broken))


def transactions(account: str, order: str, body: Mapping[str, Any], version: str) -> list[Snapshot]:
    """First the order's list itself, as ids in order, and then every transaction in it."""
    found = [
        snapshot(account, "transaction", {"order_id": int(order), **row}, version) for row in rows(body, "transactions")
    ]
    if any(names.split(each.ref.id)[0] != order for each in found):
        raise BadReply(f"{PROVIDER}/{account}: the transactions of order {order} hold another order's")
    ids = sorted(int(names.split(each.ref.id)[1]) for each in found)
    whole = {"order_id": int(order), "transaction_ids": ids}
    return [named(names.ref(account, "order_transactions", order), whole, version), *found]


def rows(body: Mapping[str, Any], name: str, *, optional: bool = False) -> Sequence[Mapping[str, Any]]:
    """The rows of a list. Raises `BadReply` where they are not objects, or not there."""
    found = body.get(name)
    if found is None and optional:
        return ()
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise BadReply(f"{PROVIDER}: the answer holds no list of objects under {name!r}")
    return found
