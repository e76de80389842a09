"""Fees, exchange and disputes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from reconciler.report.model.terms import Amount


@dataclass(frozen=True, slots=True)
class FeeException:
    id: str
    expected: Amount
    actual: Amount
    difference: Amount


@dataclass(frozen=True, slots=True)
class FeeDetail:
    type: str
    count: int
    amount: Amount


@dataclass(frozen=True, slots=True)
class FeeSection:
    """Entries of category `charge` that a rule speaks of; without a rule there is an actual fee and no expected one."""

    currency: str
    expected: Amount | None
    actual: Amount
    variance: Amount | None
    gross: Amount
    effective_bps: Decimal | None
    """Actual fees over gross, two decimals; None where nothing was charged."""
    exceptions: tuple[FeeException, ...]
    details: tuple[FeeDetail, ...]
    """What the provider says that the fees of these entries are made of."""


@dataclass(frozen=True, slots=True)
class FxResult:
    refund: str
    charge: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class FxException:
    id: str
    expected: Amount
    actual: Amount
    difference: Amount
    presentment: Amount
    rate: str


@dataclass(frozen=True, slots=True)
class FxSection:
    results: tuple[FxResult, ...]
    exceptions: tuple[FxException, ...]


@dataclass(frozen=True, slots=True)
class DisputeSection:
    currency: str
    open: int
    won: int
    lost: int
    at_risk: Amount
    net_cost: Amount
