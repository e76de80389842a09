"""Bodies with the fields that Shopify documents for 2026-07; a test holds each against the published examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

from providers.sandbox.currencies import exponent

Body = dict[str, Any]

_ZONE: Final = timezone(timedelta(hours=-5))
"""Shops write times in their own zone."""

_NULL_IN_ORDER: Final = (
    "app_id", "cancel_reason", "cancelled_at", "closed_at", "confirmation_number", "customer_locale",
    "device_id", "current_total_additional_fees_set", "current_total_duties_set", "fulfillment_status",
    "location_id", "merchant_of_record_app_id", "note", "original_total_additional_fees_set",
    "original_total_duties_set", "source_url", "user_id", "payment_terms", "checkout_id", "checkout_token",
    "cart_token", "landing_site", "landing_site_ref", "reference", "referring_site", "source_identifier",
    "po_number", "browser_ip", "phone",
)  # fmt: skip

_NOTHING_IN_ORDER: Final = (
    "total_cash_rounding_payment_adjustment", "total_cash_rounding_refund_adjustment", "total_shipping_price",
)  # fmt: skip


def moment(at: datetime) -> str:
    """Whole seconds, as Shopify writes them: the fraction is cut off."""
    return at.astimezone(_ZONE).replace(microsecond=0).isoformat()


def decimal(minor: int, currency: str = "USD") -> str:
    """With as many decimals as the currency has."""
    return str(Decimal(minor).scaleb(-exponent(currency.lower())))


def minor_of(amount: str, currency: str = "USD") -> int:
    return int(Decimal(amount).scaleb(exponent(currency.lower())))


@dataclass(frozen=True, slots=True)
class Price:
    """One amount in the shop's currency and in the customer's, each in its own minor units."""

    minor: int
    currency: str
    shown: int
    shown_currency: str

    @classmethod
    def at_home(cls, minor: int, currency: str) -> Price:
        """For a customer who pays in the shop's currency."""
        return cls(minor, currency, minor, currency)

    @property
    def nothing(self) -> Price:
        return Price(0, self.currency, 0, self.shown_currency)

    def __mul__(self, quantity: int) -> Price:
        return Price(self.minor * quantity, self.currency, self.shown * quantity, self.shown_currency)

    def __str__(self) -> str:
        return decimal(self.minor, self.currency)


def both(price: Price) -> Body:
    return {
        "shop_money": {"amount": str(price), "currency_code": price.currency},
        "presentment_money": {"amount": decimal(price.shown, price.shown_currency),
                              "currency_code": price.shown_currency},
    }  # fmt: skip


def presented(order: Body) -> tuple[int, str]:
    """What an order costs its customer, in the minor units of the customer's currency."""
    said = order["total_price_set"]["presentment_money"]
    return minor_of(said["amount"], said["currency_code"]), said["currency_code"]


def graphql(kind: str, number: int) -> str:
    return f"gid://shopify/{kind}/{number}"


def _totals(**totals: Price) -> Body:
    named: Body = {}
    for name, price in totals.items():
        named[name] = str(price)
        named[f"{name}_set"] = both(price)
    return named


