"""What is wrong with the account itself: permissions, clock, subscriptions; told as findings, not as exceptions."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from providers.stripe import subscriptions
from providers.stripe.api import Answer, Api
from providers.stripe.kinds import ROUTES
from providers.stripe.lists import LISTS
from providers.stripe.permissions import PERMISSIONS
from providers.stripe.settings import StripeSettings
from reconciler.errors import AccessDenied, AccessScope
from reconciler.model import Finding, Severity

_FEED: Final = "event"
_BESIDES: Final = frozenset({_FEED, "webhook_endpoint", "event_destination"})
"""What is read besides the kinds: without it we learn later, but what we know stays right."""
_MOST_SKEW: Final = timedelta(seconds=30)
"""A tenth of the signature's tolerance: told long before deliveries are refused."""


async def diagnose(api: Api, account: str, settings: StripeSettings) -> list[Finding]:
    """One small read per kind, then the subscriptions. A refusal of the whole account ends it: nothing more is seen.

    Raises `Unavailable` and `Throttled`: what could not be looked at must not look fine.
    """
    findings: list[Finding] = []
    answers: list[Answer] = []
    for kind, path, parameters in _probes():
        try:
            answers.append(await api.list(path, parameters))
        except AccessDenied as refusal:
            findings.append(_refused(account, kind, refusal))
            if refusal.scope is AccessScope.ACCOUNT:
                return findings
    if answers:
        findings.extend(_skew(account, answers[0]))
    seen = await subscriptions.look(api, account, settings)
    findings.extend(_refused(account, what, refusal) for what, refusal in seen.refused.items())
    # Nothing found in half of the lists proves nothing missing.
    if seen.subscriptions or not seen.refused:
        findings.extend(subscriptions.judge(seen.subscriptions, account, settings))
    return findings


def _probes() -> list[tuple[str, str, list[tuple[str, str]]]]:
    one_row = ("limit", "1")
    probes = [(kind, ROUTES[kind].path, [*rule.walks[0].items(), one_row]) for kind, rule in LISTS.items()]
    return [*probes, ("balance", ROUTES["balance"].path, []), (_FEED, "/v1/events", [one_row])]


def _refused(account: str, kind: str, refusal: AccessDenied) -> Finding:
    if refusal.scope is AccessScope.ACCOUNT:
        return Finding(
            "credentials_rejected", Severity.ERROR, account, str(refusal), "put a valid api_key into the configuration"
        )
    permission = refusal.permission or f"Read on {PERMISSIONS.get(kind, kind)}"
    return Finding(
        "permission_missing",
        Severity.WARNING if kind in _BESIDES else Severity.ERROR,
        account,
        f"{kind} cannot be read and counts as not looked at: {refusal}",
        f"grant the restricted key the permission {permission} in Stripe's dashboard under API keys",
        kind,
    )


def _skew(account: str, answer: Answer) -> list[Finding]:
    """Stripe's clock against the middle of the exchange in ours, give or take half the exchange and its rounding."""
    if answer.sent_at is None:
        return []
    middle = answer.began_at + (answer.ended_at - answer.began_at) / 2
    skew = middle - answer.sent_at
    allowance = (answer.ended_at - answer.began_at) / 2 + timedelta(seconds=1)
    if abs(skew) <= _MOST_SKEW + allowance:
        return []
    direction = "ahead of" if skew > timedelta(0) else "behind"
    return [
        Finding(
            "clock_skew",
            Severity.ERROR,
            account,
            f"this machine's clock is {abs(skew).total_seconds():.0f} s {direction} Stripe's",
            "run NTP (chrony or systemd-timesyncd): deliveries are refused beyond the signature's tolerance",
        )
    ]
