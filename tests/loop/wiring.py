"""The parts of a process that works, put together as the product does, over clocks and doors of a test's choosing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from providers.sandbox import SandboxServer
from providers.sandbox.store import Body
from providers.stripe import Stripe, StripeSettings
from reconciler.clock import Clock
from reconciler.deadlines import Deadlines, Lookout
from reconciler.fetcher import Fetcher, FetchSettings
from reconciler.ledger import Applied, GroupCommit
from reconciler.periodic import Periodic, Runner
from reconciler.provider import Provider, Transport
from reconciler.retry import RetryPolicy
from reconciler.scheduler import Allocation, Scheduler, jobs_of, next_cut_off
from reconciler.sweeps import Sweeper, SweepSettings
from reconciler.worker import Worker, WorkerSettings, wait_for
from tests.sandbox_fixtures import SECRET


@dataclass(frozen=True)
class Setup:
    """How the loop under test is configured; the defaults are the product's."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    sweeps: SweepSettings = field(default_factory=SweepSettings)
    fetch: FetchSettings = field(default_factory=FetchSettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    jobs: tuple[str, ...] = ()
    """Prefixes of the periodic jobs to run (`feed`, `recent/main/charge`); empty: none of them."""
    monthly_reads: int | None = None
    key: str | None = None
    provider: type[Stripe] = Stripe
    owner: str = "node{number}:1:0"
    """What the nodes call themselves in leases."""
    seed: int = 1


Reader = Callable[[str, Transport, Clock], Provider]
"""Makes what reads the account of a name."""


def stripe_reader(server: SandboxServer, setup: Setup) -> Reader:
    """Of a shop at the Stripe look-alike."""

    def reader(name: str, transport: Transport, clock: Clock) -> Provider:
        settings = StripeSettings(
            provider="stripe",
            api_key=SecretStr(setup.key or server.api_key),
            webhook_secrets=(SecretStr(SECRET),),
            base_url=server.url,
            monthly_reads=setup.monthly_reads,
        )
        return setup.provider(name, settings, transport, clock)

    return reader


@dataclass
class Account:
    """One account: our parts that read a shop of the sandbox."""

    name: str
    provider: Provider
    fetcher: Fetcher
    sweeper: Sweeper
    deadlines: Deadlines
    allocation: Allocation
    events: list[Body] = field(default_factory=list)
    """What the shop's webhooks said so far, delivered or not, oldest first."""
    delivered: int = 0


class Node:
    """One process of ours: its worker and its scheduler, on a ledger that several of them may share."""

    def __init__(self, loop: Wiring, owner: str, more: Sequence[Periodic] = ()) -> None:
        setup = loop.setup
        self.owner = owner
        self.accounts = {account: loop.connect(account, self) for account in loop.readers}
        self.worker = Worker(
            {each.name: each.fetcher for each in self.accounts.values()},
            loop.commit,
            loop.clock,
            owner=self.owner,
            settings=setup.worker,
            wait=loop.wait,
        )
        self.runner = Runner(
            loop.commit,
            loop.clock,
            owner=self.owner,
            policy=setup.policy,
            rng=random.Random(setup.seed),
            on_run=self.worker.wake,
        )
        self.jobs = {job.name: job for each in self.accounts.values() for job in loop.jobs_of(each)}
        self.jobs |= {job.name: job for job in more}
        self.scheduler = Scheduler(
            [job for job in self.jobs.values() if job.name.startswith(setup.jobs)] if setup.jobs else [],
            self.runner,
            loop.commit,
            loop.clock,
            allocations=[each.allocation for each in self.accounts.values()],
            rng=random.Random(setup.seed),
        )
        self.running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.running = asyncio.create_task(self.worker.run(), name=f"worker {self.owner}")

    async def stop(self) -> None:
        self.worker.stop()
        await self.scheduler.stop(timedelta(0))
        if self.running is not None:
            await self.running

    async def kill(self) -> None:
        """As by SIGKILL: nothing is given back."""
        await self.scheduler.stop(timedelta(0))
        tasks = [task for task in asyncio.all_tasks() if task.get_name().startswith(f"{self.owner} reads")]
        tasks += [] if self.running is None else [self.running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.running = None


class Wiring:
    """What all processes of one test share, and how an account of one of them is made."""

    def __init__(
        self,
        setup: Setup,
        readers: Mapping[str, Reader],
        clock: Clock,
        commit: GroupCommit,
        transport: Transport,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        wait: Callable[[asyncio.Event, float], Awaitable[None]] = wait_for,
        on_applied: Callable[[Sequence[Applied]], None] = lambda _: None,
    ) -> None:
        self.setup = setup
        self.readers = readers
        self.clock = clock
        self.commit: GroupCommit = commit
        self.transport: Transport = transport
        self.sleep = sleep
        self.wait = wait
        self.applied: list[Applied] = []
        self.lookout = Lookout(commit, clock)
        self._on_applied = on_applied

    def connect(self, name: str, node: Node) -> Account:
        setup = self.setup
        provider = self.readers[name](name, self.transport, self.clock)

        def read(results: Sequence[Applied]) -> None:
            self.applied.extend(results)
            self._on_applied(results)

        def applied(results: Sequence[Applied]) -> None:
            read(results)
            node.worker.wake()

        fetcher = Fetcher(
            name,
            provider,
            self.commit,
            self.clock,
            policy=setup.policy,
            settings=setup.fetch,
            rng=random.Random(setup.seed),
            sleep=self.sleep,
            on_applied=read,
        )
        sweeper = Sweeper(fetcher, self.commit, self.clock, lambda _kind: setup.sweeps, on_applied=applied)
        rules = [rule for kind in provider.kinds.values() for rule in kind.deadlines]
        deadlines = Deadlines(name, provider.kinds, rules, self.lookout, self.commit, self.clock)
        allocation = Allocation(name, setup.monthly_reads, len(provider.kinds))
        return Account(name, provider, fetcher, sweeper, deadlines, allocation)

    def jobs_of(self, account: Account) -> list[Periodic]:
        return jobs_of(
            account.sweeper,
            account.deadlines,
            lambda _kind: self.setup.sweeps,
            account.allocation.pace,
            lambda now: next_cut_off(now, ZoneInfo("UTC"), timedelta(0)),
            self.clock,
        )
