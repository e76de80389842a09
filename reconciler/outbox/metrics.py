"""What the pool counts for Prometheus. Not by subscription: their names would make as many series as there are."""

from __future__ import annotations

from datetime import timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class OutboxMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "reconciler_outbox_requests_total",
            "Requests to subscribers, by what became of them.",
            ("outcome",),
            registry=registry,
        )
        self._delay = Histogram(
            "reconciler_outbox_delay_seconds",
            "From a change's commit to the subscriber's 2xx.",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600, 86_400),
            registry=registry,
        )
        self._under_way = Gauge(
            "reconciler_outbox_requests_under_way", "Requests to subscribers now.", registry=registry
        )
        self._pending = Gauge("reconciler_outbox_pending", "Changes still to be told.", registry=registry)
        self._dead = Gauge("reconciler_outbox_dead", "Changes that were given up on.", registry=registry)

    def ended(self, outcome: str) -> None:
        self._requests.labels(outcome).inc()

    def delivered(self, delay: timedelta) -> None:
        self._delay.observe(max(0.0, delay.total_seconds()))

    def under_way(self, count: int) -> None:
        self._under_way.set(count)

    def backlog(self, pending: int, dead: int) -> None:
        self._pending.set(pending)
        self._dead.set(dead)
