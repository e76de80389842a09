"""Bodies of the payment objects as Stripe shapes them at API version 2026-10-28.endive, every top-level field present.

Written from Stripe's published field names; a test holds each one against the published examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from providers.sandbox.store import Body

API_VERSION = "2026-10-28.endive"


@dataclass(frozen=True, slots=True)
class Birth:
    """What every new object has."""

    id: str
    created: int
    """Unix seconds."""
    livemode: bool
    metadata: Mapping[str, str]

    def dated(self, kind: str) -> Body:
        return {"id": self.id, "object": kind, "created": self.created, "metadata": dict(self.metadata)}

    def head(self, kind: str) -> Body:
        return {**self.dated(kind), "livemode": self.livemode}


def nothing(*names: str) -> Body:
    """Fields that are there and empty."""
    return dict.fromkeys(names)


def address() -> Body:
    return nothing("city", "country", "line1", "line2", "postal_code", "state")


def listing(url: str, rows: list[Body] | None = None, *, has_more: bool = False) -> Body:
    """Stripe's list object."""
    return {"object": "list", "data": rows or [], "has_more": has_more, "url": url}


def payment_intent(
    birth: Birth, *, amount: int, currency: str, customer: str | None, capture_method: str, description: str | None
) -> Body:
    return {
        **birth.head("payment_intent"),
        **nothing(
            "application", "application_fee_amount", "canceled_at", "cancellation_reason", "customer_account",
            "excluded_payment_method_types", "last_payment_error", "latest_charge", "next_action", "on_behalf_of",
            "payment_method", "payment_method_configuration_details", "processing", "receipt_email", "review",
            "setup_future_usage", "shipping", "source", "statement_descriptor", "statement_descriptor_suffix",
            "transfer_data", "transfer_group",
        ),
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": True},
        "capture_method": capture_method,
        "client_secret": f"{birth.id}_secret_sandbox",
        "confirmation_method": "automatic",
        "currency": currency,
        "customer": customer,
        "description": description,
        "managed_payments": {"enabled": False},
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
    }  # fmt: skip


def card_details(country: str, amount: int) -> Body:
    return {
        "type": "card",
        "card": {
            **nothing("authorization_code", "installments", "mandate", "network_transaction_id", "regulated_status",
                      "three_d_secure", "transaction_link_id", "wallet"),
            "amount_authorized": amount,
            "brand": "visa",
            "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
            "country": country,
            "exp_month": 8,
            "exp_year": 2031,
            "extended_authorization": {"status": "disabled"},
            "fingerprint": "sandboxfingerprnt",
            "funding": "credit",
            "incremental_authorization": {"status": "unavailable"},
            "last4": "4242",
            "multicapture": {"status": "unavailable"},
            "network": "visa",
            "network_token": {"used": False},
            "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
        },
    }  # fmt: skip


def charge(birth: Birth, *, intent: Body, captured: bool, country: str, failure: Mapping[str, str] | None) -> Body:
    """A charge as its authorisation leaves it; its balance transaction comes later."""
    amount = int(intent["amount"])
    declined = failure is not None
    return {
        **birth.head("charge"),
        **nothing(
            "application", "application_fee", "application_fee_amount", "balance_transaction",
            "failure_balance_transaction", "on_behalf_of", "receipt_email", "receipt_number", "review", "shipping",
            "source", "source_transfer", "statement_descriptor", "statement_descriptor_suffix", "transfer_data",
            "transfer_group",
        ),
        "amount": amount,
        "amount_captured": amount if captured and not declined else 0,
        "amount_refunded": 0,
        "billing_details": {"address": address(), "email": None, "name": "Sam Sandbox", "phone": None, "tax_id": None},
        "calculated_statement_descriptor": "SANDBOX SHOP",
        "captured": captured and not declined,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_code": failure["code"] if failure else None,
        "failure_message": failure["message"] if failure else None,
        "fraud_details": {},
        "outcome": {
            **nothing("advice_code", "network_advice_code"),
            "network_decline_code": "05" if declined else None,
            "network_status": "declined_by_network" if declined else "approved_by_network",
            "reason": "generic_decline" if declined else None,
            "risk_level": "normal",
            "seller_message": "The bank did not return any further details." if declined else "Payment complete.",
            "type": "issuer_declined" if declined else "authorized",
        },
        "paid": not declined,
        "payment_intent": intent["id"],
        "payment_method": f"pm_{birth.id[3:]}",
        "payment_method_details": card_details(country, amount),
        "receipt_url": None if declined else f"https://pay.stripe.com/receipts/payment/{birth.id}",
        "refunded": False,
        "refunds": listing(f"/v1/charges/{birth.id}/refunds"),
        "status": "failed" if declined else "succeeded",
    }  # fmt: skip


