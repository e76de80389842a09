"""Exact amounts: an integer of the provider's minor units and a currency. No float ever comes near one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Self

LARGEST: Final = 10**16
"""Minor units. A hundred times as much money as there is, in a currency with cents; and 64 bits, which is what both
databases hold, still take the sum of nine hundred of them."""
_WIDEST: Final = 2**63
_as_stored: Final = ContextVar("as_stored", default=False)
_CURRENCY = re.compile(r"[A-Z]{3}")
_WRITTEN = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?", re.ASCII)
_LONGEST: Final = 28
"""Characters of an amount: as many digits as decimal arithmetic keeps."""


class CurrencyMismatch(ValueError):
    """Two amounts of different currencies were about to be added or compared."""


@dataclass(frozen=True, slots=True)
class Money:
    """`minor` counts the provider's smallest unit of `currency` (upper case ISO 4217).

    How many decimals that unit has belongs to the provider and the currency together, not to the currency
    alone: Stripe sends 5 ISK as 500. Keep the exponent in an `Exponents` table and bring the two together
    only to print.
    """

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if not -LARGEST <= self.minor <= LARGEST and not (_as_stored.get() and -_WIDEST <= self.minor < _WIDEST):
            raise ValueError("an amount is beyond 10^16 minor units: nobody owes that much, and sums would not hold it")
        if not _CURRENCY.fullmatch(self.currency):
            raise ValueError(f"currency {self.currency!r} is not three upper-case letters")

    def __add__(self, other: Self) -> Self:
        self._require_same(other)
        return type(self)(self.minor + other.minor, self.currency)

    def __sub__(self, other: Self) -> Self:
        self._require_same(other)
        return type(self)(self.minor - other.minor, self.currency)

    def __neg__(self) -> Self:
        return type(self)(-self.minor, self.currency)

    def __abs__(self) -> Self:
        return type(self)(abs(self.minor), self.currency)

    def __lt__(self, other: Self) -> bool:
        self._require_same(other)
        return self.minor < other.minor

    def __le__(self, other: Self) -> bool:
        self._require_same(other)
        return self.minor <= other.minor

    def __bool__(self) -> bool:
        return self.minor != 0

    def _require_same(self, other: Money) -> None:
        if other.currency != self.currency:
            raise CurrencyMismatch(f"{self.currency} and {other.currency} cannot be added or compared")


@contextmanager
def as_stored() -> Iterator[None]:
    """Inside, an amount may be whatever the databases hold: to make anew what a version from before the bound made of a
    body that the ledger holds. Never for what a provider says now."""
    token = _as_stored.set(True)
    try:
        yield
    finally:
        _as_stored.reset(token)


CURRENCIES: Final = frozenset((
    "AED", "AFN", "ALL", "AMD", "ANG", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BGN", "BHD", "BIF",
    "BMD", "BND", "BOB", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF", "CLF", "CLP", "CNY", "COP",
    "CRC", "CUP", "CVE", "CZK", "DJF", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL",
    "GHS", "GIP", "GMD", "GNF", "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IQD", "IRR", "ISK",
    "JMD", "JOD", "JPY", "KES", "KGS", "KHR", "KMF", "KPW", "KRW", "KWD", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD",
    "LSL", "LYD", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK", "MXN", "MYR", "MZN",
    "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "OMR", "PAB", "PEN", "PGK", "PHP", "PKR", "PLN", "PYG", "QAR", "RON",
    "RSD", "RUB", "RWF", "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC",
    "SYP", "SZL", "THB", "TJS", "TMT", "TND", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "UGX", "USD", "UYU", "UYW",
    "UZS", "VED", "VES", "VND", "VUV", "WST", "XAF", "XCD", "XCG", "XOF", "XPF", "YER", "ZAR", "ZMW", "ZWG", "HRK",
    "MRO", "SLL", "STD", "VEF", "ZWL",
))  # fmt: skip
"""The codes of ISO 4217 in which money is or lately was paid, without funds, metals and test codes.

An exponent table knows a currency that it does not name by its default only, so this says whether a code is one at all.
"""


@dataclass(frozen=True, slots=True)
class Exponents:
    """How many decimals a provider's minor unit has, per currency; versioned, because providers change it."""

    version: str
    exceptions: Mapping[str, int]
    default: int = 2

    def of(self, currency: str) -> int:
        return self.exceptions.get(currency.upper(), self.default)

    def parse(self, amount: str, currency: str) -> Money:
        """A decimal string in major units, exactly. Raises ValueError where it does not fit the minor unit, or is
        written in another way: `1e999990` would take a minute to write out."""
        if len(amount) > _LONGEST or not _WRITTEN.fullmatch(amount):
            raise ValueError(f"{amount[:_LONGEST]!r} is no amount such as 1234.50")
        scaled = Decimal(amount).scaleb(self.of(currency))
        if scaled != scaled.to_integral_value():
            raise ValueError(f"{amount} {currency} has more decimals than its minor unit holds")
        return Money(int(scaled), currency.upper())

    def major(self, money: Money) -> Decimal:
        """The amount in major units, with exactly the currency's decimals: for printing, never for sums."""
        return Decimal(money.minor).scaleb(-self.of(money.currency))
