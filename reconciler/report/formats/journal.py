"""JRN: the period as double entry, one journal entry per business day, balance and currency.

Days are what accounting programs can hold (a shop's month is thirty entries, not a million lines), and their sums are
those of the balance proof, so the clearing account proves itself: after each day it is the closing of that day.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from reconciler.ledger.finance import BalanceKey, DaySum
from reconciler.report.formats.accounts import BookAccounts
from reconciler.report.formats.dossier import Dossier
from reconciler.report.model import Amount, BalanceBlock, Plane, Report
from reconciler.report.scope import scaled

_COUNTERPARTS: Mapping[str, str] = {
    "charge": "sales",
    "charge_failure": "sales",
    "partial_capture_reversal": "sales",
    "refund": "refunds",
    "refund_failure": "refunds",
    "dispute": "disputes",
    "dispute_reversal": "disputes",
    "fee": "fees",
    "network_cost": "fees",
    "payout": "payouts",
    "payout_reversal": "payouts",
    "topup": "payouts",
    "topup_reversal": "payouts",
    "transfer": "transfers",
    "transfer_reversal": "transfers",
    "risk_reserved_funds": "transfers",
    "connect_reserved_funds": "transfers",
    "connect_collection_transfer": "transfers",
}
"""Reporting category -> which of the book's accounts takes its gross; every other one goes to `other`."""
OPENING = "opening"


@dataclass(frozen=True, slots=True)
class Posting:
    account: str
    amount: Amount
    """Positive is a debit."""
    memo: str


@dataclass(frozen=True, slots=True)
class Assertion:
    """What an account holds in one currency once the entry is booked."""

    account: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """Its postings add up to nothing, in one currency."""

    day: date
    narration: str
    """Different for each entry."""
    postings: tuple[Posting, ...]
    currency: str
    kind: str = ""
    """`opening` for the entry that only programs without a history need."""
    holds: tuple[Assertion, ...] = ()
    """Exact, after this entry."""


@dataclass(frozen=True, slots=True)
class Closing:
    """What each clearing account must hold when the period is over."""

    day: date
    """The first day that is not part of it."""
    holds: tuple[Assertion, ...]


@dataclass(frozen=True, slots=True)
class Journal:
    entries: tuple[JournalEntry, ...]
    closing: Closing
    reference: str
    """The report that it comes from."""

    @property
    def accounts(self) -> list[str]:
        named = {posting.account for entry in self.entries for posting in entry.postings}
        return sorted(named | {each.account for each in self.closing.holds})


def journal(dossier: Dossier) -> Journal:
    """Everything that moved, plus what opened; see the module for what one entry holds."""
    report, book = dossier.report, dossier.accounts
    blocks = {BalanceKey(each.account, each.balance_type, each.currency): each for each in report.balance}
    entries = [
        *_opening(report, book, blocks),
        *_days(report, book, blocks, dossier.day_sums),
        *_exchange(report, book),
        *_residuals(report, book),
    ]
    closing = Closing(
        report.params.to_day + timedelta(days=1), _held(book, blocks, lambda block: _net(block, "closing"))
    )
    return Journal(tuple(entries), closing, report.report_id)


# --- entries --------------------------------------------------------------------------------------


def _opening(report: Report, book: BookAccounts, blocks: Mapping[BalanceKey, BalanceBlock]) -> Iterator[JournalEntry]:
    """The day before: what the balances brought in. Then what became known of locked periods."""
    before = report.params.from_day - timedelta(days=1)
    for key, block in blocks.items():
        opening = _net(block, "opening")
        if opening.minor:
            postings = _pair(_clearing(book, key), book.opening, opening, "Opening balance")
            yield JournalEntry(before, f"Opening balance of {_name(key)}", postings, key.currency, OPENING)
    for key, block in blocks.items():
        adjustment = next((line.net for line in block.lines if line.code == "prior_period_adjustment"), None)
        if adjustment is not None and adjustment.minor:
            postings = _pair(_clearing(book, key), book.prior_period, adjustment, "Known after the lock")
            narration = f"Prior-period adjustment of {_name(key)}"
            yield JournalEntry(report.params.from_day, narration, postings, key.currency)


