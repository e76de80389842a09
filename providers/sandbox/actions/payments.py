"""Payments: from an intent to a captured charge with its balance transaction, or to nothing at all."""

from __future__ import annotations

from collections.abc import Mapping

from providers.sandbox import templates
from providers.sandbox.currencies import grain
from providers.sandbox.store import Body
from providers.sandbox.truth import ActionRefused, Truth

OPEN = ("requires_payment_method", "requires_confirmation", "requires_action", "processing")


class Payments:
    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    def create(
        self,
        amount: int,
        currency: str = "usd",
        *,
        customer: str | None = None,
        capture_method: str = "automatic_async",
        description: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Body:
        """An intent that waits for a payment method; left like this, it is an abandoned payment."""
        currency = currency.lower()
        if amount <= 0 or amount % grain(currency):
            raise ActionRefused(f"{amount} is no amount in {currency}: a positive multiple of {grain(currency)} is")
        intent = templates.payment_intent(
            self._truth.birth("pi", metadata), amount=amount, currency=currency, customer=customer,
            capture_method=capture_method, description=description,
        )  # fmt: skip
        return self._truth.add(intent, "payment_intent.created")

    def attach(self, payment: str) -> Body:
        """A payment method is attached. Stripe has no event for it: only a read shows the new status."""
        self._truth.expect(payment, "payment_intent", "requires_payment_method")
        return self._truth.change(payment, {"status": "requires_confirmation", "payment_method": f"pm_{payment[3:]}"})

    def require_action(self, payment: str) -> Body:
        self._truth.expect(payment, "payment_intent", *OPEN)
        fields = {"status": "requires_action", "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {}}}
        return self._truth.change(payment, fields, "payment_intent.requires_action")

    def process(self, payment: str) -> Body:
        """Confirmed, and the bank takes its time."""
        self._truth.expect(payment, "payment_intent", *OPEN)
        fields = {"status": "processing", "next_action": None, "payment_method": f"pm_{payment[3:]}"}
        return self._truth.change(payment, fields, "payment_intent.processing")

    def succeed(self, payment: str, *, country: str = "US") -> Body:
        """The charge goes through; with manual capture it is only authorised. Returns the intent."""
        intent = self._truth.expect(payment, "payment_intent", *OPEN)
        manual = intent["capture_method"] == "manual"
        charge = templates.charge(
            self._truth.birth("ch", intent["metadata"]), intent=intent, captured=not manual, country=country,
            failure=None,
        )  # fmt: skip
        self._truth.add(charge, "charge.succeeded")
        fields = {"latest_charge": charge["id"], "payment_method": charge["payment_method"], "next_action": None,
                  "last_payment_error": None}  # fmt: skip
        if manual:
            fields |= {"status": "requires_capture", "amount_capturable": intent["amount"]}
            return self._truth.change(payment, fields, "payment_intent.amount_capturable_updated")
        fields |= {"status": "succeeded", "amount_received": intent["amount"]}
        intent = self._truth.change(payment, fields, "payment_intent.succeeded")
        self._truth.later(self._truth.pace.entry, lambda: self._enter(charge["id"]))
        return intent

    def pay(
        self,
        amount: int,
        currency: str = "usd",
        *,
        customer: str | None = None,
        country: str = "US",
        description: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Body:
        """Create and succeed at once. Returns the intent; `latest_charge` names the charge."""
        intent = self.create(amount, currency, customer=customer, description=description, metadata=metadata)
        return self.succeed(intent["id"], country=country)

    def fail(self, payment: str, *, code: str = "card_declined") -> Body:
        """Declined: a failed charge stays behind, and the intent waits for another payment method."""
        intent = self._truth.expect(payment, "payment_intent", *OPEN)
        failure = {"code": code, "message": "Your card was declined."}
        charge = templates.charge(
            self._truth.birth("ch", intent["metadata"]), intent=intent, captured=False, country="US", failure=failure
        )
        self._truth.add(charge, "charge.failed")
        error = {"type": "card_error", "charge": charge["id"], "decline_code": "generic_decline", **failure}
        fields = {"status": "requires_payment_method", "latest_charge": charge["id"], "last_payment_error": error,
                  "payment_method": None, "next_action": None}  # fmt: skip
        return self._truth.change(payment, fields, "payment_intent.payment_failed")

    def cancel(self, payment: str, *, reason: str = "abandoned") -> Body:
        """An authorisation that was not captured is released; no money ever moved."""
        intent = self._truth.expect(payment, "payment_intent", *OPEN, "requires_capture")
        if intent["status"] == "requires_capture":
            self._truth.emit("charge.expired", self._truth.store.get(intent["latest_charge"]))
        fields = {"status": "canceled", "canceled_at": self._truth.seconds(), "cancellation_reason": reason,
                  "amount_capturable": 0, "next_action": None}  # fmt: skip
        return self._truth.change(payment, fields, "payment_intent.canceled")

    def capture(self, payment: str, *, amount: int | None = None) -> Body:
        """All or a part of what was authorised; the rest is released without a refund (since 2025-03-31.basil)."""
        intent = self._truth.expect(payment, "payment_intent", "requires_capture")
        taken = int(intent["amount"]) if amount is None else amount
        if not 0 < taken <= intent["amount_capturable"] or taken % grain(intent["currency"]):
            raise ActionRefused(f"{taken} cannot be captured of {payment}: {intent['amount_capturable']} is capturable")
        charge_id = intent["latest_charge"]
        self._truth.change(charge_id, {"captured": True, "amount_captured": taken}, "charge.captured")
        fields = {"status": "succeeded", "amount_received": taken, "amount_capturable": 0}
        intent = self._truth.change(payment, fields, "payment_intent.succeeded")
        self._truth.later(self._truth.pace.entry, lambda: self._enter(charge_id))
        return intent

    def _enter(self, charge_id: str) -> None:
        """The balance transaction arrives after `charge.succeeded`, and `charge.updated` tells of it."""
        charge = self._truth.store.get(charge_id)
        money = self._truth.settlement(charge["amount_captured"], charge["currency"])
        entry = self._truth.enter(
            "charge", "charge", money, source=charge_id, fee=self._truth.fees.of(money.amount, money.currency),
            after=self._truth.pace.settle, description=charge["description"],
        )  # fmt: skip
        self._truth.change(charge_id, {"balance_transaction": entry["id"]}, "charge.updated")
