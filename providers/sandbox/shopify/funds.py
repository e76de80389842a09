"""Shopify Payments: what the shop's own balance holds, row by row, and what goes to the bank."""

from __future__ import annotations

from collections.abc import Callable

from providers.sandbox.shopify import bodies
from providers.sandbox.shopify.bodies import Body, decimal, minor_of
from providers.sandbox.shopify.shelf import Shelf
from reconciler.clock import Clock

_DISPUTE_FEE = 1500


class Funds:
    """Of one shop, in its own currency. No webhook tells of anything here."""

    def __init__(self, shelf: Shelf, clock: Clock, currency: str, number: Callable[[], int]) -> None:
        """`number` gives the next id."""
        self._shelf = shelf
        self._clock = clock
        self._currency = currency
        self._number = number

    def enter(
        self, kind: str, minor: int, fee: int, order: int | None, source: int | None, cause: tuple[int, str]
    ) -> Body:
        """A row of the balance; `source` is the order's transaction behind it."""
        number = self._number()
        body = bodies.balance_transaction(number, self._clock.now(), kind=kind, minor=minor, fee=fee,
                                          currency=self._currency, order=order, source=source,
                                          cause=cause)  # fmt: skip
        self._shelf.put("balance_transaction", number, body)
        return body

    def contest(self, dispute: Body, sign: int) -> None:
        """-1: the money is held back, and a fee taken; 1: both come back."""
        minor = sign * minor_of(dispute["amount"], self._currency)
        self.enter("dispute", minor, -sign * _DISPUTE_FEE, dispute["order_id"], None,
                   (dispute["id"], "Payments::Dispute"))  # fmt: skip

    def pay_out(self, status: str) -> Body:
        """Everything that is pending, in one payout."""
        waiting = [row for _, row in self._shelf.all("balance_transaction") if row["payout_id"] is None]
        number = self._number()
        sums: dict[str, int] = {}
        for row in waiting:
            name = {"charge": "charges", "refund": "refunds"}.get(row["type"], "adjustments")
            for side, field in (("gross", "amount"), ("fee", "fee")):
                sums[f"{name}_{side}"] = sums.get(f"{name}_{side}", 0) + minor_of(row[field], self._currency)
            done = {**row, "payout_id": number, "payout_status": status}
            self._shelf.put("balance_transaction", row["id"], done)
        total = sum(minor_of(row["net"], self._currency) for row in waiting)
        day = self._clock.now().date().isoformat()
        body = bodies.payout(number, day, minor=total, currency=self._currency, status=status, sums=sums)
        self._shelf.put("payout", number, body)
        own = self.enter("payout", -total, 0, None, None, (number, "payout"))
        self._shelf.put("balance_transaction", own["id"], {**own, "payout_id": number, "payout_status": status})
        return body

    def move_payout(self, payout: int, status: str) -> Body:
        """On its way to the bank, with everything in it: no time of theirs moves."""
        body = {**self._shelf.need("payout", payout), "status": status}
        self._shelf.put("payout", payout, body)
        for key, row in list(self._shelf.all("balance_transaction")):
            if row["payout_id"] == payout:
                self._shelf.put("balance_transaction", key, {**row, "payout_status": status})
        return body

    def balance(self) -> Body:
        held = sum(minor_of(row["net"], self._currency) for _, row in self._shelf.all("balance_transaction"))
        return {"balance": [{"amount": decimal(held, self._currency), "currency": self._currency}]}
