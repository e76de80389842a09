"""Whether Stripe still sends us what we need: webhook endpoints (v1) and event destinations (v2), seen as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from providers.stripe.api import Api
from providers.stripe.events import ALL_TYPES
from providers.stripe.replies import Missing
from providers.stripe.settings import StripeSettings
from reconciler.errors import AccessDenied
from reconciler.model import Finding, Severity

ENDPOINTS: Final = "/v1/webhook_endpoints"
DESTINATIONS: Final = "/v2/core/event_destinations"
_ANY: Final = "*"
_REMEDY: Final = "run `reconcile check --repair-webhooks`, or change it in Stripe's Workbench under Webhooks"
_NAMED_TYPES: Final = 5


@dataclass(frozen=True, slots=True)
class Subscription:
    """One way in which Stripe sends to us."""

    id: str
    url: str
    enabled: bool
    types: frozenset[str]
    """As the endpoint lists them; thin ones carry `v1.` before the plain name."""
    api_version: str | None
    """The version that its snapshot payloads are rendered in; None for thin payloads and for the account's default."""
    thin: bool
    destination: bool
    """An event destination of the v2 API, which is changed by other calls than an endpoint of v1."""

    @property
    def lacking(self) -> tuple[str, ...]:
        if _ANY in self.types:
            return ()
        have = {event_type.removeprefix("v1.") for event_type in self.types}
        return tuple(event_type for event_type in ALL_TYPES if event_type not in have)


@dataclass(frozen=True, slots=True)
class Seen:
    """The subscriptions that lead to this receiver, and the lists that could not be looked at."""

    subscriptions: tuple[Subscription, ...]
    refused: Mapping[str, AccessDenied]
    """By `webhook_endpoint` or `event_destination`."""


async def look(api: Api, account: str, settings: StripeSettings) -> Seen:
    """Two requests. One endpoint may show up in both lists under the same id; it is counted once, as the first says.

    Raises what a read raises, except a refusal of one of the lists.
    """
    found: dict[str, Subscription] = {}
    refused: dict[str, AccessDenied] = {}
    try:
        for one in _endpoints((await api.list(ENDPOINTS, [("limit", "100")])).body):
            found.setdefault(one.id, one)
    except AccessDenied as refusal:
        refused["webhook_endpoint"] = refusal
    try:
        parameters = [("include[0]", "webhook_endpoint.url"), ("limit", "100")]
        for one in _destinations((await api.list(DESTINATIONS, parameters)).body):
            found.setdefault(one.id, one)
    except AccessDenied as refusal:
        refused["event_destination"] = refusal
    ours = (one for one in found.values() if leads_here(one.url, account, settings.webhook_url))
    return Seen(tuple(ours), refused)


def leads_here(url: str, account: str, webhook_url: str | None) -> bool:
    """By the configured address where there is one, else by the path that every receiver of this project has."""
    if webhook_url is not None:
        return url.rstrip("/") == webhook_url.rstrip("/")
    return urlsplit(url).path.rstrip("/").endswith(f"/webhooks/stripe/{account}")


def judge(subscriptions: Sequence[Subscription], account: str, settings: StripeSettings) -> list[Finding]:
    """What is wrong with them, taken together: what one of several enabled endpoints sends reaches us. Pure."""
    if not subscriptions:
        address = settings.webhook_url or f"https://.../webhooks/stripe/{account}"
        return [
            Finding(
                "webhook_missing", Severity.ERROR, account,
                f"no webhook endpoint at Stripe leads to {address}; changes are seen by sweeps only",
                "create one in Stripe's Workbench under Webhooks and put its secret into webhook_secrets",
            )
        ]  # fmt: skip
    findings = [
        Finding(
            "webhook_disabled", Severity.ERROR, account,
            f"{one.id} ({one.url}) is disabled; Stripe never resends what happened meanwhile", _REMEDY, one.id,
        )
        for one in subscriptions
        if not one.enabled
    ]  # fmt: skip
    enabled = [one for one in subscriptions if one.enabled]
    lacking = [t for t in ALL_TYPES if enabled and all(t in one.lacking for one in enabled)]
    if lacking:
        named = ", ".join(lacking[:_NAMED_TYPES]) + (f" and {n} more" if (n := len(lacking) - _NAMED_TYPES) > 0 else "")
        findings.append(
            Finding("webhook_types_missing", Severity.WARNING, account, f"{enabled[0].id} does not send {named}",
                    _REMEDY, enabled[0].id)
        )  # fmt: skip
    findings.extend(
        Finding(
            "webhook_api_version", Severity.INFO, account,
            f"{one.id} renders events in {one.api_version}; reads use {settings.stripe_version}",
            "nothing must be done: events only say what to read; the same version saves some second reads", one.id,
        )
        for one in enabled
        if not one.thin and one.api_version not in (None, settings.stripe_version)
    )  # fmt: skip
    return findings


async def repair(api: Api, account: str, settings: StripeSettings) -> list[str]:
    """Enable what leads here and is disabled, and add the types that it lacks. Never creates an endpoint.

    A new endpoint comes with a secret that only a person can bring into the configuration. Needs Write on webhook
    endpoints; a line is returned for each thing that was done.
    """
    done: list[str] = []
    seen = await look(api, account, settings)
    for one in seen.subscriptions:
        if not one.enabled:
            await _enable(api, one)
            done.append(f"enabled {one.id} ({one.url})")
        if one.lacking:
            await _subscribe(api, one)
            done.append(f"added {len(one.lacking)} event types to {one.id} ({one.url})")
    return done


async def _enable(api: Api, one: Subscription) -> None:
    if one.destination:
        await api.post_json(f"{DESTINATIONS}/{one.id}/enable", {})
        return
    await api.post(f"{ENDPOINTS}/{one.id}", [("disabled", "false")])


async def _subscribe(api: Api, one: Subscription) -> None:
    prefix = "v1." if one.thin else ""
    types = sorted(one.types | {prefix + event_type for event_type in one.lacking})
    if one.destination:
        await api.post_json(f"{DESTINATIONS}/{one.id}", {"enabled_events": types})
        return
    await api.post(f"{ENDPOINTS}/{one.id}", [("enabled_events[]", event_type) for event_type in types])


def _endpoints(body: Mapping[str, Any] | Missing) -> Iterator[Subscription]:
    for row in _rows(body):
        yield Subscription(
            id=_text(row, "id"),
            url=_text(row, "url"),
            enabled=row.get("status") == "enabled",
            types=_types(row),
            api_version=_text(row, "api_version") or None,
            thin=False,
            destination=False,
        )


def _destinations(body: Mapping[str, Any] | Missing) -> Iterator[Subscription]:
    for row in _rows(body):
        endpoint = row.get("webhook_endpoint")
        if row.get("type") != "webhook_endpoint" or not isinstance(endpoint, Mapping):
            continue  # to EventBridge or Event Grid, which this receiver does not read
        yield Subscription(
            id=_text(row, "id"),
            url=_text(endpoint, "url"),
            enabled=row.get("status") == "enabled",
            types=_types(row),
            api_version=_text(row, "snapshot_api_version") or None,
            thin=row.get("event_payload") == "thin",
            destination=True,
        )


def _rows(body: Mapping[str, Any] | Missing) -> list[Mapping[str, Any]]:
    rows = body.get("data") if isinstance(body, Mapping) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _types(row: Mapping[str, Any]) -> frozenset[str]:
    types = row.get("enabled_events")
    return frozenset(one for one in types if isinstance(one, str)) if isinstance(types, list) else frozenset()


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""
