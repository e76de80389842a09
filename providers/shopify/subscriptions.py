"""Whether Shopify still sends us what we need. It deletes a subscription after eight failures in a row.

The API shows only subscriptions that were made through it for this shop. Those of the app's TOML file it never shows;
they can be named in the configuration (`declared_topics`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from providers.shopify.api import Api
from providers.shopify.kinds import PAGE_SIZE
from providers.shopify.paging import next_query
from providers.shopify.reading import rows
from providers.shopify.replies import Missing
from providers.shopify.settings import ShopifySettings
from providers.shopify.topics import COMPLIANCE, REQUIRED
from reconciler.errors import BadReply, UsageError
from reconciler.model import Finding, Severity

_PATH: Final = "webhooks"
_NAMED_TOPICS: Final = 5
_MOST_PAGES: Final = 20
_PAYMENTS_TOPICS: Final = frozenset({"disputes/create", "disputes/update"})


@dataclass(frozen=True, slots=True)
class Subscription:
    id: str
    topic: str
    address: str


async def look(api: Api, account: str, settings: ShopifySettings) -> list[Subscription]:
    """Those that lead to this receiver; one request for each 250 of the app. Raises what a read raises."""
    found: list[Subscription] = []
    query = f"limit={PAGE_SIZE}"
    for _ in range(_MOST_PAGES):
        answer = await api.get(_PATH, query)
        if isinstance(answer.body, Missing):
            raise BadReply(f"shopify/{account} {_PATH}: {answer.body.message}")
        found += [_subscription(row) for row in rows(answer.body, "webhooks")]
        following = next_query(answer.link, f"shopify/{account} {_PATH}")
        if following is None:
            break
        query = following
    return [one for one in found if leads_here(one.address, account, settings.webhook_url)]


def leads_here(address: str, account: str, webhook_url: str | None) -> bool:
    """By the configured address where there is one, else by the path that every receiver of this project has."""
    if webhook_url is not None:
        return address.rstrip("/") == webhook_url.rstrip("/")
    return urlsplit(address).path.rstrip("/").endswith(f"/webhooks/shopify/{account}")


def lacking(subscriptions: Sequence[Subscription], settings: ShopifySettings) -> tuple[str, ...]:
    have = {one.topic for one in subscriptions} | set(settings.declared_topics)
    needless = frozenset() if settings.shopify_payments else _PAYMENTS_TOPICS
    return tuple(topic for topic in REQUIRED if topic not in have | needless)


def judge(subscriptions: Sequence[Subscription], account: str, settings: ShopifySettings) -> list[Finding]:
    """What is wrong with them. Pure."""
    missing = lacking(subscriptions, settings)
    if not missing:
        return []
    remedy = (
        "run `reconcile check --repair-webhooks`; topics that the app's TOML file subscribes to are invisible here: "
        "name them in declared_topics"
    )
    if not subscriptions and not set(settings.declared_topics) - COMPLIANCE:
        address = settings.webhook_url or f"https://.../webhooks/shopify/{account}"
        return [
            Finding("webhook_missing", Severity.ERROR, account,
                    f"no webhook subscription at Shopify leads to {address}; changes are seen by sweeps only. Shopify "
                    "deletes a subscription after eight failed deliveries in a row", remedy)
        ]  # fmt: skip
    named = ", ".join(missing[:_NAMED_TOPICS]) + (f" and {n} more" if (n := len(missing) - _NAMED_TOPICS) > 0 else "")
    return [
        Finding("webhook_topics_missing", Severity.WARNING, account,
                f"Shopify does not send {named}; such changes are seen by sweeps only", remedy)
    ]  # fmt: skip


async def repair(api: Api, account: str, settings: ShopifySettings) -> list[str]:
    """Subscribe to every topic that is missing; one line for each. Deletes and changes nothing.

    A topic that this shop or app may not have is told, and the others are still done. Raises UsageError without
    `webhook_url`: an address cannot be guessed.
    """
    missing = lacking(await look(api, account, settings), settings)
    if not missing:
        return []
    if settings.webhook_url is None:
        raise UsageError(f"accounts.{account}: set webhook_url to the public address of this receiver; Shopify must "
                         "be told where to send")  # fmt: skip
    done = []
    for topic in missing:
        wanted = {"webhook": {"topic": topic, "address": settings.webhook_url, "format": "json"}}
        try:
            answer = await api.post(_PATH, wanted)
        except BadReply as refusal:
            done.append(f"could not subscribe to {topic}: {refusal}")
            continue
        if isinstance(answer.body, Missing):
            done.append(f"could not subscribe to {topic}: {answer.body.message}")
            continue
        done.append(f"subscribed {settings.webhook_url} to {topic}")
    return done


def _subscription(row: Mapping[str, Any]) -> Subscription:
    return Subscription(str(row.get("id")), str(row.get("topic")), str(row.get("address") or row.get("uri") or ""))
