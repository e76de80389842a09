"""What the worker counts for Prometheus: reads by outcome, drift by cause, failures by class."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter

from reconciler.ledger import Applied


class WorkMetrics:
    """One registry is injected, so that two daemons in one process do not share counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._readings = Counter(
            "reconciler_readings_total",
            "Readings of provider state, by what became of them.",
            ("account", "kind", "outcome"),
            registry=registry,
        )
        self._drift = Counter(
            "reconciler_drift_total",
            "Changes to known resources that no webhook told of, by what found them.",
            ("account", "kind", "cause"),
            registry=registry,
        )
        self._failures = Counter(
            "reconciler_read_failures_total",
            "Reads that failed, by the class of the error.",
            ("account", "kind", "error"),
            registry=registry,
        )

    def applied(self, results: Sequence[Applied]) -> None:
        for each in results:
            self._readings.labels(each.ref.account, each.ref.kind, each.outcome.value).inc()
            if each.drift:
                self._drift.labels(each.ref.account, each.ref.kind, each.cause.value).inc()

    def failed(self, account: str, kind: str, error: Exception) -> None:
        self._failures.labels(account, kind, type(error).__name__).inc()
