"""The one source of time. Nothing else in the project may ask the machine what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Aware UTC now, and a monotonic reading for measuring spans that a stepped wall clock must not distort."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary instant; never goes back."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to: for tests, simulations and previews."""

    def __init__(self, now: datetime) -> None:
        self._now = require_utc(now)
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, by: timedelta) -> datetime:
        """Time passes: both readings move."""
        if by < timedelta(0):
            raise ValueError("time passes forwards; use step() to model a wall clock that is set back")
        self._elapsed += by.total_seconds()
        self._now += by
        return self._now

    def step(self, by: timedelta) -> None:
        """Somebody set the wall clock: only the wall reading moves, in either direction."""
        self._now += by


def require_utc(instant: datetime) -> datetime:
    """The same instant, in UTC. Raises ValueError for a naive one, which names no instant at all, and for one that is
    in no year of the calendar there: the first and the last day, with an offset."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant!r} has no time zone, so it names no instant; attach one")
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{instant!r} is before the year 1 or after 9999 in UTC") from error


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970-01-01 UTC: how the ledger stores every instant, exactly, on both databases."""
    # The usual case first: every delivery's row has four instants, and astimezone is half of their cost.
    return ((instant if instant.tzinfo is UTC else require_utc(instant)) - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def span_micros(span: timedelta) -> int:
    return span // _MICROSECOND
