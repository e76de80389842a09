"""How many there are, without listing them: `count.json`, and the list of exactly those that it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from providers.shopify import reading
from providers.shopify.api import Api
from providers.shopify.fetching import present
from providers.shopify.kinds import COUNTED_TO, PAGE_SIZE, ROUTES, Route
from providers.shopify.paging import Position, next_query
from providers.shopify.sight import Sight
from reconciler.errors import BadReply, UsageError
from reconciler.model import Page, Window

_SECOND: Final = timedelta(seconds=1)
_EDGE: Final = timedelta(days=1)
"""Away from where older orders are hidden: that border moves while we count, and nobody says how exact it is."""


class Counting:
    def __init__(self, account: str, api: Api, sight: Sight) -> None:
        self._account = account
        self._api = api
        self._sight = sight

    def reach(self, kind: str) -> datetime | None:
        since = self._sight.orders_since if kind == "order" else None
        return None if since is None else since + _EDGE

    async def count(self, kind: str, window: Window) -> int | None:
        route = _route(kind)
        if window.since == window.until:
            return 0
        answer = await self._api.list(f"{route.path}/count", _created(route, window), scope=route.scope)
        number = present(answer, route, self._account).get("count")
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise BadReply(f"shopify/{self._account} {route.path}/count: {number!r} is no count")
        return None if number > COUNTED_TO else number

    async def page(self, kind: str, window: Window, cursor: str | None) -> Page:
        route = _route(kind)
        query = Position.parse(cursor).query or urlencode([("limit", str(PAGE_SIZE)), *_created(route, window)])
        answer = await self._api.get(route.path, query, scope=route.scope)
        rows = reading.rows(present(answer, route, self._account), route.plural)
        following = next_query(answer.link, f"shopify/{self._account} {route.path}")
        return replace(
            reading.page(self._account, kind, rows, answer.version),
            cursor=None if following is None else str(Position(True, following)),
        )


def _route(kind: str) -> Route:
    route = ROUTES.get(kind)
    if route is None or not route.counted:
        raise UsageError(f"shopify does not count {kind!r} by time of creation")
    return route


def _created(route: Route, window: Window) -> Sequence[tuple[str, str]]:
    """Shopify's bounds are both inclusive, and its times have whole seconds."""
    last = window.until - _SECOND
    return [*route.parameters, ("created_at_min", _written(window.since)), ("created_at_max", _written(last))]


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
