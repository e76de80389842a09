"""A backfill from the command line: a process of its own that reads, and ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from reconciler.app.reading import fetcher_of, walks_of
from reconciler.app.settings import transport_of, worker_settings
from reconciler.backfill import Backfill, Result
from reconciler.clock import Clock
from reconciler.config import Config
from reconciler.keyring import ledger_of, secrets_seal
from reconciler.ledger import GroupCommit
from reconciler.ledger.inline import Inline
from reconciler.loading import Account
from reconciler.metrics import WorkMetrics
from reconciler.tokens import keep_tokens
from reconciler.worker import Worker, owner_name


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
    inline = None if ledger.store.dialect.is_postgres else Inline()
    writer = GroupCommit(ledger, clock, thread=inline, readers=inline, gives_way=True)
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
    worker = Worker(fetchers, writer, clock, owner=owner, settings=worker_settings(config))
    running = asyncio.create_task(worker.run(), name="worker")

    async def end() -> None:
        worker.stop()
        await running

    stack.push_async_callback(end)
    awake = _Seldom(worker.wake)
    return walks_of(config, fetchers, writer, clock, owner=owner, on_applied=lambda _: awake.soon(), watch=watch)


_WAKE_SECONDS = 0.25


class _Seldom:
    """Once for many calls, a moment after the first: a page that marks something comes every few milliseconds, and
    each look of the worker is a commit."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._waiting = False

    def soon(self) -> None:
        if not self._waiting:
            self._waiting = True
            asyncio.get_running_loop().call_later(_WAKE_SECONDS, self._now)

    def _now(self) -> None:
        self._waiting = False
        self._act()
