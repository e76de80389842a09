"""What outlives every configuration of a process: its ledger, its counters, its bells, and its name."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from reconciler.clock import Clock
from reconciler.intake import IntakeMetrics
from reconciler.ledger import GroupCommit, Ledger
from reconciler.metrics import WorkMetrics
from reconciler.outbox.bell import Bell
from reconciler.outbox.metrics import OutboxMetrics
from reconciler.retention import RetentionMetrics
from reconciler.web import LedgerGauges

PARTS = frozenset({"intake", "worker", "console"})
"""What a process may be asked to be, with `--only`."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Every metric of the process, in one registry. One that began anew with a reload would look like a restart."""

    registry: CollectorRegistry
    work: WorkMetrics
    intake: IntakeMetrics
    outbox: OutboxMetrics
    retention: RetentionMetrics

    @classmethod
    def fresh(cls) -> Counters:
        registry = CollectorRegistry()
        return cls(
            registry,
            WorkMetrics(registry),
            IntakeMetrics(registry),
            OutboxMetrics(registry),
            RetentionMetrics(registry),
        )


@dataclass(slots=True)
class Core:
    ledger: Ledger
    writer: GroupCommit
    clock: Clock
    rng: random.Random
    parts: frozenset[str]
    counters: Counters
    gauges: LedgerGauges
    owner: str
    """This process in leases. It keeps its name over a reload: leases of another name of its own would be ended."""
    applied: Bell = field(default_factory=Bell)
    """Rung when this process has stored new versions."""
    placed: Bell = field(default_factory=Bell)
    """Rung when there is something new to read in the change feed."""
    bound: str | None = None
    """Where the server listens, once it does."""