def _days(
    report: Report,
    book: BookAccounts,
    blocks: Mapping[BalanceKey, BalanceBlock],
    sums: Sequence[DaySum],
) -> Iterator[JournalEntry]:
    """Day by day, so that what the clearing accounts hold can be said after each."""
    moved: dict[int, dict[BalanceKey, list[DaySum]]] = defaultdict(lambda: defaultdict(list))
    for each in sums:
        moved[each.day][each.key].append(each)
    for number in sorted(moved):
        day = report.params.from_day + timedelta(days=number)
        held = _held(book, blocks, _closing_of(number))
        keys = sorted(moved[number])
        for place, key in enumerate(keys):
            clearing = _clearing(book, key)
            later = {(_clearing(book, other), other.currency) for other in keys[place + 1 :]}
            holds = tuple(
                each
                for each in held
                if (each.account, each.amount.currency) == (clearing, key.currency)
                and (clearing, key.currency) not in later
            )
            postings = tuple(_postings(book, key, blocks[key], moved[number][key]))
            if any(posting.amount.minor for posting in postings):
                yield JournalEntry(day, f"{_name(key)} {day}", postings, key.currency, holds=holds)


def _closing_of(number: int) -> Callable[[BalanceBlock], Amount]:
    return lambda block: block.days[number].closing


def _postings(book: BookAccounts, key: BalanceKey, block: BalanceBlock, sums: Iterable[DaySum]) -> Iterator[Posting]:
    """Clearing takes the net, fees the fee, the counterpart the gross with the other sign. Clearing stands last."""
    exponent = _net(block, "closing").exponent
    fees = net = 0
    for each in sums:
        counterpart = getattr(book, _COUNTERPARTS.get(each.category, "other"))
        fees, net = fees + each.fee, net + each.net
        if each.gross:
            memo = f"{each.category} ({each.count})"
            yield Posting(counterpart, Amount(-each.gross, key.currency, exponent), memo)
    if fees:
        yield Posting(book.fees, Amount(fees, key.currency, exponent), "fees taken from the entries")
    yield Posting(_clearing(book, key), Amount(net, key.currency, exponent), "net")


def _exchange(report: Report, book: BookAccounts) -> Iterator[JournalEntry]:
    """A gain: less was given back than had been taken. It stands in the refunds and belongs to the exchange result."""
    for each in report.fx.results:
        if each.amount.minor:
            postings = _pair(book.refunds, book.fx, each.amount, f"refund {each.refund} of {each.charge}")
            narration = f"Exchange result of refund {each.refund} of {each.charge}"
            yield JournalEntry(report.params.to_day, narration, postings, each.amount.currency)


def _residuals(report: Report, book: BookAccounts) -> Iterator[JournalEntry]:
    """Differences within the tolerance: the shop's word is the sale, the processor's is the money."""
    for pair in report.pairs:
        if pair.plane is Plane.ORDER and pair.state == "MATCHED_TOL" and pair.residual.minor:
            postings = _pair(book.rounding, book.sales, pair.residual, f"{pair.left} {pair.right}")
            narration = f"Residual of {pair.left} and {pair.right}"
            yield JournalEntry(report.params.to_day, narration, postings, pair.currency)


# --- parts ----------------------------------------------------------------------------------------


def _pair(debit: str, credit: str, amount: Amount, memo: str) -> tuple[Posting, Posting]:
    return Posting(credit, _negated(amount), memo), Posting(debit, amount, memo)


def _negated(amount: Amount) -> Amount:
    return Amount(-amount.minor, amount.currency, amount.exponent)


def _net(block: BalanceBlock, code: str) -> Amount:
    net = block.line(code).net
    assert net is not None, f"{code} is a figure of every balance"
    return net


def _name(key: BalanceKey) -> str:
    return f"{key.account} {key.balance_type} {key.currency}"


def _clearing(book: BookAccounts, key: BalanceKey) -> str:
    return book.clearing.replace("{account}", _part(key.account)).replace("{balance_type}", _part(key.balance_type))


def _part(name: str) -> str:
    """As a part of an account's name in every program: a capital first, letters, digits and hyphens."""
    return (name[:1].upper() + name[1:]).replace("_", "-")


def _held(
    book: BookAccounts, blocks: Mapping[BalanceKey, BalanceBlock], read: Callable[[BalanceBlock], Amount]
) -> tuple[Assertion, ...]:
    """Per ledger account and currency: balances that share a name are asserted together."""
    found: dict[tuple[str, str], Amount] = {}
    for key, block in blocks.items():
        amount = read(block)
        identity = (_clearing(book, key), key.currency)
        before = found.get(identity, Amount(0, key.currency, amount.exponent))
        finer = max(before.exponent, amount.exponent)
        total = scaled(before.minor, before.exponent, finer) + scaled(amount.minor, amount.exponent, finer)
        found[identity] = Amount(total, key.currency, finer)
    return tuple(Assertion(account, amount) for (account, _), amount in sorted(found.items()))
