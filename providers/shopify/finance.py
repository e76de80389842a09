"""What finance compares, read out of Shopify's bodies: order transactions, foreign orders' totals, own payments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from providers.shopify import sold
from providers.shopify.amounts import amounts
from providers.shopify.currencies import EXPONENTS
from reconciler.clock import require_utc
from reconciler.errors import BadReply
from reconciler.model import Snapshot
from reconciler.money import Money
from reconciler.movements import Clue, Condition, FinanceReader, Key, Movement, Role, trait

SHOPIFY_PAYMENTS: Final = "shopify_payments"

_SIGN: Final = {"sale": 1, "capture": 1, "refund": -1, "change": -1}
"""Authorisations and voids move no money; change is what a till gives back of the cash that it was handed."""
_TRANSACTION: Final = {
    "success": Condition.SETTLED,
    "pending": Condition.PENDING,
    "awaiting_response": Condition.PENDING,
    "failure": Condition.FAILED,
    "error": Condition.FAILED,
}
"""Any other word (Shopify has `unknown`) promises nothing yet, and hides nothing: it is in the pending memo."""
_PAYOUT: Final = {"paid": Condition.SETTLED, "failed": Condition.FAILED, "canceled": Condition.FAILED}
_DISPUTE: Final = {
    "needs_response": Condition.OPEN,
    "under_review": Condition.OPEN,
    "won": Condition.WON,
    "lost": Condition.LOST,
    "accepted": Condition.LOST,
}
_STRIPE_ID = re.compile(r"(ch|py|pi|re|pyr)_(?!.*_secret_)\w+", re.ASCII)


def read(snapshot: Snapshot) -> tuple[Movement, ...]:
    """Nothing for kinds that finance does not compare, and for test payments.

    Raises `BadReply` for a body whose amounts, currency or time cannot be read.
    """
    reading = _READINGS.get(snapshot.ref.kind)
    if reading is None or snapshot.body.get("test") is True:
        return ()
    try:
        return tuple(reading(snapshot, snapshot.body))
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise BadReply(f"{snapshot.ref}: finance cannot read it: {error!r}") from error


def _transaction(snapshot: Snapshot, body: Mapping[str, Any]) -> Iterator[Movement]:
    kind = body.get("kind")
    sign = _SIGN.get(str(kind))
    if sign is None:
        return
    amount = _money(body)
    order = _text(body.get("order_id"))
    bare = _text(body.get("id")) or snapshot.ref.id
    receipt = body.get("receipt")
    yield Movement(
        ref=snapshot.ref,
        role=Role.SALE,
        condition=_TRANSACTION.get(str(body.get("status")), Condition.PENDING),
        status=str(body.get("status")),
        amount=amount if sign > 0 else -amount,
        occurred_at=_instant(body.get("processed_at") or body["created_at"]),
        clues=(
            *_processor_clues(str(kind), body.get("authorization"), receipt),
            Clue(Key.SHOP, bare),
            Clue(Key.TRANSACTION, bare),
            *((Clue(Key.ORDER, order),) if order else ()),
        ),
        parent=_text(body.get("parent_id")),
        order=order,
        gateway=str(body.get("gateway") or ""),
        traits=tuple(_traits(body, receipt)),
        counts_as=_adjusted(body, sign),
    )


def _adjusted(body: Mapping[str, Any], sign: int) -> Money | None:
    """What came of it in the shop's currency after the exchange rate moved, where Shopify says that it did.

    Its own signs are of no help: the published words leave open whether a refund's amounts are negative.
    """
    said = body.get("currency_exchange_adjustment")
    if said is None:
        return None
    final = abs(EXPONENTS.parse(str(said["final_amount"]), str(said["currency"]).upper()))
    return final if sign > 0 else -final


def _order(snapshot: Snapshot, body: Mapping[str, Any]) -> Iterator[Movement]:
    """What the whole order comes to in the customer's currency and in the shop's, as ordered and as it stands now.

    Nothing where both are one currency, as they nearly always are.
    """
    if body.get("presentment_currency") in (None, body.get("currency")):
        return
    for name in ("total_price", "current_total_price"):
        both = amounts(body, name)
        if both is None or both.shop.currency == both.presentment.currency:
            continue
        yield Movement(
            ref=snapshot.ref,
            role=Role.PRICE,
            condition=Condition.SETTLED,
            status=name,
            amount=both.presentment,
            occurred_at=_instant(body["created_at"]),
            order=_text(body.get("id")),
            counts_as=both.shop,
        )


def _processor_clues(kind: str, authorization: object, receipt: object) -> tuple[Clue, ...]:
    """Stripe's ids, from `authorization` and every string inside the receipt.

    On a refund only a refund's id is a counterpart: Shopify writes the refunded charge into `authorization` there.
    """
    clues: dict[Clue, None] = {}
    for text in (*_strings(authorization), *_strings(receipt)):
        match = _STRIPE_ID.fullmatch(text)
        if match is None:
            continue
        prefix = match.group(1)
        if (prefix in ("re", "pyr")) is not (kind == "refund"):
            continue
        clues[Clue(Key.INTENT if prefix == "pi" else Key.PROCESSOR, text)] = None
    return tuple(sorted(clues, key=lambda clue: (clue.key, clue.value)))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _traits(body: Mapping[str, Any], receipt: object) -> Iterator[str]:
    number = (body.get("payment_details") or {}).get("credit_card_number")
    if isinstance(number, str) and number[-4:].isdigit() and (last4 := trait("last4", number[-4:])):
        yield last4
    metadata = receipt.get("metadata") if isinstance(receipt, Mapping) else None
    email = metadata.get("email") if isinstance(metadata, Mapping) else None
    if found := trait("email", email):
        yield found


def _payment(snapshot: Snapshot, body: Mapping[str, Any]) -> Iterator[Movement]:
    """A balance transaction of Shopify Payments: `source_order_transaction_id` is the exact key to the order's side."""
    role = {"charge": Role.CHARGE, "refund": Role.REFUND}.get(str(body.get("type")).lower())
    transaction = _text(body.get("source_order_transaction_id"))
    if role is None or transaction is None:
        return
    yield Movement(
        ref=snapshot.ref,
        role=role,
        condition=Condition.SETTLED,
        status=str(body.get("payout_status")),
        amount=_money(body),
        occurred_at=_instant(body["processed_at"]),
        entry_id=snapshot.ref.id,
        clues=(Clue(Key.SHOP, transaction),),
        order=_text(body.get("source_order_id")),
        gateway=SHOPIFY_PAYMENTS,
    )