def order(number: int, at: datetime, *, total: Price, lines: Sequence[Body], customer: Body, count: int) -> Body:
    address = customer["default_address"]
    none = total.nothing
    nothing = {f"{name}_set": both(none) for name in _NOTHING_IN_ORDER}
    return {
        **dict.fromkeys(_NULL_IN_ORDER),
        **nothing,
        **_totals(current_subtotal_price=total, current_total_discounts=none, current_total_price=total,
                  current_total_tax=none, subtotal_price=total, total_discounts=none, total_line_items_price=total,
                  total_price=total, total_tax=none),
        "id": number, "admin_graphql_api_id": graphql("Order", number), "buyer_accepts_marketing": False,
        "client_details": {"browser_ip": None, "user_agent": "sandbox"}, "confirmed": True,
        "contact_email": customer["email"], "created_at": moment(at), "currency": total.currency, "discount_codes": [],
        "duties_included": False, "email": customer["email"], "estimated_taxes": False, "financial_status": "pending",
        "merchant_business_entity_id": "MTU0ODM4MDAwOQ", "name": f"#{1000 + count}", "note_attributes": [],
        "number": count, "order_number": 1000 + count, "order_status_url": f"https://shop.example/orders/{number}",
        "payment_gateway_names": [], "presentment_currency": total.shown_currency, "processed_at": moment(at),
        "source_name": "web", "tags": "", "tax_exempt": False, "tax_lines": [], "taxes_included": False, "test": False,
        "token": f"{number:032x}", "total_outstanding": str(total), "total_tip_received": "0.00", "total_weight": 0,
        "updated_at": moment(at), "billing_address": address, "customer": _without(customer, "addresses"),
        "discount_applications": [], "fulfillments": [], "line_items": list(lines), "refunds": [],
        "shipping_address": address, "shipping_lines": [],
    }  # fmt: skip


def line_item(number: int, product: Body, quantity: int, price: Price) -> Body:
    variant = product["variants"][0]
    return {
        "id": number, "admin_graphql_api_id": graphql("LineItem", number), "attributed_staffs": [],
        "current_quantity": quantity, "fulfillable_quantity": quantity, "fulfillment_service": "manual",
        "fulfillment_status": None, "gift_card": False, "grams": 0, "name": product["title"], "price": str(price),
        "price_set": both(price), "product_exists": True, "product_id": product["id"], "properties": [],
        "quantity": quantity, "requires_shipping": True, "sku": variant["sku"], "taxable": True,
        "title": product["title"], "total_discount": "0.00", "total_discount_set": both(price.nothing),
        "variant_id": variant["id"], "variant_inventory_management": "shopify", "variant_title": variant["title"],
        "vendor": product["vendor"], "tax_lines": [], "duties": [], "discount_allocations": [],
    }  # fmt: skip


def transaction(
    number: int, at: datetime, *, order: int, kind: str, minor: int, currency: str, gateway: str, status: str,
    parent: int | None, authorization: str | None, receipt: Mapping[str, Any], unsettled: int,
) -> Body:  # fmt: skip
    owed = {"amount": decimal(unsettled, currency), "currency": currency}
    return {
        "id": number, "order_id": order, "kind": kind, "gateway": gateway, "status": status, "message": None,
        "created_at": moment(at), "test": False, "authorization": authorization, "location_id": None, "user_id": None,
        "parent_id": parent, "processed_at": moment(at), "device_id": None, "error_code": None, "source_name": "web",
        "payment_details": None, "receipt": dict(receipt), "currency_exchange_adjustment": None,
        "amount": decimal(minor, currency), "currency": currency, "payment_id": f"{order}.{number}",
        "total_unsettled_set": {"presentment_money": owed, "shop_money": dict(owed)}, "manual_payment_gateway": False,
        "amount_rounding": None, "admin_graphql_api_id": graphql("OrderTransaction", number),
    }  # fmt: skip


def exchange_adjustment(number: int, currency: str, *, original: int, final: int) -> Body:
    return {
        "id": number, "adjustment": decimal(final - original, currency), "original_amount": decimal(original, currency),
        "final_amount": decimal(final, currency), "currency": currency,
    }  # fmt: skip


def refund(number: int, at: datetime, *, order: Body, transactions: Sequence[Body], note: str) -> Body:
    """As an order holds it; a single read of Shopify's has `return` and `refund_shipping_lines` besides."""
    nothing = both(Price(0, order["currency"], 0, order["presentment_currency"]))
    return {
        "id": number, "admin_graphql_api_id": graphql("Refund", number), "created_at": moment(at), "note": note,
        "order_id": order["id"], "processed_at": moment(at), "restock": False,
        "total_additional_fees_set": nothing, "total_duties_set": nothing, "user_id": None,
        "order_adjustments": [], "transactions": list(transactions), "refund_line_items": [], "duties": [],
        "additional_fees": [],
    }  # fmt: skip


