"""Consistent money histories for properties: what a shop and its processor did, when it became known, and the truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from hypothesis import strategies as st

from providers.stripe.entries import entries as stripe_entries
from reconciler.ledger import Coverage, Ledger, PageRow
from reconciler.model import Cause, ControlTotal, ResourceRef, Snapshot, Window
from reconciler.money import Money
from tests.report.books import BEGINNING, SETTLE, TERMS, on

CURRENCIES = ("USD", "EUR", "JPY")
FIRST, SECOND, THIRD = on(1, 0), on(1, 0, month=2), on(1, 0, month=3)
"""Where January, February and March begin."""
KNOWN = on(20, 0, month=3)
"""Everything is known by then."""
COMES_BACK = timedelta(days=4)
"""After how long a payout that fails is back."""
_DECIMALS = {"USD": 2, "EUR": 2, "JPY": 0}


@dataclass(frozen=True, slots=True)
class Order:
    """One sale as it happened on both sides."""

    day: int
    minor: int
    currency: str
    fee: int
    sold: bool
    charged: bool
    off_by: int
    """By how much the shop's amount differs."""
    lag_hours: int
    """How much later the processor booked it."""
    refund: int
    """Per cent given back."""
    refund_day: int
    twice: bool
    gateway: str
    dispute: str
    by_metadata: bool
    known_hours: int
    """How long after the fact it became known."""


orders = st.builds(
    Order,
    day=st.integers(0, 55),
    minor=st.integers(100, 20_000),
    currency=st.sampled_from(CURRENCIES),
    fee=st.integers(0, 90),
    sold=st.sampled_from((True, True, True, False)),
    charged=st.sampled_from((True, True, True, False)),
    off_by=st.sampled_from((0, 0, 0, 1, -7)),
    lag_hours=st.sampled_from((0, 1, 30, 80)),
    refund=st.sampled_from((0, 0, 30, 100)),
    refund_day=st.integers(1, 20),
    twice=st.sampled_from((False, False, False, True)),
    gateway=st.sampled_from(("stripe", "stripe", "stripe", "gift_card")),
    dispute=st.sampled_from(("", "", "", "needs_response", "won", "lost")),
    by_metadata=st.booleans(),
    known_hours=st.sampled_from((0, 1, 200)),
)


@dataclass(frozen=True, slots=True)
class Story:
    orders: tuple[Order, ...]
    payout_every: int
    fails: int
    """Which payout fails; 0: none."""
    stolen: int
    """How much the processor's balance differs from the entries, from February on."""


