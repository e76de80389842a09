"""Putting the parts together: one process that receives, reads and sweeps, or any of the three alone."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from zoneinfo import ZoneInfo

import structlog
from prometheus_client import CollectorRegistry

from reconciler.ageing import SecretAges
from reconciler.alerts import Alarm, Manners, Quiet, Rules
from reconciler.backfill import Backfill, Result
from reconciler.clock import Clock
from reconciler.config import Config, alert_addresses, api_tokens, expectation_tokens
from reconciler.console import Ajar, Maker, require_users
from reconciler.deadlines import Deadlines
from reconciler.desk import Desk
from reconciler.errors import LedgerError
from reconciler.fetcher import Fetcher, FetchSettings
from reconciler.intake import DoorLimits, Intake, IntakeLimits, IntakeMetrics
from reconciler.keyring import ledger_of, secrets_seal
from reconciler.ledger import Applied, GroupCommit, Ledger
from reconciler.ledger.signal import MarkSignal
from reconciler.loading import Account, followed_of
from reconciler.metrics import WorkMetrics
from reconciler.outbox.bell import Bell
from reconciler.outbox.configured import open_outbox
from reconciler.outbox.placing import Placer
from reconciler.outbox.watch import Watch
from reconciler.periodic import Runner
from reconciler.provider import Provider, ProviderSettings
from reconciler.redaction import Redactor
from reconciler.report.facts import terms_of_providers
from reconciler.report.keeping import Keeping
from reconciler.retention import Keep, Retention, RetentionMetrics
from reconciler.retry import RetryPolicy
from reconciler.scheduler import Allocation, Scheduler, jobs_of, next_cut_off
from reconciler.sweeps import Sweeper, SweepSettings
from reconciler.tokens import keep_tokens
from reconciler.transport import HttpTransport
from reconciler.web import Bearer, ChangesDoor, ExpectationsDoor, LedgerGauges, Readiness, Site, WebServer
from reconciler.worker import Worker, WorkerSettings, is_gone, owner_name

log = structlog.get_logger(__name__)

PARTS = frozenset({"intake", "worker", "console"})
"""What a process may be asked to be, with `--only`."""

STOP_WITHIN = timedelta(seconds=10)
"""A stop finishes or gives back everything within this; supervisors kill after longer than that."""

_IDLE_LOOK = timedelta(milliseconds=200)


def retry_policy(config: Config) -> RetryPolicy:
    usual = RetryPolicy()
    return RetryPolicy(
        attempts=config.retry.attempts,
        first_wait=min(usual.first_wait, config.retry.max_wait),
        max_wait=config.retry.max_wait,
        parked=config.retry.parked,
        gate_max=min(usual.gate_max, config.retry.max_wait),
    )


def sweep_settings(config: Config, kind: str) -> SweepSettings:
    own = config.sweeps.of(kind)
    return SweepSettings(every=own.every, lag=own.lag, overlap=own.overlap, full_every=own.full_every)


def door_limits(settings: ProviderSettings) -> DoorLimits:
    return DoorLimits(float(settings.deliveries_per_second) or None, settings.allowed_sources)


def transport_of(config: Config) -> HttpTransport:
    """Requests end before the lease does, so that no answer arrives for a claim that is somebody else's by then."""
    longest = config.worker.longest_request.total_seconds()
    return HttpTransport(
        connect_seconds=min(5.0, longest),
        read_seconds=longest,
        total_seconds=longest,
        connections=max(100, config.worker.concurrency * max(1, len(config.accounts))),
    )


def fetcher_of(
    config: Config,
    account: str,
    provider: Provider,
    ledger: GroupCommit,
    clock: Clock,
    rng: random.Random,
    metrics: WorkMetrics,
    applied: Bell | None = None,
) -> Fetcher:
    def on_applied(results: Sequence[Applied]) -> None:
        metrics.applied(results)
        if applied is not None:
            applied.ring()

    return Fetcher(
        account,
        provider,
        ledger,
        clock,
        policy=retry_policy(config),
        settings=FetchSettings(lease=config.worker.lease, least_interval=config.worker.least_interval),
        rng=rng,
        on_applied=on_applied,
        on_failed=metrics.failed,
    )


