"""Webhooks over real HTTP: signed as Stripe signs, retried, recorded, and mistreated on request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
import stripe

from providers.sandbox import Chance, FaultPlan, RetrySchedule, SandboxServer
from providers.sandbox.sender import Standing
from reconciler.clock import SystemClock
from tests.sandbox_fixtures import SECRET, Receiver, a_world, ask, receiving, serving, wired

NEVER_MIND_THE_TIME = 10**10
Story = Callable[[SandboxServer, Receiver], Awaitable[None]]


def tell(story: Story, *, faults: FaultPlan | None = None, thin: bool = False) -> None:
    """Run a story with a server whose webhooks arrive at a receiver."""

    async def run() -> None:
        async with wired(faults=faults, thin=thin) as (server, receiver):
            await story(server, receiver)

    asyncio.run(run())


def is_signed(body: bytes, header: str, secret: str = SECRET) -> bool:
    try:
        stripe.WebhookSignature.verify_header(body, header, secret, tolerance=NEVER_MIND_THE_TIME)
    except stripe.SignatureVerificationError:
        return False
    return True


def test_every_event_arrives_signed_and_is_accepted() -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        server.world.payments.pay(5_000)
        assert (await server.flush())["delivered"] == 4
        assert receiver.types == [event["type"] for event in server.world.events()]
        assert all(is_signed(each.body, each.signature) for each in receiver.received)
        assert [event["pending_webhooks"] for event in server.world.events()] == [0, 0, 0, 0]
        assert ask(server, "/v1/events?delivery_success=false").ids == []

    tell(story)


def test_signature_is_fresh_by_the_worlds_clock() -> None:
    async def run() -> None:
        async with wired(a_world(clock=SystemClock())) as (server, receiver):
            server.world.customers.create()
            await server.flush()
            (only,) = receiver.received
            stripe.WebhookSignature.verify_header(only.body, only.signature, SECRET, tolerance=60)

    asyncio.run(run())


def test_one_signature_per_active_secret() -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        endpoint = server.world.endpoints.all()[0]["id"]
        fresh = server.world.endpoints.roll_secret(endpoint)["secret"]
        server.world.customers.create()
        await server.flush()
        server.world.endpoints.drop_old_secrets(endpoint)
        server.world.customers.create()
        await server.flush()
        both, only = receiver.received
        assert both.signature.count("v1=") == 2
        assert is_signed(both.body, both.signature, fresh)
        assert is_signed(both.body, both.signature, SECRET)
        assert is_signed(only.body, only.signature, fresh)
        assert not is_signed(only.body, only.signature, SECRET)

    tell(story)


def test_thin_events_name_and_do_not_tell() -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        intent = server.world.payments.create(5_000)["id"]
        await server.flush()
        (only,) = receiver.received
        assert is_signed(only.body, only.signature)
        client = stripe.StripeClient(server.api_key, base_addresses={"api": server.url})
        told = client.parse_event_notification(only.body, only.signature, SECRET, tolerance=NEVER_MIND_THE_TIME)
        assert told.type == "v1.payment_intent.created"
        assert only.event["related_object"] == {
            "id": intent, "type": "payment_intent", "url": f"/v1/payment_intents/{intent}",
        }  # fmt: skip
        assert "data" not in only.event
        assert ask(server, f"/v1/events/{only.event['snapshot_event']}").status == 200
        assert ask(server, f"/v2/core/events/{only.event['id']}").body["id"] == only.event["id"]

    tell(story, thin=True)


def test_refused_delivery_is_tried_again_and_then_succeeds() -> None:
    async def run() -> None:
        async with wired() as (server, receiver):
            receiver.answers = [500, 302]
            server.world.customers.create()
            await server.flush()
            assert ask(server, "/v1/events?delivery_success=false").body["data"][0]["pending_webhooks"] == 1
            await server.flush()
            assert (await server.flush())["delivered"] == 1
            (sending,) = server.sender.record
            assert [attempt.status for attempt in sending.attempts] == [500, 302, 200]
            assert len({each.body for each in receiver.received}) == 1
            assert ask(server, "/v1/events?delivery_success=true").ids == [server.world.events()[0]["id"]]

    asyncio.run(run())


def test_retries_grow_until_three_days_and_then_give_up() -> None:
    schedule = RetrySchedule(speed=60)
    waits = [schedule.wait_seconds(failures) for failures in range(1, 13)]
    given = [wait for wait in waits if wait is not None]
    assert given[:3] == [1.0, 4.0, 16.0]
    assert sum(given) * 60 <= timedelta(days=3).total_seconds()
    assert waits[-1] is None


def test_disabled_endpoint_gets_nothing_and_never_gets_it_later() -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        endpoint = server.world.endpoints.all()[0]["id"]
        server.world.endpoints.disable(endpoint)
        server.world.customers.create()
        await server.flush()
        server.world.endpoints.enable(endpoint)
        await server.flush()
        server.world.catalogue.create_product()
        await server.flush()
        assert receiver.types == ["product.created"]

    tell(story)


def test_retries_rest_while_disabled_and_resume_when_enabled() -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        endpoint = server.world.endpoints.all()[0]["id"]
        receiver.answers = [503]
        server.world.customers.create()
        await server.flush()
        server.world.endpoints.disable(endpoint)
        await server.flush()
        assert len(receiver.received) == 1
        server.world.endpoints.enable(endpoint)
        assert (await server.flush())["delivered"] == 1

    tell(story)


def test_deleted_endpoint_ends_its_deliveries() -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        receiver.answers = [503]
        server.world.customers.create()
        await server.flush()
        server.set_faults(FaultPlan(delete_endpoints=("*",)))
        assert (await server.flush())["failed"] == 1
        assert ask(server, "/v1/webhook_endpoints").ids == []

    tell(story)


def test_connected_accounts_events_go_to_the_platforms_connect_endpoint() -> None:
    async def run() -> None:
        main, other = a_world(seed=1), a_world(seed=2)
        async with receiving() as receiver, serving(main, connected=[other]) as server:
            main.endpoints.create(receiver.url, connect=True)
            main.customers.create()
            other.customers.create()
            await server.flush()
            assert [each.event["account"] for each in receiver.received] == [other.account]

    asyncio.run(run())


def test_ping_reaches_only_the_destination_that_was_pinged() -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        silent = server.add_endpoint(receiver.url, thin=True)["id"]
        pinged = server.add_endpoint(receiver.url, thin=True)["id"]
        assert ask(server, f"/v2/core/event_destinations/{pinged}/ping", method="POST").status == 200
        await server.flush()
        (only,) = receiver.received
        assert only.event["type"] == "v2.core.event_destination.ping"
        assert only.event["related_object"]["id"] == pinged != silent

    tell(story)


def test_unreachable_receiver_is_a_failed_attempt() -> None:
    async def run() -> None:
        async with receiving() as receiver:
            nowhere = receiver.url
        async with serving() as server:
            server.add_endpoint(nowhere)
            server.world.customers.create()
            assert (await server.flush())["waiting"] == 1
            (sending,) = server.sender.record
            assert sending.attempts[0].status is None
            assert sending.attempts[0].error

    asyncio.run(run())


# --- faults ---------------------------------------------------------------------------------------


def test_dropped_event_is_lost_while_stripe_believes_otherwise() -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        server.world.payments.pay(5_000)
        assert (await server.flush())["lost"] == 1
        assert "charge.succeeded" not in receiver.types
        assert ask(server, "/v1/events?delivery_success=false").ids == []
        assert len(ask(server, "/v1/events?type=charge.succeeded").ids) == 1

    tell(story, faults=FaultPlan(drop=Chance(1.0, only=("charge.succeeded",))))


def test_unborn_event_is_nowhere() -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        server.world.payments.pay(5_000)
        await server.flush()
        assert "charge.succeeded" not in receiver.types
        assert ask(server, "/v1/events?type=charge.succeeded").ids == []
        assert len(ask(server, "/v1/charges").ids) == 1

    tell(story, faults=FaultPlan(unborn=Chance(1.0, only=("charge.succeeded",))))


def test_duplicates_are_the_same_event_twice() -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        server.world.payments.pay(5_000)
        await server.flush()
        counts = Counter(each.event["id"] for each in receiver.received)
        assert sorted(counts.values()) == [2, 2, 2, 2]
        assert all(is_signed(each.body, each.signature) for each in receiver.received)

    tell(story, faults=FaultPlan(duplicate=Chance(1.0)))


def test_reordered_event_arrives_after_the_next_one() -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        server.world.payments.pay(5_000)
        await server.flush()
        assert receiver.types.index("payment_intent.created") > receiver.types.index("charge.succeeded")
        assert len(receiver.received) == 4

    tell(story, faults=FaultPlan(reorder=Chance(1.0, only=("payment_intent.created",))))


def test_delayed_event_waits_its_time() -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        server.world.payments.create(5_000)
        server.world.customers.create()
        await receiver.until(1)  # the undelayed one, sent by itself
        assert receiver.types == ["customer.created"]
        await server.flush()
        assert receiver.types == ["customer.created", "payment_intent.created"]

    tell(story, faults=FaultPlan(delay=Chance(1.0, only=("payment_intent.created",)), delay_seconds=3_600))


@pytest.mark.parametrize("fault", ["forge", "wrong_secret"])
def test_forged_copies_come_beside_the_real_one_and_do_not_verify(fault: str) -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        server.world.payments.create(5_000)
        await server.flush()
        verdicts = sorted(is_signed(each.body, each.signature) for each in receiver.received)
        assert verdicts == [False, True]
        forged = next(each for each in receiver.received if not is_signed(each.body, each.signature))
        assert forged.event["type"] == "payment_intent.created"
        if fault == "wrong_secret":
            assert forged.event["data"]["object"]["amount"] == 5_001

    tell(story, faults=FaultPlan.parse({fault: 1.0}))


@pytest.mark.parametrize(("fault", "complete"), [("truncate", True), ("cut", False)])
def test_broken_deliveries_are_repaired_by_the_retry(fault: str, complete: bool) -> None:
    async def story(server: SandboxServer, receiver: Receiver) -> None:
        receiver.answers = [400]
        server.world.payments.create(5_000)
        await server.flush()
        await server.flush()
        broken, whole = receiver.received
        assert broken.complete is complete
        assert whole.body.startswith(broken.body)
        assert len(broken.body) < len(whole.body)
        assert not is_signed(broken.body, broken.signature)
        assert is_signed(whole.body, whole.signature)
        assert server.sender.record[0].standing is Standing.DELIVERED

    tell(story, faults=FaultPlan.parse({fault: {"rate": 1.0, "times": 1}}))


def test_same_plan_strikes_the_same_events() -> None:
    lost: list[list[str]] = []

    async def story(server: SandboxServer, receiver: Receiver) -> None:
        for _ in range(20):
            server.world.payments.pay(5_000)
        await server.flush()
        lost.append([each.event["id"] for each in server.sender.record if each.standing is Standing.LOST])

    for _ in range(2):
        tell(story, faults=FaultPlan(seed=5, drop=Chance(0.3)))
    assert lost[0] == lost[1]
    assert 10 < len(lost[0]) < 40
