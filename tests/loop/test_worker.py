"""The worker's promises: at once, bounded, and never stopped by one resource, one account or one bad hour."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

import pytest
from sqlalchemy import text

from providers.sandbox import ApiKey, Chance, FaultPlan, Limits, SandboxServer, World
from providers.stripe import Stripe
from reconciler.clock import ManualClock
from reconciler.errors import LedgerUnavailable
from reconciler.fetcher import FetchSettings
from reconciler.ledger import Mark
from reconciler.model import Cause, Reading, ResourceRef, State
from reconciler.provider import Kind, Limit
from reconciler.retry import RetryPolicy
from reconciler.worker import WorkerSettings, wait_for
from tests.loop.harness import DAY, HOUR, MINUTE, SECOND, START, Loop, looping, moments, shop

NO_FAULTS = FaultPlan()


async def known_payments(loop: Loop, count: int, account: str = "main") -> list[str]:
    """Payments that are in the ledger, clean; their ids."""
    world = loop.shops[account].world
    ids = [world.payments.pay(1_000 + number)["id"] for number in range(count)]
    await loop.deliver_all(account)
    await loop.settle()
    loop.advance(MINUTE)
    return ids


def refs(loop: Loop, ids: list[str], kind: str = "payment_intent") -> list[ResourceRef]:
    return [loop.ref(kind, each) for each in ids]


# --- at once, and not for nothing -----------------------------------------------------------------


def test_a_mark_is_read_at_once_without_any_time_passing(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            intent = loop.world.payments.pay(5_000)
            await loop.deliver_all()
            await loop.quiet()
            assert loop.reads_of(intent["id"]) == 1
            assert loop.now() == START

    asyncio.run(story())


def test_an_idle_worker_asks_the_ledger_every_five_seconds_and_not_more(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            before = loop.commit.calls
            for _ in range(60):
                loop.advance(SECOND)
                await loop.quiet()
            assert loop.commit.calls - before == 12
            assert loop.node.worker.idle.is_set()

    asyncio.run(story())


def test_the_workers_wait_ends_with_the_signal_and_not_only_with_its_time() -> None:
    async def story() -> None:
        signal = asyncio.Event()
        asyncio.get_running_loop().call_soon(signal.set)
        await wait_for(signal, 1e6)
        await wait_for(asyncio.Event(), 0)

    asyncio.run(story())


def test_an_account_never_has_more_reads_under_way_than_it_may(url: str) -> None:
    async def story() -> None:
        async with looping(url, worker=WorkerSettings(concurrency=3)) as loop:
            for number in range(40):
                loop.world.payments.create(1_000 + number)
            await loop.deliver_all()
            await loop.settle()
            assert loop.unlike_truth() == []
            assert loop.under_way.most_requests <= 3

    asyncio.run(story())


def test_the_worker_survives_an_error_of_ours(url: str) -> None:
    class Flawed(Stripe):
        flaws = 0

        @property
        def limits(self) -> Mapping[str, Limit]:
            if Flawed.flaws:
                Flawed.flaws -= 1
                raise ZeroDivisionError("a bug")
            return super().limits

    async def story() -> None:
        async with looping(url, provider=Flawed) as loop:
            Flawed.flaws = 2
            loop.world.payments.pay(5_000)
            await loop.deliver_all()
            await loop.settle()
            assert Flawed.flaws == 0
            assert loop.unlike_truth() == []

    asyncio.run(story())


def test_the_worker_waits_while_the_ledger_is_away_and_goes_on(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            away = 3

            def refuse() -> None:
                nonlocal away
                if away:
                    away -= 1
                    raise LedgerUnavailable("the disk is full")

            loop.commit.before_call = refuse
            loop.world.payments.pay(5_000)
            await loop.deliver_all()
            await loop.settle()
            assert away == 0
            assert loop.unlike_truth() == []

    asyncio.run(story())


# --- poison ---------------------------------------------------------------------------------------


def tell_of_poison(url: str, fault: str) -> None:
    """One resource is never answered; everybody else is, and the one ends as a dead letter that lives again.

    It belongs to a connected account, because a list would show it all the same, and be asked.
    """

    async def story() -> None:
        clock = ManualClock(START)
        connected = World(seed=3, clock=clock, account="acct_connected")
        server = SandboxServer(World(seed=2, clock=clock), connected=[connected])
        async with looping(url, clock=clock, shops={"main": server}) as loop:
            poison = connected.payments.create(666)["id"]
            ref = loop.ref("payment_intent", f"acct_connected/{poison}")
            loop.server.set_faults(FaultPlan.parse({fault: {"rate": 1.0, "only": poison}}))
            await loop.mark(ref, cause=Cause.WEBHOOK)
            for number in range(60):
                loop.world.payments.create(1_000 + number)
                await loop.deliver_all()
                await loop.run_for(20 * SECOND)
                assert loop.unlike_truth() == [], f"round {number}"
            assert loop.dead() == {ref.id}
            assert loop.gates() == {}
            assert loop.known(ref).attempts == RetryPolicy().attempts
            assert loop.known(ref).dirty
            loop.server.set_faults(NO_FAULTS)
            await loop.mark(ref)
            await loop.settle()
            assert loop.dead() == set()
            assert loop.known(ref).state is State.PRESENT

    asyncio.run(story())


def test_a_resource_that_answers_500_for_ever_blocks_nobody_and_becomes_a_dead_letter(url: str) -> None:
    tell_of_poison(url, "server_error")


def test_a_resource_that_answers_half_a_document_blocks_nobody_and_becomes_a_dead_letter(url: str) -> None:
    tell_of_poison(url, "malformed_answer")


def test_a_resource_that_is_forbidden_alone_blocks_nobody_for_long_and_becomes_a_dead_letter(url: str) -> None:
    tell_of_poison(url, "deny")


def test_poison_in_a_quiet_account_is_not_called_dead_while_nothing_else_says_that_the_provider_is_there(
    url: str,
) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            only = loop.world.payments.create(666)["id"]
            loop.server.set_faults(FaultPlan(server_error=Chance(1.0)))
            await loop.deliver_all()
            await loop.run_for(2 * HOUR)
            assert loop.dead() == set()
            loop.server.set_faults(NO_FAULTS)
            await loop.run_for(31 * MINUTE)
            assert loop.unlike_truth() == []
            assert loop.reads_of(only) < 120

    asyncio.run(story())


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


# --- lists that do not help -----------------------------------------------------------------------


def test_what_a_failing_list_was_walked_for_is_read_singly_and_not_blamed(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            ids = await known_payments(loop, 30)
            loop.server.set_faults(FaultPlan.parse({"server_error": {"only": "GET /v1/payment_intents"}}))
            await loop.mark(*refs(loop, ids))
            await loop.run_for(10 * SECOND)
            assert loop.dirty() == []
            assert loop.server.journal.count("GET /v1/payment_intents", 500) == 1

    asyncio.run(story())


def test_what_no_list_shows_is_read_singly_and_not_walked_for_again(url: str) -> None:
    """Resources of connected accounts are in no list of the platform's."""

    async def story() -> None:
        clock = ManualClock(START)
        connected = World(seed=3, clock=clock, account="acct_connected")
        server = SandboxServer(World(seed=2, clock=clock), connected=[connected])
        async with looping(url, clock=clock, shops={"main": server}) as loop:
            ids = [f"acct_connected/{connected.payments.create(1_000 + n)['id']}" for n in range(30)]
            await loop.mark(*refs(loop, ids))
            await loop.settle()
            server.journal.clear()
            await loop.mark(*refs(loop, ids))
            await loop.run_for(10 * SECOND)
            assert loop.dirty() == []
            assert server.journal.count("GET /v1/payment_intents") == 1
            assert server.journal.count("GET /v1/payment_intents/{id}") == 30

    asyncio.run(story())


