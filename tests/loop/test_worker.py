"""The worker's promises: at once, bounded, and never stopped by one resource, one account or one bad hour."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from providers.sandbox import Chance, FaultPlan, SandboxServer, World
from providers.stripe import Stripe
from reconciler.clock import ManualClock
from reconciler.errors import LedgerUnavailable
from reconciler.model import Cause, State
from reconciler.provider import Limit
from reconciler.retry import RetryPolicy
from reconciler.worker import WorkerSettings, wait_for
from tests.loop.harness import HOUR, MINUTE, SECOND, START, looping
from tests.loop.payments import NO_FAULTS, known_payments, refs

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
