"""The `Report` value that every renderer shares: all arithmetic is done before it exists, renderers do none.

Amounts carry their exponent so that a renderer needs no currency table. Rows are sorted here, once, so that every
format shows the same order. FINANCE.md section 6 names the sections and line codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Amount:
    """`minor` of the provider's smallest unit, and how many decimals that unit has."""

    minor: int
    currency: str
    exponent: int

    @property
    def major(self) -> Decimal:
        return Decimal(self.minor).scaleb(-self.exponent)

    @property
    def text(self) -> str:
        """Plain decimal with exactly the currency's decimals, no thousands sign: `-12.30`, `1200`."""
        if self.exponent <= 0:
            return f"{self.major:f}"
        whole, part = divmod(abs(self.minor), 10**self.exponent)
        return f"{'-' if self.minor < 0 else ''}{whole}.{part:0{self.exponent}d}"


class Standing(StrEnum):
    """What the report says of a currency. Missing evidence outranks everything: never "balanced" without proof."""

    UNPROVEN = "UNPROVEN"
    BREAKS = "BREAKS"
    BALANCED_WITH_TIMING = "BALANCED_WITH_TIMING"
    BALANCED = "BALANCED"


class Plane(StrEnum):
    """What is compared with what."""

    BALANCE = "P1"
    PAYOUT = "P2"
    ORDER = "P3"
    INVOICE = "P4"
    OBJECT = "P5"
    BANK = "P6"


class BreakType(StrEnum):
    MISSING_IN_STRIPE = "MISSING_IN_STRIPE"
    """A shop's transaction without a movement at the processor."""
    MISSING_IN_SHOPIFY = "MISSING_IN_SHOPIFY"
    """A processor's movement without a transaction in the shop."""
    AMOUNT_MISMATCH = "AMOUNT_MISMATCH"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"
    STATUS_MISMATCH = "STATUS_MISMATCH"
    DUPLICATE = "DUPLICATE"
    AMBIGUOUS = "AMBIGUOUS"
    FEE_DIFF = "FEE_DIFF"
    FX_DIFF = "FX_DIFF"
    PAYOUT_DIFF = "PAYOUT_DIFF"
    PAYOUT_FAILED_UNRETURNED = "PAYOUT_FAILED_UNRETURNED"
    BANK_MISSING = "BANK_MISSING"
    OBJECT_DIFF = "OBJECT_DIFF"
    BALANCE_UNEXPLAINED = "BALANCE_UNEXPLAINED"
    UNCLASSIFIED_CATEGORY = "UNCLASSIFIED_CATEGORY"
    """Money of a category that the provider does not publish: it is in the proof, but nobody said what it is."""


class PayoutState(StrEnum):
    FOOTED = "FOOTED"
    IN_TRANSIT = "IN_TRANSIT"
    FAILED_RETURNED = "FAILED_RETURNED"
    FAILED_UNRETURNED = "FAILED_UNRETURNED"
    NO_COMPOSITION = "NO_COMPOSITION"
    DIFF = "DIFF"


BUCKETS = ("0-1", "2-3", "4-7", "8-30", "31-60", "61-90", "90+")
"""Ages in whole business days; the last one is 91 and more."""

# --- what was asked -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeeRule:
    """What a provider should charge: `gross x (bps + international_bps) / 10000`, rounded half up, + `fixed_minor`."""

    account: str
    category: str
    bps: int
    fixed_minor: int
    currency: str
    international_bps: int = 0
    """Added where the card's country is known and is not `home_country`."""
    home_country: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """`[report]` of the configuration: what finance agreed to accept."""

    grace_days: int = 2
    """Whole business days that an item without a counterpart may be old and still be timing."""
    tolerance_minor: int = 0
    item_materiality_minor: int = 0
    aggregate_materiality_minor: int = 0
    gateways: tuple[str, ...] = ("stripe",)
    """The shop's gateways whose payments run over an account of ours; all others are out of the match's scope."""
    fee_rules: tuple[FeeRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Params:
    """The question. The same question `as_of` the same instant has the same answer, byte for byte."""

    from_day: date
    to_day: date
    """Inclusive."""
    as_of: datetime
    timezone: str = "UTC"
    day_start: time = time(0)
    accounts: tuple[str, ...] = ()
    """Names from the configuration, sorted."""
    currency: str | None = None
    """None: all of them."""
    compare: datetime | None = None
    """An earlier instant of knowledge; what changed since then is listed."""
    rules: Rules = Rules()
    code_version: str = ""
    config_hash: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """What every page, file and sheet shows before its first figure."""

    start: datetime
    """UTC; the period is `start <= t < end`."""
    end: datetime
    start_offset: str
    """`+01:00`: the zone's offset at the start; differs from the end's where daylight saving changed in between."""
    end_offset: str
    watermark: datetime | None
    """Through when every required stream was looked at; None where one of them never was."""
    notes: tuple[str, ...]
    """What the reader must know that no figure says."""


# --- sections -------------------------------------------------------------------------------------


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
    components: Amount | None
    difference: Amount | None
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


@dataclass(frozen=True, slots=True)
class Report:
    report_id: str
    params: Params
    header: Header
    verdicts: tuple[Verdict, ...]
    coverage: tuple[CoverageLine, ...]
    balance: tuple[BalanceBlock, ...]
    unsettled: tuple[UnsettledLine, ...]
    unsettled_totals: tuple[UnsettledTotal, ...]
    payouts: tuple[PayoutLine, ...]
    bank: tuple[BankRow, ...]
    match_lines: tuple[MatchLine, ...]
    pairs: tuple[Pair, ...]
    breaks: tuple[OpenItem, ...]
    timing: tuple[OpenItem, ...]
    resolved: tuple[ResolvedItem, ...]
    open_items: tuple[OpenTotal, ...]
    roll_forward: tuple[RollForward, ...]
    ages: tuple[AgeLine, ...]
    fees: Mapping[str, FeeSection]
    fx: FxSection
    disputes: Mapping[str, DisputeSection]
    changes: tuple[Change, ...]
    line_deltas: tuple[LineDelta, ...]
    exceptions: tuple[LateFact, ...]

    @property
    def exit_code(self) -> int:
        """0 balanced (or with timing), 1 breaks, 3 unproven; 3 too where nothing was ever looked at."""
        standings = {verdict.standing for verdict in self.verdicts}
        if Standing.UNPROVEN in standings or any(line.required and not line.complete for line in self.coverage):
            return 3
        return 1 if Standing.BREAKS in standings else 0
