"""What is wrong with an account, told as findings; and repair that does what it says and nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest

from providers.stripe import Stripe
from providers.stripe.events import ALL_TYPES
from providers.stripe.kinds import ROUTES
from reconciler.errors import AccessDenied, Throttled, Unavailable
from reconciler.model import Finding, Severity
from tests.stripe.server import NOW, Asked, Says, Script, body, error, listing, played

HERE = "https://pay.example.com/webhooks/stripe/main"
ELSEWHERE = "https://pay.example.com/webhooks/stripe/other"


def endpoint(**fields: Any) -> dict[str, Any]:
    made = {"id": "we_1", "object": "webhook_endpoint", "url": HERE, "status": "enabled", "enabled_events": ["*"],
            "api_version": "2026-10-28.endive", "livemode": False}  # fmt: skip
    return {**made, **fields}


def destination(**fields: Any) -> dict[str, Any]:
    made = {"id": "ed_1", "object": "v2.core.event_destination", "type": "webhook_endpoint", "status": "enabled",
            "webhook_endpoint": {"url": HERE}, "event_payload": "thin", "enabled_events": ["*"]}  # fmt: skip
    return {**made, **fields}


def account(
    endpoints: Sequence[Any] = (),
    destinations: Sequence[Any] = (),
    *,
    refused: Mapping[str, Says] | None = None,
    date: datetime = NOW,
) -> Script:
    """An account whose lists are empty but for its subscriptions; some paths may be refused."""

    def answer(asked: Asked) -> Says:
        if refused and asked.path in refused:
            return refused[asked.path]
        if asked.method == "POST":
            return body({"id": asked.path.split("/")[3], "object": "webhook_endpoint"})
        rows: Sequence[Any] = {"/v1/webhook_endpoints": endpoints, "/v2/core/event_destinations": destinations}.get(
            asked.path, ()
        )
        if asked.path == "/v1/balance":
            return body({"object": "balance", "available": [], "pending": []})
        said = listing(*rows)
        return Says(said.status, said.content, {"date": format_datetime(date, usegmt=True)})

    return Script(answer)


def findings(script: Script, **overrides: Any) -> list[Finding]:
    return list(played(script, lambda stripe: stripe.findings(), **overrides))


def test_healthy_account_has_none_and_every_kind_was_looked_at() -> None:
    script = account([endpoint()])
    assert findings(script) == []
    assert {route.path for route in ROUTES.values()} <= {asked.path for asked in script.asked}
    assert all(asked.one("limit") in ("1", "100", None) and asked.method == "GET" for asked in script.asked)


@pytest.mark.parametrize("kind", sorted(ROUTES))
def test_missing_permission_is_named_with_its_kind(kind: str) -> None:
    says = error(403, message=f"Having the 'rak_{kind}_read' permission would allow this request to continue.")
    [found] = findings(account([endpoint()], refused={ROUTES[kind].path: says}))
    assert (found.code, found.subject, found.severity) == ("permission_missing", kind, Severity.ERROR)
    assert "not looked at" in found.text
    assert f"rak_{kind}_read" in found.remedy or "." in kind


def test_refused_key_is_one_finding_and_ends_the_search() -> None:
    says = error(401, message="Invalid API Key provided")
    script = account(refused={ROUTES["payment_intent"].path: says})
    [found] = findings(script)
    assert (found.code, found.severity) == ("credentials_rejected", Severity.ERROR)
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    ("says", "raised"), [(error(500), Unavailable), (error(429, stripe_rate_limited_reason="global-rate"), Throttled)]
)
def test_what_could_not_be_looked_at_does_not_look_fine(says: Says, raised: type[Exception]) -> None:
    with pytest.raises(raised):
        findings(account([endpoint()], refused={"/v1/payouts": says}))


@pytest.mark.parametrize(("off", "word"), [(timedelta(seconds=45), "behind"), (-timedelta(seconds=45), "ahead of")])
def test_clock_that_is_wrong_is_found(off: timedelta, word: str) -> None:
    [found] = findings(account([endpoint()], date=NOW + off))
    assert found.code == "clock_skew"
    assert f"45 s {word}" in found.text


@pytest.mark.parametrize("off", [0, 30, -30])
def test_clock_within_thirty_seconds_is_fine(off: int) -> None:
    assert findings(account([endpoint()], date=NOW + timedelta(seconds=off))) == []


@pytest.mark.parametrize("endpoints", [[], [endpoint(url=ELSEWHERE)]])
def test_missing_endpoint_is_found_by_path(endpoints: list[Any]) -> None:
    [found] = findings(account(endpoints))
    assert (found.code, found.severity) == ("webhook_missing", Severity.ERROR)
    assert "/webhooks/stripe/main" in found.text


def test_configured_address_decides_where_it_is_given() -> None:
    odd = "https://edge.example.com/in/42"
    assert findings(account([endpoint(url=f"{odd}/")]), webhook_url=odd) == []
    [found] = findings(account([endpoint()]), webhook_url=odd)
    assert found.code == "webhook_missing"


def test_disabled_endpoint_is_found() -> None:
    [found] = findings(account([endpoint(status="disabled")]))
    assert (found.code, found.subject, found.severity) == ("webhook_disabled", "we_1", Severity.ERROR)


def test_lacking_types_are_named() -> None:
    lacking = {"charge.updated", "payout.failed"}
    types = [one for one in ALL_TYPES if one not in lacking]
    [found] = findings(account([endpoint(enabled_events=types)]))
    assert (found.code, found.severity) == ("webhook_types_missing", Severity.WARNING)
    assert all(one in found.text for one in lacking)


def test_two_endpoints_may_share_the_types_and_thin_names_count() -> None:
    half, rest = ALL_TYPES[: len(ALL_TYPES) // 2], ALL_TYPES[len(ALL_TYPES) // 2 :]
    thin = destination(enabled_events=[f"v1.{one}" for one in rest])
    assert findings(account([endpoint(enabled_events=list(half))], [thin])) == []
    thin["status"] = "disabled"
    codes = {found.code for found in findings(account([endpoint(enabled_events=list(half))], [thin]))}
    assert codes == {"webhook_disabled", "webhook_types_missing"}


def test_other_version_is_only_information() -> None:
    [found] = findings(account([endpoint(api_version="2024-06-20")]))
    assert (found.code, found.severity) == ("webhook_api_version", Severity.INFO)
    assert findings(account([endpoint(api_version=None)])) == []


def test_destination_to_a_cloud_bus_is_not_ours() -> None:
    bus = destination(type="amazon_eventbridge", webhook_endpoint=None)
    assert [found.code for found in findings(account([], [bus]))] == ["webhook_missing"]


def test_half_seen_subscriptions_are_never_called_missing() -> None:
    denied = error(403, message="Having the 'rak_webhook_read' permission would allow this request to continue.")
    [found] = findings(account(refused={"/v1/webhook_endpoints": denied}))
    assert (found.code, found.subject, found.severity) == ("permission_missing", "webhook_endpoint", Severity.WARNING)
    [second] = findings(account([endpoint()], refused={"/v2/core/event_destinations": denied}))
    assert second.subject == "event_destination"


# --- repair ---------------------------------------------------------------------------------------


def repaired(script: Script) -> Sequence[str]:
    async def story(stripe: Stripe) -> Sequence[str]:
        return await stripe.repair_subscriptions()

    return played(script, story)


def posts(script: Script) -> list[Asked]:
    return [asked for asked in script.asked if asked.method == "POST"]


def test_repair_enables_and_completes_an_endpoint() -> None:
    kept = ["charge.updated", "issuing_card.created"]
    script = account(
        [endpoint(status="disabled", enabled_events=kept), endpoint(id="we_2", url=ELSEWHERE, status="disabled")]
    )
    done = repaired(script)
    enabling, subscribing = posts(script)
    assert (enabling.path, parse_qsl(enabling.content.decode())) == (
        "/v1/webhook_endpoints/we_1",
        [("disabled", "false")],
    )
    types = [value for name, value in parse_qsl(subscribing.content.decode()) if name == "enabled_events[]"]
    assert set(types) == set(ALL_TYPES) | set(kept)
    assert len(done) == 2
    assert all("we_1" in line for line in done)


def test_repair_of_a_thin_destination_uses_its_own_calls_and_names() -> None:
    script = account([], [destination(status="disabled", enabled_events=["v1.charge.updated"])])
    assert len(repaired(script)) == 2
    enabling, subscribing = posts(script)
    assert (enabling.path, enabling.content) == ("/v2/core/event_destinations/ed_1/enable", b"{}")
    assert subscribing.headers["content-type"] == "application/json"
    assert set(orjson.loads(subscribing.content)["enabled_events"]) == {f"v1.{one}" for one in ALL_TYPES}


def test_repair_touches_nothing_that_is_well_and_creates_nothing() -> None:
    for script in (account([endpoint()]), account([])):
        assert list(repaired(script)) == []
        assert posts(script) == []


def test_repair_without_permission_says_so() -> None:
    denied = error(403, message="Having the 'rak_webhook_write' permission would allow this request to continue.")
    script = account([endpoint(status="disabled")], refused={"/v1/webhook_endpoints/we_1": denied})
    with pytest.raises(AccessDenied) as refused:
        repaired(script)
    assert refused.value.permission == "rak_webhook_write"
