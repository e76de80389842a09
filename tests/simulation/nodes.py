"""Processes of ours: the real intake, worker, scheduler and sweeps, and the machines that they live and die on."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry
from sqlalchemy.exc import OperationalError

from providers.sandbox.post import PostFailed
from reconciler.app.reading import ring_if_changed
from reconciler.backfill import Backfill, Request
from reconciler.fetcher import FetchSettings
from reconciler.intake import Head, Intake, IntakeMetrics
from reconciler.intake.asgi import Answer
from reconciler.ledger import GroupCommit, Ledger, Store
from reconciler.outbox.bell import Bell
from reconciler.outbox.keys import Keys
from reconciler.outbox.metrics import OutboxMetrics
from reconciler.outbox.pool import Pool, PoolSettings
from reconciler.outbox.sending import Sender
from reconciler.outbox.watch import Watch
from reconciler.taking import IDLE_POLL
from reconciler.web.bearer import Bearer, Grants
from reconciler.web.changes import CHANGES, CHANGES_SCOPE, WHOLE_SCOPE, ChangesDoor
from reconciler.worker import WorkerSettings, wait_for
from tests.ledger.seams import Crash, Faults
from tests.loop.wiring import Node, Setup, Wiring
from tests.simulation.checked import Checked, checked
from tests.simulation.listening import SIGNING_SECRET, SUBSCRIPTIONS, TOKEN, Subscribers, policy_of
from tests.simulation.loop import EPOCH, Process, SimulatedClock, SimulatedLoop
from tests.simulation.oracle import Oracle
from tests.simulation.scenario import Scenario
from tests.simulation.shop import Shop

T = TypeVar("T")


def jobs_of(scenario: Scenario) -> tuple[str, ...]:
    whats = ("recent", "complete", "known", "open", "members")
    listed = (f"{what}/main/{kind}" for what in whats for kind in scenario.kinds)
    return ("deadlines", "feed", "counts", "outbox", *listed)


_OURS = "https://books.example"

Broken = Callable[["Life"], None]


@dataclass(slots=True)
class Trouble:
    """What a machine's database and power do; set by incidents."""

    away_until: float = 0.0
    full_until: float = 0.0
    crash_at: int | None = None
    """Number of the statement, in the next commit, in whose place the process dies."""
    crash_after_commit: bool = False


class LedgerDoor(Executor):
    """The thread that statements run on, as a callback on the simulated loop; and all that can happen to them."""

    def __init__(self, host: Host, dice: random.Random) -> None:
        self._host = host
        self._dice = dice

    def submit(self, act: Callable[..., T], /, *args: Any, **more: Any) -> Future[T]:
        future: Future[T] = Future()
        host = self._host
        host.loop.call_later(self._delay(), self._run, host.life, future, act, args, more)
        return future

    def _delay(self) -> float:
        """Seconds; a disk that stalls, or another's lock, now and then takes longer than a lease."""
        if self._host.steady or self._dice.random() < 0.99:
            return self._dice.uniform(0.0005, 0.02)
        return self._dice.choice([1.0, 4.0, 14.0])

    def _run(
        self, life: Life | None, future: Future[T], act: Callable[..., T], args: tuple[Any, ...], more: dict[str, Any]
    ) -> None:
        host, faults = self._host, self._host.faults
        trouble, now = host.trouble, host.loop.time()
        if now < trouble.away_until:
            faults.arm(0, _error("the connection was refused"))
        elif now < trouble.full_until:
            faults.arm(0, _error("database or disk is full"))
        elif trouble.crash_at is not None:
            faults.arm(trouble.crash_at, Crash)
            trouble.crash_at = None
        struck_before = faults.fail_before
        try:
            result = act(*args, **more)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        crashed = (
            struck_before is not None and not faults.disarm() and now >= max(trouble.away_until, trouble.full_until)
        )
        host.oracle.committed()
        if crashed or trouble.crash_after_commit:
            trouble.crash_after_commit = False
            host.die(life)


def _error(words: str) -> Callable[[], BaseException]:
    return lambda: OperationalError("(simulated)", {}, sqlite3.OperationalError(words))


