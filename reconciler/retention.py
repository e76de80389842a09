"""Taking old rows away, slowly enough that nobody waits for it: a job for each rule, each with its lease.

A run that is killed has taken away what its transactions held, and the next one finds the rest. How far a rule has
come is its job's watermark, which `status` and `/metrics` show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from reconciler.clock import Clock
from reconciler.ledger import GroupCommit, Job
from reconciler.ledger.retention import (
    BEGINNING,
    DELIVERIES,
    EXPECTATIONS,
    MISSED,
    READS,
    REJECTED,
    Rule,
    old,
    remove,
    table_of,
    unname,
    unnamed,
)
from reconciler.periodic import Ended, Periodic

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(hours=1)
NAMES_EVERY: Final = timedelta(days=1)
BATCH: Final = 200
"""Rows in one transaction: a few milliseconds, which the next webhook may have to wait for."""
_STRETCH: Final = 2000
"""Rows looked at in one view."""
_REST: Final = 4
"""Times as long as a batch took, nothing is taken away: four fifths of the writer stay with the daemon's own work."""
_LEAST_REST_SECONDS: Final = 0.02
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Keep:
    """How long rows stay; None: for ever."""

    deliveries: timedelta | None
    rejected: timedelta | None
    expectations: timedelta | None
    reads: timedelta | None

    def rules(self) -> Iterator[tuple[Rule, timedelta]]:
        """In the order in which they must be carried out."""
        for rule, span in (
            (MISSED, self.deliveries),
            (DELIVERIES, self.deliveries),
            (REJECTED, self.rejected),
            (EXPECTATIONS, self.expectations),
            (READS, self.reads),
        ):
            if span is not None:
                yield rule, span


class RetentionMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._removed = Counter(
            "reconciler_retention_removed_total",
            "Rows that this node took away because they were old enough, by table.",
            ("table",),
            registry=registry,
        )

    def removed(self, table: str, rows: int) -> None:
        self._removed.labels(table).inc(rows)


class Retention:
    def __init__(
        self,
        keep: Keep,
        ledger: GroupCommit,
        clock: Clock,
        metrics: RetentionMetrics,
        *,
        batch: int = BATCH,
        rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._keep = keep
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._batch = batch
        self._rest = rest

    def periodics(self) -> list[Periodic]:
        """They wait for each other, so that missed events go before their deliveries."""
        jobs = [self._periodic(rule, span) for rule, span in self._keep.rules()]
        if self._keep.deliveries is not None:
            jobs.append(Periodic("retention/names", lambda: NAMES_EVERY, self._names, group="retention"))
        return jobs

    def _periodic(self, rule: Rule, span: timedelta) -> Periodic:
        async def run(job: Job) -> Ended:
            return await self._carry_out(rule, span, job)

        return Periodic(f"retention/{rule.name}", lambda: EVERY, run, group="retention")

    async def _carry_out(self, rule: Rule, span: timedelta, job: Job) -> Ended:
        before = self._clock.now() - span
        since = job.watermark if rule.from_watermark and job.watermark is not None else _EPOCH
        total, place = 0, min(since, before)
        while True:
            found = await self._ledger.read(
                lambda ledger, place=place: ledger.looked(  # type: ignore[misc]  # mypy does not infer a default's type
                    lambda tx: old(tx, rule, since=place, before=before, limit=self._batch)
                )
            )
            total += await self._take(rule.table, found.keys, job, {}, lambda tx, keys: remove(tx, rule, keys))
            if found.until is None:
                break
            place = found.until
        if total:
            log.info("old rows were taken away", rule=rule.name, table=rule.table, rows=total, before=str(before))
        return Ended(complete=True, watermark=before)

    async def _names(self, job: Job) -> Ended:
        """What deliveries named outlives them by a day at most; nobody is shown it meanwhile."""
        after: Mapping[str, Any] | None = job.progress or BEGINNING
        total = 0
        while after is not None:
            place = after
            gone, after = await self._ledger.read(
                lambda ledger, place=place: ledger.looked(  # type: ignore[misc]  # mypy does not infer a default's type
                    lambda tx: unnamed(tx, place, limit=_STRETCH)
                )
            )
            total += await self._take(table_of(place), gone, job, place, unname)
        if total:
            log.info("old rows were taken away", rule="names", rows=total)
        return Ended(complete=True)

    async def _take(
        self,
        table: str,
        keys: Sequence[Mapping[str, Any]],
        job: Job,
        progress: Mapping[str, Any],
        act: Callable[[Any, Sequence[Mapping[str, Any]]], int],
    ) -> int:
        total = 0
        for start in range(0, len(keys), self._batch):
            some, now, began = keys[start : start + self._batch], self._clock.now(), self._clock.monotonic()

            def taken(ledger: Any, some: Sequence[Mapping[str, Any]] = some, now: datetime = now) -> int:
                with ledger.together() as tx:  # whoever lost the lease takes nothing away
                    ledger.renew_job(job, progress=progress, now=now)
                    return act(tx, some)

            rows = await self._ledger.call(taken)
            self._metrics.removed(table, rows)
            total += rows
            took = self._clock.monotonic() - began
            await self._rest(max(_LEAST_REST_SECONDS, _REST * took))
        return total
