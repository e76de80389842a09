"""Reading resources by their ids: one request for up to a batch of them, by whichever door their kind has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from providers.shopify import names, reading
from providers.shopify.api import Answer, Api
from providers.shopify.kinds import PAGE_SIZE, ROUTES, Door, Route
from providers.shopify.replies import Missing
from providers.shopify.settings import ShopifySettings
from providers.shopify.sight import Sight
from reconciler.errors import BadReply, OutOfSight
from reconciler.model import Reading, ResourceRef, Snapshot, Tombstone


class Fetching:
    def __init__(self, account: str, settings: ShopifySettings, api: Api, sight: Sight) -> None:
        self._account = account
        self._settings = settings
        self._api = api
        self._sight = sight

    async def fetch(self, refs: Sequence[ResourceRef]) -> list[Reading]:
        """First what was asked for, in order; then whatever else the answer carried. May leave some of a batch out."""
        route = ROUTES[refs[0].kind]
        match route.door:
            case Door.IDS:
                return await self._by_ids(route, refs)
            case Door.ORDER:
                return await self._inside_orders(refs)
            case Door.TRANSACTIONS:
                return await self._transactions(refs[0])
            case Door.LEVELS:
                return await self._levels(route, refs)
            case Door.NEIGHBOURS:
                return await self._among_neighbours(route, refs)
            case Door.WHOLE:
                return [await self._whole(route, refs[0])]
            case Door.SINGLE:
                return [await self._single(route, refs[0])]

    # --- things with an id of their own -----------------------------------------------------------

    async def _by_ids(self, route: Route, refs: Sequence[ResourceRef]) -> list[Reading]:
        if len(refs) == 1:
            found: list[Reading] = [await self._single(route, refs[0])]
        else:
            found = list(_in_order(refs, await self._batch(route, [ref.id for ref in refs])))
        orders = [one for one in found if one.ref.kind == "order" and isinstance(one, Snapshot)]
        return found + [child for order in orders for child in reading.inside(order)]

    async def _single(self, route: Route, ref: ResourceRef) -> Reading:
        answer = await self._api.get(f"{route.path}/{names.require_whole(ref.id)}", scope=route.scope)
        if isinstance(answer.body, Missing):
            return await self._gone(ref, answer.body.message)
        return self._identified(ref, _member(answer.body, route.singular), answer.version)

    async def _batch(self, route: Route, ids: Iterable[str]) -> dict[ResourceRef, Snapshot]:
        """What one request for several ids holds. What it leaves out may not exist, or only be out of sight."""
        asked = dict.fromkeys(names.require_whole(one) for one in ids)
        parameters = [("ids", ",".join(asked)), ("limit", str(PAGE_SIZE)), *route.parameters]
        answer = await self._api.list(route.path, parameters, scope=route.scope)
        body = self._present(answer, route)
        found = [
            reading.snapshot(self._account, route.kind.name, row, answer.version)
            for row in reading.rows(body, route.plural)
        ]
        if any(one.ref.id not in asked for one in found):
            raise BadReply(f"shopify/{self._account}: asked for some {route.plural}, and was given others")
        return {one.ref: one for one in found}

    async def _whole(self, route: Route, ref: ResourceRef) -> Reading:
        if ref.kind == "access_scopes":
            body = await self._api.scopes()
            self._sight.learn(body)
            return reading.named(ref, body, self._settings.api_version)
        answer = await self._api.get(route.path, scope=route.scope)
        if isinstance(answer.body, Missing):
            if self._settings.shopify_payments:
                raise OutOfSight(f"{ref}: {answer.body.message}. {NO_PAYMENTS}")
            return Tombstone(ref, "the shop has no Shopify Payments")
        reading.rows(answer.body, route.plural)
        return reading.named(ref, answer.body, answer.version)

    # --- parts ------------------------------------------------------------------------------------

    async def _inside_orders(self, refs: Sequence[ResourceRef]) -> list[Reading]:
        orders = list(dict.fromkeys(names.split(ref.id)[0] for ref in refs))
        route = ROUTES["order"]
        if len(orders) == 1:
            alone = await self._single(route, names.ref(self._account, "order", orders[0]))
            if isinstance(alone, Tombstone):
                return [self._gone_with(ref, alone) for ref in refs]
            held = {alone.ref: alone}
        else:
            held = await self._batch(route, orders)
        inner = {child.ref: child for order in held.values() for child in reading.inside(order)}
        read: dict[ResourceRef, Reading] = {}
        for ref in refs:
            if ref in inner:
                read[ref] = inner.pop(ref)
            elif names.ref(self._account, "order", names.split(ref.id)[0]) in held:
                read[ref] = Tombstone(ref, "its order holds it no more")
        return [*read.values(), *held.values(), *inner.values()]

    async def _transactions(self, ref: ResourceRef) -> list[Reading]:
        order = names.require_whole(ref.id) if ref.kind == "order_transactions" else names.split(ref.id)[0]
        answer = await self._api.get(f"orders/{order}/transactions", scope="read_orders")
        if isinstance(answer.body, Missing):
            gone = await self._gone(names.ref(self._account, "order", order), answer.body.message)
            return [self._gone_with(ref, gone)]
        found = reading.transactions(self._account, order, answer.body, answer.version)
        wanted: list[Reading] = [one for one in found if one.ref == ref]
        if not wanted:
            wanted = [Tombstone(ref, "its order lists it no more")]
        return [*wanted, *(one for one in found if one.ref != ref)]

    async def _levels(self, route: Route, refs: Sequence[ResourceRef]) -> list[Reading]:
        """All asked items at all asked locations. More than a page of them: those beyond it are left out."""
        pairs = [names.split(ref.id) for ref in refs]
        parameters = [
            ("inventory_item_ids", ",".join(dict.fromkeys(item for item, _ in pairs))),
            ("location_ids", ",".join(dict.fromkeys(location for _, location in pairs))),
            ("limit", str(PAGE_SIZE)),
        ]
        answer = await self._api.list(route.path, parameters, scope=route.scope)
        body = self._present(answer, route)
        found = {
            one.ref: one
            for one in (
                reading.snapshot(self._account, route.kind.name, row, answer.version)
                for row in reading.rows(body, route.plural)
            )
        }
        if len(refs) == 1 and refs[0] not in found:
            return [Tombstone(refs[0], "the item is not stocked at this location")]
        return [*_in_order(refs, found), *(one for ref, one in found.items() if ref not in refs)]

    async def _among_neighbours(self, route: Route, refs: Sequence[ResourceRef]) -> list[Reading]:
        """There is no single read: the list is asked to begin at the first of the ids, and shows those that follow it
        within a page. Never evidence that something is gone.

        Other rows of the page are left alone: each of these reads would bring what the reads beside it are about, and
        have it read once more.
        """
        numbers = [int(names.require_whole(ref.id)) for ref in refs]
        # Balance transactions come newest first, tender transactions after `since_id` oldest first.
        newest_first = refs[0].kind == "balance_transaction"
        begin = ("last_id", str(max(numbers) + 1)) if newest_first else ("since_id", str(min(numbers) - 1))
        limit = ("limit", str(1 if len(refs) == 1 else PAGE_SIZE))
        answer = await self._api.list(route.path, [begin, limit], scope=route.scope)
        if isinstance(answer.body, Missing) and not self._settings.shopify_payments:
            raise OutOfSight(f"{refs[0]}: the shop has no Shopify Payments any more")
        rows = reading.rows(self._present(answer, route), route.plural)
        found = {
            one.ref: one
            for one in (reading.snapshot(self._account, route.kind.name, row, answer.version) for row in rows)
        }
        if len(refs) == 1 and refs[0] not in found:
            raise BadReply(
                f"{refs[0]}: Shopify has no single read of it, and it is not in the list where its id should be"
            )
        return list(_in_order(refs, found))

    # --- inside -----------------------------------------------------------------------------------

    def _identified(self, ref: ResourceRef, body: Mapping[str, Any], version: str) -> Snapshot:
        found = reading.snapshot(self._account, ref.kind, body, version)
        if found.ref != ref:
            raise BadReply(f"{ref}: Shopify answered with {found.ref}")
        return found

    async def _gone(self, ref: ResourceRef, message: str) -> Tombstone:
        """Costs a request where nobody has asked yet what we may see: a process that just began must not take a part of
        a deleted order for one that is hidden."""
        if ref.kind != "order":
            return Tombstone(ref, message)
        if not self._sight.is_known:
            self._sight.learn(await self._api.scopes())
        return Tombstone(ref, message, sees_since=self._sight.orders_since)

    def _gone_with(self, ref: ResourceRef, order: Tombstone) -> Tombstone:
        """A part of an order that is missing. Only who sees every order may say so: a young part proves nothing, since
        its order may be old."""
        if order.sees_since is not None:
            raise OutOfSight(f"{ref}: its order is missing, and these credentials do not see old orders; the scope "
                             "read_all_orders shows them")  # fmt: skip
        return Tombstone(ref, order.reason)

    def _present(self, answer: Answer, route: Route) -> Mapping[str, Any]:
        return present(answer, route, self._account)


NO_PAYMENTS = "If the shop has no Shopify Payments, set shopify_payments = false"


def present(answer: Answer, route: Route, account: str) -> Mapping[str, Any]:
    """The body of a list. "Not Found" there is never "nothing there": `OutOfSight`."""
    if isinstance(answer.body, Missing):
        remedy = f". {NO_PAYMENTS}" if route.payments else ""
        raise OutOfSight(f"shopify/{account} {route.path}: {answer.body.message}{remedy}")
    return answer.body


def _member(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name)
    if not isinstance(found, dict):
        raise BadReply(f"shopify: the answer holds no {name!r}")
    return found


def _in_order(refs: Sequence[ResourceRef], found: Mapping[ResourceRef, Snapshot]) -> Iterable[Snapshot]:
    return (found[ref] for ref in refs if ref in found)
