"""What one body says about money, in words that every provider shares: the seam between providers and the report.

A provider that money moves through declares `finance: ClassVar[FinanceReader]`. The reader is pure, so the same
version always reads the same, and the report never needs to know whose body it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from reconciler.model import ResourceRef, Snapshot
from reconciler.money import Money


class Role(StrEnum):
    """Which part a thing plays in the proofs."""

    SALE = "sale"
    """A shop's own record of money taken or given back for an order: the left side of the order match."""
    CHARGE = "charge"
    """Money taken by a processor: the right side."""
    REFUND = "refund"
    """Money given back by a processor: the right side, negative."""
    INTENT = "intent"
    """A processor's attempt at a payment; moves nothing, but links what does."""
    DISPUTE = "dispute"
    INVOICE = "invoice"
    PRICE = "price"
    """A shop's own word of one amount in two currencies; moves nothing, but says what a sale counts as."""
    PAYOUT = "payout"
    CONVERSION = "conversion"
    """The exchange rate that an entry was booked at."""


class Condition(StrEnum):
    """What became of it, for the report's purposes; `status` keeps the provider's own word."""

    SETTLED = "settled"
    """Succeeded, paid, captured: it counts."""
    PENDING = "pending"
    FAILED = "failed"
    """Failed or cancelled: it never will count, or no longer does."""
    OPEN = "open"
    """A dispute that holds money back."""
    WON = "won"
    LOST = "lost"
    VOID = "void"
    """Moves no money by its nature: an authorisation, an inquiry."""


class Key(StrEnum):
    """How two sides are known to be one thing, strongest first. The order is the order of matching."""

    PROCESSOR = "K1"
    """The processor's own id of the charge or refund, written down by the shop."""
    SHOP = "K2"
    """The shop's transaction id, written down by the shop's own payments ledger."""
    TRANSACTION = "K3"
    """The shop's transaction id in the processor's metadata."""
    ORDER = "K3b"
    """The shop's order id in the processor's metadata; only with an equal amount and currency."""
    INTENT = "K4"
    """Through the payment intent, or the latest charge of it."""


@dataclass(frozen=True, slots=True)
class Clue:
    key: Key
    value: str


@dataclass(frozen=True, slots=True)
class Movement:
    """One thing that finance compares, as of one version."""

    ref: ResourceRef
    role: Role
    condition: Condition
    status: str
    """The provider's own word."""
    amount: Money
    """Signed: money in to the merchant is positive. In the thing's own currency, never in the settlement's."""
    occurred_at: datetime
    entry_id: str | None = None
    """The balance entry that the thing names as its own, if it names one yet."""
    clues: tuple[Clue, ...] = ()
    """On a sale: what it names. On a charge or refund: what names it, itself included."""
    parent: str | None = None
    """Refund, dispute: the charge. Charge: the payment intent. Intent: its latest charge. Conversion: its source."""
    order: str | None = None
    """The shop's order, where known."""
    gateway: str | None = None
    """Sale: which way of paying."""
    traits: tuple[str, ...] = ()
    """Weak likenesses, made by `trait`, for suggestions; they prove nothing."""
    country: str | None = None
    """Charge: where the card was issued."""
    arrives_at: datetime | None = None
    """Payout: when it reaches the bank."""
    automatic: bool = False
    """Payout: made by the provider's schedule, so that the provider lists what it paid out."""
    itemised: bool = False
    """Payout: the provider says that its list of members is complete."""
    trace: str | None = None
    """Payout: the bank's reference."""
    destination: str | None = None
    """Payout: the bank account that it goes to, by the provider's name for it."""
    return_entry_id: str | None = None
    """Of what failed: the entry that took its money back."""
    rate: Decimal | None = None
    """Conversion: settlement amount over presentment amount, in major units."""
    payments: tuple[tuple[str, int], ...] = ()
    """Invoice: the payment intents or charges that paid it, each with the minor units that it paid."""
    counts_as: Money | None = None
    """Sale, price: the same amount in the currency that the shop counts in, by the shop's own word."""


OTHER = "other"
"""The step of an order that its provider has no word for."""


@dataclass(frozen=True, slots=True)
class Sold:
    """What one order of a shop sold. The steps add up to what is due."""

    ref: ResourceRef
    order: str
    """As its payments name it (`Movement.order`)."""
    at: datetime
    steps: tuple[tuple[str, Money], ...]
    """(code, signed amount), in the order in which a waterfall shows them: `gross_sales`, `discounts`, ..., `other`."""
    due: Money


@dataclass(frozen=True, slots=True)
class FinanceReader:
    """What a provider tells the report about itself."""

    kinds: frozenset[str]
    """Kinds of resource that `read` has something to say of."""
    streams: frozenset[str]
    """Kinds that must have been looked at completely before anything can be called proved."""
    read: Callable[[Snapshot], tuple[Movement, ...]]
    """Pure. Raises `BadReply` for a body that cannot be read: it must be looked at, never skipped."""
    sells: bool = False
    """Whether its bodies hold a shop's own record of payments: the left side of the order match."""
    categories: frozenset[str] = frozenset()
    """The reporting categories that the provider publishes, `climate_*` for all that begin so: money of any other one
    is counted like all money, and named as unclassified. Empty: the provider publishes none."""
    orders: tuple[str, Callable[[Snapshot], Sold | None]] | None = None
    """The kind whose bodies are a shop's orders, and what one of them sold; None: the provider has none. What
    `read` says of such a body (`Role.PRICE`) holds for good: it was the order's word when somebody paid."""
    causes: Mapping[str, str] = field(default_factory=dict)
    """Reporting category -> the kind of what causes its entries, as they name it, where the report compares the two:
    of money whose cause was never read nothing is proved."""
    also_cause: frozenset[str] = frozenset()
    """Further kinds that such an entry may name instead. No others are taken for its cause: a provider's ids may be
    unique among those of one kind only."""
    revision: int = 1
    """To be raised with every change of what `read` says of a body: whatever was kept of earlier readings is then
    read again."""


def is_published(category: str, categories: frozenset[str]) -> bool:
    if not categories or category in categories:
        return True
    return any(each.endswith("*") and category.startswith(each[:-1]) for each in categories)


def reader_of(provider: object) -> FinanceReader | None:
    """What a provider (its class, or one of its objects) tells the report; None where no money moves through it."""
    reader = getattr(provider, "finance", None)
    return reader if isinstance(reader, FinanceReader) else None


def trait(name: str, value: object) -> str | None:
    """A likeness by which two movements can be held against each other, and from which nobody can be read: the name
    and six bytes of a hash of the value. None for what is no text."""
    if not isinstance(value, str) or not value:
        return None
    return f"{name}:{hashlib.blake2b(value.strip().lower().encode(), digest_size=6).hexdigest()}"