class Daemon:
    """The long-lived process. `run` returns after `stop` was set and everything was put down in order."""

    def __init__(
        self,
        config: Config,
        accounts: Mapping[str, Account],
        clock: Clock,
        *,
        parts: Collection[str] = PARTS,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config
        self._accounts = accounts
        self._clock = clock
        self._parts = frozenset(parts)
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._registry = CollectorRegistry()
        self._metrics = WorkMetrics(self._registry)
        self._applied = Bell()
        """Rung when this process has stored new versions."""
        self._placed = Bell()
        """Rung when there is something new to read in the change feed."""
        self._transport: HttpTransport | None = None
        self.listening = asyncio.Event()
        """Set once the server accepts requests."""
        self.url: str | None = None

    async def run(self, stop: asyncio.Event, *, until_idle: bool = False) -> None:
        """Raises SchemaMismatch, ConfigurationError or LedgerUnavailable when it cannot start."""
        ledger = ledger_of(self._config)
        try:
            await asyncio.to_thread(ledger.require_current_schema)
            await asyncio.to_thread(ledger.require_keys)
        except BaseException:
            ledger.close()
            raise
        async with AsyncExitStack() as stack:
            stack.callback(ledger.close)
            writer = GroupCommit(ledger, self._clock)
            stack.push_async_callback(writer.close)
            self._transport = transport = transport_of(self._config)
            stack.push_async_callback(transport.aclose)
            providers = {name: account.connect(transport, self._clock) for name, account in self._accounts.items()}
            keep_tokens(providers, writer, self._clock, secrets_seal(self._config))
            worker = await self._start_worker(stack, writer, providers) if "worker" in self._parts else None
            signal = MarkSignal(ledger.store, (lambda: None) if worker is None else worker[0].wake)
            stack.push_async_callback(signal.stop)
            if worker is not None:
                signal.start()
            writer.on_marked = _announcing(signal, None if worker is None else worker[0])
            await self._start_server(stack, ledger, writer, transport, providers, None if worker is None else worker[0])
            log.info("running", parts=sorted(self._parts), url=self.url, accounts=sorted(self._accounts))
            if until_idle and worker is not None:
                await self._until_idle(stop, writer, *worker)
            else:
                await stop.wait()
            log.info("stopping")
            if worker is not None:
                worker[0].stop()

    # --- the parts ---

    def _base_url(self) -> str:
        """The same from the first message on, and not only once the server listens: a message keeps its bytes."""
        section = self._config.server
        if section.public_url or not section.port:
            return section.public_url or self.url or ""
        return (
            f"http://[{section.host}]:{section.port}"
            if ":" in section.host
            else f"http://{section.host}:{section.port}"
        )

    async def _start_server(
        self,
        stack: AsyncExitStack,
        ledger: Ledger,
        writer: GroupCommit,
        transport: HttpTransport,
        providers: Mapping[str, Provider],
        worker: Worker | None,
    ) -> None:
        section = self._config.server
        console = None
        if "console" in self._parts:
            desk = Desk(self._config, self._accounts, ledger, self._clock)
            await asyncio.to_thread(require_users, desk)
            backfill = self._backfills(writer, providers, worker)
            console = Ajar(desk, writer, backfill=backfill, transport=transport)
            stack.push_async_callback(console.close)
        intake = None
        if "intake" in self._parts:
            intake = Intake(
                providers,
                writer,
                self._clock,
                IntakeMetrics(self._registry),
                IntakeLimits(
                    body_bytes=section.body_limit_bytes,
                    requests_per_second=float(section.deliveries_per_second) or None,
                    trusted_proxies=tuple(ipaddress.ip_network(each) for each in section.trusted_proxies),
                ),
                accounts={name: door_limits(account.settings) for name, account in self._accounts.items()},
            )
        changes = ChangesDoor(
            writer,
            self._clock,
            Bearer(api_tokens(self._config)).knows,
            self._base_url,
            self._placed,
        )
        gauges = LedgerGauges(self._registry, followed_of(self._config, self._accounts), writer, self._clock)
        site = Site(
            measure=gauges.refresh,
            readiness=Readiness(writer, providers, self._clock),
            registry=self._registry,
            expectations=ExpectationsDoor(providers, writer, self._clock, expectation_tokens(self._config)),
            changes=changes,
            console=console,
        )
        server = await stack.enter_async_context(
            WebServer(site, webhooks=intake, host=section.host, port=section.port, clock=self._clock)
        )
        stack.callback(changes.close)  # before the server stops, which waits for requests in flight
        self.url = server.url
        self.listening.set()

    def _backfills(self, writer: GroupCommit, providers: Mapping[str, Provider], worker: Worker | None) -> Maker:
        """Backfills from the console share this process's connections and budget; any node's worker reads singly."""
        config, clock = self._config, self._clock

        def make(watch: Callable[[Result], None]) -> Backfill:
            def applied(results: Sequence[Applied]) -> None:
                self._metrics.applied(results)
                self._applied.ring()
                if worker is not None:
                    worker.wake()

            sweepers = {
                name: Sweeper(
                    fetcher_of(config, name, provider, writer, clock, self._rng, self._metrics, self._applied),
                    writer,
                    clock,
                    lambda kind: sweep_settings(config, kind),
                    on_applied=applied,
                )
                for name, provider in providers.items()
            }
            return Backfill(
                sweepers,
                writer,
                clock,
                owner=owner_name(clock.now()),
                policy=retry_policy(config),
                lag=lambda kind: sweep_settings(config, kind).lag,
                watch=watch,
            )

        return make

    async def _start_worker(
        self, stack: AsyncExitStack, writer: GroupCommit, providers: Mapping[str, Provider]
    ) -> tuple[Worker, Scheduler]:
        config, clock = self._config, self._clock
        owner = owner_name(clock.now())
        fetchers = {
            name: fetcher_of(config, name, provider, writer, clock, self._rng, self._metrics, self._applied)
            for name, provider in providers.items()
        }
        settings = WorkerSettings(concurrency=config.worker.concurrency, lease=config.worker.lease)
        worker = Worker(fetchers, writer, clock, owner=owner, settings=settings)
        placing = asyncio.create_task(Placer(writer, self._applied, self._placed).run(), name="placer")
        stack.push_async_callback(_cancelled, placing)
        outbox = await open_outbox(
            stack,
            config,
            writer,
            clock,
            owner=owner,
            is_gone=partial(is_gone, self_name=owner),
            base_url=self._base_url,
            applied=self._applied,
            registry=self._registry,
            rng=self._rng,
        )
        scheduler = self._scheduler(writer, fetchers, owner, worker, outbox.watch)
        running = asyncio.create_task(worker.run(), name="worker")
        telling = asyncio.create_task(outbox.pool.run(), name="outbox")
        scheduler.start()

        async def end() -> None:
            worker.stop()
            outbox.pool.stop()
            await scheduler.stop(STOP_WITHIN / 2)
            await asyncio.gather(running, telling)

        stack.push_async_callback(end)
        return worker, scheduler

    def _scheduler(
        self, writer: GroupCommit, fetchers: Mapping[str, Fetcher], owner: str, worker: Worker, watch: Watch
    ) -> Scheduler:
        config, clock = self._config, self._clock
        zone = ZoneInfo(config.report.timezone)
        hours, minutes = config.report.day_start.split(":")
        day_start = timedelta(hours=int(hours), minutes=int(minutes))

        def applied(results: Sequence[Applied]) -> None:
            self._metrics.applied(results)
            self._applied.ring()
            worker.wake()

        section = config.retention
        keep = Keep(section.deliveries, section.rejected, section.expectations, section.reads)
        jobs = [watch.periodic(), *Retention(keep, writer, clock, RetentionMetrics(self._registry)).periodics()]
        allocations = []
        for name, fetcher in fetchers.items():
            account = self._accounts[name]
            sweeper = Sweeper(fetcher, writer, clock, lambda kind: sweep_settings(config, kind), on_applied=applied)
            deadlines = Deadlines(name, fetcher.provider.kinds, account.rules, writer, clock)
            secrets = [each.get_secret_value() for each in account.settings.webhook_secrets]
            jobs.append(SecretAges(name, secrets, writer, clock, limit=config.alerts.secret_age).periodic())
            jobs.append(Redactor(name, fetcher.provider.kinds, writer, clock).periodic())
            allocation = Allocation(name, account.settings.monthly_reads, 2 * len(fetcher.provider.kinds))
            allocations.append(allocation)
            jobs += jobs_of(
                sweeper,
                deadlines,
                lambda kind: sweep_settings(config, kind),
                allocation.pace,
                lambda now: next_cut_off(now, zone, day_start),
                clock,
            )
        terms = terms_of_providers({name: fetcher.provider for name, fetcher in fetchers.items()})
        jobs.append(Keeping(writer, terms, config.report.gateways).periodic())
        jobs.append(self._alarm(writer).periodic())
        runner = Runner(
            writer,
            clock,
            owner=owner,
            policy=retry_policy(config),
            rng=self._rng,
            lease=config.worker.lease,
            on_run=worker.wake,
        )
        return Scheduler(jobs, runner, writer, clock, allocations=allocations, rng=self._rng)

    def _alarm(self, writer: GroupCommit) -> Alarm:
        section = self._config.alerts
        addresses, heartbeat = alert_addresses(self._config)
        sender = None
        if addresses:
            from reconciler.alerts.sending import AppriseSender  # only where somebody is told: 20 MB

            sender = AppriseSender(addresses)
        zone = ZoneInfo(self._config.report.timezone)
        return Alarm(
            followed_of(self._config, self._accounts),
            writer,
            self._clock,
            sender=sender,
            rules=Rules(section.oldest_dirty, section.not_looked_at, section.untold_share, rejected=section.rejected),
            manners=Manners(section.repeat, None if section.quiet is None else Quiet.parse(section.quiet, zone)),
            every=section.every,
            heartbeat=heartbeat,
            transport=self._transport,
        )

    async def _until_idle(self, stop: asyncio.Event, writer: GroupCommit, worker: Worker, scheduler: Scheduler) -> None:
        """Until nothing is under way, no job is due, and everything dirty is dead or behind a gate."""
        while not stop.is_set():
            if scheduler.idle and worker.idle.is_set() and await self._settled(writer):
                return
            try:
                async with asyncio.timeout(_IDLE_LOOK.total_seconds()):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _settled(self, writer: GroupCommit) -> bool:
        try:
            return not await writer.read(_unsettled)
        except LedgerError as error:
            log.warning("ledger unavailable", error=str(error))
            return False


async def backfill_of(
    stack: AsyncExitStack,
    config: Config,
    accounts: Mapping[str, Account],
    clock: Clock,
    rng: random.Random,
    *,
    watch: Callable[[Result], None],
) -> Backfill:
    """A backfill with a worker of its own, so that it also works where no daemon runs; beside one they share the work.

    Everything is put down when `stack` closes. Raises SchemaMismatch, LedgerUnavailable.
    """
    ledger = ledger_of(config)
    stack.callback(ledger.close)
    await asyncio.to_thread(ledger.require_current_schema)
    await asyncio.to_thread(ledger.require_keys)
    writer = GroupCommit(ledger, clock)
    stack.push_async_callback(writer.close)
    transport = transport_of(config)
    stack.push_async_callback(transport.aclose)
    metrics = WorkMetrics(CollectorRegistry())
    providers = {name: account.connect(transport, clock) for name, account in accounts.items()}
    keep_tokens(providers, writer, clock, secrets_seal(config))
    fetchers = {
        name: fetcher_of(config, name, provider, writer, clock, rng, metrics) for name, provider in providers.items()
    }
    owner = owner_name(clock.now())
    settings = WorkerSettings(concurrency=config.worker.concurrency, lease=config.worker.lease)
    worker = Worker(fetchers, writer, clock, owner=owner, settings=settings)
    running = asyncio.create_task(worker.run(), name="worker")

    async def end() -> None:
        worker.stop()
        await running

    stack.push_async_callback(end)
    sweepers = {
        name: Sweeper(
            fetcher, writer, clock, lambda kind: sweep_settings(config, kind), on_applied=lambda _: worker.wake()
        )
        for name, fetcher in fetchers.items()
    }
    return Backfill(
        sweepers,
        writer,
        clock,
        owner=owner,
        policy=retry_policy(config),
        lag=lambda kind: sweep_settings(config, kind).lag,
        watch=watch,
    )


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _unsettled(ledger: Ledger) -> bool:
    gated = {(gate.account, gate.kind) for gate in ledger.gates()}
    return any((account, "") not in gated and (account, kind) not in gated for account, kind in ledger.unsettled())


def _announcing(signal: MarkSignal, worker: Worker | None) -> Callable[[], None]:
    """What follows a commit that held marks: our own worker looks at once, other nodes are told soon."""

    def announce() -> None:
        if worker is not None:
            worker.wake()
        signal.send()

    return announce
