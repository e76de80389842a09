"""Money lines, read from Shopify Payments' balance transactions, and the balance that Shopify states by another path.

What a shop takes in through other gateways moves no balance at Shopify: it has no line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from providers.shopify import names
from providers.shopify.currencies import EXPONENTS
from providers.shopify.reading import instant, rows
from reconciler.errors import BadReply
from reconciler.model import ControlTotal, Entry, Snapshot
from reconciler.money import Money

_PAYMENTS: Final = "payments"
_PAYOUT: Final = "payout"
_DISPUTE: Final = "dispute"
_CATEGORIES: Final[Mapping[str, str]] = {
    "dispute_withdrawal": "dispute",
    "payout_failure": "payout_reversal",
    "payout_cancellation": "payout_reversal",
}
"""Into the report's words for money on its way to the bank and back; every other type keeps Shopify's word."""


def entries(snapshot: Snapshot) -> tuple[Entry, ...]:
    """The one money line of a balance transaction; nothing for any other kind, and nothing for a test payment.

    Raises `BadReply` where amount - fee is not net, or where an amount is no decimal that fits its currency: such a
    body must be looked at, never summed.
    """
    if snapshot.ref.kind != "balance_transaction" or snapshot.body.get("test") is True:
        return ()
    try:
        return (_entry(snapshot, snapshot.body),)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise BadReply(f"{snapshot.ref}: cannot be booked: {error}") from error


def _entry(snapshot: Snapshot, body: Mapping[str, Any]) -> Entry:
    effective_at = instant(body.get("processed_at"))
    if effective_at is None:
        raise ValueError("processed_at is not a time")
    said = str(body.get("type") or "other").lower()
    return Entry(
        ref=snapshot.ref,
        balance_type=_PAYMENTS,
        category=_CATEGORIES.get(said, said),
        gross=amount(body, "amount"),
        fee=amount(body, "fee"),
        net=amount(body, "net"),
        effective_at=effective_at,
        source_id=_source(said, body),
        payout_id=None if said == _PAYOUT else names.whole(body.get("payout_id")),
    )


def _source(said: str, body: Mapping[str, Any]) -> str | None:
    """The order's transaction, as the ledger names it, where there is one; else whatever Shopify names.

    A dispute's row names the disputed sale, too, which did not cause it; a payout's names itself as what paid it out.
    """
    named = names.whole(body.get("source_id"))
    if str(body.get("source_type")).lower().endswith(_DISPUTE):
        return named
    if said == _PAYOUT:
        return named or names.whole(body.get("payout_id"))
    order, transaction = names.whole(body.get("source_order_id")), names.whole(body.get("source_order_transaction_id"))
    if order and transaction:
        return names.part(order, transaction)
    return named


def control_totals(snapshot: Snapshot, as_at: datetime) -> tuple[ControlTotal, ...]:
    """What `shopify_payments/balance` states, per currency. Nothing for any other kind."""
    if snapshot.ref.kind != "balance":
        return ()
    try:
        return tuple(
            ControlTotal(snapshot.ref.account, _PAYMENTS, amount(row, "amount"), as_at)
            for row in rows(snapshot.body, "balance")
        )
    except (ValueError, TypeError, ArithmeticError) as error:
        raise BadReply(f"{snapshot.ref}: the balance cannot be read: {error}") from error


def amount(body: Mapping[str, Any], name: str) -> Money:
    """A decimal string beside a currency, exactly. Raises ValueError or TypeError for anything else."""
    value, currency = body.get(name), body.get("currency")
    if not isinstance(value, str) or not isinstance(currency, str):
        raise TypeError(f"{name} is {value!r} {currency!r}, not a decimal in quotes and a currency")
    return EXPONENTS.parse(value, currency.upper())
