"""Each fault that a reader can meet is visible, strikes when the plan says so, and is written down."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import pytest

from providers.sandbox import Chance, FaultPlan, SandboxServer, World
from reconciler.clock import ManualClock
from reconciler.errors import UsageError
from tests.sandbox_fixtures import START, a_world, ask, serving


def afflicted(plan: FaultPlan, *, payments: int = 1) -> tuple[World, SandboxServer]:
    world = a_world()
    for _ in range(payments):
        world.payments.pay(1_000)
    return world, SandboxServer(world, faults=plan)


@pytest.mark.parametrize(
    ("fault", "status", "reason", "retry_after", "should_retry", "has_id"),
    [
        ("throttle", 429, "endpoint-rate", "3", "false", True),
        ("throttle_silent", 429, "global-rate", None, "false", True),
        ("lock_timeout", 429, None, None, "true", False),
        ("server_error", 500, None, None, None, True),
        ("unavailable", 503, None, None, "true", True),
        ("deny", 403, None, None, None, True),
    ],
)
def test_refusals_have_stripes_headers(
    fault: str, status: int, reason: str | None, retry_after: str | None, should_retry: str | None, has_id: bool
) -> None:
    _, server = afflicted(FaultPlan.parse({fault: {"times": 1}, "retry_after_seconds": 3}))
    told = ask(server, "/v1/charges")
    assert told.status == status
    assert told.body["error"]["message"]
    assert told.headers.get("stripe-rate-limited-reason") == reason
    assert told.headers.get("retry-after") == retry_after
    assert told.headers.get("stripe-should-retry") == should_retry
    assert ("request-id" in told.headers) is has_id
    assert server.journal.entries()[-1].faults == (fault,)
    assert ask(server, "/v1/charges").status == 200, "it strikes once"


def test_denial_concerns_only_the_kind_that_was_named() -> None:
    _, server = afflicted(FaultPlan(deny=Chance(1.0, only=("dispute",))))
    assert ask(server, "/v1/disputes").status == 403
    assert "rak_dispute_read" in ask(server, "/v1/disputes/du_1").body["error"]["message"]
    assert ask(server, "/v1/charges").status == 200


def test_malformed_answer_is_half_a_document() -> None:
    _, server = afflicted(FaultPlan(malformed_answer=Chance(1.0, only=("GET /v1/balance",))))
    told = ask(server, "/v1/balance")
    assert (told.status, told.body) == (200, None)


def test_stale_read_shows_the_past_and_misses_what_is_new() -> None:
    clock = ManualClock(START)
    world = a_world(clock=clock)
    server = SandboxServer(world, faults=FaultPlan(stale=Chance(1.0), stale_seconds=10))
    intent = world.payments.create(1_000)["id"]
    clock.advance(timedelta(seconds=60))
    world.payments.succeed(intent)
    young = world.payments.create(2_000)["id"]
    clock.advance(timedelta(seconds=1))
    assert ask(server, f"/v1/payment_intents/{intent}").body["status"] == "requires_payment_method"
    assert ask(server, f"/v1/payment_intents/{young}").status == 404
    assert ask(server, "/v1/payment_intents").ids == [intent]
    assert ask(server, "/v1/balance").body["pending"][0]["amount"] == 0
    clock.advance(timedelta(seconds=10))
    assert ask(server, f"/v1/payment_intents/{intent}").body["status"] == "succeeded"
    assert ask(server, "/v1/payment_intents").ids == [young, intent]
    assert ask(server, "/v1/balance").body == world.balance()


def test_feed_lags_while_objects_do_not() -> None:
    clock = ManualClock(START)
    world = a_world(clock=clock)
    server = SandboxServer(world, faults=FaultPlan(feed_lag_seconds=30))
    world.customers.create()
    clock.advance(timedelta(seconds=29))
    assert ask(server, "/v1/events").ids == []
    assert len(ask(server, "/v1/customers").ids) == 1
    clock.advance(timedelta(seconds=1))
    assert len(ask(server, "/v1/events").ids) == 1


def walk(server: SandboxServer, limit: int) -> list[str]:
    seen: list[str] = []
    cursor, more = "", True
    while more:
        told = ask(server, f"/v1/charges?limit={limit}{cursor}")
        seen += told.ids
        more, cursor = told.body["has_more"], f"&starting_after={seen[-1]}"
    return seen


def test_page_that_misses_a_row_loses_it_for_the_whole_walk() -> None:
    world, server = afflicted(FaultPlan(skip_row=Chance(1.0, times=1)), payments=10)
    wanted = {charge["id"] for charge in world.truth.all_of("charge")}
    seen = walk(server, 4)
    assert len(seen) == len(set(seen)) == 9
    assert set(seen) < wanted
    assert set(walk(server, 4)) == wanted


def test_page_that_repeats_a_row_loses_none() -> None:
    world, server = afflicted(FaultPlan(repeat_row=Chance(1.0, times=1)), payments=10)
    seen = walk(server, 4)
    assert len(seen) == 11
    assert set(seen) == {charge["id"] for charge in world.truth.all_of("charge")}


def test_hanging_and_broken_answers_reach_the_client_as_such() -> None:
    async def run() -> None:
        plan = FaultPlan(hang=Chance(1.0, only=("charge",)), cut_answer=Chance(1.0, only=("payout",)), hang_seconds=600)
        async with (
            serving(faults=plan) as server,
            httpx.AsyncClient(base_url=server.url, auth=(server.api_key, ""), timeout=120) as client,
        ):
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/v1/charges", timeout=httpx.Timeout(120, read=1))
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/v1/payouts")
            assert (await client.get("/v1/refunds")).status_code == 200
            assert [entry.status for entry in server.journal.entries()] == [0, 200, 200]

    asyncio.run(run())


def test_disabling_by_plan_happens_when_the_plan_is_set() -> None:
    world, server = afflicted(FaultPlan())
    kept = server.add_endpoint("https://example.com/kept")["id"]
    struck = server.add_endpoint("https://example.com/struck")["id"]
    server.set_faults(FaultPlan(disable_endpoints=("*/struck",)))
    statuses = {row["id"]: row["status"] for row in world.endpoints.all()}
    assert statuses == {kept: "enabled", struck: "disabled"}


def test_chance_spares_the_first_and_stops_after_enough() -> None:
    _, server = afflicted(FaultPlan(server_error=Chance(1.0, after=2, times=3)))
    statuses = [ask(server, "/v1/charges").status for _ in range(7)]
    assert statuses == [200, 200, 500, 500, 500, 200, 200]
    assert server.faults.struck == {"server_error": 3}


def test_plan_reads_json_and_names_the_nearest_fault() -> None:
    plan = FaultPlan.parse({"drop": 0.5, "deny": {"only": "charge"}, "stale_seconds": 3, "disable_endpoints": "we_1"})
    assert plan.drop == Chance(0.5)
    assert plan.deny == Chance(1.0, only=("charge",))
    assert plan.stale_seconds == 3.0
    assert plan.disable_endpoints == ("we_1",)
    with pytest.raises(UsageError, match="did you mean 'duplicate'"):
        FaultPlan.parse({"duplicates": 0.5})
    with pytest.raises(UsageError, match="no chance"):
        FaultPlan.parse({"drop": True})
    for rate in (5, -0.1, float("nan")):
        with pytest.raises(UsageError, match="is no chance: write a rate from 0 to 1"):
            FaultPlan.parse({"drop": rate})
    with pytest.raises(UsageError, match="takes a number"):
        FaultPlan.parse({"delay_seconds": "2s"})
