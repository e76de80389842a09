"""What stays of a body when a person asks to be forgotten, and what belongs to a person who is named.

Kept is what finance reads (`finance.py`, `entries.py`) and what says how a thing stands; everything that Stripe or the
merchant may have written about somebody goes: billing and shipping details, mail, descriptions, metadata, cards.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_ANY: Final = frozenset({"id", "object", "created", "livemode", "status", "currency"})
_MONEY: Final = _ANY | {
    "amount", "balance_transaction", "failure_balance_transaction", "metadata.order_id",
    "metadata.order_transaction_id", "payment_intent", "charge",
}  # fmt: skip
"""The order's ids are what the merchant's shop says of a payment: without them its sale finds no charge."""

KEPT: Final[Mapping[str, frozenset[str] | None]] = MappingProxyType(
    {
        "payment_intent": _MONEY
        | {"amount_capturable", "amount_received", "latest_charge", "capture_method", "canceled_at"},
        "charge": _MONEY
        | {
            "amount_captured", "amount_refunded", "captured", "refunded", "disputed", "paid", "failure_code",
            "payment_method_details.type", "payment_method_details.card.country",
        },
        "refund": _MONEY | {"reason"},
        "dispute": _MONEY | {"reason", "balance_transactions", "is_charge_refundable"},
        "balance_transaction": _ANY
        | {
            "amount", "available_on", "balance_type", "exchange_rate", "fee", "fee_details", "net",
            "reporting_category", "source", "type",
        },
        "checkout.session": _ANY | {"amount_subtotal", "amount_total", "payment_status", "payment_intent", "mode"},
        "invoice": _ANY
        | {"amount_due", "amount_paid", "amount_remaining", "total", "subtotal", "payments", "billing_reason"},
        "subscription": _ANY | {"cancel_at", "canceled_at", "ended_at", "start_date"},
        "transfer": _MONEY | {"amount_reversed", "reversed", "source_transaction", "destination_payment"},
        "application_fee": _MONEY | {"amount_refunded", "refunded"},
        **dict.fromkeys(("payout", "topup", "balance", "product", "price"), None),
    }
)  # fmt: skip
"""By kind; of a customer nothing stays. None: a body of this kind is about the merchant."""

_CUSTOMER: Final = ("customer", ("customer",))
_CHARGE: Final = ("charge", ("charge",))
_INTENT: Final = ("payment_intent", ("payment_intent",))

FORGOTTEN_WITH: Final[Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]]] = MappingProxyType(
    {
        "payment_intent": (_CUSTOMER, ("charge", ("latest_charge",))),
        "charge": (_CUSTOMER, _INTENT),
        "refund": (_CHARGE, _INTENT),
        "dispute": (_CHARGE, _INTENT),
        "balance_transaction": (("charge", ("source",)), ("refund", ("source",)), ("dispute", ("source",))),
        "checkout.session": (_CUSTOMER, _INTENT),
        "invoice": (_CUSTOMER,),
        "subscription": (_CUSTOMER,),
        "transfer": (("charge", ("source_transaction",)),),
        "application_fee": (_CHARGE,),
    }
)
"""By kind: whose forgetting reaches it, and where its body names them. Who paid as a guest is named by a payment."""
