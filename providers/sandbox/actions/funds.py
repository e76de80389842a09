"""Money between the balance and the world outside: payouts, top-ups, transfers, application fees, loose fees."""

from __future__ import annotations

from collections.abc import Mapping

from providers.sandbox import templates
from providers.sandbox.currencies import Conversion
from providers.sandbox.store import Body
from providers.sandbox.truth import ActionRefused, Truth


class Payouts:
    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    def create_automatic(
        self, currency: str | None = None, *, arrives: bool = True, debit: bool = False
    ) -> Body | None:
        """Everything available in one currency, itemised: the sum of its members' `net` is its amount.

        None where nothing is available, and where the sum is negative, unless `debit` lets the bank account pay it.
        With `arrives` the payout is paid after the world's pace; without, it stays in transit until an action
        says otherwise.
        """
        currency = currency or self._truth.currency
        waiting = self._truth.unpaid.get(currency, {})
        members = [entry for entry in waiting if self._truth.store.get(entry)["status"] == "available"]
        amount = sum(self._truth.store.get(entry)["net"] for entry in members)
        if not amount or (amount < 0 and not debit):
            return None
        payout = self._send(amount, currency, automatic=True)
        own = payout["balance_transaction"]
        self._truth.members[payout["id"]] = [*members, own]
        for entry in (*members, own):
            waiting.pop(entry)
            self._truth.payout_of[entry] = payout["id"]
        self._truth.later(self._truth.pace.reconcile, lambda: self._itemise(payout["id"]))
        if arrives:
            self._truth.later(self._truth.pace.arrival, lambda: self._arrive(payout["id"]))
        return self._truth.store.get(payout["id"])

    def create_manual(self, amount: int, currency: str | None = None) -> Body:
        """Any amount that is available; Stripe does not itemise it."""
        currency = currency or self._truth.currency
        if not 0 < amount <= self._truth.available.get(currency, 0):
            raise ActionRefused(f"{amount} {currency} is not available for a payout")
        payout = self._send(amount, currency, automatic=False)
        self._truth.later(self._truth.pace.arrival, lambda: self._arrive(payout["id"]))
        return payout

    def pay(self, payout: str) -> Body:
        self._truth.expect(payout, "payout", "pending", "in_transit")
        trace = {"status": "supported", "value": f"TRACE{payout[-8:].upper()}"}
        return self._truth.change(payout, {"status": "paid", "trace_id": trace}, "payout.paid", "payout.updated")

    def fail(self, payout: str, *, code: str = "account_closed") -> Body:
        """The bank returns the money, perhaps after the payout looked `paid`: the balance is credited again."""
        failed = self._truth.expect(payout, "payout", "pending", "in_transit", "paid")
        money = Conversion(failed["amount"], failed["currency"])
        entry = self._truth.enter("payout_failure", "payout_reversal", money, source=payout)
        fields = {"status": "failed", "failure_code": code, "failure_balance_transaction": entry["id"],
                  "failure_message": "The bank account has been closed."}  # fmt: skip
        return self._truth.change(payout, fields, "payout.failed", "payout.updated")

    def _send(self, amount: int, currency: str, *, automatic: bool) -> Body:
        truth = self._truth
        birth = truth.birth("po")
        arrival = truth.seconds(truth.pace.arrival)
        payout = templates.payout(birth, amount=amount, currency=currency, automatic=automatic, arrival=arrival,
                                  destination="ba_sandbox")  # fmt: skip
        entry = truth.enter("payout", "payout", Conversion(-amount, currency), source=birth.id,
                            description="STRIPE PAYOUT")  # fmt: skip
        payout |= {"balance_transaction": entry["id"], "status": "in_transit"}
        return truth.add(payout, "payout.created")

    def _itemise(self, payout: str) -> None:
        fields = {"reconciliation_status": "completed"}
        self._truth.change(payout, fields, "payout.reconciliation_completed")

    def _arrive(self, payout: str) -> None:
        if self._truth.store.get(payout)["status"] in ("pending", "in_transit"):
            self.pay(payout)


class Funds:
    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    def top_up(self, amount: int, currency: str | None = None, *, arrives: bool = True) -> Body:
        currency = currency or self._truth.currency
        expected = self._truth.seconds(self._truth.pace.arrival)
        topup = templates.topup(self._truth.birth("tu"), amount=amount, currency=currency, expected=expected)
        self._truth.add(topup, "topup.created")
        if arrives:
            self._truth.later(self._truth.pace.arrival, lambda: self.succeed_top_up(topup["id"]))
        return self._truth.store.get(topup["id"])

    def succeed_top_up(self, topup: str) -> Body:
        arrived = self._truth.expect(topup, "topup", "pending")
        entry = self._truth.enter("topup", "topup", Conversion(arrived["amount"], arrived["currency"]), source=topup)
        fields = {"status": "succeeded", "balance_transaction": entry["id"]}
        return self._truth.change(topup, fields, "topup.succeeded")

    def transfer(self, amount: int, destination: str, currency: str | None = None, *, group: str | None = None) -> Body:
        """To a connected account; Stripe takes it from what is available."""
        currency = currency or self._truth.currency
        if not 0 < amount <= self._truth.available.get(currency, 0):
            raise ActionRefused(f"{amount} {currency} is not available for a transfer")
        birth = self._truth.birth("tr")
        body = templates.transfer(birth, amount=amount, currency=currency, destination=destination, group=group)
        entry = self._truth.enter("transfer", "transfer", Conversion(-amount, currency), source=birth.id)
        return self._truth.add({**body, "balance_transaction": entry["id"]}, "transfer.created")

    def application_fee(self, amount: int, charge: str, account: str, currency: str | None = None) -> Body:
        """What the platform earns of a connected account's charge."""
        currency = currency or self._truth.currency
        birth = self._truth.birth("fee")
        body = templates.application_fee(birth, account=account, amount=amount, currency=currency, charge=charge)
        entry = self._truth.enter("application_fee", "platform_earning", Conversion(amount, currency),
                                  source=birth.id, after=self._truth.pace.settle)  # fmt: skip
        return self._truth.add({**body, "balance_transaction": entry["id"]}, "application_fee.created")

    def open_balance(self, currency: str) -> None:
        """From now on the balance names this currency, with nothing in it, as Stripe does for each that settles."""
        for side in (self._truth.available, self._truth.pending):
            side.setdefault(currency, 0)

    def charge_fee(self, amount: int, currency: str | None = None, *, description: str = "Radar") -> Body:
        """A stand-alone Stripe fee: an entry that no object and no event tells of."""
        money = Conversion(-amount, currency or self._truth.currency)
        return self._truth.enter("stripe_fee", "fee", money, source=None, description=description)


class Edits:
    """Changes of things that no event tells of: what only a read can find."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    def metadata(self, object_id: str, **metadata: str) -> Body:
        """Set keys of any object's metadata, without any event; an empty text removes the key."""
        row = self._truth.store.row(object_id)
        if row is None or row.body is None or "metadata" not in row.body:
            raise ActionRefused(f"{object_id} is not an object with metadata")
        merged: Mapping[str, str] = {**row.body["metadata"], **metadata}
        kept = {name: text for name, text in merged.items() if text != ""}
        return self._truth.change(object_id, {"metadata": kept})

    def describe(self, object_id: str, description: str) -> Body:
        return self._truth.change(object_id, {"description": description})
