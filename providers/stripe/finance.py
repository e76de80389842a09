"""What finance compares, read out of Stripe's bodies: charges, refunds, disputes, payouts, invoices, exchange rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from reconciler.errors import BadReply
from reconciler.model import Snapshot
from reconciler.money import Money
from reconciler.movements import Clue, Condition, FinanceReader, Key, Movement, Role, trait

_CONDITIONS: Final[Mapping[str, Mapping[str, Condition]]] = {
    "charge": {"succeeded": Condition.SETTLED, "pending": Condition.PENDING, "failed": Condition.FAILED},
    "refund": {
        "succeeded": Condition.SETTLED,
        "pending": Condition.PENDING,
        "requires_action": Condition.PENDING,
        "failed": Condition.FAILED,
        "canceled": Condition.FAILED,
    },
    "payment_intent": {"succeeded": Condition.SETTLED, "canceled": Condition.FAILED},
    "dispute": {
        "needs_response": Condition.OPEN,
        "under_review": Condition.OPEN,
        "appeal_needs_response": Condition.OPEN,
        "appeal_under_review": Condition.OPEN,
        "won": Condition.WON,
        "lost": Condition.LOST,
    },
    "payout": {"paid": Condition.SETTLED, "failed": Condition.FAILED, "canceled": Condition.FAILED},
    "invoice": {"paid": Condition.SETTLED, "void": Condition.FAILED, "uncollectible": Condition.FAILED},
}
_OTHERWISE: Final[Mapping[str, Condition]] = {"dispute": Condition.VOID}
"""An inquiry (`warning_*`) moves nothing. Whatever else has a status that is not listed has not happened yet."""


def read(snapshot: Snapshot) -> tuple[Movement, ...]:
    """Nothing for kinds that finance does not compare, and for a connected account's resources.

    Raises `BadReply` for a body whose amounts, currency or time cannot be read.
    """
    reading = _READINGS.get(snapshot.ref.kind)
    if reading is None or snapshot.ref.id.startswith("acct_"):
        return ()
    try:
        movement = reading(snapshot, snapshot.body)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, OSError) as error:
        raise BadReply(f"{snapshot.ref}: finance cannot read it: {error!r}") from error
    return () if movement is None else (movement,)


def _charge(snapshot: Snapshot, body: Mapping[str, Any]) -> Movement:
    captured = body.get("amount_captured")
    if captured is None:  # bodies from before partial captures were told apart
        captured = body["amount"] if body.get("captured") else 0
    condition = _condition(snapshot, body)
    if condition is Condition.SETTLED and captured == 0:
        condition = Condition.VOID
    intent = _id(body.get("payment_intent"))
    card = (body.get("payment_method_details") or {}).get("card") or {}
    metadata = body.get("metadata") or {}
    return Movement(
        ref=snapshot.ref,
        role=Role.CHARGE,
        condition=condition,
        status=str(body.get("status")),
        amount=_money(captured if condition is Condition.SETTLED else body["amount"], body),
        occurred_at=_instant(body["created"]),
        entry_id=_id(body.get("balance_transaction")),
        clues=(
            Clue(Key.PROCESSOR, snapshot.ref.id),
            *_metadata_clues(metadata),
            *((Clue(Key.INTENT, intent),) if intent else ()),
        ),
        parent=intent,
        order=_text(metadata.get("order_id")),
        traits=tuple(
            found
            for found in (
                trait("email", (body.get("billing_details") or {}).get("email") or body.get("receipt_email")),
                trait("last4", card.get("last4")),
            )
            if found
        ),
        country=_text(card.get("country")),
        return_entry_id=_id(body.get("failure_balance_transaction")),
    )


def _refund(snapshot: Snapshot, body: Mapping[str, Any]) -> Movement:
    metadata = body.get("metadata") or {}
    return Movement(
        ref=snapshot.ref,
        role=Role.REFUND,
        condition=_condition(snapshot, body),
        status=str(body.get("status")),
        amount=-_money(body["amount"], body),
        occurred_at=_instant(body["created"]),
        entry_id=_id(body.get("balance_transaction")),
        clues=(Clue(Key.PROCESSOR, snapshot.ref.id), *_metadata_clues(metadata)),
        parent=_id(body.get("charge")),
        order=_text(metadata.get("order_id")),
        return_entry_id=_id(body.get("failure_balance_transaction")),
    )


def _intent(snapshot: Snapshot, body: Mapping[str, Any]) -> Movement:
    return Movement(
        ref=snapshot.ref,
        role=Role.INTENT,
        condition=_condition(snapshot, body),
        status=str(body.get("status")),
        amount=_money(body["amount"], body),
        occurred_at=_instant(body["created"]),
        parent=_id(body.get("latest_charge")),
    )


def _dispute(snapshot: Snapshot, body: Mapping[str, Any]) -> Movement:
    return Movement(
        ref=snapshot.ref,
        role=Role.DISPUTE,
        condition=_condition(snapshot, body),
        status=str(body.get("status")),
        amount=-_money(body["amount"], body),
        occurred_at=_instant(body["created"]),
        parent=_id(body.get("charge")),
    )


def _payout(snapshot: Snapshot, body: Mapping[str, Any]) -> Movement:
    arrival = body.get("arrival_date")
    trace = body.get("trace_id") or {}
    return Movement(
        ref=snapshot.ref,
        role=Role.PAYOUT,
        condition=_condition(snapshot, body),
        status=str(body.get("status")),
        amount=_money(body["amount"], body),
        occurred_at=_instant(body["created"]),
        entry_id=_id(body.get("balance_transaction")),
        arrives_at=None if arrival is None else _instant(arrival),
        automatic=bool(body.get("automatic")),
        itemised=body.get("reconciliation_status") == "completed",
        trace=_text(trace.get("value") if isinstance(trace, Mapping) else trace),
        destination=_id(body.get("destination")),
        return_entry_id=_id(body.get("failure_balance_transaction")),
    )


def _invoice(snapshot: Snapshot, body: Mapping[str, Any]) -> Movement:
    payments = (body.get("payments") or {}).get("data") or ()
    return Movement(
        ref=snapshot.ref,
        role=Role.INVOICE,
        condition=_condition(snapshot, body),
        status=str(body.get("status")),
        amount=_money(body.get("amount_paid") or 0, body),
        occurred_at=_instant(body["created"]),
        payments=tuple(_invoice_payments(payments, body)),
    )


def _invoice_payments(payments: Any, body: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Since 2025-03-31.basil this is the only road from an invoice to its charge: `charge.invoice` is gone."""
    for each in payments:
        payment = each.get("payment") or {}
        paid_with = _id(payment.get("payment_intent")) or _id(payment.get("charge"))
        if paid_with:
            yield paid_with, _money(each.get("amount_paid") or 0, body).minor


