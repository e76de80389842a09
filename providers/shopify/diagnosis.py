"""What is wrong with the account itself: scopes, version, deprecated calls, subscriptions; told as findings."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from providers.shopify import subscriptions
from providers.shopify.api import Api
from providers.shopify.kinds import ORDERS_SEEN_FOR, ROUTES
from providers.shopify.reading import rows
from providers.shopify.replies import Missing
from providers.shopify.settings import ShopifySettings
from providers.shopify.sight import ALL_ORDERS, Sight
from providers.shopify.versions import served, served_until
from reconciler.errors import AccessDenied, AccessScope, BadReply
from reconciler.model import Finding, Severity

_WARN_BEFORE: Final = timedelta(days=60)
"""How long before its end a version is named: time for a release of this software."""
_LOCATIONS: Final = "read_locations"


async def diagnose(api: Api, sight: Sight, account: str, settings: ShopifySettings, now: datetime) -> list[Finding]:
    """Three requests, and one for each further 250 subscriptions. A refusal of the whole account ends it.

    Raises `Unavailable` and `Throttled`: what could not be looked at must not look fine.
    """
    try:
        sight.learn(await api.scopes())
    except AccessDenied as refusal:
        return [_rejected(account, refusal)]
    findings = _scopes(sight, account, settings)
    try:
        seen = await subscriptions.look(api, account, settings)
        findings += subscriptions.judge(seen, account, settings)
        findings += await _deprecated(api, account)
    except AccessDenied as refusal:
        if refusal.scope is AccessScope.ACCOUNT:
            return [*findings, _rejected(account, refusal)]
        findings.append(
            Finding("webhooks_unseen", Severity.WARNING, account, f"webhook subscriptions cannot be read: {refusal}",
                    "let the app read its own webhooks, or name what its TOML file subscribes to in declared_topics")
        )  # fmt: skip
    return [*findings, *_version(api.answered_version, account, settings, now)]


def _rejected(account: str, refusal: AccessDenied) -> Finding:
    return Finding("credentials_rejected", Severity.ERROR, account, str(refusal),
                   "install the app again and put its credentials into the configuration")  # fmt: skip


def _scopes(sight: Sight, account: str, settings: ShopifySettings) -> list[Finding]:
    needed: dict[str, list[str]] = {_LOCATIONS: ["inventory_level"]}
    for kind, route in ROUTES.items():
        if route.scope and (settings.shopify_payments or not route.payments):
            needed.setdefault(route.scope, []).append(kind)
    findings = [
        Finding("scope_missing", Severity.ERROR, account,
                f"without {scope} these cannot be read and count as not looked at: {', '.join(kinds)}",
                f"grant the app the access scope {scope} and install it again", scope)
        for scope, kinds in sorted(needed.items())
        if not sight.covers(scope)
    ]  # fmt: skip
    if not sight.covers(ALL_ORDERS):
        findings.append(
            Finding("scope_missing", Severity.WARNING, account,
                    f"orders older than {ORDERS_SEEN_FOR.days} days are hidden and count as not looked at",
                    f"ask Shopify for {ALL_ORDERS} (app settings, API access) and install the app again", ALL_ORDERS)
        )  # fmt: skip
    return findings


async def _deprecated(api: Api, account: str) -> list[Finding]:
    """Which of the app's calls Shopify will stop answering. Only custom apps are told; others are refused."""
    try:
        answer = await api.get("deprecated_api_calls")
    except (AccessDenied, BadReply):
        return []
    if isinstance(answer.body, Missing):
        return []
    return [
        Finding("deprecated_call", Severity.WARNING, account,
                f"{row.get('endpoint')} ({row.get('version')}): {row.get('description')} Last called "
                f"{row.get('last_call_at')}, answered until {row.get('migration_deadline')}",
                f"update this software before then; {row.get('documentation_url')}",
                f"{row.get('api_type')} {row.get('endpoint')}")
        for row in rows(answer.body, "deprecated_api_calls", optional=True)
    ]  # fmt: skip


def _version(answered: str | None, account: str, settings: ShopifySettings, now: datetime) -> list[Finding]:
    asked = settings.api_version
    there_are = ", ".join(served(now))
    if answered is not None and answered != asked:
        return [
            Finding("version_fell_forward", Severity.ERROR, account,
                    f"API version {asked} was asked for and {answered} answered: bodies may have another shape",
                    f"set api_version to one that Shopify serves: {there_are}", answered)
        ]  # fmt: skip
    if now + _WARN_BEFORE >= served_until(asked):
        return [
            Finding("version_ends", Severity.WARNING, account,
                    f"API version {asked} is served until {served_until(asked):%Y-%m-%d} at least",
                    f"install a newer release of this software, then set api_version; served now: {there_are}", asked)
        ]  # fmt: skip
    return []
