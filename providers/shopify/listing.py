"""Reading lists page by page: every default filter off, narrowed where the kind's list can be, never to too little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from providers.shopify import names, reading
from providers.shopify.api import Answer, Api
from providers.shopify.fetching import present
from providers.shopify.kinds import LEVEL_IDS_A_CALL, PAGE_SIZE, ROUTES, Narrowing, Route
from providers.shopify.paging import Position, next_query
from providers.shopify.replies import Missing
from providers.shopify.settings import ShopifySettings
from providers.shopify.sight import Sight
from reconciler.errors import BadReply, UsageError
from reconciler.model import Page, Snapshot, Window

_SLACK: Final = timedelta(days=1)
"""Days are the shop's, and a list in order of processing may be a little out of it: how much earlier to look."""


class Listing:
    def __init__(self, account: str, settings: ShopifySettings, api: Api, sight: Sight) -> None:
        self._account = account
        self._settings = settings
        self._api = api
        self._sight = sight

    async def page(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        """One request. A walk over orders may begin with an empty page: it asked what we may see.

        A window is never closed at its end: what was changed after it has moved, and would otherwise be in no list.
        """
        route = ROUTES[kind]
        if route.kind.list_endpoint is None:
            raise UsageError(f"shopify has no list of {kind}")
        position = Position.parse(cursor)
        if kind == "order" and not position.begun and not self._sight.is_known:
            self._sight.learn(await self._api.scopes())
            return Page((), str(Position(begun=True)))
        if kind == "inventory_level":
            return await self._levels(route, window, position)
        query = position.query or urlencode([*_first(route, window), *route.parameters])
        answer = await self._api.get(route.path, query, scope=route.scope)
        if isinstance(answer.body, Missing) and route.payments and not self._settings.shopify_payments:
            return Page((), None)
        page = self._shown(route, answer)
        following = next_query(answer.link, f"shopify/{self._account} {route.path}")
        if route.narrowing is Narrowing.NEWEST_FIRST and _is_past(page.rows, window):
            following = None
        return replace(
            page,
            cursor=None if following is None else str(Position(True, following)),
            reach=self._sight.orders_since if kind == "order" else None,
        )

    async def _levels(self, route: Route, window: Window | None, position: Position) -> Page:
        """First the locations, then what is stocked at them, fifty locations at a time."""
        if not position.begun:
            answer = await self._api.list("locations", [("limit", str(PAGE_SIZE))], scope="read_locations")
            body = present(answer, route, self._account)
            if next_query(answer.link, f"shopify/{self._account} locations") is not None:
                raise BadReply(
                    f"shopify/{self._account}: more than {PAGE_SIZE} locations; not all of them can be listed"
                )
            found = (names.whole(row.get("id")) for row in reading.rows(body, "locations"))
            places = tuple(place for place in found if place is not None)
            return Page((), str(Position(True, "", places)) if places else None)
        here = ",".join(position.parts[:LEVEL_IDS_A_CALL])
        query = position.query or urlencode([*_first(route, window), ("location_ids", here)])
        answer = await self._api.get(route.path, query, scope=route.scope)
        page = self._shown(route, answer)
        following = next_query(answer.link, f"shopify/{self._account} {route.path}")
        left = position.parts if following else position.parts[LEVEL_IDS_A_CALL:]
        return replace(page, cursor=str(Position(True, following or "", left)) if left else None)

    async def members(self, payout: Snapshot, cursor: str | None) -> Page | None:
        """What a payout that was paid had in it, its own line excepted. Earlier, more may still be added."""
        if payout.ref.kind != "payout" or str(payout.body.get("status")).lower() != "paid":
            return None
        route = ROUTES["balance_transaction"]
        position = Position.parse(cursor)
        query = position.query or urlencode([("payout_id", payout.ref.id), ("limit", str(PAGE_SIZE))])
        answer = await self._api.get(route.path, query, scope=route.scope)
        found = reading.rows(present(answer, route, self._account), route.plural)
        members = [reading.snapshot(self._account, route.kind.name, row, answer.version) for row in found]
        rows = [one for one in members if str(one.body.get("type")).lower() != "payout"]
        following = next_query(answer.link, f"shopify/{self._account} {route.path}")
        return Page(tuple(rows), None if following is None else str(Position(True, following)))

    def _shown(self, route: Route, answer: Answer) -> Page:
        found = reading.rows(present(answer, route, self._account), route.plural)
        return reading.page(self._account, route.kind.name, found, answer.version)


def _first(route: Route, window: Window | None) -> list[tuple[str, str]]:
    limit = ("limit", str(PAGE_SIZE))
    if window is None:
        return [limit]
    match route.narrowing:
        case Narrowing.UPDATED | Narrowing.PROCESSED:
            return [limit, (route.narrowing.value, _whole_second(window.since))]
        case Narrowing.DATE:
            return [limit, (route.narrowing.value, (window.since - _SLACK).date().isoformat())]
        case _:
            return [limit]


def _whole_second(moment: datetime) -> str:
    """Rounded down: Shopify's times have whole seconds, and an adjacent window must not lose the one between."""
    return moment.astimezone(UTC).replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_past(snapshots: Sequence[Snapshot], window: Window | None) -> bool:
    """Whether a list that comes newest first has gone back behind the window."""
    if window is None or not snapshots:
        return False
    oldest = min((one.created_at for one in snapshots if one.created_at is not None), default=None)
    return oldest is not None and oldest < window.since - _SLACK
