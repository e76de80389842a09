"""What `/metrics` says of the ledger: read from one view when somebody asks, at most every few seconds.

Every node says the same of a shared ledger; counters of what a node did itself are elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from prometheus_client import CollectorRegistry, Gauge

from reconciler.clock import Clock
from reconciler.errors import LedgerError
from reconciler.ledger import GroupCommit, Ledger, Room
from reconciler.ledger.alerts import Alert
from reconciler.room import USUAL, Least
from reconciler.status import Followed, Status, observe, status_of

log = structlog.get_logger(__name__)

_GOOD_FOR_SECONDS = 10.0
_PRIORITIES = ("live", "manual", "sweep", "backfill")


class LedgerGauges:
    """Refreshed before each answer of `/metrics`; a ledger that is away leaves the last figures, and says so."""

    def __init__(
        self,
        registry: CollectorRegistry,
        followed: Sequence[Followed],
        ledger: GroupCommit,
        clock: Clock,
        least: Least = USUAL,
    ) -> None:
        self._followed = tuple(followed)
        self._least = least
        self._ledger = ledger
        self._clock = clock
        self._refreshed_at = float("-inf")
        self._refreshing = asyncio.Lock()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"reconciler_{name}", text, labels, registry=registry)

        self._reachable = gauge("ledger_reachable", "1 while the ledger answers.")
        self._size = gauge("ledger_bytes", "Size of the ledger's database.")
        self._free = gauge("disk_free_bytes", "Room on the disk under a SQLite ledger.", "folder")
        self._enough = gauge("disk_least_bytes", "Room below which somebody is told.", "folder")
        self._resources = gauge("resources", "Resources, by what is known of them.", "account", "kind", "state")
        self._oldest = gauge("oldest_dirty_seconds", "For how long the oldest mark has waited to be read.")
        self._backlog = gauge("backlog", "Resources that wait to be read, by urgency.", "account", "kind", "priority")
        self._verified = gauge(
            "verified_through_seconds", "Unix time through which a kind was looked at.", "account", "kind"
        )
        self._missing = gauge("not_looked_at", "Kinds of an account that are not looked at.", "account")
        self._missed = gauge("missed_deliveries", "Events of the provider's feed that never reached us.")
        self._unconfirmed = gauge("unconfirmed", "Payments past their deadline.")
        self._untold = gauge("untold_share", "Part of an hour's changes that no webhook told.", "account", "kind")
        self._gates = gauge(
            "gate_closed", "1 while an account or a kind of it is not read.", "account", "kind", "reason"
        )
        self._findings = gauge("findings", "Open findings.", "account", "code", "severity")
        self._alerts = gauge("alerts", "Open alerts.", "code", "severity")
        self._budget = gauge("reads_left", "Of a read allocation over 30 days.", "account")
        self._lag = gauge(
            "job_watermark_seconds", "Unix time up to which a periodic job's windows are complete.", "job"
        )

    def follow(self, followed: Sequence[Followed], least: Least) -> None:
        """Another configuration is at work now. The next refresh reads the ledger, however fresh the figures are."""
        self._followed = tuple(followed)
        self._least = least
        self._refreshed_at = float("-inf")

    async def refresh(self) -> None:
        async with self._refreshing:
            if self._clock.monotonic() - self._refreshed_at < _GOOD_FOR_SECONDS:
                return
            try:
                self._set_room(await self._ledger.read(lambda ledger: ledger.store.room()))
                status, backlog, alerts, size = await self._ledger.read(self._look)
            except LedgerError as error:
                self._reachable.set(0)
                log.warning("the ledger could not be measured", error=str(error))
                return
            self._reachable.set(1)
            self._size.set(size)
            self._set(status, backlog, alerts)
            self._refreshed_at = self._clock.monotonic()

    def _look(self, ledger: Ledger) -> tuple[Status, list[tuple[str, str, int, int]], list[Alert], int]:
        with ledger.view() as view:
            status = status_of(observe(view, self._followed, self._clock.now()))
            return status, view.backlog(), view.alerts(), view.size_bytes()

    def _set_room(self, room: Room | None) -> None:
        """Also of a ledger that is away: a full disk is a reason for that."""
        if room is not None:
            self._free.labels(str(room.folder)).set(room.free_bytes)
            self._enough.labels(str(room.folder)).set(self._least.of(room))

    def _set(self, status: Status, backlog: list[tuple[str, str, int, int]], alerts: list[Alert]) -> None:
        for each in (
            self._resources,
            self._backlog,
            self._missing,
            self._untold,
            self._gates,
            self._findings,
            self._alerts,
        ):
            each.clear()
        ours = {followed.account for followed in self._followed}
        for holding in status.kinds:
            waits = holding.account in ours  # nobody reads what is of an account that is configured no more
            for state, count in (
                ("total", holding.total),
                ("dirty", holding.dirty if waits else 0),
                ("dead", holding.dead if waits else 0),
                ("deleted", holding.deleted),
            ):
                self._resources.labels(holding.account, holding.kind, state).set(count)
        for account, kind, priority, count in backlog:
            self._backlog.labels(account, kind, _PRIORITIES[priority]).set(count)
        self._oldest.set(0 if status.oldest_dirty is None else status.oldest_dirty.total_seconds())
        for covered in status.coverage:
            if covered.through is not None:
                self._verified.labels(covered.account, covered.kind).set(covered.through.timestamp())
        for followed in self._followed:
            count = sum(each.account == followed.account for each in status.not_looked_at)
            self._missing.labels(followed.account).set(count)
        self._missed.set(status.missed_deliveries)
        self._unconfirmed.set(len(status.unconfirmed))
        for health in status.health:
            self._untold.labels(health.account, health.kind).set(health.share_hour)
        for gate in status.gates:
            self._gates.labels(gate.account, gate.kind, gate.reason).set(1)
        for finding in status.findings:
            self._findings.labels(finding.account, finding.code, str(finding.severity)).inc()
        for alert in alerts:
            if alert.ended_at is None:
                self._alerts.labels(alert.code, str(alert.severity)).inc()
        for budget in status.budgets:
            if budget.left is not None:
                self._budget.labels(budget.account).set(budget.left)
        for job in status.jobs:
            if job.watermark is not None:
                self._lag.labels(job.name).set(job.watermark.timestamp())
