"""What a restricted key must be allowed, by what is read with it: Read, under the names of Stripe's dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PERMISSIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "payment_intent": "PaymentIntents",
        "charge": "Charges and Refunds",
        "refund": "Charges and Refunds",
        "dispute": "Disputes",
        "payout": "Payouts",
        "balance": "Balance",
        "balance_transaction": "Balance transaction sources",
        "checkout.session": "Checkout Sessions",
        "invoice": "Invoices",
        "subscription": "Subscriptions",
        "customer": "Customers",
        "product": "Products",
        "price": "Prices",
        "transfer": "Transfers",
        "application_fee": "Application Fees",
        "topup": "Top-ups",
        "event": "Events",
        "webhook_endpoint": "Webhook Endpoints",
        "event_destination": "Event Destinations",
    }
)
"""A test holds the documented table to it, and it to the kinds that are followed."""
