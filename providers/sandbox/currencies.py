"""What the sandbox charges and how it converts: whole numbers only, rounded half up, per currency's minor unit.

Source of the exponents: docs.stripe.com/currencies. ISK and UGX are sent with two decimals that are always 00.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ZERO_DECIMAL = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"}
)
THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
ALWAYS_00 = frozenset({"isk", "ugx"})

_MILLION = 1_000_000
_USD_MILLIONTHS: Mapping[str, int] = {
    "usd": 1_000_000,
    "eur": 1_082_500,
    "gbp": 1_271_300,
    "chf": 1_131_900,
    "cad": 728_400,
    "jpy": 6_671,
    "krw": 721,
    "kwd": 3_252_000,
    "isk": 7_260,
}
"""Millionths of a US dollar for one major unit. Made up once and kept: a look-alike needs a rate, not the rate."""


def exponent(currency: str) -> int:
    """Decimals of the minor unit that Stripe counts in."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def grain(currency: str) -> int:
    """Every amount is a multiple of this: 10 where the third decimal must be zero, 100 where there are no decimals."""
    if currency in THREE_DECIMAL:
        return 10
    return 100 if currency in ALWAYS_00 else 1


def round_half_up(numerator: int, denominator: int) -> int:
    """Half away from zero, exactly; `denominator` is positive."""
    sign = -1 if numerator < 0 else 1
    return sign * ((2 * abs(numerator) + denominator) // (2 * denominator))


@dataclass(frozen=True, slots=True)
class FeeRule:
    """Stripe's published standard price: 2.9 % and 30 cents; disputes cost 15 dollars."""

    basis_points: int = 290
    fixed: Mapping[int, int] = field(default_factory=lambda: {0: 30, 2: 30, 3: 100})
    """By exponent, in minor units."""
    dispute: Mapping[int, int] = field(default_factory=lambda: {0: 1_500, 2: 1_500, 3: 5_000})

    def of(self, amount: int, currency: str) -> int:
        """Fee for one charge, in the charge's minor units, never more than the charge."""
        step = grain(currency)
        fee = round_half_up(amount * self.basis_points, 10_000 * step) * step + self._step(self.fixed, currency)
        return min(fee, amount)

    def of_dispute(self, currency: str) -> int:
        return self._step(self.dispute, currency)

    @staticmethod
    def _step(table: Mapping[int, int], currency: str) -> int:
        step = grain(currency)
        return -(-table[exponent(currency)] // step) * step


@dataclass(frozen=True, slots=True)
class Conversion:
    """An amount in the currency that it settles in; `rate_millionths` is None where nothing was converted."""

    amount: int
    currency: str
    rate_millionths: int | None = None

    @property
    def exchange_rate(self) -> float | None:
        """Stripe's JSON number between major units. Evidence only: the amounts were computed without it."""
        return None if self.rate_millionths is None else self.rate_millionths / _MILLION


def convert(amount: int, source: str, target: str) -> Conversion:
    """Raises KeyError for a currency that the table of rates does not know."""
    if source == target:
        return Conversion(amount, target)
    rate = round_half_up(_USD_MILLIONTHS[source] * _MILLION, _USD_MILLIONTHS[target])
    step = grain(target)
    numerator = amount * rate * 10 ** exponent(target)
    converted = round_half_up(numerator, _MILLION * 10 ** exponent(source) * step) * step
    return Conversion(converted, target, rate)