stories = st.builds(
    Story,
    orders=st.lists(orders, min_size=3, max_size=12).map(tuple),
    payout_every=st.sampled_from((5, 9)),
    fails=st.integers(0, 4),
    stolen=st.sampled_from((0, 0, 0, 500)),
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that the ledger was told at `known`."""

    known: datetime
    what: Snapshot | ControlTotal | Coverage | tuple[ResourceRef, tuple[ResourceRef, ...]]

    @property
    def about(self) -> str:
        """Facts about the same thing keep their order; all others may arrive in any."""
        if isinstance(self.what, Snapshot):
            return str(self.what.ref)
        return repr(self.what)


@dataclass(slots=True)
class _Line:
    name: str
    currency: str
    net: int
    at: datetime


@dataclass(slots=True)
class Teller:
    """Tells a story: collects what would be read."""

    scale: int = 1
    facts: list[Fact] = field(default_factory=list)
    lines: list[_Line] = field(default_factory=list)
    _number: int = 0

    def tell(self, story: Story) -> list[Fact]:
        for order in story.orders:
            self._order(order)
        self._payouts(story)
        self._evidence(story)
        return sorted(self.facts, key=lambda fact: fact.known)

    def _name(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}_{self._number:04d}"

    def _read(self, kind: str, body: dict[str, Any], known: datetime, account: str = "main") -> None:
        provider = "stripe" if account == "main" else "shopify"
        snapshot = Snapshot(ResourceRef(provider, account, kind, str(body["id"])), body, status=body.get("status"))
        self.facts.append(Fact(known, snapshot))

    def _entry(
        self, category: str, gross: int, fee: int, currency: str, at: datetime, source: str, known: datetime
    ) -> str:
        name = self._name("txn")
        body = {
            "id": name,
            "amount": gross,
            "fee": fee,
            "net": gross - fee,
            "currency": currency.lower(),
            "created": int(at.timestamp()),
            "available_on": int(at.timestamp()),
            "reporting_category": category,
            "source": source,
            "balance_type": "payments",
            "fee_details": [{"amount": fee, "type": "stripe_fee"}] if fee else [],
        }
        self._read("balance_transaction", body, known)
        self.lines.append(_Line(name, currency, gross - fee, at))
        return name

    def _order(self, order: Order) -> None:
        self._number += 1
        number = self._number
        sold_at = FIRST + timedelta(days=order.day, hours=10)
        minor = order.minor * self.scale
        charge = None
        if order.charged and order.gateway == "stripe":
            charge = self._charge(order, number, sold_at + timedelta(hours=order.lag_hours), minor)
            if order.twice:
                self._charge(order, number, sold_at + timedelta(hours=order.lag_hours + 1), minor)
        if order.sold:
            names = charge if charge and not order.by_metadata else None
            self._sale(order, number, sold_at, "sale", minor + order.off_by * self.scale, names)
        back = minor * order.refund // 100
        if charge and back:
            at = sold_at + timedelta(days=order.refund_day)
            refund = self._refund(order, charge, at + timedelta(hours=order.lag_hours), back)
            if order.sold:
                self._sale(order, number, at, "refund", back, refund)
        if charge and order.dispute and not back:
            self._dispute(order, charge, sold_at + timedelta(days=3), minor)

    def _charge(self, order: Order, number: int, at: datetime, minor: int) -> str:
        name = self._name("ch")
        known = at + timedelta(hours=order.known_hours)
        entry = self._entry("charge", minor, order.fee * self.scale, order.currency, at, name, known)
        body = {
            "id": name,
            "status": "succeeded",
            "amount": minor,
            "amount_captured": minor,
            "currency": order.currency.lower(),
            "created": int(at.timestamp()),
            "balance_transaction": entry,
            "metadata": {"order_id": str(number)},
        }
        self._read("charge", body, known)
        return name

    def _refund(self, order: Order, charge: str, at: datetime, minor: int) -> str:
        name = self._name("re")
        known = at + timedelta(hours=order.known_hours)
        entry = self._entry("refund", -minor, 0, order.currency, at, name, known)
        body = {
            "id": name,
            "status": "succeeded",
            "amount": minor,
            "currency": order.currency.lower(),
            "created": int(at.timestamp()),
            "charge": charge,
            "balance_transaction": entry,
        }
        self._read("refund", body, known)
        return name

    def _dispute(self, order: Order, charge: str, at: datetime, minor: int) -> None:
        name = self._name("dp")
        self._entry("dispute", -minor, 15 * self.scale, order.currency, at, name, at)
        body = {"id": name, "amount": minor, "currency": order.currency.lower(), "charge": charge}
        body["created"] = int(at.timestamp())
        self._read("dispute", body | {"status": "needs_response"}, at)
        if order.dispute == "needs_response":
            return
        closed = at + timedelta(days=6)
        if order.dispute == "won":
            self._entry("dispute_reversal", minor, 0, order.currency, closed, name, closed)
        self._read("dispute", body | {"status": order.dispute}, closed)

    def _sale(self, order: Order, number: int, at: datetime, kind: str, minor: int, names: str | None) -> None:
        self._number += 1
        decimals = _DECIMALS[order.currency]
        body = {
            "id": 100_000 + self._number,
            "order_id": number,
            "kind": kind,
            "gateway": order.gateway,
            "status": "success",
            "amount": f"{minor / 10**decimals:.{decimals}f}",
            "currency": order.currency,
            "processed_at": at.isoformat(),
            "authorization": names,
            "receipt": {},
        }
        self._read("transaction", body, at + timedelta(hours=order.known_hours), "shop")

    def _payouts(self, story: Story) -> None:
        """Every so many days, everything not yet paid out; one of them fails, comes back, and is paid out again."""
        waiting = sorted(self.lines, key=lambda line: line.at)
        made = 0
        for day in range(story.payout_every, 59, story.payout_every):
            at = FIRST + timedelta(days=day)
            for currency in CURRENCIES:
                members = [line for line in waiting if line.currency == currency and line.at < at]
                total = sum(line.net for line in members)
                if not members or total == 0:
                    continue
                waiting = [line for line in waiting if line not in members]
                made += 1
                returned = self._payout(members, total, currency, at, fails=made == story.fails)
                if returned is not None:
                    waiting.append(returned)

    def _payout(
        self, members: Sequence[_Line], total: int, currency: str, at: datetime, *, fails: bool
    ) -> _Line | None:
        name = self._name("po")
        entry = self._entry("payout", -total, 0, currency, at, name, at)
        body = {
            "id": name,
            "status": "paid",
            "amount": total,
            "currency": currency.lower(),
            "created": int(at.timestamp()),
            "arrival_date": int((at + timedelta(days=2)).timestamp()),
            "automatic": True,
            "balance_transaction": entry,
            "reconciliation_status": "completed",
        }
        self._read("payout", body, at)
        refs = tuple(ResourceRef("stripe", "main", "balance_transaction", line.name) for line in members)
        # The provider lists the members only once it knows them all: here, when the last of them is known to us.
        self.facts.append(Fact(KNOWN - timedelta(days=1), (ResourceRef("stripe", "main", "payout", name), refs)))
        if not fails:
            return None
        back_at = at + COMES_BACK
        self._entry("payout_reversal", total, 0, currency, back_at, name, back_at)
        self._read("payout", body | {"status": "failed"}, back_at)
        return self.lines[-1]

    def _evidence(self, story: Story) -> None:
        for currency in CURRENCIES:
            zero = ControlTotal("main", "payments", Money(0, currency), BEGINNING)
            self.facts.append(Fact(BEGINNING, zero))
            for cut in (FIRST, SECOND, THIRD):
                held = sum(line.net for line in self.lines if line.currency == currency and line.at < cut)
                if cut >= SECOND and currency == "USD":
                    held += story.stolen * self.scale
                self.facts.append(Fact(cut, ControlTotal("main", "payments", Money(held, currency), cut)))
        for term in TERMS:
            for stream in sorted(term.finance.streams):
                window = Window(BEGINNING, KNOWN)
                self.facts.append(Fact(KNOWN, Coverage(term.name, stream, window, True)))


def write(ledger: Ledger, facts: Iterable[Fact]) -> None:
    """Put facts into a ledger in the order given, each recorded when it became known; one commit for all."""
    with ledger.together():
        for _, some in groupby(facts, lambda fact: (isinstance(fact.what, Snapshot), fact.known)):
            _write_some(ledger, list(some))


def _write_some(ledger: Ledger, facts: Sequence[Fact]) -> None:
    """Known at one instant. Snapshots share a page, as long as it brings nothing twice."""
    page: dict[ResourceRef, PageRow] = {}
    for fact in facts:
        if not isinstance(fact.what, Snapshot):
            _write_one(ledger, fact)
            continue
        ref = fact.what.ref
        if ref in page:
            _write_page(ledger, page, fact.known)
            page = {}
        page[ref] = PageRow(fact.what, stripe_entries(fact.what) if ref.provider == "stripe" else ())
    if page:
        _write_page(ledger, page, facts[0].known)


def _write_page(ledger: Ledger, page: dict[ResourceRef, PageRow], known: datetime) -> None:
    ledger.apply_page(
        list(page.values()),
        start=ledger.tick(),
        started_at=known,
        cause=Cause.SWEEP,
        settle={ref.kind: SETTLE for ref in page},
        now=known,
    )


def _write_one(ledger: Ledger, fact: Fact) -> None:
    match fact.what:
        case ControlTotal() as total:
            ledger.record_control_totals([total], fact.known)
        case Coverage() as covered:
            ledger.record_coverage([covered], fact.known)
        case (payout, members):
            ledger.record_payout_members(payout, members, complete=True, now=fact.known)


def rearranged(facts: Sequence[Fact], order: Sequence[int]) -> list[Fact]:
    """Another order of arrival, each fact twice; what is said of one thing stays in the order it was said."""
    queues: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        queues[fact.about].append(fact)
    names = [fact.about for fact in facts]
    shuffled = [name for _, name in sorted(zip(order, names, strict=True))]
    arrived = []
    for name in shuffled:
        fact = queues[name].pop(0)
        arrived += [fact, fact]
    return arrived
