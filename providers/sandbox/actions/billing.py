"""Customers, the catalogue, invoices, subscriptions and checkout: who buys what, and how it is billed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from providers.sandbox import templates_billing as templates
from providers.sandbox.actions.payments import Payments
from providers.sandbox.store import Body
from providers.sandbox.truth import ActionRefused, Truth

_PERIOD = timedelta(days=30)
_SESSION_LIFE = timedelta(hours=24)


class Customers:
    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    def create(
        self, *, email: str | None = None, name: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> Body:
        birth = self._truth.birth("cus", metadata)
        body = templates.customer(birth, email=email, name=name, currency=self._truth.currency)
        return self._truth.add(body, "customer.created")

    def update(self, customer: str, *, email: str | None = None, name: str | None = None) -> Body:
        body = self._truth.expect(customer, "customer")
        fields = {"email": email or body["email"], "name": name or body["name"]}
        return self._truth.change(customer, fields, "customer.updated")

    def delete(self, customer: str) -> None:
        self._truth.expect(customer, "customer")
        self._truth.remove(customer, "customer.deleted", stub=True)


class Catalogue:
    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    def create_product(self, *, name: str = "T-shirt", metadata: Mapping[str, str] | None = None) -> Body:
        body = templates.product(self._truth.birth("prod", metadata), name=name)
        return self._truth.add(body, "product.created")

    def update_product(self, product: str, *, name: str) -> Body:
        self._truth.expect(product, "product")
        return self._truth.change(product, {"name": name, "updated": self._truth.seconds()}, "product.updated")

    def delete_product(self, product: str) -> None:
        """Stripe refuses while the product has prices."""
        self._truth.expect(product, "product")
        if any(not price.get("deleted") for price in self._truth.related("price", "product", product)):
            raise ActionRefused(f"{product} has prices; delete them first")
        self._truth.remove(product, "product.deleted", stub=True)

    def create_price(
        self, product: str, *, unit_amount: int = 2_000, currency: str = "usd", interval: str | None = None
    ) -> Body:
        self._truth.expect(product, "product")
        body = templates.price(self._truth.birth("price"), product=product, unit_amount=unit_amount,
                               currency=currency, interval=interval)  # fmt: skip
        return self._truth.add(body, "price.created")

    def delete_price(self, price: str) -> None:
        self._truth.expect(price, "price")
        self._truth.remove(price, "price.deleted", stub=True)


class Invoices:
    def __init__(self, truth: Truth, payments: Payments) -> None:
        self._truth = truth
        self._payments = payments

    def create(self, customer: str, amount: int, currency: str = "usd", *, subscription: str | None = None) -> Body:
        buyer = self._truth.expect(customer, "customer")
        body = templates.invoice(
            self._truth.birth("in"), customer=buyer, amount=amount, currency=currency, subscription=subscription,
            line=self._truth.new_id("il"),
        )  # fmt: skip
        return self._truth.add(body, "invoice.created")

    def finalize(self, invoice: str) -> Body:
        draft = self._truth.expect(invoice, "invoice", "draft")
        number = f"SANDBOX-{sum(1 for _ in self._truth.store.of_kind('invoice')):04}"
        fields = {"status": "open", "number": number, "effective_at": self._truth.seconds(),
                  "status_transitions": self._moved(draft, "finalized_at")}  # fmt: skip
        return self._truth.change(invoice, fields, "invoice.finalized", "invoice.updated")

    def pay(self, invoice: str) -> Body:
        """Through a payment intent of its own, which `payments` names."""
        open_ = self._truth.expect(invoice, "invoice", "open")
        intent = self._payments.pay(open_["total"], open_["currency"], customer=open_["customer"],
                                    description=f"Invoice {open_['number']}")  # fmt: skip
        payment = templates.invoice_payment(self._truth.birth("inpay"), invoice=open_, payment_intent=intent["id"],
                                            status="paid")  # fmt: skip
        fields = {"status": "paid", "amount_paid": open_["total"], "amount_remaining": 0, "attempted": True,
                  "attempt_count": open_["attempt_count"] + 1,
                  "status_transitions": self._moved(open_, "paid_at")}  # fmt: skip
        self._truth.add(payment, "invoice_payment.paid")
        return self._truth.change(invoice, fields, "invoice.updated", "invoice.paid", "invoice.payment_succeeded")

    def fail_payment(self, invoice: str) -> Body:
        open_ = self._truth.expect(invoice, "invoice", "open")
        intent = self._payments.create(open_["total"], open_["currency"], customer=open_["customer"])
        self._payments.fail(intent["id"])
        fields = {"attempted": True, "attempt_count": open_["attempt_count"] + 1}
        return self._truth.change(invoice, fields, "invoice.updated", "invoice.payment_failed")

    def void(self, invoice: str) -> Body:
        open_ = self._truth.expect(invoice, "invoice", "open")
        fields = {"status": "void", "status_transitions": self._moved(open_, "voided_at")}
        return self._truth.change(invoice, fields, "invoice.voided")

    def delete_draft(self, invoice: str) -> None:
        """Only drafts can be deleted; afterwards Stripe knows no such invoice."""
        self._truth.expect(invoice, "invoice", "draft")
        self._truth.remove(invoice, "invoice.deleted", stub=False)

    def _moved(self, invoice: Body, step: str) -> Body:
        return {**invoice["status_transitions"], step: self._truth.seconds()}


class Subscriptions:
    def __init__(self, truth: Truth, invoices: Invoices) -> None:
        self._truth = truth
        self._invoices = invoices

    def create(self, customer: str, price: str) -> Body:
        """With its first invoice, paid."""
        self._truth.expect(customer, "customer")
        body = templates.subscription(
            self._truth.birth("sub"), customer=customer, price=self._truth.expect(price, "price"),
            item=self._truth.new_id("si"), period_end=self._truth.seconds(_PERIOD),
        )  # fmt: skip
        self._truth.add(body, "customer.subscription.created")
        return self.renew(body["id"])

    def renew(self, subscription: str) -> Body:
        active = self._truth.expect(subscription, "subscription", "active")
        price = active["items"]["data"][0]["price"]
        invoice = self._invoices.create(active["customer"], price["unit_amount"], price["currency"],
                                        subscription=subscription)  # fmt: skip
        self._invoices.finalize(invoice["id"])
        self._invoices.pay(invoice["id"])
        return self._truth.change(subscription, {"latest_invoice": invoice["id"]}, "customer.subscription.updated")

    def cancel(self, subscription: str) -> Body:
        """Kept for ever, and hidden from the default list."""
        self._truth.expect(subscription, "subscription", "active", "past_due", "trialing")
        now = self._truth.seconds()
        reason = {"comment": None, "feedback": None, "reason": "cancellation_requested"}
        fields = {"status": "canceled", "canceled_at": now, "ended_at": now, "cancellation_details": reason}
        return self._truth.change(subscription, fields, "customer.subscription.deleted")


class Checkout:
    def __init__(self, truth: Truth, payments: Payments) -> None:
        self._truth = truth
        self._payments = payments

    def open(self, amount: int, currency: str = "usd", *, customer: str | None = None) -> Body:
        """No event tells of an open session; it expires after 24 hours."""
        body = templates.checkout_session(
            self._truth.birth("cs_test"), amount=amount, currency=currency, customer=customer, methods=("card",),
            expires_at=self._truth.seconds(_SESSION_LIFE),
        )  # fmt: skip
        self._truth.add(body)
        self._truth.later(_SESSION_LIFE, lambda: self._lapse(body["id"]))
        return body

    def complete(self, session: str) -> Body:
        open_ = self._truth.expect(session, "checkout.session", "open")
        intent = self._payments.pay(open_["amount_total"], open_["currency"], customer=open_["customer"])
        fields = {"status": "complete", "payment_status": "paid", "payment_intent": intent["id"], "url": None}
        return self._truth.change(session, fields, "checkout.session.completed")

    def expire(self, session: str) -> Body:
        self._truth.expect(session, "checkout.session", "open")
        return self._truth.change(session, {"status": "expired", "url": None}, "checkout.session.expired")

    def _lapse(self, session: str) -> None:
        if self._truth.store.get(session)["status"] == "open":
            self.expire(session)