def fulfillment(number: int, at: datetime, *, order: Body, location: int) -> Body:
    return {
        "id": number, "admin_graphql_api_id": graphql("Fulfillment", number), "created_at": moment(at),
        "location_id": location, "name": f"{order['name']}.1", "order_id": order["id"], "origin_address": {},
        "receipt": {}, "service": "manual", "shipment_status": None, "status": "success", "tracking_company": None,
        "tracking_number": None, "tracking_numbers": [], "tracking_url": None, "tracking_urls": [],
        "updated_at": moment(at), "line_items": order["line_items"],
    }  # fmt: skip


def product(number: int, at: datetime, *, title: str, minor: int, variant: int, item: int) -> Body:
    now = moment(at)
    return {
        "id": number, "title": title, "body_html": None, "vendor": "Sandbox", "product_type": "", "created_at": now,
        "handle": title.lower().replace(" ", "-"), "updated_at": now, "published_at": now, "template_suffix": None,
        "published_scope": "web", "tags": "", "status": "active", "admin_graphql_api_id": graphql("Product", number),
        "variants": [{
            "id": variant, "product_id": number, "title": "Default Title", "price": decimal(minor), "position": 1,
            "inventory_policy": "deny", "compare_at_price": None, "option1": "Default Title", "option2": None,
            "option3": None, "created_at": now, "updated_at": now, "taxable": True, "barcode": None,
            "fulfillment_service": "manual", "grams": 0, "inventory_management": "shopify", "requires_shipping": True,
            "sku": f"SKU-{number}", "weight": 0.0, "weight_unit": "kg", "inventory_item_id": item,
            "inventory_quantity": 0, "old_inventory_quantity": 0, "presentment_prices": [],
            "admin_graphql_api_id": graphql("ProductVariant", variant), "image_id": None,
        }],
        "options": [], "images": [], "image": None,
    }  # fmt: skip


def customer(number: int, at: datetime, *, email: str, currency: str) -> Body:
    name = email.partition("@")[0].capitalize()
    address = {
        "id": number, "customer_id": number, "first_name": name, "last_name": "Sandbox", "company": None,
        "address1": "1 Example Street", "address2": "", "city": "Louisville", "province": "Kentucky",
        "country": "United States", "zip": "40202", "phone": None, "name": f"{name} Sandbox", "province_code": "KY",
        "country_code": "US", "country_name": "United States", "default": True,
    }  # fmt: skip
    return {
        "id": number, "email": email, "created_at": moment(at), "updated_at": moment(at), "first_name": name,
        "last_name": "Sandbox", "orders_count": 0, "state": "disabled", "total_spent": "0.00", "last_order_id": None,
        "note": None, "verified_email": True, "multipass_identifier": None, "tax_exempt": False, "tags": "",
        "last_order_name": None, "currency": currency, "phone": None, "addresses": [address], "tax_exemptions": [],
        "email_marketing_consent": None, "sms_marketing_consent": None,
        "admin_graphql_api_id": graphql("Customer", number), "default_address": address,
    }  # fmt: skip


def draft_order(number: int, at: datetime, *, currency: str, minor: int, customer: Body) -> Body:
    return {
        "id": number, "note": None, "email": customer["email"], "taxes_included": False, "currency": currency,
        "invoice_sent_at": None, "created_at": moment(at), "updated_at": moment(at), "tax_exempt": False,
        "completed_at": None, "name": f"#D{number}", "allow_discount_codes_in_checkout?": False, "b2b?": False,
        "status": "open", "line_items": [], "api_client_id": None, "shipping_address": customer["default_address"],
        "billing_address": customer["default_address"], "invoice_url": f"https://shop.example/invoices/{number}",
        "created_on_api_version": None, "applied_discount": None, "order_id": None, "shipping_line": None,
        "tax_lines": [], "tags": "", "note_attributes": [], "total_price": decimal(minor),
        "subtotal_price": decimal(minor), "total_tax": "0.00", "payment_terms": None,
        "admin_graphql_api_id": graphql("DraftOrder", number), "customer": _without(customer, "addresses"),
    }  # fmt: skip