# --- ends and beginnings --------------------------------------------------------------------------


def test_a_clean_stop_gives_back_what_it_cannot_finish(ledger_url: str) -> None:
    async def story() -> None:
        async with looping(ledger_url, worker=WorkerSettings(drain=timedelta(seconds=0.3))) as loop:
            ids = await known_payments(loop, 4)
            loop.server.set_faults(FaultPlan(hang=Chance(1.0), hang_seconds=600))
            await loop.mark(*refs(loop, ids))
            await loop.transport.until_sent()
            await loop.node.stop()
            assert loop.gates() == {}, "it waited for no answer: an unanswered read stops the account"
            assert loop.ledger.lease_owners() == []
            left = [loop.known(ref) for ref in refs(loop, ids)]
            assert all(each.dirty and each.attempts == 0 and each.due_at == loop.now() for each in left)

    asyncio.run(story())


def test_a_killed_workers_claims_do_not_wait_for_their_leases(url: str) -> None:
    """Its next life on the same machine ends them."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    async def story() -> None:
        owner = f"{socket.gethostname()}:{ended.pid}:0"
        async with looping(url, owner=owner) as loop:
            ids = await known_payments(loop, 6)
            loop.server.set_faults(FaultPlan(hang=Chance(1.0)))
            await loop.mark(*refs(loop, ids))
            await loop.transport.until_sent()
            await loop.node.kill()
            loop.nodes.clear()
            loop.server.set_faults(NO_FAULTS)
            assert loop.ledger.lease_owners() == [owner]
            await loop.add_node(owner="next:1:0")
            await loop.quiet()
            assert loop.dirty() == []

    asyncio.run(story())


def test_a_late_answer_of_a_worker_whose_lease_has_ended_changes_nothing(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            [intent] = await known_payments(loop, 1)
            ref = loop.ref("payment_intent", intent)
            account = loop.account
            await loop.node.kill()
            loop.nodes.clear()
            await loop.commit.call(lambda ledger: ledger.mark([Mark(ref, Cause.MANUAL)], loop.now()))
            [claim] = await loop.commit.call(
                lambda ledger: ledger.claim(
                    "main", "payment_intent", 1, owner="slow:1:0", count=1, lease=MINUTE, now=loop.now()
                )
            )
            loop.advance(2 * MINUTE)
            await loop.add_node()
            await loop.settle()
            before = loop.known(ref)
            loop.world.edits.metadata(intent, order="late")

            async def never(_endpoint: str) -> bool:
                return False

            await account.fetcher.fetch(account.provider.kinds["payment_intent"], [claim], never)
            assert loop.known(ref) == before

    asyncio.run(story())


def test_a_stop_waits_for_reads_that_end_in_time(url: str) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow(Stripe):
        async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
            asked.set()
            await answer.wait()
            return await super().fetch(refs)

    async def story() -> None:
        async with looping(url, provider=Slow, worker=WorkerSettings(drain=timedelta(minutes=5))) as loop:
            intent = loop.ref("payment_intent", loop.world.payments.create(1_000)["id"])
            await loop.mark(intent)
            await asked.wait()
            stopping = asyncio.create_task(loop.node.stop())
            for _ in range(50):
                await asyncio.sleep(0)
            assert not stopping.done()
            answer.set()
            await stopping
            assert loop.known(intent).state is State.PRESENT
            assert loop.dirty() == []

    asyncio.run(story())


def test_claims_that_cannot_be_given_back_end_with_their_leases(url: str) -> None:
    async def story() -> None:
        async with looping(url, worker=WorkerSettings(drain=timedelta(0))) as loop:
            [intent] = refs(loop, await known_payments(loop, 1))
            loop.server.set_faults(FaultPlan(hang=Chance(1.0), hang_seconds=600))
            await loop.mark(intent)
            await loop.transport.until_sent()

            def refuse() -> None:
                raise LedgerUnavailable("the disk is full")

            loop.commit.before_call = refuse
            await loop.node.stop()
            loop.commit.before_call = lambda: None
            assert loop.ledger.lease_owners() == [loop.node.owner]
            loop.server.set_faults(NO_FAULTS)
            stopped = loop.now()
            await loop.add_node()
            await loop.settle()
            assert loop.now() - stopped >= WorkerSettings().lease, "nobody took it before its time"
            assert loop.dirty() == []

    asyncio.run(story())


def test_a_worker_that_starts_while_the_ledger_is_away_works_once_it_is_back(url: str) -> None:
    async def story() -> None:
        async with looping(url, work=False) as loop:
            away = 2

            def refuse() -> None:
                nonlocal away
                if away:
                    away -= 1
                    raise LedgerUnavailable("the database starts")

            loop.world.payments.pay(5_000)
            await loop.deliver_all()
            loop.commit.before_call = refuse
            loop.node.start()
            await loop.settle()
            assert away == 0
            assert loop.unlike_truth() == []

    asyncio.run(story())


def test_what_another_transaction_holds_is_claimed_when_it_lets_go(postgres_ledger_url: str) -> None:
    """The lane is due and not one row of it can be had: nothing is read, nothing of the budget is spent."""
    looks, looked = 0, asyncio.Event()

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 4:
            looked.set()

    async def story() -> None:
        async with looping(postgres_ledger_url) as loop:
            intent = loop.ref("payment_intent", loop.world.payments.create(1_000)["id"])
            other = loop.ledger.store.beside()
            with other.write() as tx:
                tx.be_patient()
                await loop.commit.call(lambda ledger: ledger.mark([Mark(intent, Cause.MANUAL)], loop.now()))
                tx.run(text("SELECT id FROM resource FOR UPDATE"))
                loop.commit.before_call = look
                loop.node.worker.wake()
                await asyncio.wait_for(looked.wait(), 120)
                assert loop.reads_of(intent.id) == 0
            await loop.settle()
            assert loop.reads_of(intent.id) == 1
            assert loop.ledger.reads_used("main", period=DAY, now=loop.now()) == 1

    asyncio.run(story())


def test_a_turn_that_ends_in_an_error_of_ours_is_followed_by_the_next(url: str) -> None:
    async def story() -> None:
        async with looping(url, work=False) as loop:
            flaws = 3

            def fail() -> None:
                nonlocal flaws
                if flaws:
                    flaws -= 1
                    raise ZeroDivisionError("a bug")

            loop.node.start()
            await loop.quiet()
            loop.commit.before_call = fail
            loop.world.payments.pay(5_000)
            await loop.deliver_all()
            await loop.settle()
            assert flaws == 0
            assert loop.unlike_truth() == []
            await loop.node.stop()
            assert loop.node.worker.idle.is_set(), "who has nothing to do stops at once"

    asyncio.run(story())


def test_an_answer_that_the_ledger_could_not_take_is_asked_for_again_when_its_lease_ends(url: str) -> None:
    class Answering(Stripe):
        answers = 0

        async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
            readings = await super().fetch(refs)
            Answering.answers += 1
            return readings

    async def story() -> None:
        async with looping(url, provider=Answering) as loop:

            def refuse() -> None:
                if Answering.answers == 1:
                    Answering.answers += 1
                    raise LedgerUnavailable("the disk is full")

            loop.commit.before_call = refuse
            intent = loop.ref("payment_intent", loop.world.payments.create(1_000)["id"])
            marked = loop.now()
            await loop.mark(intent)
            await loop.settle()
            assert loop.now() - marked >= WorkerSettings().lease
            assert loop.reads_of(intent.id) == 2
            assert loop.known(intent).state is State.PRESENT

    asyncio.run(story())


class Batching(Stripe):
    """Takes three customers with one request, and answers for none of them unless it is asked for one alone."""

    sizes: ClassVar[list[int]] = []

    kinds: ClassVar[Mapping[str, Kind]] = {
        name: replace(kind, id_batch=3, gather=2 * SECOND) for name, kind in Stripe.kinds.items()
    }

    async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
        Batching.sizes.append(len(refs))
        return await super().fetch(refs) if len(refs) == 1 else ()


def test_what_an_answer_left_out_is_read_alone_and_no_more_of_it_than_the_budget_pays(url: str) -> None:
    async def story() -> None:
        Batching.sizes.clear()
        async with looping(url, provider=Batching, worker=WorkerSettings(concurrency=1)) as loop:
            customers = [loop.ref("customer", loop.world.customers.create()["id"]) for _ in range(3)]
            marked = loop.now()
            await loop.mark(customers[0])
            assert Batching.sizes == [], "more may come within the time for which they are gathered"
            loop.advance(SECOND)
            await loop.mark(*customers[1:])
            await loop.settle()
            assert loop.now() - marked >= 2 * SECOND
            assert Batching.sizes == [3, 1, 1, 1]
            assert loop.under_way.most_requests == 1
            assert loop.ledger.reads_used("main", period=DAY, now=loop.now()) == 4
            assert [loop.known(each).state for each in customers] == [State.PRESENT] * 3

    asyncio.run(story())
