"""What one sender may cost us: bytes, seconds, requests, and rows in the delivery log."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from reconciler.intake.sources import Network, sender_of


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """Defaults that suit a receiver which providers reach over the internet, with or without a proxy before it."""

    body_bytes: int = 1024 * 1024
    """Largest body; a larger one is answered 413. Stripe's and Shopify's stay far below it."""
    header_bytes: int = 1024
    """How much of a rejected request's headers is kept for the audit row, names and values together."""
    body_seconds: float = 10.0
    """How long a body may take to arrive, from the end of its headers; a slower one is answered 408."""
    store_seconds: float = 4.0
    """How long a verified delivery waits for its commit before it is answered 503. Shopify gives up after 5 s."""
    held_bytes: int = 64 * 1024 * 1024
    """Bodies in memory at once, over all connections; a further one that does not fit is answered 503."""
    audited_per_minute: int = 30
    """Rejected requests of one account that get a row of their own each minute; the others are only counted."""
    requests_per_second: float | None = None
    """Requests of one sender, a second's worth at once; beyond it 429. None: no limit, which is the default because
    with a provider's few sending addresses, and after an outage of ours, honest deliveries come from one address."""
    sources: int = 10_000
    """Senders whose rate is remembered; the one that was quiet longest is forgotten first."""
    trusted_proxies: tuple[Network, ...] = ()
    """Peers whose X-Forwarded-For says where a request came from."""


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """What holds for one account's address alone."""

    deliveries_per_second: float | None = None
    """Deliveries with a good signature, a second's worth at once; beyond it 429. A stranger's do not count: or he could
    use up what is the provider's."""
    sources: tuple[Network, ...] = ()
    """The only networks that may send here; empty: anybody may."""


class SourceRate:
    """A token bucket for each sender."""

    def __init__(self, per_second: float, *, sources: int) -> None:
        self._rate = per_second
        self._burst = max(1.0, per_second)
        self._sources = sources
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_for(self, source: str, now: float) -> int:
        """0 when a request is allowed at `now` (a monotonic reading); else whole seconds until one will be."""
        sender = sender_of(source)
        level, at = self._levels.pop(sender, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        allowed = level >= 1.0
        self._levels[sender] = (level - 1.0 if allowed else level, now)
        if len(self._levels) > self._sources:
            self._levels.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1.0 - level) / self._rate))


class AuditAllowance:
    """How many rejections of one account still get a row in this minute: a flood must not fill the disk."""

    __slots__ = ("_left", "_minute", "_per_minute")

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._minute = -1
        self._left = 0

    def take(self, now: float) -> bool:
        """`now` is a monotonic reading."""
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._left = minute, self._per_minute
        if self._left <= 0:
            return False
        self._left -= 1
        return True
