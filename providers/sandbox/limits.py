"""Stripe's rate limits, really enforced: a token bucket per endpoint inside one per account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from reconciler.clock import Clock


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests per second; a bucket holds one second's worth. Source: docs.stripe.com/rate-limits."""

    per_endpoint: int = 25
    per_account: int = 100
    """100 in live mode, 25 in a sandbox."""
    retry_after: timedelta | None = None
    """Stripe does not document the header; None leaves it out."""


class _Bucket:
    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate)
        self._at = now

    def has_one(self, now: float) -> bool:
        self._tokens = min(float(self._rate), self._tokens + (now - self._at) * self._rate)
        self._at = now
        return self._tokens >= 1.0

    def take(self) -> None:
        self._tokens -= 1.0


class Limiter:
    """Counts on the world's clock; a refused request costs nothing."""

    def __init__(self, limits: Limits | None, clock: Clock) -> None:
        self.limits = limits
        """May be replaced while the server runs."""
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    @property
    def retry_after(self) -> timedelta | None:
        return None if self.limits is None else self.limits.retry_after

    def refuses(self, account: str, operation: str) -> str | None:
        """Stripe's word for the limit that was hit, or None after taking a token from both buckets."""
        if self.limits is None:
            return None
        now = self._clock.monotonic()
        whole = self._bucket(account, "", self.limits.per_account, now)
        single = self._bucket(account, operation, self.limits.per_endpoint, now)
        if not whole.has_one(now):
            return "global-rate"
        if not single.has_one(now):
            return "endpoint-rate"
        whole.take()
        single.take()
        return None

    def _bucket(self, account: str, operation: str, rate: int, now: float) -> _Bucket:
        bucket = self._buckets.get((account, operation))
        if bucket is None:
            bucket = self._buckets[account, operation] = _Bucket(rate, now)
        return bucket
