"""How much of a provider's read allocation is used, and where the present pace leads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.budget import ALLOCATION_PERIOD, stretched
from reconciler.ledger import ReadTally

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ReadBudget:
    """One account's requests to its provider."""

    account: str
    allocation: int | None
    """Reads over 30 days that the provider grants; None: it publishes no such limit, or none is configured."""
    used: int
    """Over the last 30 days."""
    by_priority: Mapping[int, int]
    """Of those: how many for what (`reconciler.model.Priority`)."""
    forecast: int
    """Over the next 30 days, at the pace of the last whole days (at most seven)."""
    runs_out_at: datetime | None
    """When the allocation will be used up at that pace; None while it lasts."""
    rest: timedelta
    """How long sweeps rest at least, so that it lasts; zero: as long as they are configured to."""

    @property
    def left(self) -> int | None:
        return None if self.allocation is None else max(0, self.allocation - self.used)


def read_budget(
    account: str, allocation: int | None, tallies: Sequence[ReadTally], now: datetime, *, kinds: int
) -> ReadBudget:
    """Pure. Today counts for the part of it that has passed. `kinds`: how many the account's sweeps look at."""
    mine = [tally for tally in tallies if tally.account == account]
    used = sum(tally.requests for tally in mine if tally.day > now - ALLOCATION_PERIOD)
    by_priority: dict[int, int] = {}
    for tally in mine:
        by_priority[tally.priority] = by_priority.get(tally.priority, 0) + tally.requests
    recent = [tally for tally in mine if tally.day > now - 7 * _DAY]
    first = min((tally.day for tally in recent), default=now)
    span = max(now - first, timedelta(hours=1))
    pace = sum(tally.requests for tally in recent) / span.total_seconds()
    forecast = round(pace * ALLOCATION_PERIOD.total_seconds())
    runs_out_at = None
    if allocation is not None and pace > 0 and forecast > allocation:
        runs_out_at = now + timedelta(seconds=max(0, allocation - used) / pace)
    rest = stretched(timedelta(0), used=used, allocation=allocation, kinds=kinds)
    return ReadBudget(account, allocation, used, dict(sorted(by_priority.items())), forecast, runs_out_at, rest)