@dataclass(eq=False)
class Life:
    """One process, from its start to its end."""

    process: Process
    wiring: Wiring
    node: Node
    intake: Intake
    ledger: Checked
    changes: ChangesDoor
    connections: set[asyncio.Future[int]] = field(default_factory=set)
    """Deliveries that it has not answered, also those whose sender has given up waiting."""
    questions: set[asyncio.Future[tuple[int, bytes]]] = field(default_factory=set)
    """Of readers of the feed."""


class Host:
    """A machine that runs one process of ours after the other."""

    def __init__(
        self,
        number: int,
        scenario: Scenario,
        loop: SimulatedLoop,
        shop: Shop,
        store: Store,
        faults: Faults,
        oracle: Oracle,
        subscribers: Subscribers,
        mutant: Mutant,
    ) -> None:
        self.number = number
        self.loop = loop
        self.faults = faults
        self.oracle = oracle
        self.trouble = Trouble()
        self.clock = SimulatedClock(loop, timedelta(seconds=scenario.node_skew * number))
        self._scenario = scenario
        self._shop = shop
        self._store = store
        self._subscribers = subscribers
        self._mutant = mutant
        self._dice = random.Random(f"host/{scenario.seed}/{number}")
        self.steady = not scenario.rates
        """Whether nothing ever takes unusually long here."""
        self.lives: list[Life] = []
        self.life: Life | None = None

    # --- life and death ---

    def calm_down(self, calm: Scenario) -> None:
        """A restart, as of somebody who has changed the configuration: from now on at a quiet shop's pace."""
        self._scenario = calm
        self.die(self.life)
        self.start()

    def start(self) -> None:
        if self.life is not None:
            return
        process = Process(f"node{self.number}:1:{len(self.lives):x}")
        process.context.run(self._begin, process)

    def _begin(self, process: Process) -> None:
        ledger = checked(self._mutant.ledger, self._store, self.oracle)
        ledger.changes.places_later = self._scenario.placed_late  # as on Postgres, on the simulation's SQLite
        thread = LedgerDoor(self, random.Random(f"door/{self._scenario.seed}/{process.name}"))
        commit = self._mutant.commit(ledger, self.clock, thread=thread, readers=thread)
        setup = Setup(
            policy=self._scenario.policy,
            sweeps=self._scenario.sweeps,
            fetch=FetchSettings(lease=self._scenario.lease),
            worker=WorkerSettings(lease=self._scenario.lease),
            jobs=jobs_of(self._scenario),
            seed=self._dice.randrange(1 << 30),
        )
        applied = Bell()
        wiring = Wiring(
            setup,
            {"main": self._shop.reader(self._mutant.provider)},
            self.clock,
            commit,
            self._shop,
            wait=self._wait,
            on_applied=partial(ring_if_changed, applied),
        )
        metrics = OutboxMetrics(CollectorRegistry())
        watch = Watch(commit, self.clock, metrics, disable_after=timedelta(days=5), keep=self._scenario.keep)
        node = Node(wiring, process.name, [watch.periodic()])
        grants = Grants(Bearer([TOKEN]), [CHANGES_SCOPE, WHOLE_SCOPE])
        changes = ChangesDoor(commit, self.clock, grants, lambda: _OURS, applied, lambda _ledger, _wanted: None)
        providers = {name: each.provider for name, each in node.accounts.items()}
        intake = Intake(providers, commit, self.clock, IntakeMetrics(CollectorRegistry()))
        commit.on_marked = node.worker.wake
        life = self.life = Life(process, wiring, node, intake, ledger, changes)
        self.lives.append(life)
        node.start()
        self.loop.create_task(self._pool(commit, applied, metrics, process.name).run())
        self.loop.create_task(self._tick(node))

    def _pool(self, commit: GroupCommit, applied: Bell, metrics: OutboxMetrics, owner: str) -> Pool:
        return Pool(
            commit,
            self.clock,
            Sender(self._subscribers, self._subscribers, self.clock),
            Keys({each.name: [SIGNING_SECRET] for each in SUBSCRIPTIONS}, None),
            lambda: _OURS,
            applied,
            metrics,
            owner=owner,
            policy=policy_of(self._scenario),
            settings=PoolSettings(lease=self._scenario.lease, poll=IDLE_POLL * self._scenario.stretch),
            rng=random.Random(self._dice.randrange(1 << 30)),
        )

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        """As the product waits; a mere poll is stretched where a scenario is about weeks."""
        poll = IDLE_POLL.total_seconds()
        await wait_for(event, seconds * self._scenario.stretch if seconds >= poll else seconds)

    async def _tick(self, node: Node) -> None:
        """In APScheduler's place: a tick for each job that is due, and one now and then for what others made due."""
        while True:
            await node.scheduler.tick()
            due = node.scheduler.next_due
            wait = 10.0 if due is None else (due - self.clock.now()).total_seconds()
            await asyncio.sleep(min(max(wait, 0.25), 10.0 * self._scenario.stretch))

    def die(self, life: Life | None) -> None:
        """As by SIGKILL: nothing of it runs ever again, and its connections break."""
        if life is None or life is not self.life:
            return
        self.loop.kill(life.process)
        self.life = None
        self.oracle.doubtful += len(life.connections)
        for connection in life.connections:
            if not connection.done():
                connection.set_exception(PostFailed("the connection was reset"))
        for question in life.questions:
            if not question.done():
                question.set_exception(PostFailed("the connection was reset"))

    def pause(self, seconds: float) -> None:
        if self.life is not None:
            self.loop.pause(self.life.process, seconds)

    # --- what reaches it ---

    async def deliver(self, path: str, headers: Mapping[str, str], body: bytes, event_id: str | None, cut: bool) -> int:
        """One delivery, handled by the process that lives now. Raises PostFailed when it dies of it, or before."""
        life = self.life
        if life is None:
            raise PostFailed("the connection was refused")
        answer: asyncio.Future[int] = self.loop.create_future()
        life.connections.add(answer)
        self.loop.create_task(
            self._receive(life, path, headers, body, event_id, cut, answer), context=life.process.context
        )
        return await answer

    async def _receive(
        self,
        life: Life,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        event_id: str | None,
        cut: bool,
        answer: asyncio.Future[int],
    ) -> None:
        def reply(given: Answer) -> None:
            self.oracle.answered(event_id, given.status)
            life.connections.discard(answer)
            if not answer.done():
                answer.set_result(given.status)

        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        exchange = life.intake.take(Head("POST", path, "127.0.0.1", raw), reply)
        exchange.body(body)
        if cut:
            exchange.lost()
            life.connections.discard(answer)
        else:
            exchange.complete()

    async def ask(self, query: bytes) -> tuple[int, bytes]:
        """`GET /api/v1/changes`, answered by the process that lives now. Raises PostFailed as `deliver` does."""
        life = self.life
        if life is None:
            raise PostFailed("the connection was refused")
        answer: asyncio.Future[tuple[int, bytes]] = self.loop.create_future()
        life.questions.add(answer)
        try:
            self.loop.create_task(_answer(life.changes, query, answer), context=life.process.context)
            return await answer
        finally:
            life.questions.discard(answer)

    # --- what people do ---

    def backfill(self, seconds: float) -> None:
        """Somebody runs a backfill of the last `seconds`, beside the daemon; it dies with it."""
        life = self.life
        if life is not None:
            self.loop.create_task(self._backfill(life, seconds), context=life.process.context)

    async def _backfill(self, life: Life, seconds: float) -> None:
        sweepers = {name: each.sweeper for name, each in life.node.accounts.items()}
        backfill = Backfill(
            sweepers,
            life.wiring.commit,
            self.clock,
            owner=life.process.name,
            policy=self._scenario.policy,
            lag=lambda _kind: self._scenario.sweeps.lag,
        )
        since = max(EPOCH, self.clock.now() - timedelta(seconds=seconds))
        with suppress(Exception):
            results = await backfill.run(Request(since, None, frozenset(), frozenset(self._scenario.kinds)))
            await backfill.settle(results)


async def _answer(door: ChangesDoor, query: bytes, answer: asyncio.Future[tuple[int, bytes]]) -> None:
    status, body = 0, b""

    async def send(message: Any) -> None:
        nonlocal status, body
        status, body = message.get("status", status), body + message.get("body", b"")

    headers = [(b"authorization", b"Bearer " + TOKEN.encode())]
    scope = {"method": "GET", "path": CHANGES, "query_string": query, "headers": headers}
    await door(scope, _nothing, send)
    if not answer.done():
        answer.set_result((status, body))


async def _nothing() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Mutant:
    """Which parts are not the product's own: what a proof of the proof replaces."""

    ledger: type[Ledger] = Ledger
    commit: type[GroupCommit] = GroupCommit
    provider: Any = None