def refund(birth: Birth, *, charge: Body, amount: int, status: str, reason: str | None) -> Body:
    return {
        **birth.dated("refund"),
        **nothing("balance_transaction", "customer_account", "receipt_number", "source_transfer_reversal",
                  "transfer_reversal"),
        "amount": amount,
        "charge": charge["id"],
        "currency": charge["currency"],
        "customer": charge["customer"],
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": reason,
        "status": status,
    }  # fmt: skip


_EVIDENCE = (
    "access_activity_log", "billing_address", "cancellation_policy", "cancellation_policy_disclosure",
    "cancellation_rebuttal", "customer_communication", "customer_email_address", "customer_name",
    "customer_purchase_ip", "customer_signature", "duplicate_charge_documentation", "duplicate_charge_explanation",
    "duplicate_charge_id", "product_description", "receipt", "refund_policy", "refund_policy_disclosure",
    "refund_refusal_explanation", "service_date", "service_documentation", "shipping_address", "shipping_carrier",
    "shipping_date", "shipping_documentation", "shipping_tracking_number", "uncategorized_file",
    "uncategorized_text",
)  # fmt: skip


def dispute(birth: Birth, *, charge: Body, amount: int, reason: str, status: str, due_by: int) -> Body:
    return {
        **birth.head("dispute"),
        "amount": amount,
        "balance_transactions": [],
        "charge": charge["id"],
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**nothing(*_EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": due_by, "enhanced_eligibility": {}, "has_evidence": False, "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": status.startswith("warning_"),
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {"brand": "visa", "case_type": "inquiry" if status.startswith("warning_") else "chargeback",
                     "network": "visa", "network_reason_code": "10.4"},
            "type": "card",
        },
        "reason": reason,
        "status": status,
    }  # fmt: skip


def payout(birth: Birth, *, amount: int, currency: str, automatic: bool, arrival: int, destination: str) -> Body:
    return {
        **birth.head("payout"),
        **nothing("application_fee", "application_fee_amount", "balance_transaction", "failure_balance_transaction",
                  "failure_code", "failure_message", "original_payout", "payout_method", "reversed_by",
                  "statement_descriptor"),
        "amount": amount,
        "arrival_date": arrival,
        "automatic": automatic,
        "currency": currency,
        "description": "STRIPE PAYOUT",
        "destination": destination,
        "method": "standard",
        "reconciliation_status": "in_progress" if automatic else "not_applicable",
        "source_type": "card",
        "status": "pending",
        "trace_id": {"status": "pending", "value": None},
        "type": "bank_account",
    }  # fmt: skip


def balance_transaction(
    birth: Birth,
    *,
    type_: str,
    category: str,
    amount: int,
    currency: str,
    fee: int,
    fee_text: str,
    source: str | None,
    available_on: int,
    exchange_rate: float | None,
    description: str | None,
) -> Body:
    """`net` is computed here and nowhere else; the amounts never change afterwards."""
    return {
        "id": birth.id,
        "object": "balance_transaction",
        "amount": amount,
        "available_on": available_on,
        "balance_type": "payments",
        "created": birth.created,
        "currency": currency,
        "description": description,
        "exchange_rate": exchange_rate,
        "fee": fee,
        "fee_details": [] if not fee else [
            {"amount": fee, "application": None, "currency": currency, "description": fee_text, "type": "stripe_fee"}
        ],
        "net": amount - fee,
        "reporting_category": category,
        "source": source,
        "status": "available" if available_on <= birth.created else "pending",
        "type": type_,
    }  # fmt: skip


