"""What every section needs to know: the period, the parameters, and how many decimals a currency is shown with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal

from reconciler.ledger.finance import BalanceKey
from reconciler.money import Money
from reconciler.report.facts import AccountTerms, Facts
from reconciler.report.model import Amount, Params
from reconciler.report.periods import Calendar, Period


@dataclass(frozen=True, slots=True)
class Scope:
    params: Params
    period: Period
    terms: dict[str, AccountTerms]
    _exponents: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, params: Params, facts: Facts) -> Scope:
        calendar = Calendar.of(params.timezone, params.day_start)
        return cls(params, Period(params.from_day, params.to_day, calendar), {term.name: term for term in facts.terms})

    @property
    def start(self) -> datetime:
        return self.period.start

    @property
    def end(self) -> datetime:
        return self.period.end

    def holds(self, currency: str) -> bool:
        """Whether the report was asked about this currency."""
        return self.params.currency in (None, currency)

    def age(self, since: datetime, cut: datetime) -> int:
        """Whole business days from `since` to the last instant before the cut-off, or before what is known."""
        calendar = self.period.calendar
        last = calendar.last_day_before(min(self.params.as_of, cut))
        return max(0, (last - calendar.day_of(since)).days)

    def day_of(self, instant: datetime) -> date:
        return self.period.calendar.day_of(instant)

    # --- decimals ---

    def exponent(self, currency: str) -> int:
        """For figures that several accounts share: the finest of their units, so that nothing is rounded."""
        known = self._exponents.get(currency)
        if known is None:
            known = max((term.exponents.of(currency) for term in self.terms.values()), default=2)
            self._exponents[currency] = known
        return known

    def shared(self, account: str, money: Money) -> int:
        """An account's amount in the shared unit of its currency."""
        return scaled(money.minor, self.terms[account].exponents.of(money.currency), self.exponent(money.currency))

    def amount(self, minor: int, currency: str) -> Amount:
        return Amount(minor, currency, self.exponent(currency))

    def own(self, minor: int, account: str, currency: str) -> Amount:
        """In the account's own unit."""
        return Amount(minor, currency, self.terms[account].exponents.of(currency))

    def balance(self, minor: int, key: BalanceKey) -> Amount:
        return self.own(minor, key.account, key.currency)


def scaled(minor: int, exponent: int, finer: int) -> int:
    """The same amount counted in a unit that is at least as fine."""
    return int(minor * 10 ** (finer - exponent))


def half_up(value: Decimal) -> int:
    """Rounded to the unit, halves away from zero."""
    return int(value.quantize(Decimal(1), rounding=ROUND_HALF_UP))
