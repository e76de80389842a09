"""Bodies of customers, the catalogue, invoices, subscriptions and checkout sessions, every top-level field present."""

from __future__ import annotations

from collections.abc import Sequence

from providers.sandbox.store import Body
from providers.sandbox.templates import Birth, address, listing, nothing


def customer(birth: Birth, *, email: str | None, name: str | None, currency: str) -> Body:
    return {
        **birth.head("customer"),
        **nothing("default_source", "description", "discount", "phone", "shipping", "test_clock"),
        "address": address(),
        "balance": 0,
        "currency": currency,
        "delinquent": False,
        "email": email,
        "invoice_prefix": birth.id[-8:].upper(),
        "invoice_settings": nothing("custom_fields", "default_payment_method", "footer", "rendering_options"),
        "name": name,
        "next_invoice_sequence": 1,
        "preferred_locales": [],
        "tax_exempt": "none",
    }


def product(birth: Birth, *, name: str) -> Body:
    return {
        **birth.head("product"),
        **nothing("default_price", "description", "package_dimensions", "shippable", "statement_descriptor",
                  "tax_code", "unit_label", "url"),
        "active": True,
        "images": [],
        "marketing_features": [],
        "name": name,
        "type": "service",
        "updated": birth.created,
    }  # fmt: skip


def price(birth: Birth, *, product: str, unit_amount: int, currency: str, interval: str | None) -> Body:
    recurring = None if interval is None else {
        "interval": interval, "interval_count": 1, "meter": None, "trial_period_days": None, "usage_type": "licensed",
    }  # fmt: skip
    return {
        **birth.head("price"),
        **nothing("custom_unit_amount", "lookup_key", "nickname", "tiers_mode", "transform_quantity"),
        "active": True,
        "billing_scheme": "per_unit",
        "currency": currency,
        "product": product,
        "recurring": recurring,
        "tax_behavior": "unspecified",
        "type": "one_time" if interval is None else "recurring",
        "unit_amount": unit_amount,
        "unit_amount_decimal": str(unit_amount),
    }


def invoice(birth: Birth, *, customer: Body, amount: int, currency: str, subscription: str | None, line: str) -> Body:
    parent = None if subscription is None else {
        "quote_details": None,
        "subscription_details": {"metadata": {}, "subscription": subscription},
        "type": "subscription_details",
    }  # fmt: skip
    return {
        **birth.head("invoice"),
        **nothing(
            "account_tax_ids", "application", "automatically_finalizes_at", "custom_fields", "customer_account",
            "customer_phone", "customer_shipping", "default_payment_method", "default_source", "description",
            "due_date", "effective_at", "ending_balance", "footer", "from_invoice", "hosted_invoice_url",
            "invoice_pdf", "last_finalization_error", "latest_revision", "next_payment_attempt", "number",
            "on_behalf_of", "receipt_number", "rendering", "shipping_cost", "shipping_details",
            "statement_descriptor", "test_clock", "webhooks_delivered_at",
        ),
        "account_country": "US",
        "account_name": "Sandbox Shop",
        "amount_due": amount,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": amount,
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": False,
        "automatic_tax": {"enabled": False, **nothing("disabled_reason", "liability", "provider", "status")},
        "billing_reason": "manual" if subscription is None else "subscription_cycle",
        "collection_method": "charge_automatically",
        "currency": currency,
        "customer": customer["id"],
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_tax_rates": [],
        "discounts": [],
        "issuer": {"type": "self"},
        "lines": listing(
            f"/v1/invoices/{birth.id}/lines", [_line(birth, line, amount=amount, currency=currency)]
        ),
        "parent": parent,
        "payment_settings": nothing("default_mandate", "payment_method_options", "payment_method_types"),
        "period_end": birth.created,
        "period_start": birth.created,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": 0,
        "status": "draft",
        "status_transitions": nothing("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at"),
        "subscription": subscription,
        "subtotal": amount,
        "subtotal_excluding_tax": amount,
        "total": amount,
        "total_discount_amounts": [],
        "total_excluding_tax": amount,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
    }  # fmt: skip