def _payout(snapshot: Snapshot, body: Mapping[str, Any]) -> Iterator[Movement]:
    day = _instant(f"{body['date']}T00:00:00+00:00")
    yield Movement(
        ref=snapshot.ref,
        role=Role.PAYOUT,
        condition=_PAYOUT.get(str(body.get("status")).lower(), Condition.PENDING),
        status=str(body.get("status")),
        amount=_money(body),
        occurred_at=day,
        arrives_at=day,
        automatic=True,
        trace=_text(body.get("external_trace_id")),
    )


def _dispute(snapshot: Snapshot, body: Mapping[str, Any]) -> Iterator[Movement]:
    """An inquiry moves nothing; only a chargeback holds money back."""
    condition = _DISPUTE.get(str(body.get("status")).lower(), Condition.VOID)
    yield Movement(
        ref=snapshot.ref,
        role=Role.DISPUTE,
        condition=Condition.VOID if body.get("type") == "inquiry" else condition,
        status=str(body.get("status")),
        amount=-_money(body),
        occurred_at=_instant(body["initiated_at"]),
        order=_text(body.get("order_id")),
    )


_READINGS: Final[Mapping[str, Callable[[Snapshot, Mapping[str, Any]], Iterator[Movement]]]] = {
    sold.ORDER: _order,
    "transaction": _transaction,
    "balance_transaction": _payment,
    "payout": _payout,
    "dispute": _dispute,
}


def _money(body: Mapping[str, Any]) -> Money:
    return EXPONENTS.parse(str(body["amount"]), str(body["currency"]).upper())


def _instant(text: object) -> datetime:
    return require_utc(datetime.fromisoformat(str(text)))


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


_CATEGORIES: Final = frozenset(
    (
        *("charge", "refund", "dispute", "reserve", "adjustment", "credit", "debit", "payout", "payout_reversal"),
        # The words of GraphQL (ShopifyPaymentsTransactionType), which REST's own examples use beside those above.
        *("advance", "advance_funding", "anomaly_*", "application_fee_refund", "balance_transfer_inbound", "capture"),
        *("billing_debit*", "channel_*", "charge_adjustment", "chargeback_*", "collections_*", "customs_duty*"),
        *("dispute_reversal", "dispute_withdrawal", "import_tax*", "marketplace_fee_*", "markets_pro_credit"),
        *("merchant_goodwill_*", "merchant_to_merchant_*", "promotion_credit*", "refund_adjustment", "refund_failure"),
        *("reserved_funds*", "risk_reversal", "risk_withdrawal", "seller_protection_*", "shipping_*", "shop_cash_*"),
        *("shopify_collective_*", "shopify_source_*", "stripe_fee", "tax_adjustment_*", "transfer*", "vat_refund_*"),
    )
)
"""The types of balance transaction that Shopify documents, in the report's words."""


_CAUSES: Final[Mapping[str, str]] = {
    "dispute": "dispute",
    "dispute_reversal": "dispute",
    "payout": "payout",
    "payout_reversal": "payout",
}
"""A sale or refund that was never read leaves its charge without a counterpart, which the match says by itself; where
`[report] gateways` does not name `shopify_payments`, the report compares the two with nothing."""

FINANCE: Final = FinanceReader(
    kinds=frozenset(_READINGS),
    categories=_CATEGORIES,
    streams=frozenset({"order", "transaction"}),
    read=read,
    causes=_CAUSES,
    also_cause=frozenset({"transaction"}),
    # Not raised when amounts came to be read only as they are written (no exponents, no "1_0"): Shopify sends
    # no others, and what was read before stays as it is.
    revision=5,
    sells=True,
    orders=(sold.ORDER, sold.read),
)
