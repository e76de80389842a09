"""Instants as operators write them: ISO 8601, or how long ago."""

from __future__ import annotations

from datetime import UTC, datetime

from reconciler.config import parse_duration
from reconciler.errors import UsageError

YEARS = range(2, 9999)
"""Of days and instants that a command takes: in every zone, and a day later, they are still dates."""


def parse_instant(text: str, now: datetime) -> datetime:
    """`2026-11-01`, `2026-11-01T12:00:00Z` or, back from now, `2h`, `33d`. Without an offset it is UTC."""
    try:
        at = now - parse_duration(text)
    except (ValueError, OverflowError):
        at = _written(text)
    if at.year not in YEARS:
        raise UsageError(f"{text!r} lies too far away: only the years {YEARS[0]} to {YEARS[-1]} are taken")
    return at.astimezone(UTC)


def _written(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time; write 2026-11-01, 2026-11-01T12:00:00Z, or how long ago, such as 2h or 33d"
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
