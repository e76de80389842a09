"""Amounts, and the closed sets of words that the report speaks in."""

from __future__ import annotations

from dataclasses import dataclass
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