def balance(*, livemode: bool, available: Mapping[str, int], pending: Mapping[str, int]) -> Body:
    def lines(sums: Mapping[str, int]) -> list[Body]:
        return [
            {"amount": minor, "currency": currency, "source_types": {"card": minor}}
            for currency, minor in sorted(sums.items())
        ]

    return {
        "object": "balance",
        "available": lines(available),
        "connect_reserved": [{"amount": 0, "currency": currency} for currency in sorted(available)],
        "livemode": livemode,
        "pending": lines(pending),
    }


def transfer(birth: Birth, *, amount: int, currency: str, destination: str, group: str | None) -> Body:
    return {
        **birth.head("transfer"),
        **nothing("balance_transaction", "description", "source_transaction"),
        "amount": amount,
        "amount_reversed": 0,
        "currency": currency,
        "destination": destination,
        "destination_payment": f"py_{birth.id[3:]}",
        "reversals": listing(f"/v1/transfers/{birth.id}/reversals"),
        "reversed": False,
        "source_type": "card",
        "transfer_group": group,
    }


def application_fee(birth: Birth, *, account: str, amount: int, currency: str, charge: str) -> Body:
    body = birth.head("application_fee")
    del body["metadata"]
    return {
        **body,
        **nothing("balance_transaction", "originating_transaction"),
        "account": account,
        "amount": amount,
        "amount_refunded": 0,
        "application": "ca_sandbox",
        "charge": charge,
        "currency": currency,
        "fee_source": {"charge": charge, "type": "charge"},
        "refunded": False,
        "refunds": listing(f"/v1/application_fees/{birth.id}/refunds"),
    }


def topup(birth: Birth, *, amount: int, currency: str, expected: int) -> Body:
    return {
        **birth.head("topup"),
        **nothing("balance_transaction", "failure_code", "failure_message", "initiated_by", "source",
                  "statement_descriptor", "transfer_group"),
        "amount": amount,
        "currency": currency,
        "description": "Top-up",
        "expected_availability_date": expected,
        "status": "pending",
    }  # fmt: skip


def webhook_endpoint(birth: Birth, *, url: str, enabled_events: list[str], api_version: str | None) -> Body:
    return {
        **birth.head("webhook_endpoint"),
        "api_version": api_version,
        "application": None,
        "description": None,
        "enabled_events": enabled_events,
        "status": "enabled",
        "url": url,
    }


def event(
    birth: Birth, *, type_: str, subject: Body, previous: Mapping[str, Any] | None, pending_webhooks: int
) -> Body:
    moved: Body = {"object": subject}
    if previous is not None:
        moved["previous_attributes"] = dict(previous)
    return {
        "id": birth.id,
        "object": "event",
        "api_version": API_VERSION,
        "created": birth.created,
        "data": moved,
        "livemode": birth.livemode,
        "pending_webhooks": pending_webhooks,
        "request": {"id": None, "idempotency_key": None},
        "type": type_,
    }


def account(account_id: str, *, created: int, currency: str, livemode: bool) -> Body:
    nobody = nothing("date", "ip", "user_agent")
    owed = {
        **nothing("current_deadline", "disabled_reason"),
        **{name: [] for name in ("alternatives", "currently_due", "errors", "eventually_due", "past_due",
                                 "pending_verification")},
    }  # fmt: skip
    return {
        "id": account_id,
        "object": "account",
        "business_profile": {
            **nothing("annual_revenue", "estimated_worker_count", "mcc", "minority_owned_business_designation",
                      "product_description", "support_email", "support_phone", "support_url", "url"),
            "name": "Sandbox Shop",
            "support_address": address(),
        },
        "business_type": None,
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": "US",
        "created": created,
        "default_currency": currency,
        "details_submitted": True,
        "email": "shop@example.com",
        "external_accounts": listing(f"/v1/accounts/{account_id}/external_accounts"),
        "future_requirements": owed,
        "metadata": {},
        "payouts_enabled": True,
        "requirements": owed,
        "settings": {
            "dashboard": {"display_name": "Sandbox Shop" if livemode else "Sandbox Shop (test)", "timezone": "Etc/UTC"},
            "payouts": {
                "debit_negative_balances": True, "schedule": {"delay_days": 2, "interval": "daily"},
                "statement_descriptor": None,
            },
        },
        "tos_acceptance": nobody,
        "type": "standard",
    }  # fmt: skip
