"""Verdicts and what proves them: coverage, balances, what is not paid out, payouts, bank lines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from reconciler.report.model.terms import Amount, PayoutState, Standing


@dataclass(frozen=True, slots=True)
class Kpis:
    matched_count: int
    population_count: int
    matched_value: Amount
    population_value: Amount
    matched_percent: Decimal
    """By count, one decimal; 100.0 for an empty population."""
    matched_value_percent: Decimal
    verified_value_percent: Decimal
    """Of the money that the period's entries moved, by category and without signs, how much lies in balances that the
    provider's own total confirms; what of a difference nobody explained counts as not verified."""
    open_breaks: int
    open_value: Amount
    """Sum of the absolute differences."""
    oldest_age_days: int | None
    unexplained: Amount | None
    """None where a balance has no control total."""
    median_days_to_clear: Decimal | None


@dataclass(frozen=True, slots=True)
class Verdict:
    currency: str
    standing: Standing
    reasons: tuple[str, ...]
    kpis: Kpis


@dataclass(frozen=True, slots=True)
class CoverageLine:
    account: str
    stream: str
    required: bool
    through: datetime | None
    """Complete up to here, without a gap since the period began; None: never looked at."""
    complete: bool
    """Whether it proves the whole period."""
    gaps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BalanceLine:
    """`code` is a reporting category or a fixed code; the fixed ones stand in `net` and leave the others None."""

    code: str
    count: int | None
    gross: Amount | None
    fee: Amount | None
    net: Amount | None
    """None only where the figure does not exist: `provider` without a control total."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One step of the waterfall; `start + amount = end`, and the next bar starts there."""

    code: str
    amount: Amount
    start: Amount
    end: Amount


@dataclass(frozen=True, slots=True)
class SalesBar(Bar):
    """A step of an order, or a way of paying."""

    foreign: Amount | None = None
    """What was paid, where that was in another currency than the order's."""


@dataclass(frozen=True, slots=True)
class SalesBlock:
    """What a shop's orders of the period sold, and how they were paid: from gross sales to what is still owed.

    Steps of the orders, then one `tender.<gateway>` for each way of paying, negative. `tender.<gateway>.<currency>` is
    what was paid in another currency, as the shop itself counts it; `uncounted.<gateway>.<currency>` takes nothing off,
    because nobody says what it counts as. The last bar's end is what is not paid yet; below zero: paid too much, or
    not yet given back.
    """

    account: str
    currency: str
    orders: int
    bars: tuple[SalesBar, ...]


@dataclass(frozen=True, slots=True)
class DayPoint:
    """The balance at the end of one business day, and what the provider said then, where it said it."""

    day: date
    closing: Amount
    provider: Amount | None
    unexplained: Amount | None


@dataclass(frozen=True, slots=True)
class BalanceBlock:
    account: str
    balance_type: str
    currency: str
    lines: tuple[BalanceLine, ...]
    opening_basis: str
    """`control_total`, `anchored`, `locked` or `none`."""
    provider_basis: str
    """`at_cut_off`, `rolled_back`, `no_entries` or `missing`."""
    provider_as_at: datetime | None
    waterfall: tuple[Bar, ...]
    days: tuple[DayPoint, ...]
    notes: tuple[str, ...]

    def line(self, code: str) -> BalanceLine:
        """Raises KeyError for a code that this block does not have."""
        for line in self.lines:
            if line.code == code:
                return line
        raise KeyError(code)


@dataclass(frozen=True, slots=True)
class UnsettledLine:
    """An entry that no payout created before the end paid out; or a remainder, with an empty id and its count."""

    account: str
    balance_type: str
    currency: str
    id: str
    category: str
    effective_at: datetime | None
    available_on: datetime | None
    count: int
    net: Amount


@dataclass(frozen=True, slots=True)
class UnsettledTotal:
    """The second proof: `items + manual_payouts + opening = closing` for one balance."""

    account: str
    balance_type: str
    currency: str
    items: Amount
    manual_payouts: Amount
    """Payouts that name no entries; their own line."""
    brought_in: Amount
    """What the balance held before the first entry that the ledger knows."""
    closing: Amount
    difference: Amount


@dataclass(frozen=True, slots=True)
class PayoutLine:
    account: str
    id: str
    ref: str
    status: str
    state: PayoutState
    amount: Amount
    fee: Amount
    """What the payout itself cost, on top of its amount."""
    components: Amount | None
    difference: Amount | None
    """Amount and fee less the components."""
    count: int | None
    created_at: datetime
    arrival_on: date | None
    automatic: bool
    direction: str
    """`payout`, or `bank debit` for a negative one."""
    trace_id: str | None
    bank_line: str | None
    bank_difference: Amount | None
    implied_rate: str | None
    """Bank over payout in major units, six decimals, where the currencies differ."""


@dataclass(frozen=True, slots=True)
class BankRow:
    """A line of the bank's statement that was booked in the period."""

    bank_account: str
    statement: str
    line: int
    booked_on: date
    reference: str
    amount: Amount
    payout: str
    """The payout that it is, by trace id; empty: none, or not for certain."""
    difference: Amount | None
    """Bank - payout."""
    implied_rate: str | None
