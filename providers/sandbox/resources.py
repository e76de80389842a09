"""Which resources the look-alike lists and retrieves, with the parameters that Stripe's lists take.

Source: the list parameters of the stripe package 16.1.0 (`stripe/params/*_list_params.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from providers.sandbox.store import Body

COMMON = frozenset({"limit", "starting_after", "ending_before", "expand"})


@dataclass(frozen=True, slots=True)
class Resource:
    kind: str
    path: str
    permission: str
    """A restricted key needs `rak_<permission>_read`, or `_write`, which implies it."""
    equals: tuple[str, ...] = ()
    """Parameters that must equal the field of the same name."""
    ranges: tuple[str, ...] = ("created",)
    """Fields that take `[gt]`, `[gte]`, `[lt]`, `[lte]` or an exact value."""
    flags: tuple[str, ...] = ()
    """As `equals`, for true and false."""
    special: tuple[str, ...] = ()
    """Parameters with a rule of their own, in `lists.py`."""
    hides: Callable[[Body], bool] = lambda _body: False
    """What the list leaves out unless it is asked for by name: the trap in a default."""

    @property
    def parameters(self) -> frozenset[str]:
        return COMMON.union(self.equals, self.ranges, self.flags, self.special)


def _canceled(body: Body) -> bool:
    return bool(body["status"] == "canceled")


_ALL = (
    Resource("payment_intent", "/v1/payment_intents", "payment_intent", ("customer", "customer_account")),
    Resource("charge", "/v1/charges", "charge", ("customer", "payment_intent", "transfer_group")),
    Resource("refund", "/v1/refunds", "charge", ("charge", "payment_intent")),
    Resource("dispute", "/v1/disputes", "dispute", ("charge", "payment_intent")),
    Resource("payout", "/v1/payouts", "payout", ("destination", "status"), ("created", "arrival_date")),
    Resource("balance_transaction", "/v1/balance_transactions", "balance_transaction_source",
             ("currency", "source", "type"), special=("payout",)),
    Resource("checkout.session", "/v1/checkout/sessions", "checkout_session",
             ("customer", "customer_account", "payment_intent", "payment_link", "status", "subscription")),
    Resource("invoice", "/v1/invoices", "invoice",
             ("collection_method", "customer", "customer_account", "status", "subscription"), ("created", "due_date")),
    Resource("invoice_payment", "/v1/invoice_payments", "invoice", ("invoice", "status"), special=("payment",)),
    Resource("subscription", "/v1/subscriptions", "subscription",
             ("collection_method", "customer", "customer_account", "test_clock"), special=("status", "price"),
             hides=_canceled),
    Resource("customer", "/v1/customers", "customer", ("email", "test_clock")),
    Resource("product", "/v1/products", "product", ("type", "url"), flags=("active", "shippable"), special=("ids",)),
    Resource("price", "/v1/prices", "plan", ("currency", "product", "type"), flags=("active",)),
    Resource("transfer", "/v1/transfers", "transfer", ("destination", "transfer_group")),
    Resource("application_fee", "/v1/application_fees", "application_fee", ("charge",)),
    Resource("topup", "/v1/topups", "top_up", ("status",), ("created", "amount")),
    Resource("event", "/v1/events", "event", ("type",), special=("types", "delivery_success")),
    Resource("webhook_endpoint", "/v1/webhook_endpoints", "webhook", ranges=()),
)  # fmt: skip

RESOURCES: Mapping[str, Resource] = {resource.kind: resource for resource in _ALL}
BY_PATH: Mapping[str, Resource] = {resource.path: resource for resource in _ALL}

PERMISSIONS: Mapping[str, str] = {
    **{resource.path: resource.permission for resource in _ALL},
    "/v1/balance": "balance",
    "/v1/account": "accounts_kyc_basic",
    "/v2/core/event_destinations": "webhook",
    "/v2/core/events": "event",
}
