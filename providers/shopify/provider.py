"""The Shopify provider: the port's methods, each a thin step between the pure parts beside it and one request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import orjson

from providers.shopify import entries, expectations, names, reading, signatures, topics
from providers.shopify.api import Api
from providers.shopify.counting import Counting
from providers.shopify.currencies import EXPONENTS
from providers.shopify.diagnosis import diagnose
from providers.shopify.fetching import Fetching
from providers.shopify.finance import FINANCE
from providers.shopify.kinds import COUNTED, KINDS, limits
from providers.shopify.listing import Listing
from providers.shopify.settings import ShopifySettings
from providers.shopify.sight import Sight
from providers.shopify.subscriptions import repair
from providers.shopify.tokens import Tokens
from reconciler.clock import Clock
from reconciler.errors import MalformedDelivery, UsageError
from reconciler.model import (
    ControlTotal,
    Delivery,
    Entry,
    Finding,
    Notice,
    NoticePage,
    Page,
    Reading,
    ResourceRef,
    Snapshot,
    Window,
)
from reconciler.money import Exponents
from reconciler.movements import FinanceReader
from reconciler.provider import Kind, Limit, ProviderSettings, TokenStore, Transport


class Shopify:
    """One shop. Parts of an order are written `ORDER/PART`, inventory levels `ITEM/LOCATION`.

    Where credentials end, a read may be preceded by the request that renews them.
    """

    name: ClassVar[str] = names.PROVIDER
    settings: ClassVar[type[ProviderSettings]] = ShopifySettings
    kinds: ClassVar[Mapping[str, Kind]] = KINDS
    exponents: ClassVar[Exponents] = EXPONENTS
    finance: ClassVar[FinanceReader] = FINANCE
    feed_reach: ClassVar[timedelta | None] = None
    counted: ClassVar[frozenset[str]] = COUNTED

    def __init__(self, account: str, settings: ShopifySettings, transport: Transport, clock: Clock) -> None:
        self._account = account
        self._settings = settings
        self._clock = clock
        self._secrets = tuple(secret.get_secret_value() for secret in settings.webhook_secrets)
        self._tokens = Tokens(account, settings, transport, clock)
        self._api = Api(account, settings, self._tokens, transport, clock)
        self._sight = Sight(clock)
        self._fetching = Fetching(account, settings, self._api, self._sight)
        self._listing = Listing(account, settings, self._api, self._sight)
        self._counting = Counting(account, self._api, self._sight)

    @property
    def limits(self) -> Mapping[str, Limit]:
        """One bucket for everything, as large as the shop's own answers say: plans differ, and so do its sources."""
        return limits() if self._api.bucket is None else limits(self._api.bucket)

    # --- tokens -----------------------------------------------------------------------------------

    @property
    def rotates(self) -> bool:
        return self._tokens.rotates

    def keep_tokens(self, store: TokenStore) -> None:
        self._tokens.keep_in(store)

    # --- deliveries -------------------------------------------------------------------------------

    def verify(self, delivery: Delivery) -> Notice:
        """Both families of headers. The signature covers the body alone, so there is no time to judge."""
        signatures.check(delivery.headers, delivery.body, self._secrets)
        body = _object(delivery.body)
        return topics.notice(delivery.headers, body, delivery.body, self._account, self._settings.shop)

    def satisfied(self, expected: Mapping[str, Any], reading: Reading) -> bool:
        return expectations.satisfied(expected, reading)

    # --- reads ------------------------------------------------------------------------------------

    async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
        if len({ref.kind for ref in refs}) > 1:
            raise ValueError("a fetch names resources of one kind")
        return await self._fetching.fetch(refs)

    async def page(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        if kind not in KINDS:
            raise UsageError(f"shopify has no kind {kind!r}")
        return await self._listing.page(kind, window, cursor)

    async def members(self, snapshot: Snapshot, cursor: str | None) -> Page | None:
        return await self._listing.members(snapshot, cursor)

    async def changes(self, window: Window, cursor: str | None) -> NoticePage:
        raise UsageError("shopify has no feed of events; its lists by updated_at tell what changed")

    def snapshot(self, ref: ResourceRef, body: Mapping[str, Any], api_version: str) -> Snapshot:
        """A stored body as the snapshot that it once was, for an import."""
        return reading.named(ref, body, api_version)

    # --- control counts ---------------------------------------------------------------------------

    def counts_from(self, kind: str) -> datetime | None:
        return self._counting.reach(kind)

    async def count(self, kind: str, window: Window) -> int | None:
        return await self._counting.count(kind, window)

    async def created(self, kind: str, window: Window, cursor: str | None) -> Page:
        return await self._counting.page(kind, window, cursor)

    # --- money ------------------------------------------------------------------------------------

    def entries(self, snapshot: Snapshot) -> Sequence[Entry]:
        return entries.entries(snapshot)

    def control_totals(self, snapshot: Snapshot, as_at: datetime) -> Sequence[ControlTotal]:
        return entries.control_totals(snapshot, as_at)

    # --- the account ------------------------------------------------------------------------------

    async def findings(self) -> Sequence[Finding]:
        return await diagnose(self._api, self._sight, self._account, self._settings, self._clock.now())

    async def repair_subscriptions(self) -> Sequence[str]:
        return await repair(self._api, self._account, self._settings)


def _object(body: bytes) -> Mapping[str, Any]:
    """Raises `MalformedDelivery` with reason `not_utf8`, `not_json` or `not_an_object`."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedDelivery("not_utf8", f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedDelivery("not_json", f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise MalformedDelivery("not_an_object", "the body is JSON, but not an object")
    return found
