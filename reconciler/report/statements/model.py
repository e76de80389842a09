"""What a statement says, whatever file it came in; and whether it adds up by its own word."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation

from reconciler.errors import UsageError
from reconciler.money import LARGEST

MOST_DECIMALS = 6
_LONGEST = 40
"""Characters of an amount: to count with one of a million digits takes a minute."""


@dataclass(frozen=True, slots=True)
class Line:
    """One booked entry; money in is positive."""

    amount: Decimal
    booked_on: date
    value_on: date | None
    reference: str
    """Everything in which a payout's trace id may stand."""


@dataclass(frozen=True, slots=True)
class Statement:
    id: str
    currency: str
    lines: tuple[Line, ...]
    opening: Decimal | None
    """None: the file does not say."""
    closing: Decimal | None

    @property
    def exponent(self) -> int:
        """As many decimals as any of its amounts is written with: what is stored is what was written."""
        known = [each for each in (self.opening, self.closing) if each is not None]
        return max([decimals(each) for each in (*(line.amount for line in self.lines), *known)], default=0)

    def require_footing(self) -> None:
        """Raises UsageError that names the figures."""
        self._require_size()
        if self.opening is None or self.closing is None:
            return
        total = sum((line.amount for line in self.lines), Decimal(0))
        if self.opening + total != self.closing:
            raise UsageError(
                f"statement {self.id} does not foot: opening {self.opening} + {len(self.lines)} entries {total}"
                f" = {self.opening + total} {self.currency}, but it closes with {self.closing}"
                f" (off by {self.closing - self.opening - total}); ask the bank for a whole statement"
            )

    def _require_size(self) -> None:
        known = [each for each in (self.opening, self.closing) if each is not None]
        for each in (*(line.amount for line in self.lines), *known):
            if abs(each.scaleb(self.exponent)) > LARGEST:
                raise UsageError(
                    f"statement {self.id}: {each} {self.currency} is beyond {LARGEST:.0e} of the smallest unit that it"
                    " is written in; no account holds that much"
                )


def require_sum(statement: str, what: str, said: Decimal | int | None, found: Decimal | int) -> None:
    """A total of the file's own, where it has one."""
    if said is not None and said != found:
        raise UsageError(
            f"statement {statement} does not foot: it says {what} {said}, and its entries come to {found};"
            " ask the bank for a whole statement"
        )


def decimals(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def amount_of(text: str, where: str) -> Decimal:
    """A plain decimal with a point. Raises UsageError for anything that could be read in two ways."""
    plain = text.strip()
    if len(plain) > _LONGEST:
        raise UsageError(f"{where}: {shortened(plain)} is no amount of money")
    try:
        amount = Decimal(plain)
    except InvalidOperation:
        raise UsageError(
            f"{where}: {text!r} is no amount; write -1234.50, with a decimal point and no other signs"
        ) from None
    if not amount.is_finite() or "e" in plain.lower() or "_" in plain or decimals(amount) > MOST_DECIMALS:
        raise UsageError(f"{where}: {text!r} is no amount of money")
    return amount


def day_of(text: str, where: str) -> date:
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError:
        raise UsageError(f"{where}: {shortened(text)} is no day; write 2026-01-31") from None


def currency_of(text: str, where: str) -> str:
    plain = text.strip().upper()
    if len(plain) != 3 or not plain.isascii() or not plain.isalpha():
        raise UsageError(f"{where}: {shortened(text)} is no currency; write three letters, such as EUR")
    return plain


def shortened(text: str) -> str:
    """Words of the file, as they stand in a message."""
    return repr(text) if len(text) <= _LONGEST else f"{text[:_LONGEST]!r}..."


def joined(parts: Iterable[str | None]) -> str:
    """References, each once, in the order of the file."""
    return " ".join(dict.fromkeys(part.strip() for part in parts if part and part.strip()))
