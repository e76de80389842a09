"""Which days the imported statements leave out: where one closes and the next opens with another balance.

A file that was never brought cannot speak for itself, but its neighbours do: what the account held when it went out of
sight and what it holds when it comes back differ by what the missing statement holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from operator import attrgetter

from reconciler.ledger.bank import BankLine
from reconciler.report.model import Amount


@dataclass(frozen=True, slots=True)
class Hole:
    """Days of a bank account between the last line of one statement and the first line of the next."""

    bank_account: str
    currency: str
    after: date
    before: date
    closed: Amount | None
    opens: Amount | None
    """Both known: a statement is missing. Else nobody knows whether one is."""

    @property
    def is_certain(self) -> bool:
        return self.closed is not None and self.opens is not None

    def may_hold(self, arrived: date, grace_days: int) -> bool:
        """Whether money that was due on that day may have been booked inside."""
        return arrived + timedelta(days=grace_days) > self.after and arrived < self.before

    @property
    def words(self) -> str:
        return f"between {self.after} and {self.before}"


@dataclass(frozen=True, slots=True)
class _Span:
    first: date
    last: date
    opening: Amount | None
    closing: Amount | None


def holes(lines: Sequence[BankLine], openings: Mapping[tuple[str, str], int]) -> Iterator[Hole]:
    """Those between neighbouring statements of an account, wherever they do not join; statements that overlap do.

    Of several that end, or begin, on one day nobody knows which is the last, or the first: any of them may join.
    """
    statements: dict[tuple[str, str, str], list[BankLine]] = defaultdict(list)
    for line in lines:
        statements[line.bank_account, line.currency, line.statement_id].append(line)
    accounts: dict[tuple[str, str], list[_Span]] = defaultdict(list)
    for (account, currency, statement), some in sorted(statements.items()):
        accounts[account, currency].append(_span(some, openings.get((account, statement))))
    for (account, currency), spans in sorted(accounts.items()):
        reached: list[_Span] = []
        for first, some_spans in groupby(sorted(spans, key=_FIRST), key=_FIRST):
            begin = list(some_spans)
            if reached and (first - reached[0].last).days > 1:
                between = [
                    Hole(account, currency, end.last, first, end.closing, span.opening)
                    for end in reached
                    for span in begin
                ]
                if not any(map(_joins, between)):
                    yield min(between, key=lambda hole: hole.is_certain)
            last = max(span.last for span in (*reached, *begin))
            reached = [span for span in (*reached, *begin) if span.last == last]


_FIRST = attrgetter("first")


def _span(lines: Sequence[BankLine], opening: int | None) -> _Span:
    days = [line.booked_on for line in lines]
    currency, exponent = lines[0].currency, lines[0].exponent
    if opening is None:
        return _Span(min(days), max(days), None, None)
    closing = opening + sum(line.minor for line in lines)
    return _Span(min(days), max(days), Amount(opening, currency, exponent), Amount(closing, currency, exponent))


def _joins(hole: Hole) -> bool:
    return hole.closed is not None and hole.opens is not None and hole.closed.major == hole.opens.major
