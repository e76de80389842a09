"""How the worker stops, starts, and meets a ledger or a lock that is not there for it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

from sqlalchemy import text

from providers.sandbox import Chance, FaultPlan
from providers.stripe import Stripe
from reconciler.ahead import Read
from reconciler.errors import LedgerUnavailable
from reconciler.ledger import Claim, Mark, Outcome
from reconciler.model import Cause, Priority, Reading, ResourceRef, State
from reconciler.provider import Kind, Limit
from reconciler.worker import WorkerSettings
from tests.databases import until_somebody_waits
from tests.loop.harness import DAY, MINUTE, SECOND, looping
from tests.loop.payments import NO_FAULTS, known_payments, refs

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


def test_what_no_request_was_sent_for_is_given_back_with_what_was_paid_for_it(ledger_url: str) -> None:
    async def story() -> None:
        async with looping(ledger_url) as loop:
            await loop.node.stop()
            fetcher, limit = loop.node.accounts["main"].fetcher, {"here": Limit(1.0, 1)}
            fetcher.budget.limits = limit
            of = ResourceRef("stripe", "main", "charge", "ch_1")
            loop.ledger.mark([Mark(of, Cause.WEBHOOK)], loop.now())

            def take() -> tuple[int, list[Claim]]:
                drawn, _ = loop.ledger.requests.draw(
                    "main", "here", limit, want=1, priority=Priority.LIVE, now=loop.now()
                )
                claims = loop.ledger.claim(
                    "main", "charge", Priority.LIVE.value, owner="node", count=5, lease=MINUTE, now=loop.now()
                )
                return drawn, claims

            for _ in range(2):
                drawn, [claim] = take()
                assert (drawn, claim.attempts) == (1, 1)
                assert take() == (0, [])
                await fetcher.put_back([_unsent(claim)])
                await fetcher.put_back([_unsent(claim)])  # whoever never heard of the commit says it again
            assert loop.ledger.requests.reads_used("main", period=DAY, now=loop.now()) == 0

    asyncio.run(story())


def _unsent(claim: Claim) -> Read:
    return Read("main", [claim], frozenset(), Priority.LIVE, "here", 0.0, lambda _: asyncio.sleep(0))


def test_what_goes_back_waits_for_no_resource_with_the_budget_in_its_hands(postgres_ledger_url: str) -> None:
    """A page's commit locks its rows and then draws for the next one: each would wait for the other."""

    async def story() -> None:
        async with looping(postgres_ledger_url) as loop:
            await loop.node.stop()
            fetcher, limit = loop.node.accounts["main"].fetcher, {"here": Limit(1.0, 10)}
            fetcher.budget.limits = limit
            refs = [ResourceRef("stripe", "main", "charge", each) for each in ("ch_1", "ch_2", "ch_3")]
            loop.ledger.mark([Mark(each, Cause.WEBHOOK) for each in refs], loop.now())
            loop.ledger.requests.draw("main", "here", limit, want=3, priority=Priority.LIVE, now=loop.now())
            claims = loop.ledger.claim(
                "main", "charge", Priority.LIVE.value, owner="node", count=5, lease=MINUTE, now=loop.now()
            )
            with loop.ledger.store.beside().write() as page:
                page.be_patient()
                page.run(text("SELECT id FROM resource WHERE remote_id = 'ch_2' FOR UPDATE"))
                going_back = asyncio.create_task(fetcher.put_back([_unsent(claim) for claim in claims]))
                await asyncio.to_thread(until_somebody_waits, postgres_ledger_url)
                free = page.run(text("SELECT endpoint FROM bucket ORDER BY endpoint FOR UPDATE NOWAIT")).all()
                assert [each.endpoint for each in free] == ["", "here"]
            await going_back
            assert loop.ledger.requests.reads_used("main", period=DAY, now=loop.now()) == 0
            assert loop.ledger.lease_owners() == []

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

    async def story() -> None:
        async with looping(postgres_ledger_url) as loop:
            intent = loop.ref("payment_intent", loop.world.payments.create(1_000)["id"])
            other = loop.ledger.store.beside()
            with other.write() as tx:
                tx.be_patient()
                await loop.commit.call(lambda ledger: ledger.mark([Mark(intent, Cause.MANUAL)], loop.now()))
                tx.run(text("SELECT id FROM resource FOR UPDATE"))
                loop.node.worker.wake()
                looks = loop.commit.calls
                for _ in range(3):
                    await loop.quiet()
                    loop.advance(SECOND)
                await loop.quiet()
                assert loop.commit.calls - looks == 4
                assert loop.reads_of(intent.id) == 0
            await loop.settle()
            assert loop.reads_of(intent.id) == 1
            assert loop.ledger.requests.reads_used("main", period=DAY, now=loop.now()) == 1

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
            assert loop.ledger.requests.reads_used("main", period=DAY, now=loop.now()) == 4
            assert [loop.known(each).state for each in customers] == [State.PRESENT] * 3

    asyncio.run(story())


class Reaching(Batching):
    """Answers for the first of those that it is asked for, as a list does that begins there."""

    kinds: ClassVar[Mapping[str, Kind]] = {
        name: replace(kind, batch_reaches=False) for name, kind in Batching.kinds.items()
    }

    async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
        Batching.sizes.append(len(refs))
        return await Stripe.fetch(self, refs[:1])


def test_what_lies_beyond_an_answers_end_is_asked_for_in_another_batch(url: str) -> None:
    async def story() -> None:
        Batching.sizes.clear()
        async with looping(url, provider=Reaching, worker=WorkerSettings(concurrency=1)) as loop:
            customers = [loop.ref("customer", loop.world.customers.create()["id"]) for _ in range(4)]
            await loop.mark(*customers)
            await loop.settle()
            assert Batching.sizes == [3, 3, 2, 1]
            assert [loop.known(each).state for each in customers] == [State.PRESENT] * 4

    asyncio.run(story())


class Along(Stripe):
    """Shows something else with whatever it is asked for."""

    also: ClassVar[list[ResourceRef]] = []

    async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
        return [*await super().fetch(refs), *(await super().fetch(Along.also) if Along.also else ())]


def test_what_came_along_with_an_answer_is_reported_too(url: str) -> None:
    async def story() -> None:
        Along.also.clear()
        async with looping(url, provider=Along) as loop:
            asked_for, other = refs(loop, await known_payments(loop, 2))
            loop.world.edits.metadata(other.id, order="paid twice")
            Along.also.append(other)
            loop.applied.clear()
            await loop.mark(asked_for)
            await loop.settle()
            reported = {each.ref: (each.outcome, each.version) for each in loop.applied}
            assert reported[other] == (Outcome.CHANGED, 2)
            assert reported[asked_for] == (Outcome.UNCHANGED, 1)

    asyncio.run(story())
