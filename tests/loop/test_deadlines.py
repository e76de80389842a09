"""Deadlines are looked at every few seconds; a look that finds nothing costs a question and no commit."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from reconciler.deadlines import RECORDED_EVERY, Lookout
from reconciler.ledger.jobs import JobState
from reconciler.model import ResourceRef
from tests.loop.harness import MINUTE, SECOND, Loop, looping

RULE = 5 * MINUTE


def recorded(loop: Loop) -> JobState:
    """As the ledger has it: a lease that is taken and ended leaves other times."""
    with loop.ledger.view() as view:
        (job,) = (each for each in view.jobs() if each.name == "deadlines/main")
    return job


async def looked(loop: Loop, span: timedelta) -> None:
    """So long, a look every five seconds."""
    end = loop.now() + span
    while loop.now() < end:
        loop.advance(5 * SECOND)
        due = await loop.node.runner.run(loop.node.jobs["deadlines/main"])
        assert due is not None
        assert due <= loop.now() + 5 * SECOND


def test_looks_that_find_nothing_are_recorded_once_a_minute(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=()) as loop:
            await loop.run_job("deadlines/main")
            first = recorded(loop)
            await looked(loop, RECORDED_EVERY - 5 * SECOND)
            assert recorded(loop) == first
            await looked(loop, 5 * SECOND)
            assert recorded(loop).finished_at == loop.now()

    asyncio.run(story())


def test_what_passes_its_deadline_between_two_recorded_runs_is_found_by_the_next_look(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=()) as loop:
            payment = loop.world.payments.create(800)["id"]
            loop.world.payments.process(payment)
            await loop.deliver_all()
            await loop.settle()
            ref = loop.ref("payment_intent", payment)
            before = loop.known(ref).generation
            created = loop.known(ref).created_at
            assert created is not None
            await looked(loop, created + RULE - 5 * SECOND - loop.now())
            assert loop.known(ref).generation == before
            await looked(loop, 10 * SECOND)
            assert loop.known(ref).generation == before + 1

    asyncio.run(story())


def test_an_answer_is_shared_by_those_that_ask_within_a_second(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=()) as loop:
            lookout = Lookout(loop.commit, loop.clock)
            lookout.add("main", [])
            lookout.add("other", [])
            assert list(await asyncio.gather(lookout.sees("main"), lookout.sees("other"))) == [False, False]
            for account in ("main", "other", "third"):
                of = ResourceRef("stripe", account, "charge", "ch_1")
                loop.ledger.expect(of, due_at=loop.now(), note="", now=loop.now())
            assert list(await asyncio.gather(lookout.sees("main"), lookout.sees("other"))) == [False, False]
            loop.advance(0.9 * SECOND)
            assert not await lookout.sees("main")
            lookout.add("third", [])
            assert await lookout.sees("third"), "of which no answer speaks that is older than it"
            loop.advance(SECOND)
            assert list(await asyncio.gather(lookout.sees("other"), lookout.sees("nobody"))) == [True, False]

    asyncio.run(story())


def test_what_is_seen_is_seen_by_the_next_who_asks_a_second_later(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=()) as loop:
            lookout = Lookout(loop.commit, loop.clock)
            lookout.add("main", [])
            assert not await lookout.sees("main")
            loop.ledger.expect(loop.ref("charge", "ch_1"), due_at=loop.now(), note="", now=loop.now())
            loop.advance(0.9 * SECOND)
            assert not await lookout.sees("main"), "asked of the ledger again after a whole second only"
            loop.advance(0.1 * SECOND)
            assert await lookout.sees("main")

    asyncio.run(story())
