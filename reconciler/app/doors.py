"""What a process answers to the outside: webhooks, machines, people."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.app.core import Core
from reconciler.app.reading import fetcher_of, ring_if_changed, walks_of
from reconciler.app.settings import door_limits, intake_limits
from reconciler.backfill import Backfill, Result
from reconciler.config import Config, api_tokens, expectation_tokens
from reconciler.console import Ajar, Maker, require_users
from reconciler.console.access.machines import Machines
from reconciler.console.pen import Pen
from reconciler.desk import Desk
from reconciler.intake import Intake
from reconciler.ledger import Applied
from reconciler.loading import Account
from reconciler.provider import Provider, Transport
from reconciler.refs import require_known
from reconciler.web import CHANGES_SCOPE, WHOLE_SCOPE, Bearer, ChangesDoor, ExpectationsDoor, Grants, Readiness, Site
from reconciler.worker import Worker, owner_name

if TYPE_CHECKING:
    from reconciler.tracing import Traces


@dataclass(frozen=True, slots=True)
class Doors:
    site: Site
    intake: Intake | None
    changes: ChangesDoor


async def open_doors(
    stack: AsyncExitStack,
    core: Core,
    config: Config,
    accounts: Mapping[str, Account],
    providers: Mapping[str, Provider],
    transport: Transport,
    worker: Worker | None,
    traces: Traces | None,
) -> Doors:
    """Nothing is answered yet: that begins when a server is given them. Raises ConfigurationError, UsageError."""
    console = None
    if "console" in core.parts:
        desk = Desk(config, accounts, core.ledger, core.clock)
        await asyncio.to_thread(require_users, desk)
        console = Ajar(desk, core.writer, backfill=_backfills(core, config, providers, worker), transport=transport)
        stack.push_async_callback(console.close)
    intake = None
    if "intake" in core.parts:
        intake = Intake(
            providers,
            core.writer,
            core.clock,
            core.counters.intake,
            intake_limits(config),
            accounts={name: door_limits(account.settings) for name, account in accounts.items()},
            following=None if traces is None else traces.following,
        )
    pen = Pen(core.ledger, core.writer)
    stack.callback(pen.close)
    grants = Grants(Bearer(api_tokens(config)), (CHANGES_SCOPE, WHOLE_SCOPE), Machines(pen, core.clock))
    changes = ChangesDoor(
        core.writer,
        core.clock,
        grants,
        lambda: config.server.address(core.bound),
        core.placed,
        lambda ledger, wanted: require_known(ledger, wanted.accounts, wanted.kinds, accounts),
    )
    site = Site(
        measure=core.gauges.refresh,
        readiness=Readiness(core.writer, providers, core.clock),
        registry=core.counters.registry,
        expectations=ExpectationsDoor(providers, core.writer, core.clock, expectation_tokens(config)),
        changes=changes,
        console=console,
    )
    return Doors(site, intake, changes)


def _backfills(core: Core, config: Config, providers: Mapping[str, Provider], worker: Worker | None) -> Maker:
    """Backfills from the console share this process's connections and budget; any node's worker reads singly."""

    def make(watch: Callable[[Result], None]) -> Backfill:
        def applied(results: Sequence[Applied]) -> None:
            core.counters.work.applied(results)
            ring_if_changed(core.applied, results)
            if worker is not None:
                worker.wake()

        fetchers = {
            name: fetcher_of(
                config, name, provider, core.writer, core.clock, core.rng, core.counters.work, core.applied
            )
            for name, provider in providers.items()
        }
        owner = owner_name(core.clock.now())
        return walks_of(config, fetchers, core.writer, core.clock, owner=owner, on_applied=applied, watch=watch)

    return make
