"""One account's truth with everything that can happen in it: pure, seeded, driven by a clock, without any I/O."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from providers.sandbox import templates
from providers.sandbox.actions.billing import Catalogue, Checkout, Customers, Invoices, Subscriptions
from providers.sandbox.actions.endpoints import Endpoints
from providers.sandbox.actions.funds import Edits, Funds, Payouts
from providers.sandbox.actions.payments import Payments
from providers.sandbox.actions.reversals import Disputes, Refunds
from providers.sandbox.dice import Dice
from providers.sandbox.store import Body, Store
from providers.sandbox.truth import ActionRefused, Listener, Pace, Truth
from reconciler.clock import Clock, SystemClock

TRUTH_KINDS = (
    "payment_intent", "charge", "refund", "dispute", "payout", "balance_transaction", "checkout.session", "invoice",
    "invoice_payment", "subscription", "customer", "product", "price", "transfer", "application_fee", "topup",
)  # fmt: skip
"""What a ledger is compared with: everything but events and endpoints."""


class World:
    """A shop at Stripe. The same seed, clock and actions give the same ids, amounts and events."""

    def __init__(
        self,
        *,
        seed: int = 0,
        clock: Clock | None = None,
        account: str | None = None,
        livemode: bool = False,
        currency: str = "usd",
        converts: bool = False,
        pace: Pace | None = None,
    ) -> None:
        """`converts`: every amount settles in `currency`, with a rate; else each settles in its own currency."""
        self.seed = seed
        self.clock = clock or SystemClock()
        account = account or f"acct_{Dice(seed, 'account').text(16)}"
        self.truth = Truth(account, seed=seed, clock=self.clock, livemode=livemode, currency=currency,
                           converts=converts, pace=pace or Pace())  # fmt: skip
        self.payments = Payments(self.truth)
        self.refunds = Refunds(self.truth)
        self.disputes = Disputes(self.truth)
        self.payouts = Payouts(self.truth)
        self.funds = Funds(self.truth)
        self.edits = Edits(self.truth)
        self.customers = Customers(self.truth)
        self.catalogue = Catalogue(self.truth)
        self.invoices = Invoices(self.truth, self.payments)
        self.subscriptions = Subscriptions(self.truth, self.invoices)
        self.checkout = Checkout(self.truth, self.payments)
        self.endpoints = Endpoints(self.truth)
        self._actions = {
            f"{subject}.{name}": method
            for subject, actor in vars(self).items()
            if type(actor).__module__.startswith("providers.sandbox.actions.")
            for name, method in inspect.getmembers(actor, inspect.ismethod)
            if not name.startswith("_") and name not in _NOT_ACTIONS
        }

    @property
    def account(self) -> str:
        return self.truth.account

    @property
    def livemode(self) -> bool:
        return self.truth.livemode

    @property
    def store(self) -> Store:
        return self.truth.store

    @property
    def actions(self) -> Mapping[str, Callable[..., Any]]:
        """By name, as in `payments.pay`: what `act` and `POST /_sandbox/actions` take."""
        return self._actions

    def act(self, action: str, **arguments: Any) -> Any:
        """Run a named action. Raises ActionRefused for an unknown name, wrong arguments, or a state that forbids it."""
        method = self._actions.get(action)
        if method is None:
            raise ActionRefused(f"there is no action {action!r}; there are: {', '.join(sorted(self._actions))}")
        try:
            inspect.signature(method).bind(**arguments)
        except TypeError as mismatch:
            raise ActionRefused(f"{action}: {mismatch}") from mismatch
        try:
            return method(**arguments)
        except KeyError as missing:
            raise ActionRefused(f"{action}: there is no {missing} in account {self.account}") from missing

    def listen(self, listener: Listener) -> None:
        """Called, in order, with every event as it is generated."""
        self.truth.listeners.append(listener)

    def run_due(self) -> int:
        """Let everything happen that the clock has reached; returns how much did."""
        return self.truth.run_due()

    def balance(self) -> Body:
        return self.truth.balance()

    def account_body(self) -> Body:
        return templates.account(self.account, created=self.truth.created, currency=self.truth.currency,
                                 livemode=self.livemode)  # fmt: skip

    def events(self, *types: str) -> list[Body]:
        """Generated so far, oldest first; of some types only, where any are named."""
        return [event for event in self.truth.all_of("event") if not types or event["type"] in types]

    def snapshot(self) -> dict[str, Any]:
        """The truth that a ledger must end up with: per kind the present bodies by id, and which ids were deleted."""
        present: dict[str, dict[str, Body]] = {}
        deleted: dict[str, list[str]] = {}
        for kind in TRUTH_KINDS:
            present[kind], deleted[kind] = {}, []
            for object_id, row in self.store.of_kind(kind):
                if row.deleted:
                    deleted[kind].append(object_id)
                elif row.body is not None:
                    present[kind][object_id] = row.body
        return {"account": self.account, "objects": present, "deleted": deleted, "balance": self.balance()}


_NOT_ACTIONS = frozenset({"all", "as_destination"})
