"""The worker and a whole account: outages, refusals, throttling, and "missing" for everything."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from providers.sandbox import ApiKey, Chance, FaultPlan, Limits, SandboxServer, World
from reconciler.clock import ManualClock
from reconciler.fetcher import FetchSettings
from reconciler.health import STORM_PERIOD
from reconciler.model import Finding, Severity, State
from reconciler.planner import WITNESSES_GO
from tests.loop.harness import HOUR, MINUTE, SECOND, START, looping, moments, shop
from tests.loop.payments import NO_FAULTS, known_payments, refs

# --- the whole account ----------------------------------------------------------------------------


def test_an_outage_stops_the_account_burns_no_attempts_and_ends_by_itself(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            ids = await known_payments(loop, 25)
            loop.server.set_faults(FaultPlan(unavailable=Chance(1.0)))
            for each in ids:
                loop.world.edits.metadata(each, order="7")
            await loop.mark(*refs(loop, ids))
            await loop.run_for(SECOND)
            assert loop.gates() == {"main": "unavailable"}
            before = loop.server.journal.count()
            await loop.run_for(HOUR)
            assert loop.server.journal.count() - before <= 30, "one question at a time, ever more rarely"
            assert max(loop.known(ref).attempts for ref in refs(loop, ids)) <= 1
            assert loop.dead() == set()
            loop.server.set_faults(NO_FAULTS)
            await loop.run_for(16 * MINUTE)
            assert loop.gates() == {}
            assert loop.unlike_truth() == []

    asyncio.run(story())


def test_a_blip_of_a_second_does_not_cost_a_quarter_of_an_hour(url: str) -> None:
    """Sixteen reads that fail together are one outage, not sixteen."""

    async def story() -> None:
        async with looping(url) as loop:
            ids = await known_payments(loop, 25)
            loop.server.set_faults(FaultPlan(server_error=Chance(1.0)))
            await loop.mark(*refs(loop, ids))
            await loop.run_for(SECOND)
            loop.server.set_faults(NO_FAULTS)
            await loop.settle(20 * SECOND)
            assert loop.gates() == {}

    asyncio.run(story())


def test_a_provider_that_hangs_is_away_and_no_resource_is_blamed(url: str) -> None:
    async def story() -> None:
        quick = FetchSettings(lease=timedelta(seconds=0.5))
        async with looping(url, fetch=quick) as loop:
            ids = await known_payments(loop, 4)
            loop.server.set_faults(FaultPlan(hang=Chance(1.0)))
            await loop.mark(*refs(loop, ids))
            await loop.run_for(SECOND)
            assert loop.gates() == {"main": "unavailable"}
            assert all("no answer within" in str(loop.known(ref).last_error) for ref in refs(loop, ids))
            loop.server.set_faults(NO_FAULTS)
            await loop.settle()

    asyncio.run(story())


def test_a_revoked_key_stops_the_account_until_it_is_good_again(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            ids = await known_payments(loop, 20)
            loop.server.keys.put(ApiKey(loop.server.api_key, revoked=True))
            await loop.mark(*refs(loop, ids))
            await loop.run_for(SECOND)
            assert loop.gates() == {"main": "credentials"}
            before = loop.server.journal.count()
            await loop.run_for(2 * HOUR)
            assert 8 <= loop.server.journal.count() - before <= 24, "probed again at least every 15 minutes"
            assert all(loop.known(ref).attempts == 0 for ref in refs(loop, ids))
            loop.server.keys.put(ApiKey(loop.server.api_key))
            await loop.run_for(15 * MINUTE)
            assert loop.gates() == {}
            assert loop.dirty() == []

    asyncio.run(story())


def test_a_missing_permission_stops_its_kind_only_and_is_named(url: str) -> None:
    async def story() -> None:
        everything = frozenset({"payment_intent_read", "charge_read", "balance_transaction_read", "customer_read"})
        async with looping(url) as loop:
            ids = await known_payments(loop, 5)
            customer = loop.world.customers.create()["id"]
            await loop.deliver_all()
            await loop.settle()
            denied = everything - {"customer_read"}
            loop.server.keys.put(ApiKey(loop.server.api_key, permissions=denied))
            await loop.mark(loop.ref("customer", customer), *refs(loop, ids))
            await loop.run_for(MINUTE)
            assert loop.gates() == {"main/customer": "permission"}
            assert "customer_read" in loop.ledger.gates()[0].text
            assert [line.split(" ")[0] for line in loop.dirty()] == [f"stripe/main/customer/{customer}"]
            # Success of other kinds says nothing about this one.
            await loop.mark(*refs(loop, ids))
            await loop.run_for(MINUTE)
            assert loop.gates() == {"main/customer": "permission"}
            loop.server.keys.put(ApiKey(loop.server.api_key, permissions=everything))
            await loop.run_for(15 * MINUTE)
            assert loop.gates() == {}
            assert loop.dirty() == []

    asyncio.run(story())


# --- throttling -----------------------------------------------------------------------------------


def test_nothing_is_asked_of_an_endpoint_inside_its_retry_after_and_others_go_on(url: str) -> None:
    single = "GET /v1/payment_intents/{id}"

    async def story() -> None:
        async with looping(url) as loop:
            ids = await known_payments(loop, 3)
            charge = loop.world.store.get(ids[0])["latest_charge"]
            loop.server.journal.clear()
            loop.server.set_faults(
                FaultPlan.parse({"throttle": {"only": single, "times": 1}, "retry_after_seconds": 30})
            )
            await loop.mark(loop.ref("payment_intent", ids[0]))
            await loop.run_for(SECOND)
            for _ in range(25):
                await loop.mark(loop.ref("payment_intent", ids[1]), loop.ref("charge", charge))
                await loop.run_for(SECOND)
            await loop.settle()
            [refused, *later] = [each for each in loop.requests() if each.operation == single]
            assert refused.status == 429
            assert all(each.at_micros >= refused.at_micros + 30_000_000 for each in later)
            assert loop.server.journal.count("GET /v1/charges/{id}") > 10

    asyncio.run(story())


def test_a_list_that_is_throttled_is_not_asked_again_and_its_resources_are_read_singly(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            ids = await known_payments(loop, 10)
            loop.server.journal.clear()
            loop.server.set_faults(
                FaultPlan.parse({"throttle": {"only": "GET /v1/payment_intents"}, "retry_after_seconds": 30})
            )
            await loop.mark(*refs(loop, ids))
            await loop.run_for(2 * SECOND)
            assert loop.dirty() == []
            assert loop.server.journal.count("GET /v1/payment_intents") == 1

    asyncio.run(story())


def test_a_throttle_without_retry_after_stops_the_whole_account_for_a_moment(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            ids = await known_payments(loop, 30)
            loop.server.journal.clear()
            loop.server.set_faults(FaultPlan(throttle_silent=Chance(1.0, times=1)))
            await loop.mark(*refs(loop, ids))
            await loop.settle()
            first = next(each for each in loop.requests() if each.status == 429)
            later = [each for each in moments(loop.requests()) if each > moments([first])[0]]
            assert min(later) - moments([first])[0] >= SECOND

    asyncio.run(story())


def test_a_locked_object_is_asked_again_and_slows_down_nobody(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            [intent] = await known_payments(loop, 1)
            charge = loop.world.store.get(intent)["latest_charge"]
            loop.server.set_faults(FaultPlan.parse({"lock_timeout": {"only": intent, "times": 25}}))
            await loop.mark(loop.ref("payment_intent", intent))
            await loop.run_for(SECOND)
            await loop.mark(loop.ref("charge", charge))
            await loop.run_for(SECOND / 10)
            assert [line.split(" ")[0] for line in loop.dirty()] == [f"stripe/main/payment_intent/{intent}"]
            await loop.settle()
            assert loop.dead() == set()
            assert loop.reads_of(intent) > 20, "never counted against it"

    asyncio.run(story())


def test_the_limits_of_a_sandbox_are_never_hit(url: str) -> None:
    async def story() -> None:
        async with looping(url, limits=Limits(per_endpoint=25, per_account=25)) as loop:
            for number in range(60):
                loop.world.payments.pay(1_000 + number)
            await loop.deliver_all()
            await loop.settle()
            assert loop.unlike_truth() == []
            assert loop.server.journal.count(status=429) == 0

    asyncio.run(story())


@pytest.mark.long
def test_two_accounts_of_which_one_starves_do_not_delay_each_other(url: str) -> None:
    async def story() -> None:
        clock = ManualClock(START)
        shops = {"main": shop(clock, seed=1), "other": shop(clock, seed=2)}
        async with looping(url, clock=clock, shops=shops) as loop:
            shops["main"].set_faults(FaultPlan(throttle=Chance(1.0), retry_after_seconds=60))
            for number in range(50):
                shops["main"].world.payments.pay(1_000 + number)
            await loop.deliver_all("main")
            await loop.quiet()
            for number in range(10):
                shops["other"].world.payments.pay(1_000 + number)
                await loop.deliver_all("other")
                await loop.run_for(6 * SECOND)
                assert loop.unlike_truth(account="other") == []
            assert loop.unlike_truth(account="main") != []
            shops["main"].set_faults(NO_FAULTS)
            await loop.settle(30 * MINUTE)
            assert loop.unlike_truth(account="main") == []

    asyncio.run(story())


# --- "missing", for everything --------------------------------------------------------------------


@pytest.mark.long
def test_a_key_of_another_account_makes_no_storm_of_tombstones(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop, SandboxServer(World(seed=99, clock=loop.clock)) as elsewhere:
            ids = await known_payments(loop, 50)
            loop.send_to(elsewhere)
            fresh = loop.world.payments.create(77)["id"]
            await loop.mark(*refs(loop, ids))
            await loop.deliver_all()
            await loop.run_for(HOUR)
            assert len(loop.tombstones()) <= 20
            assert loop.ref("payment_intent", fresh) not in loop.tombstones()
            assert "missing-storm" in loop.findings()
            assert loop.dead() == set()
            loop.send_to(loop.server)
            await loop.mark(*loop.tombstones())
            await loop.run_for(31 * MINUTE)
            assert loop.unlike_truth() == []
            assert "missing-storm" not in loop.findings()
            assert loop.gates() == {}

    asyncio.run(story())


@pytest.mark.long
def test_a_great_clean_up_is_believed_in_time_and_delays_no_payment_for_long(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            ids = [loop.world.customers.create()["id"] for _ in range(70)]
            await loop.deliver_all()
            await loop.settle()
            for each in ids:
                loop.world.customers.delete(each)
            await loop.deliver_all()
            await loop.run_for(10 * SECOND)
            assert "missing-storm" in loop.findings()
            intent = loop.world.payments.create(5_000)["id"]
            await loop.deliver_all()
            await loop.run_for(20 * SECOND)
            assert loop.known(loop.ref("payment_intent", intent)).state is State.PRESENT
            for _ in range(12):
                loop.world.payments.create(5_000)
                await loop.deliver_all()
                await loop.run_for(10 * MINUTE)
            assert loop.unlike_truth() == []
            assert "missing-storm" not in loop.findings()

    asyncio.run(story())


@pytest.mark.long
def test_what_another_account_has_does_not_end_the_storm_that_its_key_made(url: str) -> None:
    """Ours answer "missing", theirs are there: that something is there says nothing of whose key it is."""

    async def story() -> None:
        async with looping(url) as loop, SandboxServer(World(seed=99, clock=loop.clock)) as elsewhere:
            ids = await known_payments(loop, 30)
            await loop.run_for(STORM_PERIOD)
            theirs = [elsewhere.world.payments.pay(5_000)["id"] for _ in range(5)]
            loop.send_to(elsewhere)
            await loop.mark(*refs(loop, ids))
            await loop.run_for(MINUTE)
            assert "missing-storm" in loop.findings()
            asked = {lane.kind for lane in loop.ledger.lanes()[0] if lane.priority == WITNESSES_GO}
            assert asked > {"payment_intent"}, "witnesses are asked for first, of other kinds than those marked here"
            await loop.mark(*refs(loop, theirs), loop.ref("balance", "balance"))
            await loop.run_for(10 * MINUTE)
            assert loop.known(refs(loop, theirs)[0]).state is State.PRESENT, "one read at a time goes on"
            assert "missing-storm" in loop.findings()
            assert loop.gates() == {"main": "missing-storm"}
            loop.send_to(loop.server)
            await loop.mark(*loop.tombstones())
            await loop.run_for(16 * MINUTE)
            assert "missing-storm" not in loop.findings(), "nobody had to announce anything"
            assert loop.gates() == {}

    asyncio.run(story())


@pytest.mark.long
@pytest.mark.parametrize("refusal", ["credentials", "unavailable"])
def test_a_refusal_in_the_midst_of_a_storm_does_not_end_it(url: str, refusal: str) -> None:
    """The wrong key is revoked, or its provider away for a while; then it goes on showing what is theirs."""

    async def story() -> None:
        async with looping(url) as loop, SandboxServer(World(seed=99, clock=loop.clock)) as elsewhere:
            ids = await known_payments(loop, 30)
            await loop.run_for(STORM_PERIOD)
            theirs = [elsewhere.world.payments.pay(5_000)["id"] for _ in range(12)]
            loop.send_to(elsewhere)
            await loop.mark(*refs(loop, ids))
            await loop.run_for(MINUTE)
            if refusal == "credentials":
                elsewhere.keys.put(ApiKey(loop.server.api_key, revoked=True))
            else:
                elsewhere.set_faults(FaultPlan(unavailable=Chance(1.0)))
            await loop.mark(*refs(loop, theirs[:6]))
            await loop.run_for(10 * MINUTE)
            assert loop.gates() == {"main": "missing-storm"}
            assert loop.ledger.gates()[0].until > loop.now(), "nothing is asked for a while"
            refused = "api_key_expired" if refusal == "credentials" else "503"
            assert refused in loop.ledger.gates()[0].text.partition("; since then, at ")[2]
            elsewhere.keys.put(ApiKey(loop.server.api_key))
            elsewhere.set_faults(NO_FAULTS)
            await loop.run_for(16 * MINUTE)
            await loop.mark(*refs(loop, theirs[6:]))
            await loop.run_for(MINUTE)
            assert loop.known(refs(loop, theirs)[6]).state is State.PRESENT
            assert loop.gates() == {"main": "missing-storm"}
            assert "missing-storm" in loop.findings()
            loop.send_to(loop.server)
            await loop.run_for(16 * MINUTE)
            assert loop.gates() == {}
            assert "missing-storm" not in loop.findings()

    asyncio.run(story())


def test_a_finding_that_no_gate_belongs_to_any_more_goes_with_the_next_look(url: str) -> None:
    """As releases before left it, whose gate gave way to another one."""

    async def story() -> None:
        async with looping(url, jobs=("watch",)) as loop:
            finding = Finding("missing-storm", Severity.ERROR, "main", "30 are missing", "look at the key")
            loop.ledger.note_findings("main", [finding], codes=frozenset(), now=loop.now())
            await loop.run_for(HOUR + MINUTE)
            assert "missing-storm" not in loop.findings()

    asyncio.run(story())


@pytest.mark.long
def test_a_storm_whose_witnesses_are_gone_ends_with_the_next_payment_after_a_day(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop, SandboxServer(World(seed=99, clock=loop.clock)) as elsewhere:
            ids = await known_payments(loop, 30)
            await loop.run_for(STORM_PERIOD)
            theirs = [elsewhere.world.payments.pay(5_000)["id"] for _ in range(2)]
            loop.send_to(elsewhere)
            await loop.mark(*refs(loop, ids))
            await loop.run_for(23 * HOUR)
            await loop.mark(refs(loop, theirs)[0])
            await loop.run_for(MINUTE)
            assert loop.gates() == {"main": "missing-storm"}
            await loop.run_for(HOUR)
            await loop.mark(refs(loop, theirs)[1])
            await loop.run_for(MINUTE)
            assert loop.known(refs(loop, theirs)[1]).state is State.PRESENT
            assert loop.gates() == {}

    asyncio.run(story())
