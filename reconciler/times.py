"""Instants as operators write them: ISO 8601, or how long ago."""

from __future__ import annotations

from datetime import UTC, datetime

from reconciler.clock import require_utc
from reconciler.config import parse_duration
from reconciler.errors import UsageError


def parse_instant(text: str, now: datetime) -> datetime:
    """`2026-11-01`, `2026-11-01T12:00:00Z` or, back from now, `2h`, `33d`. Without an offset it is UTC."""
    try:
        return now - parse_duration(text)
    except (ValueError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else require_utc(at)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time; write 2026-11-01, 2026-11-01T12:00:00Z, or how long ago, such as 2h or 33d"
        ) from None
