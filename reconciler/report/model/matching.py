"""What belongs together, what is open, and how old it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from reconciler.report.model.terms import Amount, BreakType, Plane


@dataclass(frozen=True, slots=True)
class MatchLine:
    code: str
    currency: str
    count: int
    left: Amount
    right: Amount
    difference: Amount


@dataclass(frozen=True, slots=True)
class Pair:
    plane: Plane
    state: str
    """`MATCHED`, `MATCHED_TOL`, `INVOICE`, `AUTO_RESOLVED`."""
    key: str
    """Which key proved it: `K1` to `K4`, `invoice`, `payment_intent`, `entry`, `trace`, `members`."""
    left: str
    right: str
    currency: str
    amount: Amount
    residual: Amount


@dataclass(frozen=True, slots=True)
class OpenItem:
    """A break, or an item that only waits (`clears_on`, or its age within the grace)."""

    break_id: str
    type: BreakType
    plane: Plane
    account: str
    left: str
    right: str
    currency: str
    left_amount: Amount
    right_amount: Amount
    difference: Amount
    age_days: int
    bucket: str
    opened_at: datetime
    owner: str | None
    note: str | None
    suggestion: str | None
    """Words for a person. Never counted, never confirmed by itself."""
    clears_on: date | None = None


@dataclass(frozen=True, slots=True)
class ResolvedItem:
    """A break that somebody resolved, and whose facts have not changed since."""

    item: OpenItem
    reason: str
    resolved_by: str
    resolved_at: datetime


@dataclass(frozen=True, slots=True)
class OpenTotal:
    currency: str
    count: int
    left: Amount
    right: Amount


@dataclass(frozen=True, slots=True)
class RollForward:
    """Open items of the commercial match: `opening + new - cleared = closing`, per currency, each side."""

    currency: str
    opening: OpenTotal
    new: OpenTotal
    cleared: OpenTotal
    closing: OpenTotal


@dataclass(frozen=True, slots=True)
class AgeLine:
    currency: str
    type: BreakType
    bucket: str
    count: int
    amount: Amount
    """Sum of the absolute differences."""
