"""Everything the report is computed from, read once: plain values, as they were known at one instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from reconciler.ledger.aside import Flow
from reconciler.ledger.bank import BankLine
from reconciler.ledger.breaks import BreakEvent, PeriodLock
from reconciler.ledger.control import TotalFact
from reconciler.ledger.coverage import Coverage
from reconciler.ledger.finance import (
    BalanceKey,
    DaySum,
    EntryChange,
    EntryFact,
)
from reconciler.ledger.uncaused import UnreadCause
from reconciler.model import ResourceRef
from reconciler.money import Exponents
from reconciler.movements import FinanceReader, Movement, Sold, reader_of
from reconciler.provider import Provider

STREAM = "balance_transaction"
"""The kind whose complete coverage says which entries of an account are known."""


@dataclass(frozen=True, slots=True)
class AccountTerms:
    """One account in the report: whose money words are spoken there, and with how many decimals."""

    name: str
    provider: str
    exponents: Exponents
    finance: FinanceReader


def terms_of_providers(providers: Mapping[str, Provider | type[Provider]]) -> tuple[AccountTerms, ...]:
    """Of the accounts that money moves through, sorted by their names; `providers` is by account."""
    found = []
    for name, provider in sorted(providers.items()):
        reader = reader_of(provider)
        if reader is not None:
            found.append(AccountTerms(name, provider.name, provider.exponents, reader))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class BalanceFacts:
    """What one balance's proof needs."""

    key: BalanceKey
    has_entries: bool
    base: int
    """What the balance held before the first entry that we know."""
    basis: str
    """`control_total`, `anchored` or `none`."""
    basis_at: datetime | None
    basis_quiet: bool
    """False: entries are dated in the very second of that word, and no word close by was quieter."""
    before_start: int
    """Sum of the entries before the period; the opening is `base + before_start`."""
    provider: TotalFact | None
    """The provider's word at the cut-off, or the first one after it."""
    rolled_back: int
    """Sum of the entries between the cut-off and that word."""
    day_totals: tuple[tuple[int, int], ...]
    """(day of the period, what the provider's balance was at its end)."""
    signed: int | None = None
    """The opening as the last lock knew it; None where no lock with `roll_forward` precedes the period."""


@dataclass(frozen=True, slots=True)
class Composition:
    """What a payout's members add up to, in one currency."""

    currency: str
    found: int
    net: int


@dataclass(frozen=True, slots=True)
class UnsettledSum:
    """Entries of one category that no payout created before the end paid out."""

    key: BalanceKey
    category: str
    count: int
    net: int


@dataclass(frozen=True, slots=True)
class DisputeFact:
    """A dispute as its last version before the cut-off had it, and when that state was first recorded."""

    movement: Movement
    since: datetime


@dataclass(frozen=True, slots=True)
class ChargedFee:
    """One entry of category `charge` whose fee is not what a rule expects."""

    account: str
    id: str
    source_id: str | None
    currency: str
    effective_at: datetime
    expected: int
    actual: int


@dataclass(frozen=True, slots=True)
class FeeFacts:
    """The fees of one account and currency, folded entry by entry."""

    account: str
    currency: str
    ruled: bool
    expected: int
    actual: int
    gross: int
    exceptions: tuple[ChargedFee, ...]
    details: tuple[tuple[str, int, int], ...]
    """(type, count, amount)"""


@dataclass(frozen=True, slots=True)
class SalesFacts:
    """A shop's orders of the period, and every payment of theirs that succeeded."""

    account: str
    orders: tuple[Sold, ...]
    payments: tuple[Movement, ...]
    prices: tuple[Movement, ...] = ()
    """What these orders ever said of amounts in two currencies."""


@dataclass(frozen=True, slots=True)
class Facts:
    terms: tuple[AccountTerms, ...]
    balances: tuple[BalanceFacts, ...] = ()
    day_sums: tuple[DaySum, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    covered_since: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    movements: tuple[Movement, ...] = ()
    aside: tuple[Flow, ...] = ()
    """Inside the period: what movements that were set aside say, which are then not among `movements`."""
    disputes: tuple[DisputeFact, ...] = ()
    unseen_disputes: tuple[Movement, ...] = ()
    """Begun before the cut-off and first read after it: how they stood at it, nobody recorded."""
    entries: Mapping[tuple[str, str], tuple[EntryFact, ...]] = field(default_factory=dict)
    """(account, source id) -> the entries that it caused, oldest first."""
    conversions: Mapping[tuple[str, str], Movement] = field(default_factory=dict)
    """(account, entry id) -> the rate that the entry was booked at."""
    compositions: Mapping[tuple[str, str], tuple[Composition, ...]] = field(default_factory=dict)
    """(account, payout id) -> what its members add up to; only payouts whose list is known to be complete."""
    unread: tuple[UnreadCause, ...] = ()
    """Inside the period: money of which nobody read what caused it, or which was caused by what does not exist."""
    unsettled_sums: tuple[UnsettledSum, ...] = ()
    unsettled: tuple[EntryFact, ...] = ()
    fees: tuple[FeeFacts, ...] = ()
    events: tuple[BreakEvent, ...] = ()
    locks: tuple[PeriodLock, ...] = ()
    """Periods that stand locked at or before the report's instant."""
    late: Mapping[BalanceKey, tuple[EntryChange, ...]] = field(default_factory=dict)
    """Per balance: what became known after the lock that its opening rests on."""
    exceptions: tuple[tuple[PeriodLock, EntryChange], ...] = ()
    changed: tuple[EntryChange, ...] = ()
    """What became known since the compared instant."""
    compared: Facts | None = None
    """Balances and sums as they were known at the compared instant."""
    bank: tuple[BankLine, ...] = ()
    bank_openings: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(bank account, statement) -> what the account held before its lines, in their minor units; where it was said."""
    unreadable: tuple[ResourceRef, ...] = ()
    """What a provider said and nobody can read: it is in no figure, and nothing of its kind is proved."""
    sales: tuple[SalesFacts, ...] = ()
