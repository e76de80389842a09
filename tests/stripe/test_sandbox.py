"""Stories against the stateful look-alike: a shop's day read back whole, its events judged, its refusals classed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from providers.sandbox import ApiKey, Chance, FaultPlan, Limits, SandboxServer, World
from providers.sandbox.day import plan_day, relive
from providers.sandbox.resources import PERMISSIONS
from providers.sandbox.store import Body
from providers.sandbox.truth import Occurrence
from providers.stripe import Stripe, events
from providers.stripe.events import ALL_TYPES
from providers.stripe.kinds import KINDS, ROUTES
from reconciler.clock import ManualClock, to_micros
from reconciler.errors import (
    AccessDenied,
    BadReply,
    ProviderError,
    SignatureRejected,
    Throttled,
    ThrottleScope,
    Unavailable,
)
from reconciler.model import Delivery, Notice, ResourceRef, Snapshot, Tombstone, Window
from reconciler.provider import Transport
from reconciler.testing import ProviderCase, check_provider
from tests.sandbox_fixtures import SECRET, START, a_world, wired
from tests.stripe.server import ACCOUNT, settings
from tests.transports import patient

T = TypeVar("T")
WINDOW = Window(START - timedelta(days=1), START + timedelta(days=20))


@asynccontextmanager
async def reading(server: SandboxServer, **overrides: Any) -> AsyncIterator[Stripe]:
    transport = patient()
    key = SecretStr(server.api_key)
    values = {"base_url": server.url, "api_key": key, "webhook_secrets": (SecretStr(SECRET),), **overrides}
    try:
        yield Stripe(ACCOUNT, settings(**values), transport, server.clock)
    finally:
        await transport.aclose()


def played(world: World, story: Callable[[SandboxServer, Stripe], Awaitable[T]], **options: Any) -> T:
    async def run() -> T:
        async with SandboxServer(world, **options) as server, reading(server) as stripe:
            return await story(server, stripe)

    return asyncio.run(run())


def a_day(payments: int = 60) -> World:
    """A day on a clock that stands still afterwards."""
    clock = ManualClock(START)
    world = a_world(clock=clock)
    server = SandboxServer(world)
    relive(plan_day(3, payments=payments), world, server.advance)
    # Kinds that no day brings by itself.
    charge = world.payments.pay(50_000, "usd")["latest_charge"]
    world.funds.top_up(70_000, "usd")
    world.disputes.open(world.payments.pay(9_000, "usd")["latest_charge"])
    server.advance(timedelta(days=4))
    world.funds.transfer(500, "acct_elsewhere", "usd")
    world.funds.application_fee(50, charge, "acct_elsewhere", "usd")
    world.payouts.create_automatic("usd")
    server.advance(timedelta(days=4))
    product = world.catalogue.create_product()
    world.catalogue.delete_price(world.catalogue.create_price(product["id"])["id"])
    world.catalogue.delete_product(world.catalogue.create_product()["id"])
    return world


def ref(kind: str, resource_id: str) -> ResourceRef:
    return ResourceRef("stripe", ACCOUNT, kind, resource_id)


async def listed(stripe: Stripe, kind: str, window: Window | None = None) -> dict[str, Snapshot]:
    rows: dict[str, Snapshot] = {}
    cursor = None
    while True:
        page = await stripe.page(kind, window, cursor)
        rows.update((row.ref.id, row) for row in page.rows)
        if (cursor := page.cursor) is None:
            return rows


async def noticed(stripe: Stripe, window: Window) -> list[Notice]:
    notices: list[Notice] = []
    cursor = None
    while True:
        page = await stripe.changes(window, cursor)
        notices += page.notices
        if (cursor := page.cursor) is None:
            return notices


# --- a whole day, read back -----------------------------------------------------------------------


def test_lists_and_single_reads_both_end_at_the_truth() -> None:
    world = a_day(40)

    async def story(server: SandboxServer, stripe: Stripe) -> None:
        truth = world.snapshot()
        for kind in KINDS.keys() - {"balance"}:
            objects = truth["objects"][kind]
            assert objects, f"the day brought no {kind}"
            rows = await listed(stripe, kind, WINDOW if kind != "customer" else None)
            assert rows.keys() == objects.keys(), kind
            for resource_id in [*objects][:15]:
                single, *_ = await stripe.fetch([ref(kind, resource_id)])
                assert isinstance(single, Snapshot)
                assert single.content_hash == rows[resource_id].content_hash, single.ref
                assert single == rows[resource_id]
            for resource_id in truth["deleted"][kind]:
                [gone] = await stripe.fetch([ref(kind, resource_id)])
                assert isinstance(gone, Tombstone)
        assert {kind for kind in KINDS if truth["deleted"].get(kind)} >= {"product", "price"}

    played(world, story)


def test_entries_of_the_day_sum_to_the_balance_that_stripe_states() -> None:
    async def story(server: SandboxServer, stripe: Stripe) -> None:
        sums: dict[tuple[str, str], int] = defaultdict(int)
        for row in (await listed(stripe, "balance_transaction")).values():
            [entry] = stripe.entries(row)
            sums[entry.balance_type, entry.net.currency] += entry.net.minor
        [balance] = await stripe.fetch([ref("balance", "balance")])
        assert isinstance(balance, Snapshot)
        totals = stripe.control_totals(balance, START)
        assert {(one.balance_type, one.amount.currency): one.amount.minor for one in totals} == sums
        assert len(sums) > 1

    played(a_day(), story)


def test_members_of_an_automatic_payout_sum_to_it() -> None:
    async def story(server: SandboxServer, stripe: Stripe) -> None:
        payouts = await listed(stripe, "payout")
        assert payouts
        for payout in payouts.values():
            page = await stripe.members(payout, None)
            assert page is not None
            nets = [entry.net.minor for row in page.rows for entry in stripe.entries(row)]
            assert sum(nets) == payout.body["amount"]
            manual = Snapshot(payout.ref, {**payout.body, "automatic": False})
            assert await stripe.members(manual, None) is None

    played(a_day(), story)


def test_feed_names_every_event_of_our_types_once() -> None:
    world = a_day()

    async def story(server: SandboxServer, stripe: Stripe) -> None:
        notices = await noticed(stripe, WINDOW)
        ours = [event["id"] for event in world.events() if event["type"] in ALL_TYPES]
        assert sorted(notice.event_id for notice in notices) == sorted(ours)
        assert len(ours) > 300
        assert all(notice.hints for notice in notices)

    played(world, story)


def test_products_of_a_batch_come_in_order_with_the_deleted_ones() -> None:
    world = a_world()
    kept = [world.catalogue.create_product()["id"] for _ in range(4)]
    gone = world.catalogue.create_product()["id"]
    world.catalogue.delete_product(gone)

    async def story(server: SandboxServer, stripe: Stripe) -> None:
        refs = [ref("product", one) for one in (kept[2], gone, kept[0], "prod_never")]
        readings = await stripe.fetch(refs)
        assert [one.ref for one in readings] == refs
        assert [isinstance(one, Tombstone) for one in readings] == [False, True, False, True]

    played(world, story)


# --- what events announce, held against what was before and after ---------------------------------


@dataclass(frozen=True)
class Change:
    event: Body
    before: Body | None
    after: Body | None


def _changes_of_a_day() -> list[Change]:
    changes: list[Change] = []

    def record(told: Occurrence) -> None:
        row = world.store.row(str(told.subject.get("id")))
        if row is not None:
            now = to_micros(world.clock.now())
            earlier = [body for micros, body in row.versions if micros < now]
            changes.append(Change(told.event, earlier[-1] if earlier else None, row.body))

    world = a_world(clock=ManualClock(START))
    world.listen(record)
    relive(plan_day(3, payments=200), world, SandboxServer(world).advance)
    return changes


def test_no_announcement_of_a_day_is_satisfied_by_the_state_before_it() -> None:
    stripe = Stripe(ACCOUNT, settings(), patient(), ManualClock(START))
    checked = shown = 0
    for change in _changes_of_a_day():
        notice = events.notice(change.event, ACCOUNT)
        if not notice.hints or (expected := notice.hints[0].expected) is None:
            continue
        subject = notice.hints[0].ref
        before = Tombstone(subject) if change.before is None else Snapshot(subject, change.before)
        deleted = change.after is None or change.after.get("deleted") is True
        after = Tombstone(subject) if deleted else Snapshot(subject, change.after or {})
        assert not stripe.satisfied(expected, before), change
        checked += 1
        shown += stripe.satisfied(expected, after)
    assert checked > 500
    assert shown > checked * 0.9  # the rest costs a second read each


# --- deliveries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("thin", [False, True])
def test_every_delivery_is_believed_and_every_forgery_refused(thin: bool) -> None:
    async def run() -> None:
        faults = FaultPlan(forge=Chance(1.0), wrong_secret=Chance(1.0))
        async with wired(thin=thin, faults=faults) as (server, receiver), reading(server) as stripe:
            intent = server.world.payments.pay(5_000, "eur")
            server.world.refunds.create(intent["latest_charge"], amount=100)
            await server.flush()
            accepted: list[Notice] = []
            for one in receiver.received:
                delivery = Delivery(ACCOUNT, server.clock.now(), one.headers, one.body)
                try:
                    accepted.append(stripe.verify(delivery))
                except SignatureRejected:
                    continue
            generated = [event for event in server.world.events() if event["type"] in ALL_TYPES]
            assert {notice.event_id for notice in accepted} >= {event["id"] for event in generated}
            forged = len(receiver.received) - len(accepted)
            assert forged == 2 * len(accepted)
            named = {hint.ref for notice in accepted for hint in notice.hints}
            assert {ref("payment_intent", intent["id"]), ref("charge", intent["latest_charge"])} <= named
            for subject in named:
                assert isinstance((await stripe.fetch([subject]))[0], Snapshot)

    asyncio.run(run())


# --- refusals -------------------------------------------------------------------------------------


def failing(plan: FaultPlan, **options: Any) -> tuple[ProviderError, ProviderError]:
    """The errors of a single read and of a list under a plan."""
    world = a_world()
    intent = world.payments.pay(1_000, "usd")

    async def story(server: SandboxServer, stripe: Stripe) -> tuple[ProviderError, ProviderError]:
        with pytest.raises(ProviderError) as single:
            await stripe.fetch([ref("payment_intent", intent["id"])])
        with pytest.raises(ProviderError) as many:
            await stripe.page("payment_intent", WINDOW, None)
        return single.value, many.value

    return played(world, story, faults=plan, **options)


ALWAYS = Chance(1.0)


@pytest.mark.parametrize(
    ("plan", "raised"),
    [
        (FaultPlan(server_error=ALWAYS), Unavailable),
        (FaultPlan(unavailable=ALWAYS), Unavailable),
        (FaultPlan(cut_answer=ALWAYS), Unavailable),
        (FaultPlan(malformed_answer=ALWAYS), (Unavailable, BadReply)),
        (FaultPlan(deny=ALWAYS), AccessDenied),
        (FaultPlan(throttle=ALWAYS), Throttled),
        (FaultPlan(throttle_silent=ALWAYS), Throttled),
        (FaultPlan(lock_timeout=ALWAYS), Throttled),
    ],
)
def test_each_fault_keeps_its_class(plan: FaultPlan, raised: Any) -> None:
    assert all(isinstance(error, raised) for error in failing(plan))


def test_throttles_say_how_long_and_how_much() -> None:
    told, _ = failing(FaultPlan(throttle=ALWAYS, retry_after_seconds=7))
    silent, _ = failing(FaultPlan(throttle_silent=ALWAYS))
    locked, _ = failing(FaultPlan(lock_timeout=ALWAYS))
    assert isinstance(told, Throttled)
    assert isinstance(silent, Throttled)
    assert isinstance(locked, Throttled)
    assert told.retry_after == timedelta(seconds=7)
    assert silent.retry_after is None
    assert locked.scope is ThrottleScope.RESOURCE
    assert ThrottleScope.RESOURCE not in (told.scope, silent.scope)


def test_real_limit_of_an_endpoint_stops_that_endpoint_only() -> None:
    world = a_world()
    intent = world.payments.pay(1_000, "usd")

    async def story(server: SandboxServer, stripe: Stripe) -> None:
        for _ in range(3):
            await stripe.fetch([ref("payment_intent", intent["id"])])
        with pytest.raises(Throttled) as refused:
            await stripe.fetch([ref("payment_intent", intent["id"])])
        assert refused.value.scope is ThrottleScope.ENDPOINT
        await stripe.page("payment_intent", WINDOW, None)

    played(world, story, limits=Limits(per_endpoint=3, per_account=100))


# --- the account ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_restricted_key_without_a_kind_is_found_by_its_permission(kind: str) -> None:
    lacking = PERMISSIONS[ROUTES[kind].path]
    granted = frozenset(f"{one}_read" for one in PERMISSIONS.values() if one != lacking)

    async def story(server: SandboxServer, stripe: Stripe) -> None:
        server.add_endpoint("https://pay.example.com/webhooks/stripe/main")
        found = [one for one in await stripe.findings() if one.code == "permission_missing"]
        assert kind in {one.subject for one in found}
        assert all(f"rak_{lacking}_read" in one.remedy for one in found)
        with pytest.raises(AccessDenied) as refused:
            await stripe.fetch([ref(kind, "any_1")])
        assert refused.value.permission == f"rak_{lacking}_read"

    played(a_world(), story, keys=[ApiKey("rk_test_limited", permissions=granted)])


def test_revoked_key_is_one_finding() -> None:
    async def story(server: SandboxServer, stripe: Stripe) -> None:
        [found] = await stripe.findings()
        assert found.code == "credentials_rejected"

    played(a_world(), story, keys=[ApiKey("rk_test_old", revoked=True)])


@pytest.mark.parametrize("thin", [False, True])
def test_disabled_and_incomplete_endpoint_is_found_repaired_and_then_fine(thin: bool) -> None:
    async def story(server: SandboxServer, stripe: Stripe) -> None:
        prefix = "v1." if thin else ""
        made = server.add_endpoint(
            "https://pay.example.com/webhooks/stripe/main", events=[f"{prefix}charge.updated"], thin=thin
        )
        server.world.endpoints.disable(made["id"])
        assert "webhook_disabled" in {one.code for one in await stripe.findings()}
        done = await stripe.repair_subscriptions()
        assert [made["id"] in line for line in done] == [True, True]
        assert [one.code for one in await stripe.findings()] == []
        assert list(await stripe.repair_subscriptions()) == []

    played(a_world(), story)


def test_deleted_endpoint_is_found() -> None:
    async def story(server: SandboxServer, stripe: Stripe) -> None:
        made = server.add_endpoint("https://pay.example.com/webhooks/stripe/main")
        assert list(await stripe.findings()) == []
        server.world.endpoints.delete(made["id"])
        assert [one.code for one in await stripe.findings()] == ["webhook_missing"]

    played(a_world(), story)


def test_key_of_the_other_mode_sees_nothing_and_buries_nothing() -> None:
    world = a_world()
    intent = world.payments.pay(1_000, "usd")

    async def story(server: SandboxServer, stripe: Stripe) -> None:
        with pytest.raises(ProviderError) as refused:
            await stripe.fetch([ref("payment_intent", intent["id"])])
        assert not isinstance(refused.value, Throttled | Unavailable)

    played(world, story, keys=[ApiKey("rk_live_wrong", livemode=True)])


def test_connected_accounts_resource_is_read_there() -> None:
    clock = ManualClock(START)
    platform, shop = a_world(clock=clock), a_world(seed=8, clock=clock)
    intent = shop.payments.pay(900, "usd")

    async def story(server: SandboxServer, stripe: Stripe) -> None:
        found, *inner = await stripe.fetch([ref("payment_intent", f"{shop.account}/{intent['id']}")])
        assert isinstance(found, Snapshot)
        assert {one.ref.id for one in inner} >= {f"{shop.account}/{intent['latest_charge']}"}
        [absent] = await stripe.fetch([ref("payment_intent", intent["id"])])
        assert isinstance(absent, Tombstone)

    played(platform, story, connected=[shop])


# --- the contract ---------------------------------------------------------------------------------


def test_stripe_keeps_the_contract_at_the_sandbox() -> None:
    world = a_day(120)
    truth = world.snapshot()["objects"]
    urls: list[str] = []

    @asynccontextmanager
    async def connect() -> AsyncIterator[Transport]:
        transport = patient()
        async with SandboxServer(world) as server:
            urls.append(server.url)
            yield transport
        await transport.aclose()

    check_provider(
        ProviderCase(
            account=ACCOUNT,
            connect=connect,
            make=lambda transport: Stripe(
                ACCOUNT,
                settings(base_url=urls[-1], api_key=SecretStr("sk_test_sandbox")),
                transport,
                world.clock,
            ),
            present={
                "balance": [ref("balance", "balance")],
                **{k: [ref(k, one) for one in [*truth[k]][:3] + [*truth[k]][3:][-3:]] for k in KINDS if k in truth},
            },
            missing=[ref(kind, "gone_1") for kind in KINDS if kind != "balance"],
            window=WINDOW,
            accepted=[],
        )
    )
