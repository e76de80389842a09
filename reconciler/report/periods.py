"""Business days: whole days of a time zone that begin at a wall-clock time, through daylight saving and back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from reconciler.errors import UsageError

_DAY = timedelta(days=1)
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which business day an instant belongs to.

    A day begins when the zone's clocks first show `day_start`; in the night that skips that time, when they would
    have shown it by the offset before the change. So a day has 23, 24 or 25 hours and every instant belongs to one day.
    """

    zone: ZoneInfo
    day_start: time = time(0)

    @classmethod
    def of(cls, timezone: str, day_start: time = time(0)) -> Calendar:
        """Raises UsageError for a zone that the IANA database does not have."""
        try:
            return cls(ZoneInfo(timezone), day_start)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise UsageError(
                f"{timezone!r} is not an IANA time zone; write for example Europe/Berlin or UTC"
            ) from error

    def begins(self, day: date) -> datetime:
        """The first instant of a business day, UTC."""
        return datetime.combine(day, self.day_start, self.zone).astimezone(UTC)

    def day_of(self, instant: datetime) -> date:
        """At either end of the calendar, where some programs put what has no time, its very first or last day."""
        try:
            day = instant.astimezone(self.zone).date()
            return day - _DAY if instant < self.begins(day) else day
        except OverflowError:
            return date.min if instant.year == date.min.year else date.max

    def last_day_before(self, instant: datetime) -> date:
        """The business day that was running until just before `instant`."""
        return self.day_of(instant - _INSTANT)

    def offset(self, instant: datetime) -> str:
        """`+01:00`"""
        return instant.astimezone(self.zone).isoformat()[-6:]


@dataclass(frozen=True, slots=True)
class Period:
    """Business days `from_day` to `to_day`, both included: `start <= t < end`, UTC."""

    from_day: date
    to_day: date
    calendar: Calendar

    def __post_init__(self) -> None:
        if self.to_day < self.from_day:
            raise UsageError(f"the period ends ({self.to_day}) before it begins ({self.from_day})")

    @property
    def start(self) -> datetime:
        return self.calendar.begins(self.from_day)

    @property
    def end(self) -> datetime:
        return self.calendar.begins(self.to_day + _DAY)

    @property
    def days(self) -> tuple[date, ...]:
        return tuple(self.from_day + n * _DAY for n in range((self.to_day - self.from_day).days + 1))

    @property
    def bounds(self) -> tuple[datetime, ...]:
        """Where each day begins, and where the last one ends."""
        return (*(self.calendar.begins(day) for day in self.days), self.end)

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end


BUCKET_ENDS = ((1, "0-1"), (3, "2-3"), (7, "4-7"), (30, "8-30"), (60, "31-60"), (90, "61-90"))


def bucket(age_days: int) -> str:
    for last, name in BUCKET_ENDS:
        if age_days <= last:
            return name
    return "90+"
