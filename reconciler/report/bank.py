"""P6, optional: payouts against lines of the bank's statement. The trace id proves; an equal amount only suggests."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from reconciler.ledger.bank import BankLine
from reconciler.model import ResourceRef
from reconciler.movements import Condition, Movement, Role
from reconciler.report.facts import Facts
from reconciler.report.model import Amount, BankRow, BreakType, OpenItem, Plane
from reconciler.report.scope import Scope, scaled
from reconciler.report.statements.chain import Hole, holes
from reconciler.report.work import item

_WORD = re.compile(r"[0-9A-Za-z]+")
_SIX = Decimal("0.000001")
_Place = tuple[str, str]
"""A bank's account, and the currency of its statements."""


@dataclass(frozen=True, slots=True)
class Banked:
    """The statement line of a payout."""

    reference: str
    amount: Amount
    difference: Amount | None
    """Bank - payout; None across currencies, where the rate says it instead."""
    implied_rate: str | None


class BankMatch:
    """Which payout stands on which line. Built once; each line is used at most once."""

    def __init__(self, scope: Scope, facts: Facts) -> None:
        self._scope = scope
        self._lines = facts.bank
        self._payouts = [each for each in facts.movements if each.role is Role.PAYOUT]
        self._banked: dict[ResourceRef, Banked] = {}
        self._payout_of: dict[BankLine, ResourceRef] = {}
        self._read: dict[_Place, tuple[date, date]] = {}
        for line in self._lines:
            since, through = self._read.get(_place(line), (line.booked_on, line.booked_on))
            self._read[_place(line)] = (min(since, line.booked_on), max(through, line.booked_on))
        self._tied: dict[tuple[str, str | None], set[_Place]] = defaultdict(set)
        """Where a provider sends money to -> where on the statements it was seen to arrive."""
        self._holes = tuple(holes(self._lines, facts.bank_openings))
        traces = {_longest_word(payout.trace) for payout in self._payouts if payout.trace}
        self._naming: dict[str, list[BankLine]] = defaultdict(list)
        """By the longest word of a payout's trace."""
        for line in self._lines:
            for word in traces.intersection((*_WORD.findall(line.reference), "")):
                self._naming[word].append(line)
        for payout in sorted(self._payouts, key=lambda each: (each.occurred_at, each.ref)):
            self._take(payout)
        self._left: dict[tuple[str, Decimal], list[BankLine]] = defaultdict(list)
        """By currency and amount."""
        for line in self._lines:
            if line not in self._payout_of:
                self._left[line.currency, _amount(line).major].append(line)
        self._unseen = self._in_holes()

    def of(self, payout: ResourceRef) -> Banked | None:
        return self._banked.get(payout)

    def rows(self) -> Iterator[BankRow]:
        """The lines booked in the period."""
        params = self._scope.params
        for line in self._lines:
            if not params.from_day <= line.booked_on <= params.to_day:
                continue
            payout = self._payout_of.get(line)
            banked = None if payout is None else self._banked[payout]
            yield BankRow(
                bank_account=line.bank_account,
                statement=line.statement_id,
                line=line.ordinal,
                booked_on=line.booked_on,
                reference=line.reference,
                amount=_amount(line),
                payout="" if payout is None else str(payout),
                difference=None if banked is None else banked.difference,
                implied_rate=None if banked is None else banked.implied_rate,
            )

    def _take(self, payout: Movement) -> None:
        """A bank that sent money back and again names the trace on several lines: then the amount has to say which."""
        if not payout.trace or not self._lines:
            return
        whole = re.compile(rf"(?<![0-9A-Za-z]){re.escape(payout.trace)}(?![0-9A-Za-z])")
        near = self._naming.get(_longest_word(payout.trace), ())
        named = [line for line in near if line not in self._payout_of and whole.search(line.reference)]
        if len(named) > 1:
            same = self._own(payout)
            named = [line for line in named if (line.currency, _amount(line).major) == same]
        if len(named) != 1:
            return
        self._payout_of[named[0]] = payout.ref
        self._banked[payout.ref] = self._banked_as(payout, named[0])
        self._tied[payout.ref.account, payout.destination].add(_place(named[0]))

    def _own(self, payout: Movement) -> tuple[str, Decimal]:
        paid = self._scope.own(payout.amount.minor, payout.ref.account, payout.amount.currency)
        return paid.currency, paid.major

    def _banked_as(self, payout: Movement, line: BankLine) -> Banked:
        currency = payout.amount.currency
        exponent = self._scope.terms[payout.ref.account].exponents.of(currency)
        seen = _amount(line)
        if line.currency == currency:
            finest = max(exponent, line.exponent)
            gap = scaled(line.minor, line.exponent, finest) - scaled(payout.amount.minor, exponent, finest)
            return Banked(line.reference, seen, Amount(gap, currency, finest), None)
        paid = Amount(payout.amount.minor, currency, exponent)
        rate = (seen.major / paid.major).quantize(_SIX, ROUND_HALF_UP) if paid.minor else None
        return Banked(line.reference, seen, None, None if rate is None else f"{rate:f}")

    def breaks(self) -> list[OpenItem]:
        """Left is the bank, right the payout. A payout is missing only inside the time that the statements speak of."""
        found = []
        for payout in self._arrived():
            banked = self.of(payout.ref)
            if banked is None:
                if self._is_overdue(payout) and payout.ref not in self._unseen:
                    nothing = self._scope.own(0, payout.ref.account, payout.amount.currency)
                    found.append(self._break(payout, BreakType.BANK_MISSING, nothing, self._suggestion(payout)))
            elif banked.difference is not None and banked.difference.minor:
                found.append(self._break(payout, BreakType.AMOUNT_MISMATCH, banked.amount, None))
        return found

    def unseen(self) -> dict[str, list[str]]:
        """By currency: which payouts no statement speaks of, because one is missing between two others."""
        payouts: dict[tuple[str, Hole], int] = defaultdict(int)
        for payout, hole in self._unseen.values():
            payouts[payout.amount.currency, hole] += 1
        said: dict[str, list[str]] = defaultdict(list)
        for (currency, hole), count in sorted(
            payouts.items(), key=lambda each: (each[0][1].bank_account, each[0][1].after)
        ):
            if hole.closed is not None and hole.opens is not None:
                said[currency].append(
                    f"{hole.bank_account}: a statement {hole.words} was not imported (it closed with {hole.closed.text}"
                    f" {hole.currency}, and opens again with {hole.opens.text} {hole.currency}), so {count} payout(s)"
                    " that came to the bank then were not looked for"
                )
        return said

    def _arrived(self) -> Iterator[Movement]:
        for payout in self._payouts:
            arrives = payout.arrives_at
            if payout.condition is Condition.SETTLED and arrives is not None and arrives < self._scope.end:
                yield payout

    def _in_holes(self) -> dict[ResourceRef, tuple[Movement, Hole]]:
        """Overdue payouts without a line that may stand in a statement that is certain to be missing."""
        found = {}
        for payout in self._arrived():
            hole = self._hole(payout, certain=True)
            if hole is not None and self.of(payout.ref) is None and self._is_overdue(payout):
                found[payout.ref] = (payout, hole)
        return found

    def _hole(self, payout: Movement, *, certain: bool) -> Hole | None:
        if payout.arrives_at is None:
            return None
        arrived, grace = payout.arrives_at.date(), self._scope.params.rules.grace_days
        where = self._where(payout)
        near = (hole for hole in self._holes if _place(hole) in where)
        return next((hole for hole in near if hole.is_certain is certain and hole.may_hold(arrived, grace)), None)

    def _where(self, payout: Movement) -> set[_Place]:
        """Where payouts to the same destination stand; else every account in its currency: nobody can say more."""
        tied = None if payout.destination is None else self._tied.get((payout.ref.account, payout.destination))
        return tied or {place for place in self._read if place[1] == payout.amount.currency}

    def _is_overdue(self, payout: Movement) -> bool:
        """Whether the statements that may hold it reach from before its arrival to after its grace."""
        read = [self._read[place] for place in self._where(payout)]
        if payout.arrives_at is None or not read:
            return False
        arrived = payout.arrives_at.date()
        since, through = min(first for first, _ in read), max(last for _, last in read)
        last = min(through, self._scope.day_of(min(self._scope.params.as_of, self._scope.end)))
        return since <= arrived and (last - arrived).days > self._scope.params.rules.grace_days

    def _break(self, payout: Movement, type_: BreakType, left: Amount, suggestion: str | None) -> OpenItem:
        right = self._scope.own(payout.amount.minor, payout.ref.account, payout.amount.currency)
        finest = max(left.exponent, right.exponent)
        left = Amount(scaled(left.minor, left.exponent, finest), left.currency, finest)
        right = Amount(scaled(right.minor, right.exponent, finest), right.currency, finest)
        return item(
            self._scope,
            type_=type_,
            plane=Plane.BANK,
            account=payout.ref.account,
            left="",
            right=str(payout.ref),
            left_amount=left,
            right_amount=right,
            since=payout.arrives_at or payout.occurred_at,
            cut=self._scope.end,
            suggestion=suggestion,
        )

    def _suggestion(self, payout: Movement) -> str | None:
        alike = [f"{line.reference} of {line.booked_on}" for line in self._left.get(self._own(payout), [])[:3]]
        words = []
        if alike:
            words.append(f"Same amount: {', '.join(alike)}")
        hole = self._hole(payout, certain=False)
        if hole is not None:
            words.append(
                f"The statements of {hole.bank_account} do not say whether one {hole.words} is missing: bring it, or"
                " bring them with their balances."
            )
        return " ".join(words) or None


def _place(of: BankLine | Hole) -> _Place:
    return of.bank_account, of.currency


def _amount(line: BankLine) -> Amount:
    return Amount(line.minor, line.currency, line.exponent)


def _longest_word(trace: str) -> str:
    """A line whose reference holds the trace holds this word of it, whole; empty: it has none."""
    return max(_WORD.findall(trace), key=len, default="")
