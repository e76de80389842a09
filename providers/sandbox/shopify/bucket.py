"""Shopify's leaky bucket: one for all of an app's requests to a shop."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.clock import Clock

SECONDS_TO_EMPTY = 20
"""Every published bucket, of whatever size, leaks empty in this time."""


@dataclass(frozen=True, slots=True)
class BucketLimit:
    """A standard plan's; Plus has 400 and 20."""

    size: int = 40
    leak_per_second: float = 2.0


class LeakyBucket:
    """Counts on the shop's clock; a refused request adds nothing."""

    def __init__(self, limit: BucketLimit | None, clock: Clock) -> None:
        self.limit = limit
        """None: no limit. May be replaced while the server runs."""
        self._clock = clock
        self._level = 0.0
        self._at = clock.monotonic()

    def take(self) -> bool:
        """Whether one more fits."""
        if self.limit is None:
            return True
        now = self._clock.monotonic()
        self._level = max(0.0, self._level - (now - self._at) * self.limit.leak_per_second)
        self._at = now
        if self._level + 1 > self.limit.size:
            return False
        self._level += 1
        return True

    @property
    def wait_seconds(self) -> float:
        """How long until one more fits."""
        if self.limit is None:
            return 0.0
        return max(0.0, (self._level + 1 - self.limit.size) / self.limit.leak_per_second)

    def __str__(self) -> str:
        """As `X-Shopify-Shop-Api-Call-Limit` has it."""
        size = 40 if self.limit is None else self.limit.size
        return f"{min(size, max(1, round(self._level)))}/{size}"
