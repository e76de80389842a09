"""Fetchers, sweepers and backfills, as the configuration wants them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from reconciler.app.settings import fetch_settings, retry_policy, sweep_settings
from reconciler.backfill import Backfill, Result
from reconciler.clock import Clock
from reconciler.config import Config
from reconciler.fetcher import Fetcher
from reconciler.ledger import Applied, GroupCommit, Outcome
from reconciler.metrics import WorkMetrics
from reconciler.outbox.bell import Bell
from reconciler.provider import Provider
from reconciler.sweeps import Sweeper

OnApplied = Callable[[Sequence[Applied]], None]


def fetcher_of(
    config: Config,
    account: str,
    provider: Provider,
    ledger: GroupCommit,
    clock: Clock,
    rng: random.Random,
    metrics: WorkMetrics,
    applied: Bell | None = None,
    on_read: Callable[[datetime, Sequence[Applied]], None] | None = None,
) -> Fetcher:
    def on_applied(results: Sequence[Applied]) -> None:
        metrics.applied(results)
        if applied is not None:
            ring_if_changed(applied, results)

    return Fetcher(
        account,
        provider,
        ledger,
        clock,
        policy=retry_policy(config),
        settings=fetch_settings(config),
        rng=rng,
        on_applied=on_applied,
        on_failed=metrics.failed,
        on_read=on_read,
    )


def ring_if_changed(bell: Bell, results: Sequence[Applied]) -> None:
    """Most reads find what is known, of which there is nothing to tell."""
    if any(each.outcome is Outcome.CHANGED for each in results):
        bell.ring()


def sweeper_of(config: Config, fetcher: Fetcher, ledger: GroupCommit, clock: Clock, on_applied: OnApplied) -> Sweeper:
    return Sweeper(fetcher, ledger, clock, lambda kind: sweep_settings(config, kind), on_applied=on_applied)


def walks_of(
    config: Config,
    fetchers: Mapping[str, Fetcher],
    ledger: GroupCommit,
    clock: Clock,
    *,
    owner: str,
    on_applied: OnApplied,
    watch: Callable[[Result], None],
) -> Backfill:
    """A backfill over these accounts; what it marks is read by whichever worker runs."""
    return Backfill(
        {name: sweeper_of(config, fetcher, ledger, clock, on_applied) for name, fetcher in fetchers.items()},
        ledger,
        clock,
        owner=owner,
        policy=retry_policy(config),
        lag=lambda kind: sweep_settings(config, kind).lag,
        watch=watch,
    )