def _conversion(snapshot: Snapshot, body: Mapping[str, Any]) -> Movement | None:
    rate = body.get("exchange_rate")
    if rate is None:
        return None
    return Movement(
        ref=snapshot.ref,
        role=Role.CONVERSION,
        condition=Condition.SETTLED,
        status=str(body.get("status")),
        amount=_money(body["amount"], body),
        occurred_at=_instant(body["created"]),
        parent=_id(body.get("source")),
        rate=Decimal(str(rate)),  # a float's shortest text is the digits that Stripe sent
    )


_READINGS: Final[Mapping[str, Callable[[Snapshot, Mapping[str, Any]], Movement | None]]] = {
    "charge": _charge,
    "refund": _refund,
    "payment_intent": _intent,
    "dispute": _dispute,
    "payout": _payout,
    "invoice": _invoice,
    "balance_transaction": _conversion,
}


def _condition(snapshot: Snapshot, body: Mapping[str, Any]) -> Condition:
    kind = snapshot.ref.kind
    return _CONDITIONS[kind].get(str(body.get("status")), _OTHERWISE.get(kind, Condition.PENDING))


def _metadata_clues(metadata: Mapping[str, Any]) -> tuple[Clue, ...]:
    transaction, order = _text(metadata.get("order_transaction_id")), _text(metadata.get("order_id"))
    return tuple(
        Clue(key, value) for key, value in ((Key.TRANSACTION, transaction), (Key.ORDER, order)) if value is not None
    )


def _money(minor: object, body: Mapping[str, Any]) -> Money:
    if not isinstance(minor, int) or isinstance(minor, bool):
        raise TypeError(f"an amount is {minor!r}, not an integer of minor units")
    return Money(minor, str(body["currency"]).upper())


def _instant(seconds: object) -> datetime:
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise TypeError(f"a time is {seconds!r}, not whole seconds")
    return datetime.fromtimestamp(seconds, UTC)


def _id(value: object) -> str | None:
    """An id, whether the field holds it or was expanded to the whole object."""
    if isinstance(value, Mapping):
        value = value.get("id")
    return value if isinstance(value, str) and value else None


def _text(value: object) -> str | None:
    """Metadata values are text; a number that came some other way is read as its digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


_CATEGORIES: Final = frozenset(
    (
        *("advance", "advance_funding", "anticipation_repayment", "charge", "charge_failure", "climate_*"),
        *("connect_collection_transfer", "connect_reserved_funds", "contribution", "dispute", "dispute_reversal"),
        *("fee", "financing_*", "issuing_*", "network_cost", "other_adjustment", "partial_capture_reversal"),
        *("payout", "payout_reversal", "platform_earning", "platform_earning_refund", "refund", "refund_failure"),
        *("reserve_*", "risk_reserved_funds", "tax", "topup", "topup_reversal", "transfer", "transfer_reversal"),
        "unreconciled_customer_funds",
    )
)
"""As the report runs' parameter lists them."""


_CAUSES: Final[Mapping[str, str]] = {
    "charge": "charge",
    "refund": "refund",
    "refund_failure": "refund",
    "partial_capture_reversal": "refund",
    "dispute": "dispute",
    "dispute_reversal": "dispute",
    "payout": "payout",
    "payout_reversal": "payout",
}
"""Transfers, top-ups and fees cause entries too, but nothing that the report compares. What takes a failed charge back
may name the refund that Stripe made of it; the entry that it takes back names the charge."""

FINANCE: Final = FinanceReader(
    kinds=frozenset(_READINGS),
    categories=_CATEGORIES,
    streams=frozenset({"balance_transaction", "charge", "refund", "dispute", "payout"}),
    read=read,
    causes=_CAUSES,
    revision=4,
)
