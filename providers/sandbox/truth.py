"""How one account's objects come to be, change and vanish: every change goes through here, with its event."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from providers.sandbox import templates
from providers.sandbox.currencies import Conversion, FeeRule, convert
from providers.sandbox.dice import Dice
from providers.sandbox.store import Body, Selection, Store
from providers.sandbox.templates import Birth
from reconciler.clock import Clock
from reconciler.errors import UsageError


class ActionRefused(UsageError):
    """The action does not fit the state that the object is in, or names an object that is not there."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take in this world, on the world's clock. Shorten them for a demo; zero means at once."""

    settle: timedelta = timedelta(days=2)
    """From a charge to its money being available."""
    entry: timedelta = timedelta(0)
    """From a charge succeeding to its balance transaction existing (asynchronous capture)."""
    arrival: timedelta = timedelta(days=1)
    """From a payout's creation to its arrival."""
    reconcile: timedelta = timedelta(0)
    """From an automatic payout's creation to its members being listed."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An event that was generated, with what it is about."""

    account: str
    event: Body
    subject: Body


Listener = Callable[[Occurrence], None]


@dataclass(order=True, slots=True)
class _Later:
    due: datetime
    order: int
    act: Callable[[], object] = field(compare=False)


class Truth:
    """The state of one account. Single-threaded: whoever shares it between threads must take turns."""

    def __init__(
        self, account: str, *, seed: int, clock: Clock, livemode: bool, currency: str, converts: bool, pace: Pace
    ) -> None:
        self.account = account
        self.clock = clock
        self.livemode = livemode
        self.currency = currency
        self.pace = pace
        self.fees = FeeRule()
        self.store = Store(clock)
        self.payout_of: dict[str, str] = {}
        """Balance transaction id -> the payout that took it along; Stripe does not say it in the body."""
        self.members: dict[str, list[str]] = {}
        """Payout id -> its balance transactions, the payout's own one included."""
        self.unpaid: dict[str, dict[str, None]] = {}
        """Currency -> balance transactions that no payout has taken along yet, in order."""
        self.undelivered: set[str] = set()
        """Events that some endpoint has not accepted yet: what `delivery_success=false` lists."""
        self.is_born: Callable[[str, Body], bool] = lambda _type, _subject: True
        """Asked before every event: False means that Stripe never generates it. The fault plan sets this."""
        self.listeners: list[Listener] = []
        self.available: dict[str, int] = {currency: 0}
        self.pending: dict[str, int] = {currency: 0}
        self._converts = converts
        self._ids = Dice(seed, account, "ids")
        self._later: list[_Later] = []
        self._order = 0
        self._tag = Dice(seed, account).text(6)
        self.created = self.seconds()

    # --- time -------------------------------------------------------------------------------------

    def seconds(self, after: timedelta = timedelta(0)) -> int:
        """Unix seconds, as Stripe counts: the fraction is cut off."""
        return int((self.clock.now() + after).timestamp())

    def later(self, after: timedelta, act: Callable[[], object]) -> None:
        """Do it when the world's clock gets there; at once where `after` is zero."""
        if after <= timedelta(0):
            act()
            return
        self._order += 1
        heapq.heappush(self._later, _Later(self.clock.now() + after, self._order, act))

    def run_due(self) -> int:
        """Everything that has come due by now, in order; returns how many things happened."""
        happened = 0
        while self._later and self._later[0].due <= self.clock.now():
            heapq.heappop(self._later).act()
            happened += 1
        return happened

    def next_due(self) -> datetime | None:
        return self._later[0].due if self._later else None

    # --- objects ----------------------------------------------------------------------------------

    def birth(self, prefix: str, metadata: Mapping[str, str] | None = None) -> Birth:
        return Birth(self.new_id(prefix), self.seconds(), self.livemode, metadata or {})

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._tag}{self._ids.text(18)}"

    def add(self, body: Body, *events: str) -> Body:
        """A new object, and the events that tell of it."""
        self.store.add(str(body["object"]), body)
        for type_ in events:
            self.emit(type_, body)
        return body

    def change(self, object_id: str, fields: Mapping[str, Any], *events: str) -> Body:
        """New values for some fields; no events named means that nobody is told."""
        before = self.store.get(object_id)
        after = {**before, **fields}
        if after == before:
            return before
        self.store.replace(after)
        previous = {name: before.get(name) for name in fields if before.get(name) != after[name]}
        for type_ in events:
            self.emit(type_, after, previous)
        return after

    def remove(self, object_id: str, event: str, *, stub: bool) -> None:
        """Gone from the lists; a retrieve says `deleted: true`, or "no such object" where `stub` is False."""
        body = self.store.get(object_id)
        mark = {"id": object_id, "object": body["object"], "deleted": True} if stub else None
        self.store.remove(object_id, mark)
        self.emit(event, body)

    def expect(self, object_id: str, kind: str, *statuses: str) -> Body:
        """The object, or ActionRefused where it is missing, of another kind, or not in one of `statuses`."""
        row = self.store.row(object_id)
        if row is None or row.kind != kind or row.body is None or row.deleted:
            raise ActionRefused(f"there is no {kind} {object_id!r} in account {self.account}")
        if statuses and row.body["status"] not in statuses:
            raise ActionRefused(f"{object_id} is {row.body['status']}; this takes one that is {' or '.join(statuses)}")
        return row.body

    def all_of(self, kind: str) -> list[Body]:
        """Every present object of a kind, oldest first."""
        return [row.body for _, row in self.store.of_kind(kind) if row.body is not None and not row.deleted]

    def related(self, kind: str, field_name: str, object_id: str) -> list[Body]:
        """Newest first."""
        wanted = Selection(relation=(field_name, object_id))
        return self.store.select(kind, wanted, 1_000)[0]

    # --- events -----------------------------------------------------------------------------------

    def emit(self, type_: str, subject: Body, previous: Mapping[str, Any] | None = None) -> Body | None:
        """Generate the event and tell the listeners; None where it was never generated."""
        if not self.is_born(type_, subject):
            return None
        waiting = sum(1 for endpoint in self.all_of("webhook_endpoint") if wants(endpoint, type_))
        event = templates.event(
            self.birth("evt"), type_=type_, subject=subject, previous=previous, pending_webhooks=waiting
        )
        self.store.add("event", event)
        if waiting:
            self.undelivered.add(event["id"])
        for listener in self.listeners:
            listener(Occurrence(self.account, event, subject))
        return event

    # --- money ------------------------------------------------------------------------------------

    def settlement(self, amount: int, currency: str) -> Conversion:
        """What an amount becomes in the currency that this account settles it in."""
        return convert(amount, currency, self.currency if self._converts else currency)

    def enter(
        self,
        type_: str,
        category: str,
        money: Conversion,
        *,
        source: str | None,
        fee: int = 0,
        fee_text: str = "Stripe processing fees",
        after: timedelta = timedelta(0),
        description: str | None = None,
    ) -> Body:
        """One balance transaction: the only way in which the balance ever moves."""
        body = templates.balance_transaction(
            self.birth("txn"), type_=type_, category=category, amount=money.amount, currency=money.currency, fee=fee,
            fee_text=fee_text, source=source, available_on=self.seconds(after), exchange_rate=money.exchange_rate,
            description=description,
        )  # fmt: skip
        self.store.add("balance_transaction", body)
        self.unpaid.setdefault(money.currency, {})[body["id"]] = None
        for side in (self.available, self.pending):
            side.setdefault(money.currency, 0)
        side = self.available if body["status"] == "available" else self.pending
        side[money.currency] += body["net"]
        if body["status"] == "pending":
            self.later(after, lambda: self._settle(body["id"]))
        return body

    def balance(self, at_micros: int | None = None) -> Body:
        """Present sums; or, for a lagging replica, the sums of the entries as they were at that instant."""
        if at_micros is None:
            return templates.balance(livemode=self.livemode, available=self.available, pending=self.pending)
        available, pending = dict.fromkeys(self.available, 0), dict.fromkeys(self.available, 0)
        for _, row in self.store.of_kind("balance_transaction"):
            if body := row.at(at_micros):
                side = available if body["status"] == "available" else pending
                side[body["currency"]] += body["net"]
        return templates.balance(livemode=self.livemode, available=available, pending=pending)

    def _settle(self, entry_id: str) -> None:
        """Pending money becomes available. Stripe tells nobody which: only `balance.available`, without ids."""
        entry = self.store.get(entry_id)
        self.change(entry_id, {"status": "available"})
        self.pending[entry["currency"]] -= entry["net"]
        self.available[entry["currency"]] += entry["net"]
        if not self._later or self._later[0].due > self.clock.now():
            self.emit("balance.available", self.balance())


def wants(endpoint: Body, type_: str) -> bool:
    """Whether an endpoint is enabled and asked for this type of event."""
    chosen = endpoint["enabled_events"]
    asked = "*" in chosen or type_ in chosen or f"v1.{type_}" in chosen  # thin events carry the prefix
    return endpoint["status"] == "enabled" and asked
