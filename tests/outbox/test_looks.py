"""How often the outbox and the feed look: what changes nothing for anybody is not asked of the ledger."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from reconciler.app.reading import ring_if_changed
from reconciler.ledger import Applied, Ledger, Outcome, open_ledger
from reconciler.ledger.subscriptions import Subscription
from reconciler.model import Cause
from reconciler.outbox.bell import Bell
from reconciler.outbox.keys import Keys
from reconciler.outbox.metrics import OutboxMetrics
from reconciler.outbox.placing import Placer, place
from reconciler.outbox.pool import Pool, PoolSettings
from reconciler.outbox.sending import Sender
from reconciler.provider import Reply, Request
from tests.ledger.factories import ref, settle, snapshot
from tests.outbox.harness import BASE_URL, SECRET
from tests.outbox.virtual import Counted, virtual_loop
from tests.simulation.loop import SimulatedClock, SimulatedLoop

POLL = timedelta(seconds=10)


class Subscribed:
    """A subscriber without a socket, who takes everything."""

    def __init__(self) -> None:
        self.told_at: list[float] = []

    async def send(self, _: Request) -> Reply:
        self.told_at.append(asyncio.get_running_loop().time())
        return Reply(204, {}, b"")


class Node:
    """What stores, on a virtual clock."""

    def __init__(self, ledger: Ledger, loop: SimulatedLoop) -> None:
        self.ledger = ledger
        self.clock = SimulatedClock(loop)
        self.commit = Counted(ledger, loop)
        self.applied, self.placed = Bell(), Bell()
        self.subscribed = Subscribed()

    async def change(self, name: str) -> None:
        now = self.clock.now()
        await self.commit.call(lambda ledger: settle(ledger, ref(name), snapshot(ref(name)), now))
        self.applied.ring()

    async def change_often(self) -> None:
        """Ten times within two seconds."""
        for number in range(10):
            await self.change(f"ch_{number}")
            await asyncio.sleep(0.2)

    def declare(self, *names: str) -> None:
        declared = [Subscription(name, "https://erp.example/hook") for name in names]
        self.ledger.telling.declare(declared, self.clock.now())

    @asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        """Whoever subscribed is told, from here on."""
        pool = Pool(
            self.commit,
            self.clock,
            Sender(self.subscribed, self.subscribed, self.clock),
            Keys({"erp": [SECRET]}, None),
            lambda: BASE_URL,
            self.applied,
            OutboxMetrics(CollectorRegistry()),
            owner="node",
            settings=PoolSettings(poll=POLL),
            rng=random.Random(1),
        )
        running = asyncio.create_task(pool.run())
        try:
            await asyncio.sleep(0.5)
            yield
        finally:
            pool.stop()
            await running

    @asynccontextmanager
    async def placing(self) -> AsyncIterator[None]:
        """Changes get their positions, from here on."""
        running = asyncio.create_task(Placer(self.commit, self.applied, self.placed).run())
        try:
            await asyncio.sleep(0.5)
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def lived(url: str, story: Callable[[Node], Coroutine[Any, Any, None]]) -> None:
    with virtual_loop() as loop, closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()
        loop.run_until_complete(story(Node(ledger, loop)))


# --- the outbox -------------------------------------------------------------------------------------


def test_changes_bring_no_look_while_nobody_subscribes(ledger_url: str) -> None:
    async def story(node: Node) -> None:
        async with node.telling():
            before = node.commit.reads
            await node.change_often()
            assert node.commit.reads == before

    lived(ledger_url, story)


def test_who_subscribes_is_found_by_the_next_poll_and_then_told_at_once(ledger_url: str) -> None:
    async def story(node: Node) -> None:
        async with node.telling():
            node.declare("erp")
            await node.change("ch_1")
            await asyncio.sleep(POLL.total_seconds())
            assert len(node.subscribed.told_at) == 1
            changed_at = node.clock.monotonic()
            await node.change("ch_2")
            await asyncio.sleep(1)
            (_, told_at) = node.subscribed.told_at
            assert told_at - changed_at < 0.5

    lived(ledger_url, story)


def test_who_leaves_is_looked_for_no_more(ledger_url: str) -> None:
    async def story(node: Node) -> None:
        node.declare("erp")
        async with node.telling():
            await node.change_often()
            assert len(node.subscribed.told_at) == 10
            node.declare()
            await asyncio.sleep(POLL.total_seconds() + 1)
            before = node.commit.reads
            await node.change_often()
            assert node.commit.reads == before

    lived(ledger_url, story)


@pytest.mark.parametrize("outcome", Outcome)
def test_only_what_changed_is_announced(outcome: Outcome) -> None:
    rung: list[Outcome] = []

    class Heard(Bell):
        def ring(self) -> None:
            rung.append(outcome)

    async def story() -> None:
        unchanged = Applied(ref("ch_1"), Outcome.UNCHANGED, 1, Cause.SWEEP, dirty=False)
        ring_if_changed(Heard(), [unchanged, Applied(ref("ch_2"), outcome, 1, Cause.SWEEP, dirty=False), unchanged])
        ring_if_changed(Heard(), [])

    asyncio.run(story())
    assert rung == ([outcome] if outcome is Outcome.CHANGED else [])


# --- the feed ---------------------------------------------------------------------------------------


def test_a_change_that_was_heard_of_is_placed_and_passed_on_without_a_look(ledger_url: str) -> None:
    async def story(node: Node) -> None:
        async with node.placing():
            before = node.commit.reads
            heard = node.placed.listen()
            await node.change("ch_1")
            assert await heard.wait(0.5)
            await asyncio.sleep(0.5)
            assert node.commit.reads == before
            assert node.ledger.changes.head().position == 1

    lived(ledger_url, story)


def test_what_somebody_else_stored_is_placed_by_the_poll(postgres_ledger_url: str) -> None:
    async def story(node: Node) -> None:
        async with node.placing():
            settle(node.ledger, ref("ch_1"), snapshot(ref("ch_1")), node.clock.now())
            await asyncio.sleep(1.5)
            assert node.ledger.changes.head().position == 1
            calls = node.commit.calls
            await asyncio.sleep(10)
            assert node.commit.calls == calls, "a ledger where nothing waits for its place is only read"

    lived(postgres_ledger_url, story)


def test_where_changes_are_placed_as_they_are_stored_nothing_is_asked(sqlite_ledger_url: str) -> None:
    async def story(node: Node) -> None:
        async with node.placing():
            settle(node.ledger, ref("ch_1"), snapshot(ref("ch_1")), node.clock.now())
            await asyncio.sleep(10)
            assert await place(node.commit) == 0
            assert (node.commit.reads, node.commit.calls) == (0, 0)
            assert node.ledger.changes.head().position == 1

    lived(sqlite_ledger_url, story)