def _line(birth: Birth, line: str, *, amount: int, currency: str) -> Body:
    return {
        "id": line,
        "object": "line_item",
        **nothing("parent", "pretax_credit_amounts", "pricing", "quantity_decimal", "subscription", "taxes"),
        "amount": amount,
        "currency": currency,
        "description": "Sandbox goods",
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": birth.id,
        "livemode": birth.livemode,
        "metadata": {},
        "period": {"end": birth.created, "start": birth.created},
        "quantity": 1,
        "subtotal": amount,
    }


def invoice_payment(birth: Birth, *, invoice: Body, payment_intent: str, status: str) -> Body:
    body = birth.head("invoice_payment")
    del body["metadata"]
    paid = status == "paid"
    return {
        **body,
        "amount_paid": invoice["total"] if paid else None,
        "amount_requested": invoice["total"],
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": True,
        "payment": {"payment_intent": payment_intent, "type": "payment_intent"},
        "status": status,
        "status_transitions": {"canceled_at": None, "paid_at": birth.created if paid else None},
    }


def subscription(birth: Birth, *, customer: str, price: Body, item: str, period_end: int) -> Body:
    line: Body = {
        "id": item,
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": birth.created,
        "current_period_end": period_end,
        "current_period_start": birth.created,
        "discounts": [],
        "metadata": {},
        "plan": None,
        "price": price,
        "quantity": 1,
        "subscription": birth.id,
        "tax_rates": [],
    }
    return {
        **birth.head("subscription"),
        **nothing(
            "application", "application_fee_percent", "billing_cycle_anchor_config", "billing_schedules",
            "billing_thresholds", "cancel_at", "canceled_at", "customer_account", "days_until_due",
            "default_payment_method", "default_source", "description", "ended_at", "latest_invoice",
            "next_pending_invoice_item_invoice", "on_behalf_of", "pause_collection", "pending_invoice_item_interval",
            "pending_setup_intent", "pending_update", "schedule", "test_clock", "transfer_data", "trial_end",
            "trial_start",
        ),
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": birth.created,
        "billing_mode": {"type": "classic"},
        "cancel_at_period_end": False,
        "cancellation_details": nothing("comment", "feedback", "reason"),
        "collection_method": "charge_automatically",
        "currency": price["currency"],
        "customer": customer,
        "default_tax_rates": [],
        "discounts": [],
        "invoice_settings": {
            "issuer": {"type": "self"}, **nothing("account_tax_ids", "custom_fields", "description", "footer"),
        },
        "items": listing(f"/v1/subscription_items?subscription={birth.id}", [line]),
        "managed_payments": {"enabled": False},
        "payment_settings": nothing("payment_method_options", "payment_method_types", "save_default_payment_method"),
        "start_date": birth.created,
        "status": "active",
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
    }  # fmt: skip


def checkout_session(
    birth: Birth, *, amount: int, currency: str, expires_at: int, customer: str | None, methods: Sequence[str]
) -> Body:
    return {
        **birth.head("checkout.session"),
        **nothing(
            "after_expiration", "allow_promotion_codes", "billing_address_collection", "client_reference_id",
            "client_secret", "collected_information", "consent", "consent_collection", "currency_conversion",
            "customer_account", "customer_creation", "customer_details", "customer_email", "discounts",
            "integration_identifier", "invoice", "locale", "origin_context", "payment_intent", "payment_link",
            "payment_method_configuration_details", "permissions", "recovered_from", "saved_payment_method_options",
            "setup_intent", "shipping_address_collection", "shipping_cost", "submit_type", "subscription",
            "wallet_options",
        ),
        "adaptive_pricing": {"enabled": False},
        "amount_subtotal": amount,
        "amount_total": amount,
        "automatic_tax": {"enabled": False, **nothing("liability", "provider", "status")},
        "cancel_url": "https://example.com/cancel",
        "currency": currency,
        "custom_fields": [],
        "custom_text": nothing("after_submit", "shipping_address", "submit", "terms_of_service_acceptance"),
        "customer": customer,
        "expires_at": expires_at,
        "invoice_creation": {"enabled": False, "invoice_data": None},
        "managed_payments": {"enabled": False},
        "mode": "payment",
        "payment_method_collection": "if_required",
        "payment_method_options": {},
        "payment_method_types": list(methods),
        "payment_status": "unpaid",
        "phone_number_collection": {"enabled": False},
        "shipping_options": [],
        "status": "open",
        "success_url": "https://example.com/success",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted",
        "url": f"https://checkout.stripe.com/c/pay/{birth.id}",
    }  # fmt: skip
