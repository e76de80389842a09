"""What a process does by itself: reads what is marked, tells subscribers, and runs the periodic jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from reconciler.ageing import SecretAges
from reconciler.app.core import Core
from reconciler.app.reading import fetcher_of, ring_if_changed, sweeper_of
from reconciler.app.settings import (
    day_start,
    keep_of,
    least_room,
    retry_policy,
    sweep_settings,
    worker_settings,
)
from reconciler.config import Config
from reconciler.deadlines import Deadlines, Lookout
from reconciler.fetcher import Fetcher
from reconciler.ledger import Applied
from reconciler.loading import Account, kinds_by_provider
from reconciler.outbox.configured import open_outbox
from reconciler.periodic import Periodic, Runner
from reconciler.provider import Provider
from reconciler.redaction import Redactor
from reconciler.report.facts import terms_of_providers
from reconciler.report.keeping import Keeping
from reconciler.retention import Retention
from reconciler.room import RoomWatch
from reconciler.scheduler import Allocation, Scheduler, jobs_of, next_cut_off
from reconciler.worker import Worker, is_gone

if TYPE_CHECKING:
    from reconciler.tracing import Traces

STOP_WITHIN = timedelta(seconds=10)
"""A stop finishes or gives back everything within this; supervisors kill after longer than that."""


@dataclass(frozen=True, slots=True)
class Work:
    worker: Worker
    scheduler: Scheduler


async def start_work(
    stack: AsyncExitStack,
    core: Core,
    config: Config,
    accounts: Mapping[str, Account],
    providers: Mapping[str, Provider],
    alarms: Sequence[Periodic],
    traces: Traces | None,
) -> Work:
    """It is under way when this returns, and ends with the stack. Raises ConfigurationError, LedgerError."""
    on_read = None if traces is None else traces.read
    fetchers = {
        name: fetcher_of(
            config, name, provider, core.writer, core.clock, core.rng, core.counters.work, core.applied, on_read
        )
        for name, provider in providers.items()
    }
    worker = Worker(fetchers, core.writer, core.clock, owner=core.owner, settings=worker_settings(config))
    outbox = await open_outbox(
        stack,
        config,
        core.writer,
        core.clock,
        owner=core.owner,
        is_gone=partial(is_gone, self_name=core.owner),
        base_url=lambda: config.server.address(core.bound),
        applied=core.applied,
        metrics=core.counters.outbox,
        rng=core.rng,
    )
    retention = Retention(keep_of(config), core.writer, core.clock, core.counters.retention)
    jobs = [outbox.watch.periodic(), *retention.periodics(), *alarms]
    if not core.ledger.store.dialect.is_postgres:
        jobs.append(RoomWatch(core.writer, core.clock, least=least_room(config), every=config.alerts.every).periodic())
    scheduler = _scheduler(core, config, accounts, fetchers, worker, jobs)
    running = asyncio.create_task(worker.run(), name="worker")
    telling = asyncio.create_task(outbox.pool.run(), name="outbox")
    scheduler.start()

    async def end() -> None:
        worker.stop()
        outbox.pool.stop()
        await scheduler.stop(STOP_WITHIN / 2)
        await asyncio.gather(running, telling)

    stack.push_async_callback(end)
    return Work(worker, scheduler)


def _scheduler(
    core: Core,
    config: Config,
    accounts: Mapping[str, Account],
    fetchers: Mapping[str, Fetcher],
    worker: Worker,
    jobs: list[Periodic],
) -> Scheduler:
    writer, clock = core.writer, core.clock
    zone, cut = ZoneInfo(config.report.timezone), day_start(config)

    def applied(results: Sequence[Applied]) -> None:
        core.counters.work.applied(results)
        ring_if_changed(core.applied, results)
        worker.wake()

    allocations = []
    lookout = Lookout(writer, clock)
    kinds_of = kinds_by_provider(accounts)
    for name, fetcher in fetchers.items():
        account, kinds = accounts[name], fetcher.provider.kinds
        secrets = [each.get_secret_value() for each in account.settings.webhook_secrets]
        jobs.append(SecretAges(name, secrets, writer, clock, limit=config.alerts.secret_age).periodic())
        jobs.append(Redactor(name, kinds_of, writer, clock, provider=account.provider_name).periodic())
        allocation = Allocation(name, account.settings.monthly_reads, len(kinds))
        allocations.append(allocation)
        jobs += jobs_of(
            sweeper_of(config, fetcher, writer, clock, applied),
            Deadlines(name, kinds, account.rules, lookout, writer, clock),
            lambda kind: sweep_settings(config, kind),
            allocation.pace,
            lambda now: next_cut_off(now, zone, cut),
            clock,
            watch_every=config.sweeps.watch_every,
        )
    terms = terms_of_providers({name: fetcher.provider for name, fetcher in fetchers.items()})
    jobs.append(Keeping(writer, terms, config.report.gateways, clock).periodic())
    runner = Runner(
        writer,
        clock,
        owner=core.owner,
        policy=retry_policy(config),
        rng=core.rng,
        lease=config.worker.lease,
        on_run=worker.wake,
    )
    return Scheduler(jobs, runner, writer, clock, allocations=allocations, rng=core.rng)
