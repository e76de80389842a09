"""What the intake counts. The registry is the caller's: nothing here is global."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)


class AccountMeter:
    """The counters of one account, looked up once and kept."""

    def __init__(self, account: str, deliveries: Counter, seconds: Histogram) -> None:
        self._account = account
        self._deliveries = deliveries
        self._seconds = seconds.labels(account)
        self._counters: dict[tuple[str, str], Counter] = {}

    def count(self, verdict: str, reason: str, seconds: float) -> None:
        """`reason` must come from a bounded set: it becomes a label."""
        counter = self._counters.get((verdict, reason))
        if counter is None:
            counter = self._counters[verdict, reason] = self._deliveries.labels(self._account, verdict, reason)
        counter.inc()
        self._seconds.observe(seconds)


class IntakeMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._deliveries = Counter(
            "reconciler_deliveries",
            "Webhook requests by account, verdict and reason; counted when they are answered.",
            ("account", "verdict", "reason"),
            registry=registry,
        )
        self._seconds = Histogram(
            "reconciler_intake_seconds",
            "From the end of a webhook request's headers to its answer, commit included.",
            ("account",),
            buckets=_SECONDS,
            registry=registry,
        )

    def of(self, account: str) -> AccountMeter:
        return AccountMeter(account, self._deliveries, self._seconds)
