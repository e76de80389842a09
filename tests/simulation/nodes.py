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
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry
from sqlalchemy.exc import OperationalError

from providers.sandbox.post import PostFailed
from reconciler.backfill import Backfill, Request
from reconciler.fetcher import FetchSettings
from reconciler.intake import Head, Intake, IntakeMetrics
from reconciler.intake.asgi import Answer
from reconciler.ledger import GroupCommit, Ledger, Store
from reconciler.worker import IDLE_POLL, WorkerSettings, wait_for
from tests.ledger.seams import Crash, Faults
from tests.loop.wiring import Node, Setup, Wiring
from tests.simulation.checked import Checked, checked
from tests.simulation.loop import EPOCH, Process, SimulatedClock, SimulatedLoop
from tests.simulation.oracle import Oracle
from tests.simulation.scenario import KINDS, Scenario
from tests.simulation.shop import Shop

T = TypeVar("T")

JOBS = (
    "deadlines",
    "feed",
    *(f"{what}/main/{kind}" for what in ("recent", "complete", "open", "members") for kind in KINDS),
)

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
    connections: set[asyncio.Future[int]] = field(default_factory=set)
    """Deliveries that it has not answered."""


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
        self._mutant = mutant
        self._dice = random.Random(f"host/{scenario.seed}/{number}")
        self.steady = not scenario.rates
        """Whether nothing ever takes unusually long here."""
        self.lives: list[Life] = []
        self.life: Life | None = None

    # --- life and death ---

    def start(self) -> None:
        if self.life is not None:
            return
        process = Process(f"node{self.number}:1:{len(self.lives):x}")
        process.context.run(self._begin, process)

    def _begin(self, process: Process) -> None:
        ledger = checked(self._mutant.ledger, self._store, self.oracle)
        thread = LedgerDoor(self, random.Random(f"door/{self._scenario.seed}/{process.name}"))
        commit = self._mutant.commit(ledger, self.clock, thread=thread, readers=thread)
        setup = Setup(
            policy=self._scenario.policy,
            sweeps=self._scenario.sweeps,
            fetch=FetchSettings(lease=self._scenario.lease),
            worker=WorkerSettings(lease=self._scenario.lease),
            jobs=JOBS,
            provider=self._mutant.provider,
            seed=self._dice.randrange(1 << 30),
        )
        wiring = Wiring(setup, {"main": self._shop.server}, self.clock, commit, self._shop, wait=self._wait)
        node = Node(wiring, process.name)
        providers = {name: each.provider for name, each in node.accounts.items()}
        intake = Intake(providers, commit, self.clock, IntakeMetrics(CollectorRegistry()))
        commit.on_marked = node.worker.wake
        life = self.life = Life(process, wiring, node, intake, ledger)
        self.lives.append(life)
        node.start()
        self.loop.create_task(self._tick(node))

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
        try:
            self.loop.create_task(
                self._receive(life, path, headers, body, event_id, cut, answer), context=life.process.context
            )
            return await answer
        finally:
            life.connections.discard(answer)

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
            if not answer.done():
                answer.set_result(given.status)

        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        exchange = life.intake.take(Head("POST", path, "127.0.0.1", raw), reply)
        exchange.body(body)
        if cut:
            exchange.lost()
        else:
            exchange.complete()

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
            results = await backfill.run(Request(since, None, frozenset(), frozenset(KINDS)))
            await backfill.settle(results)


@dataclass(frozen=True, slots=True)
class Mutant:
    """Which parts are not the product's own: what a proof of the proof replaces."""

    ledger: type[Ledger] = Ledger
    commit: type[GroupCommit] = GroupCommit
    provider: Any = None
