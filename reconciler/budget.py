"""How many requests may be sent, by whom, now: token buckets with a reserved share for what is urgent.

The arithmetic is pure and lives here; the buckets themselves are rows of the ledger, so that every process that
reads for an account draws from the same ones (`reconciler.ledger.buckets`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from reconciler.model import Priority
from reconciler.provider import Limit

MILLI = 1000
"""Buckets count thousandths of a request, so that a slow refill loses nothing to rounding."""

SAFETY = 0.8
"""The share of a published limit that is used: other programs of the same account need some too."""

_LOWEST_RATE = 1 * MILLI
_SKEW = 5_000_000
"""Microseconds by which the clocks of two nodes may differ; a clock that is further behind than that was set back."""

_GROWTH_PER_SECOND = 0.05
"""After a throttle the rate grows back by this share of the limit each second."""

RESERVED: Mapping[Priority, float] = {
    Priority.LIVE: 0.0,
    Priority.MANUAL: 0.1,
    Priority.SWEEP: 0.3,
    Priority.BACKFILL: 0.5,
}
"""The part of a full bucket that a priority may not touch; it is what the more urgent ones find when they come."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket at an instant. Levels and rates in thousandths of a request, times in microseconds."""

    level: int
    at: int
    rate: int
    closed_until: int = 0


@dataclass(frozen=True, slots=True)
class Draw:
    bucket: Bucket
    granted: int
    """Whole requests, at most as many as were wanted."""
    wait: timedelta
    """When nothing was granted: how long until one request will be, if nobody else comes."""


def full(limit: Limit, now: int) -> Bucket:
    return Bucket(level=_capacity(limit), at=now, rate=_top_rate(limit))


def refill(bucket: Bucket, limit: Limit, now: int) -> Bucket:
    """The bucket as it is now. A clock that was set back adds nothing, and does not have to be waited for."""
    if now < bucket.at - _SKEW and bucket.at > bucket.closed_until:
        bucket = replace(bucket, at=now, closed_until=0)
    rate = min(bucket.rate, _top_rate(limit))
    elapsed = max(0, now - bucket.at)
    gained = rate * elapsed // 1_000_000
    # Only the time that the gain accounts for has passed for the bucket: often looked at, it loses nothing to rounding.
    passed = _ceil(gained * 1_000_000, rate)
    grown = min(_top_rate(limit), rate + int(_top_rate(limit) * _GROWTH_PER_SECOND * elapsed / 1e6))
    return replace(bucket, level=min(_capacity(limit), bucket.level + gained), at=bucket.at + passed, rate=grown)


def draw(bucket: Bucket, limit: Limit, *, want: int, priority: Priority, now: int) -> Draw:
    """Take up to `want` requests, leaving the share that is reserved for whatever is more urgent."""
    current = refill(bucket, limit, now)
    if now < current.closed_until:
        return Draw(current, 0, timedelta(microseconds=current.closed_until - now))
    floor = _reserved(limit, priority)
    granted = min(want, max(0, current.level - floor) // MILLI)
    if granted:
        return Draw(replace(current, level=current.level - granted * MILLI), granted, timedelta(0))
    missing = floor + MILLI - current.level
    filled_at = current.at + _ceil(missing * 1_000_000, current.rate)
    return Draw(current, 0, timedelta(microseconds=max(1, filled_at - now)))


def give_back(bucket: Bucket, limit: Limit, requests: int) -> Bucket:
    """Requests that were drawn and not sent."""
    return replace(bucket, level=min(_capacity(limit), bucket.level + requests * MILLI))


def widen(bucket: Bucket, limit: Limit, requests: int, now: int) -> Bucket:
    """The provider's own answers say that it allows more than was assumed: the room was there, unused, all the time."""
    wider = give_back(refill(bucket, limit, now), limit, requests)
    return wider if now < bucket.closed_until else replace(wider, rate=_top_rate(limit))


def throttle(bucket: Bucket, limit: Limit, *, until: int, now: int) -> Bucket:
    """The provider said too much: nothing before `until`, an empty bucket then, and half the rate from there."""
    current = refill(bucket, limit, now)
    top = _top_rate(limit)
    rate = current.rate if now < current.closed_until else max(min(_LOWEST_RATE, top), current.rate // 2)
    closed_until = max(until, current.closed_until)
    return Bucket(level=0, at=max(closed_until, now), rate=rate, closed_until=closed_until)


def _reserved(limit: Limit, priority: Priority) -> int:
    """What `priority` may not touch; never so much of a small bucket that it could not send at all."""
    capacity = _capacity(limit)
    return min(int(capacity * RESERVED[priority]), capacity - MILLI)


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _capacity(limit: Limit) -> int:
    return max(MILLI, int(limit.burst * SAFETY * MILLI))


def _top_rate(limit: Limit) -> int:
    return max(1, int(limit.rate * SAFETY * MILLI))


# --- the monthly allocation -----------------------------------------------------------------------

ALLOCATION_PERIOD = timedelta(days=30)

LONGEST_STRETCH = timedelta(days=1)
"""A sweep rests no longer than this for the allocation's sake: silence would hide more than a read a day costs, and
a time that was fixed months ahead would outlive its reason."""

_RELAXED_SHARE = 0.5
"""Below this share of the allocation, sweeps keep their configured pace."""


_REQUESTS_PER_KIND = 2
"""What one run of each sweep of a kind comes to, roughly."""


def stretched(every: timedelta, *, used: int, allocation: int | None, kinds: int) -> timedelta:
    """How long to wait between two runs of a sweep so that the sweeps of all kinds together stay inside the read
    allocation.

    Up to half of the allocation nothing changes. Beyond it, one half of what is left is spread evenly over a whole
    period; the other half stays for what webhooks and deadlines need.
    """
    if allocation is None or used < allocation * _RELAXED_SHARE:
        return every
    left = max(1.0, (allocation - used) / 2)
    return max(every, min(LONGEST_STRETCH, ALLOCATION_PERIOD * (max(_REQUESTS_PER_KIND * kinds, 1) / left)))
