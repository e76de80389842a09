"""What the intake counts. The registry is the caller's: nothing here is global.

Plain numbers that are made into metrics when somebody asks: the client library's own counters take a lock for each of
the six that a delivery moves, 4 us in all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)


class AccountMeter:
    """The numbers of one account. Counted on the event loop, read there too."""

    __slots__ = ("deliveries", "seconds", "slots")

    def __init__(self) -> None:
        self.deliveries: Counter[tuple[str, str]] = Counter()
        """By verdict and reason."""
        self.slots = [0] * (len(_SECONDS) + 1)
        """How many answers took up to each of _SECONDS but longer than the one before; the last: longer than all."""
        self.seconds = 0.0

    def count(self, verdict: str, reason: str, seconds: float) -> None:
        """`reason` must come from a bounded set: it becomes a label."""
        self.deliveries[verdict, reason] += 1
        self.slots[bisect_left(_SECONDS, seconds)] += 1
        self.seconds += seconds


class IntakeMetrics(Collector):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._accounts: dict[str, AccountMeter] = {}
        self._dropped = 0
        registry.register(self)

    def of(self, account: str) -> AccountMeter:
        return self._accounts.setdefault(account, AccountMeter())

    def dropped(self, count: int) -> None:
        """Rejected deliveries that could not be stored; they are among the counted ones all the same."""
        self._dropped += count

    def collect(self) -> Iterator[Metric]:
        deliveries = CounterMetricFamily(
            "reconciler_deliveries",
            "Webhook requests by account, verdict and reason; counted when they are answered.",
            labels=("account", "verdict", "reason"),
        )
        seconds = HistogramMetricFamily(
            "reconciler_intake_seconds",
            "From the end of a webhook request's headers to its answer, commit included.",
            labels=("account",),
        )
        for account, meter in self._accounts.items():
            for (verdict, reason), count in meter.deliveries.items():
                deliveries.add_metric((account, verdict, reason), count)
            seconds.add_metric((account,), _cumulative(meter.slots), meter.seconds)
        dropped = CounterMetricFamily(
            "reconciler_rejections_dropped",
            "Rejected deliveries that are in no log of deliveries, because they could not be stored.",
        )
        dropped.add_metric((), self._dropped)
        yield deliveries
        yield seconds
        yield dropped


def _cumulative(slots: list[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, _SECONDS), "+Inf"), slots, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
