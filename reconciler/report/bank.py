"""P6, optional: payouts against lines of the bank's statement. The trace id proves; an equal amount only suggests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from reconciler.model import ResourceRef
from reconciler.movements import Condition, Movement, Role
from reconciler.report.facts import BankLine, Facts
from reconciler.report.model import Amount, BreakType, OpenItem, Plane
from reconciler.report.scope import Scope, scaled
from reconciler.report.work import item

_SIX = Decimal("0.000001")


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
        self._unused = list(facts.bank)
        for payout in sorted(self._payouts, key=lambda each: (each.occurred_at, each.ref)):
            self._take(payout)

    def of(self, payout: ResourceRef) -> Banked | None:
        return self._banked.get(payout)

    def _take(self, payout: Movement) -> None:
        if not payout.trace:
            return
        named = [line for line in self._unused if payout.trace in line.reference]
        if len(named) != 1:
            return
        self._unused.remove(named[0])
        self._banked[payout.ref] = self._banked_as(payout, named[0])

    def _banked_as(self, payout: Movement, line: BankLine) -> Banked:
        currency = payout.amount.currency
        exponent = self._scope.terms[payout.ref.account].exponents.of(currency)
        seen = Amount(line.minor, line.currency, line.exponent)
        if line.currency == currency:
            finest = max(exponent, line.exponent)
            gap = scaled(line.minor, line.exponent, finest) - scaled(payout.amount.minor, exponent, finest)
            return Banked(line.reference, seen, Amount(gap, currency, finest), None)
        paid = Amount(payout.amount.minor, currency, exponent)
        rate = (seen.major / paid.major).quantize(_SIX, ROUND_HALF_UP) if paid.minor else None
        return Banked(line.reference, seen, None, None if rate is None else f"{rate:f}")

    def breaks(self) -> list[OpenItem]:
        """Left is the bank, right the payout. A payout is missing only where the statements reach past its grace."""
        if not self._lines:
            return []
        found = []
        read_through = max(line.booked_on for line in self._lines)
        for payout in self._payouts:
            if payout.condition is not Condition.SETTLED or payout.arrives_at is None:
                continue
            if payout.arrives_at >= self._scope.end:
                continue
            banked = self.of(payout.ref)
            waited = self._scope.age(payout.arrives_at, self._scope.end)
            if banked is not None and banked.difference is not None and banked.difference.minor:
                found.append(self._break(payout, BreakType.AMOUNT_MISMATCH, banked.amount, None))
            if banked is None and waited > self._scope.params.rules.grace_days:
                if read_through < payout.arrives_at.date():
                    continue
                nothing = self._scope.own(0, payout.ref.account, payout.amount.currency)
                found.append(self._break(payout, BreakType.BANK_MISSING, nothing, self._suggestion(payout)))
        return found

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
        alike: Sequence[BankLine] = [
            line
            for line in self._unused
            if (line.minor, line.currency) == (payout.amount.minor, payout.amount.currency)
        ]
        if not alike:
            return None
        return "Same amount: " + ", ".join(f"{line.reference} of {line.booked_on}" for line in alike[:3])
