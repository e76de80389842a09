"""Money that goes back: refunds, which can fail weeks later, and disputes, which can be won or lost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from providers.sandbox import templates
from providers.sandbox.currencies import Conversion, grain
from providers.sandbox.store import Body
from providers.sandbox.truth import ActionRefused, Truth

_ANSWER_WITHIN = timedelta(days=7)


class Refunds:
    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    def create(
        self,
        charge: str,
        *,
        amount: int | None = None,
        pending: bool = False,
        reason: str | None = "requested_by_customer",
        metadata: Mapping[str, str] | None = None,
    ) -> Body:
        """All that is left of a charge, or `amount` of it. The balance is debited at once, also while pending."""
        paid = self._truth.expect(charge, "charge", "succeeded")
        left = paid["amount_captured"] - paid["amount_refunded"]
        taken = left if amount is None else amount
        if paid["balance_transaction"] is None or paid["disputed"]:
            raise ActionRefused(f"{charge} cannot be refunded: it has no money yet, or it is disputed")
        if not 0 < taken <= left or taken % grain(paid["currency"]):
            raise ActionRefused(f"{taken} cannot be refunded of {charge}: {left} is left")
        status = "pending" if pending else "succeeded"
        birth = self._truth.birth("re", metadata)
        refund = templates.refund(birth, charge=paid, amount=taken, status=status, reason=reason)
        money = self._truth.settlement(-taken, paid["currency"])
        entry = self._truth.enter("refund", "refund", money, source=birth.id, description="REFUND FOR CHARGE")
        refund["balance_transaction"] = entry["id"]
        self._truth.add(refund, "refund.created")
        self._take_back(paid, taken, "charge.refunded")
        return refund

    def succeed(self, refund: str) -> Body:
        self._truth.expect(refund, "refund", "pending")
        return self._truth.change(refund, {"status": "succeeded"}, "refund.updated", "charge.refund.updated")

    def fail(self, refund: str, *, reason: str = "expired_or_canceled_card") -> Body:
        """The bank sends the money back, perhaps long after `succeeded`: the balance is credited again."""
        failed = self._truth.expect(refund, "refund", "pending", "succeeded")
        before = self._truth.store.get(failed["balance_transaction"])
        money = Conversion(-before["amount"], before["currency"])
        entry = self._truth.enter("refund_failure", "refund_failure", money, source=refund)
        self._take_back(self._truth.store.get(failed["charge"]), -failed["amount"], "charge.updated")
        fields = {"status": "failed", "failure_reason": reason, "failure_balance_transaction": entry["id"]}
        return self._truth.change(refund, fields, "refund.failed", "refund.updated", "charge.refund.updated")

    def _take_back(self, charge: Body, amount: int, event: str) -> None:
        refunded = charge["amount_refunded"] + amount
        refunds = {**charge["refunds"], "has_more": True}
        fields = {"amount_refunded": refunded, "refunded": refunded >= charge["amount_captured"], "refunds": refunds}
        self._truth.change(charge["id"], fields, event)


class Disputes:
    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    def open(
        self, charge: str, *, amount: int | None = None, reason: str = "fraudulent", inquiry: bool = False
    ) -> Body:
        """An inquiry moves no money; a dispute takes the amount and a fee at once."""
        paid = self._truth.expect(charge, "charge", "succeeded")
        left = paid["amount_captured"] - paid["amount_refunded"]
        taken = left if amount is None else amount
        if paid["balance_transaction"] is None or not 0 < taken <= left or taken % grain(paid["currency"]):
            raise ActionRefused(f"{taken} of {charge} cannot be disputed: {left} is left")
        dispute = templates.dispute(
            self._truth.birth("du"), charge=paid, amount=taken, reason=reason,
            status="warning_needs_response" if inquiry else "needs_response",
            due_by=self._truth.seconds(_ANSWER_WITHIN),
        )  # fmt: skip
        self._truth.add(dispute, "charge.dispute.created")
        if inquiry:
            return dispute
        self._truth.change(charge, {"disputed": True}, "charge.updated")
        money = self._truth.settlement(-taken, paid["currency"])
        return self._move(dispute["id"], money, "dispute", fee=self._truth.fees.of_dispute(money.currency),
                          event="charge.dispute.funds_withdrawn")  # fmt: skip

    def answer(self, dispute: str) -> Body:
        """Evidence goes in; the bank thinks about it."""
        open_ = self._truth.expect(dispute, "dispute", "needs_response", "warning_needs_response")
        status = "warning_under_review" if open_["status"].startswith("warning_") else "under_review"
        details = {**open_["evidence_details"], "has_evidence": True, "submission_count": 1}
        fields = {"status": status, "evidence_details": details}
        return self._truth.change(dispute, fields, "charge.dispute.updated")

    def win(self, dispute: str, *, return_fee: bool = False) -> Body:
        """The amount comes back; whether the fee does is a matter of contract, so it is an argument."""
        won = self._truth.expect(dispute, "dispute", "needs_response", "under_review")
        taken = won["balance_transactions"][0]
        money = Conversion(-taken["amount"], taken["currency"])
        self._truth.change(dispute, {"status": "won"})
        self._move(dispute, money, "dispute_reversal", fee=-taken["fee"] if return_fee else 0,
                   event="charge.dispute.funds_reinstated")  # fmt: skip
        self._truth.emit("charge.dispute.closed", self._truth.store.get(dispute))
        return self._truth.store.get(dispute)

    def lose(self, dispute: str) -> Body:
        self._truth.expect(dispute, "dispute", "needs_response", "under_review")
        return self._truth.change(dispute, {"status": "lost"}, "charge.dispute.closed")

    def close_inquiry(self, dispute: str) -> Body:
        self._truth.expect(dispute, "dispute", "warning_needs_response", "warning_under_review")
        return self._truth.change(dispute, {"status": "warning_closed"}, "charge.dispute.closed")

    def _move(self, dispute_id: str, money: Conversion, category: str, *, fee: int, event: str) -> Body:
        entry = self._truth.enter("adjustment", category, money, source=dispute_id, fee=fee, fee_text="Dispute fee",
                                  description=f"Chargeback {category}")  # fmt: skip
        moves = [*self._truth.store.get(dispute_id)["balance_transactions"], entry]
        return self._truth.change(dispute_id, {"balance_transactions": moves}, event)
