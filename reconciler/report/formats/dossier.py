"""What every format is given: the report, the rows behind its figures, and what stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.ledger.finance import DaySum
from reconciler.report.formats.accounts import BookAccounts
from reconciler.report.formats.columns import Sheet
from reconciler.report.model import Amount, Report


@dataclass(frozen=True, slots=True)
class EntryLine:
    """One entry of the period: a row behind the figures of the balance proof. Stripe's names, where it has them."""

    account: str
    balance_type: str
    currency: str
    balance_transaction_id: str
    created: datetime
    available_on: datetime | None
    reporting_category: str
    source_id: str | None
    payout_id: str | None
    gross: Amount
    fee: Amount
    net: Amount


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the ledger holds and cannot vouch for at the moment of printing. Never part of the signed report.

    A report as of a past instant has none: nobody keeps how many resources were dirty then.
    """

    document: Mapping[str, Any]
    """Its JSON."""
    sheets: tuple[Sheet, ...]


@dataclass(frozen=True, slots=True)
class Dossier:
    """`entries` reads them anew at every call, one by one: there may be a million."""

    report: Report
    entries: Callable[[], Iterator[EntryLine]]
    day_sums: tuple[DaySum, ...]
    """Per balance, category and business day; in the order of the days."""
    accounts: BookAccounts
    evidence: Evidence | None = None