def inventory_item(number: int, at: datetime, *, sku: str) -> Body:
    return {
        "id": number, "sku": sku, "created_at": moment(at), "updated_at": moment(at), "requires_shipping": True,
        "cost": None, "country_code_of_origin": None, "province_code_of_origin": None, "harmonized_system_code": None,
        "tracked": True, "country_harmonized_system_codes": [],
        "admin_graphql_api_id": graphql("InventoryItem", number),
    }  # fmt: skip


def inventory_level(item: int, location: int, at: datetime, available: int) -> Body:
    return {
        "inventory_item_id": item, "location_id": location, "available": available, "updated_at": moment(at),
        "admin_graphql_api_id": f"gid://shopify/InventoryLevel/{location}?inventory_item_id={item}",
    }  # fmt: skip


def balance_transaction(
    number: int, at: datetime, *, kind: str, minor: int, fee: int, currency: str, order: int | None, source: int | None,
    cause: tuple[int, str],
) -> Body:  # fmt: skip
    """`source` is the order's transaction; `cause` the id and the kind of what moved the money."""
    return {
        "id": number, "type": kind, "test": False, "payout_id": None, "payout_status": "pending", "currency": currency,
        "amount": decimal(minor, currency), "fee": decimal(fee, currency), "net": decimal(minor - fee, currency),
        "source_id": cause[0], "source_type": cause[1], "source_order_id": order, "source_order_transaction_id": source,
        "processed_at": moment(at), "adjustment_order_transactions": [], "adjustment_reason": None,
    }  # fmt: skip


def payout(number: int, day: str, *, minor: int, currency: str, status: str, sums: Mapping[str, int]) -> Body:
    names = ("adjustments", "charges", "refunds", "reserved_funds", "retried_payouts")
    summary = {f"{name}_{side}_amount": decimal(sums.get(f"{name}_{side}", 0), currency) for name in names
               for side in ("fee", "gross")}  # fmt: skip
    return {"id": number, "status": status, "date": day, "currency": currency,
            "amount": decimal(minor, currency), "summary": summary}  # fmt: skip


def dispute(number: int, at: datetime, *, order: int, minor: int, currency: str) -> Body:
    return {
        "id": number, "order_id": order, "type": "chargeback", "amount": decimal(minor, currency), "currency": currency,
        "reason": "fraudulent", "network_reason_code": "4827", "status": "needs_response",
        "evidence_due_by": moment(at + timedelta(days=10)), "evidence_sent_on": None, "finalized_on": None,
        "initiated_at": moment(at),
    }  # fmt: skip


def tender_transaction(
    number: int, at: datetime, *, order: int, minor: int, currency: str, reference: str | None
) -> Body:
    return {
        "id": number, "order_id": order, "amount": decimal(minor, currency), "currency": currency, "user_id": None,
        "test": False, "processed_at": moment(at), "remote_reference": reference, "payment_details": None,
        "payment_method": "credit_card",
    }  # fmt: skip


def webhook(number: int, at: datetime, *, topic: str, address: str) -> Body:
    return {
        "id": number, "address": address, "topic": topic, "created_at": moment(at), "updated_at": moment(at),
        "format": "json", "fields": [], "metafield_namespaces": [], "api_version": "2026-10",
        "private_metafield_namespaces": [],
    }  # fmt: skip


def _without(body: Body, *fields: str) -> Body:
    return {name: value for name, value in body.items() if name not in fields}
