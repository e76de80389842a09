"""The Stripe provider: the port's methods, each a thin step between the pure parts beside it and one request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from providers.stripe import deliveries, entries, events, expectations, names, reading, signatures
from providers.stripe.api import Api, resource_path
from providers.stripe.currencies import EXPONENTS
from providers.stripe.diagnosis import diagnose
from providers.stripe.finance import FINANCE
from providers.stripe.kinds import KINDS, ROUTES, limits
from providers.stripe.lists import LISTS
from providers.stripe.reading import instant
from providers.stripe.replies import Missing
from providers.stripe.settings import StripeSettings
from providers.stripe.subscriptions import repair
from reconciler.clock import Clock
from reconciler.errors import BadReply, MalformedDelivery, UsageError
from reconciler.model import (
    BrokenRow,
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
    Tombstone,
    Window,
)
from reconciler.money import Exponents
from reconciler.movements import FinanceReader
from reconciler.provider import Kind, Limit, ProviderSettings, Transport

PAGE_SIZE: Final = 100
TYPES_A_CALL: Final = 20
"""`/v1/events` takes at most this many types."""
_SHOWN: Final = 40
"""Characters of an id that is too long to be stored."""


class Stripe:
    """One Stripe account. Ids of a connected account's resources are written `acct_X/pi_1` and read on its behalf."""

    name: ClassVar[str] = names.PROVIDER
    settings: ClassVar[type[ProviderSettings]] = StripeSettings
    kinds: ClassVar[Mapping[str, Kind]] = KINDS
    exponents: ClassVar[Exponents] = EXPONENTS
    finance: ClassVar[FinanceReader] = FINANCE
    feed_reach: ClassVar[timedelta | None] = timedelta(days=30)

    def __init__(self, account: str, settings: StripeSettings, transport: Transport, clock: Clock) -> None:
        self._account = account
        self._settings = settings
        self._secrets = tuple(secret.get_secret_value() for secret in settings.webhook_secrets)
        self._api = Api(account, settings, transport, clock)
        self._livemode = settings.livemode
        self._limits = limits(livemode=self._livemode)

    @property
    def limits(self) -> Mapping[str, Limit]:
        return self._limits

    # --- deliveries -------------------------------------------------------------------------------

    def verify(self, delivery: Delivery) -> Notice:
        """Snapshot and thin events. Time is the delivery's `received_at`, so that the verdict can be repeated later."""
        signatures.check(
            delivery.headers.get("stripe-signature"),
            delivery.body,
            self._secrets,
            received_at=delivery.received_at,
            tolerance=self._settings.tolerance,
        )
        return self._notice(deliveries.event_of(delivery.body))

    def satisfied(self, expected: Mapping[str, Any], reading: Reading) -> bool:
        return expectations.satisfied(expected, reading)

    # --- reads ------------------------------------------------------------------------------------

    async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
        """One request for each resource; products of one account by the hundred in one.

        A product that a batch leaves out is then read singly, because only a single read says that it was deleted.
        """
        if len({ref.kind for ref in refs}) > 1:
            raise ValueError("a fetch names resources of one kind")
        if len(refs) > 1 and refs[0].kind == "product":
            return await self._fetch_products(refs)
        readings = [await self._fetch_one(ref) for ref in refs]
        return [first for first, *_ in readings] + [inner for _, *more in readings for inner in more]

    async def page(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        """Newest first, every default filter off; where one list cannot show all, one walk after the other.

        Lists this account's own resources; those of connected accounts are read when something names them.
        """
        rule = LISTS.get(kind)
        if rule is None:
            raise UsageError(f"stripe has no list of {kind}")
        route = ROUTES[kind]
        walk, after = _position(cursor, len(rule.walks))
        parameters = [*rule.walks[walk].items(), *_created(window), *_expand(route.list_expand), *_paging(after)]
        body = (await self._api.list(route.path, parameters)).body
        rows, last = self._rows(body, after, kind)
        snapshots, broken = [], []
        for row in rows:
            try:
                first = self._read(kind, row)[0]
            except BadReply as error:
                broken.append(BrokenRow(_named(error, row), instant(row.get("created"))))
                continue
            if isinstance(first, Snapshot):
                snapshots.append(first)
        return Page(tuple(snapshots), _next(walk, last, len(rule.walks)), broken=tuple(broken))

    async def members(self, snapshot: Snapshot, cursor: str | None) -> Page | None:
        """The balance transactions that an automatic payout paid out, its own excepted.

        Stripe itemises no manual payout, and an automatic one only once its `reconciliation_status` is `completed`.
        """
        body = snapshot.body
        if body.get("automatic") is not True or body.get("reconciliation_status") != "completed":
            return None
        connected, bare = names.split(snapshot.ref.id)
        after = cursor or None
        parameters = [("payout", bare), *_paging(after)]
        answer = (await self._api.list(ROUTES["balance_transaction"].path, parameters, connected)).body
        rows, last = self._rows(answer, after, "balance_transaction")
        read = [self._read("balance_transaction", row, connected)[0] for row in rows if row.get("source") != bare]
        return Page(tuple(row for row in read if isinstance(row, Snapshot)), last)

    async def changes(self, window: Window, cursor: str | None, *, undelivered: bool = False) -> NoticePage:
        """One page of `/v1/events`; the cursor walks the groups of types. It reaches back 30 days.

        `undelivered` asks only for events whose every delivery is pending or failed.
        """
        groups = [events.ALL_TYPES[at : at + TYPES_A_CALL] for at in range(0, len(events.ALL_TYPES), TYPES_A_CALL)]
        group, after = _position(cursor, len(groups))
        parameters = [("types[]", event_type) for event_type in groups[group]]
        parameters += [*_created(window), *_paging(after)]
        if undelivered:
            parameters.append(("delivery_success", "false"))
        body = (await self._api.list("/v1/events", parameters)).body
        rows, last = self._rows(body, after, "event")
        try:
            notices = tuple(self._notice(row) for row in rows)
        except MalformedDelivery as error:
            raise BadReply(f"stripe/{self._account}: a row of the event feed is no event: {error}") from error
        return NoticePage(notices, _next(group, last, len(groups)))

    def snapshot(self, ref: ResourceRef, body: Mapping[str, Any], api_version: str) -> Snapshot:
        """A body out of the ledger, or out of an export, as a snapshot again. Pure."""
        return reading.snapshot(ref, body, api_version)

    # --- money ------------------------------------------------------------------------------------

    def entries(self, snapshot: Snapshot) -> Sequence[Entry]:
        return entries.entries(snapshot)

    def control_totals(self, snapshot: Snapshot, as_at: datetime) -> Sequence[ControlTotal]:
        return entries.control_totals(snapshot, as_at)

    # --- the account itself -----------------------------------------------------------------------

    async def findings(self) -> Sequence[Finding]:
        """About twenty small requests, one after another: one list per kind, the feed and both sorts of endpoint."""
        return await diagnose(self._api, self._account, self._settings)

    async def repair_subscriptions(self) -> Sequence[str]:
        return await repair(self._api, self._account, self._settings)

    # --- inside -----------------------------------------------------------------------------------

    def _notice(self, event: Mapping[str, Any]) -> Notice:
        return events.notice(event, self._account, own=self._settings.account_id, livemode=self._livemode)

    async def _fetch_one(self, ref: ResourceRef) -> list[Reading]:
        route = ROUTES[ref.kind]
        connected, bare = names.split(ref.id)
        path = route.path if ref.kind == "balance" else resource_path(route.path, bare)
        body = (await self._api.get(path, _expand(route.expand), connected)).body
        if isinstance(body, Missing):
            return [Tombstone(ref, body.message)]
        return reading.read(ref, body, self._settings.stripe_version)

    async def _fetch_products(self, refs: Sequence[ResourceRef]) -> list[Reading]:
        found: dict[ResourceRef, Reading] = {}
        for connected in dict.fromkeys(names.split(ref.id)[0] for ref in refs):
            ids = [bare for account, bare in (names.split(ref.id) for ref in refs) if account == connected]
            parameters = [*(("ids[]", bare) for bare in ids), ("limit", str(PAGE_SIZE))]
            body = (await self._api.list(ROUTES["product"].path, parameters, connected)).body
            rows, _ = self._rows(body, None, "product")
            for row in rows:
                found.update((one.ref, one) for one in self._read("product", row, connected))
        for ref in refs:
            if ref not in found:
                found[ref] = (await self._fetch_one(ref))[0]
        return [found[ref] for ref in refs]

    def _read(self, kind: str, row: Mapping[str, Any], connected: str | None = None) -> list[Reading]:
        self._api.require_mode(row)
        ref = reading.reference(self._account, kind, row, connected)
        return reading.read(ref, row, self._settings.stripe_version)

    def _rows(
        self, body: Mapping[str, Any] | Missing, after: str | None, what: str
    ) -> tuple[list[Mapping[str, Any]], str | None]:
        """The rows of a list, and the id to go on after (None at its end). `BadReply` where a list breaks its word."""
        rows = body.get("data") if isinstance(body, Mapping) else None
        more = body.get("has_more") if isinstance(body, Mapping) else None
        if not isinstance(rows, list) or not isinstance(more, bool):
            raise BadReply(f"stripe/{self._account}: the list of {what} came without `data` or `has_more`")
        if not all(isinstance(row, dict) for row in rows):
            raise BadReply(f"stripe/{self._account}: a row of the list of {what} is not an object")
        if not more:
            return rows, None
        # A row that no reference can name is still a place in the list, to its provider.
        last = next((said for row in reversed(rows) if isinstance(said := row.get("id"), str) and said), None)
        if last is None or last == after:
            raise BadReply(f"stripe/{self._account}: the list of {what} promises more but does not advance")
        return rows, last


def _named(error: BadReply, row: Mapping[str, Any]) -> str:
    """An id that is too long is named by its beginning."""
    said = row.get("id")
    if not isinstance(said, str) or not said:
        return str(error)
    return f"{error}: {said[:_SHOWN]!r}{'...' if len(said) > _SHOWN else ''}, {len(said)} characters"


# --- parameters -----------------------------------------------------------------------------------


def _position(cursor: str | None, walks: int) -> tuple[int, str | None]:
    """Which walk, and the id to go on after. Cursors are ours, but they come back out of a database."""
    if cursor is None:
        return 0, None
    number, _, after = cursor.partition(":")
    if not number.isdecimal() or int(number) >= walks:
        raise UsageError(f"{cursor!r} is not a cursor that this provider gave; start the walk anew")
    return int(number), after or None


def _next(walk: int, last: str | None, walks: int) -> str | None:
    if last is not None:
        return f"{walk}:{last}"
    return f"{walk + 1}:" if walk + 1 < walks else None


def _created(window: Window | None) -> list[tuple[str, str]]:
    """Rounded outwards: Stripe knows whole seconds only."""
    if window is None:
        return []
    since, until = math.floor(window.since.timestamp()), math.ceil(window.until.timestamp())
    return [("created[gte]", str(since)), ("created[lt]", str(until))]


def _expand(paths: Sequence[str]) -> list[tuple[str, str]]:
    return [("expand[]", path) for path in paths]


def _paging(after: str | None) -> list[tuple[str, str]]:
    limit = ("limit", str(PAGE_SIZE))
    return [limit, ("starting_after", after)] if after else [limit]
