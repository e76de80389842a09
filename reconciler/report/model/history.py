"""What became known later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from reconciler.report.model.terms import Amount


@dataclass(frozen=True, slots=True)
class Change:
    """A fact that became known, or was replaced, between the compared instants and moves this period's closing."""

    account: str
    balance_type: str
    currency: str
    id: str
    effective_at: datetime
    recorded_at: datetime
    source: str
    """What made us look: webhook, sweep, deadline, backfill, manual."""
    old: Amount | None
    new: Amount | None
    net: Amount
    """`new - old`: what it does to the closing."""


@dataclass(frozen=True, slots=True)
class LineDelta:
    account: str
    balance_type: str
    currency: str
    code: str
    before: Amount | None
    after: Amount | None


@dataclass(frozen=True, slots=True)
class LateFact:
    """A fact of a locked period that became known after the lock's instant."""

    account: str
    period_from: date
    period_to: date
    locked_as_of: datetime
    id: str
    effective_at: datetime
    recorded_at: datetime
    source: str
    net: Amount
