"""Random months of a shop's own payments, in several currencies: balanced where nothing is missing, and else not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.sandbox.shopify import Shop
from providers.sandbox.shopify.bodies import Body, minor_of, presented
from providers.sandbox.truth import ActionRefused
from providers.shopify.entries import entries
from reconciler.clock import ManualClock
from reconciler.ledger import Coverage, Ledger, PageRow
from reconciler.model import Cause, ControlTotal, ResourceRef, Snapshot, Window
from reconciler.money import Money
from reconciler.report import canonical
from reconciler.report.aside import SettingAside
from reconciler.report.model import Report
from tests.report.books import BEGINNING, END, SETTLE, START, TERMS, Books
from tests.report.test_invariants import PROPERTY, fill
from tests.report.test_own_payments import OWN, STREAMS

OPENS = datetime(2025, 12, 22, tzinfo=UTC)
CLOSES = datetime(2026, 2, 6, tzinfo=UTC)
KNOWN = CLOSES + timedelta(days=1)
READ = ("order", "transaction", "balance_transaction", "payout", "dispute")
KIND_OF = {"charge": "balance_transaction", "payout": "balance_transaction", "sale": "transaction"}
"""What may be kept from the ledger, one of it."""


@dataclass
class Month:
    """Lives through six weeks, and is read and stated at every midnight."""

    books: Books
    seed: int
    fault: str
    """`charge`, `payout`, `sale`: one of January is never read; `total`: the balance is another than its rows say."""
    lost: str = ""
    is_said: bool = True
    """Whether a shop's word exists for all that was given back in another currency."""
    _told: dict[tuple[str, str], Body] = field(default_factory=dict)
    _orders: list[int] = field(default_factory=list)
    _disputes: list[int] = field(default_factory=list)

    def live(self) -> None:
        self.dice, self.clock = Random(self.seed), ManualClock(OPENS)
        self.shop = Shop(seed=self.seed, clock=self.clock, currency=self.dice.choice(("USD", "EUR", "JPY")))
        self.thing, self.buyer = self.shop.create_product()["id"], self.shop.create_customer()["id"]
        self._state()
        while self.clock.now() < CLOSES:
            midnight = (self.clock.now() + timedelta(days=1)).replace(hour=0)
            for _ in range(self.dice.randint(0, 4)):
                self.clock.advance(timedelta(hours=self.dice.randint(1, 5)))
                with suppress(ActionRefused):
                    self._act()
            self.clock.advance(midnight - self.clock.now())
            self._read()
            self._state()
        self.books.covers(until=KNOWN)
        looks = [Coverage("shop", kind, Window(BEGINNING, KNOWN), True) for kind in STREAMS]
        self.books.ledger.record_coverage(looks, KNOWN)

    def _act(self) -> None:
        shop, dice = self.shop, self.dice
        match dice.randrange(9):
            case 0 | 1 | 2 | 3:
                currency = dice.choice((self.shop.currency, self.shop.currency, "EUR", "GBP", "JPY"))
                order = shop.place_order(
                    self.thing, self.buyer, dice.randint(1, 3), minor=dice.randint(100, 9000), currency=currency
                )
                shop.pay(order["id"], gateway=dice.choice(("shopify_payments", "shopify_payments", "gift_card")))
                self._orders.append(order["id"])
            case 4 | 5 if self._orders:
                self._refund(dice.choice(self._orders[-8:]))
            case 6 if self._orders:
                self._disputes.append(shop.dispute(dice.choice(self._orders[-8:]), dice.randint(1, 500))["id"])
            case 7 if self._disputes:
                shop.update_dispute(self._disputes.pop(), dice.choice(("won", "lost")))
            case 8:
                shop.pay_out(dice.choice(("paid", "paid", "in_transit")))

    def _refund(self, order: int) -> None:
        body = self.shop.shelf.need("order", order)
        price, currency = presented(body)
        given_back = sum(
            minor_of(row["amount"], currency) for refund in body["refunds"] for row in refund["transactions"]
        )
        if given_back == price:
            return
        minor = self.dice.choice((price - given_back, self.dice.randint(1, price - given_back)))
        settles = None
        if currency != self.shop.currency and self.dice.random() < 0.8:
            settles = max(1, minor_of(body["total_price"], self.shop.currency) * minor * 102 // (price * 100))
        self.shop.refund(order, minor, settles=settles)
        if currency != self.shop.currency and settles is None and minor != price and self.clock.now() < END:
            self.is_said &= body["payment_gateway_names"] != ["shopify_payments"]

    # --- what the ledger is told ---

    def _read(self) -> None:
        now, rows = self.clock.now(), []
        for kind in READ:
            for key, body in self.shop.shelf.all(kind):
                if not self.lost and self._is_victim(kind, str(key), body):
                    self.lost = f"{kind}/{key}"
                if self._told.get((kind, str(key))) != body and self.lost != f"{kind}/{key}":
                    self._told[kind, str(key)] = body
                    snapshot = Snapshot(ResourceRef("shopify", "shop", kind, str(key)), body)
                    rows.append(PageRow(snapshot, entries(snapshot)))
        ledger = self.books.ledger
        ledger.apply_page(
            rows,
            start=ledger.tick(),
            started_at=now,
            cause=Cause.SWEEP,
            settle=dict.fromkeys(READ, SETTLE),
            now=now,
        )

    def _is_victim(self, kind: str, key: str, body: Body) -> bool:
        is_new = (kind, key) not in self._told and START + timedelta(days=9) < self.clock.now() < END
        if not is_new or kind != KIND_OF.get(self.fault):
            return False
        if kind == "transaction":
            return bool(body["gateway"] == "shopify_payments")
        return bool(body["type"] == self.fault and minor_of(body["net"], self.shop.currency))

    def _state(self) -> None:
        now, said = self.clock.now(), self.shop.balance()["balance"][0]
        off = 1 if self.fault == "total" and now > START + timedelta(days=14) else 0
        held = Money(minor_of(said["amount"], said["currency"]) + off, said["currency"])
        self.books.ledger.record_control_totals([ControlTotal("shop", "payments", held, now)], now)

    def report(self) -> Report:
        return self.books.report(rules=OWN, as_of=KNOWN)


@pytest.mark.long
@PROPERTY
@given(seed=st.integers(0, 2**32), fault=st.sampled_from(("", "", "charge", "payout", "sale", "total")))
def test_a_month_is_balanced_unless_something_is_missing(ledger: Ledger, seed: int, fault: str) -> None:
    fill(ledger, [])
    month = Month(Books(ledger), seed, fault)
    with ledger.together():
        month.live()

    report = month.report()
    SettingAside(TERMS, OWN.gateways).run(ledger)

    assert canonical.encode(month.report()) == canonical.encode(report)
    is_whole = not month.lost and fault != "total" and month.is_said
    standings = {verdict.currency: verdict.standing.value for verdict in report.verdicts}
    assert all(each.startswith("BALANCED") for each in standings.values()) == is_whole, (standings, month.lost)
    if is_whole:
        assert report.breaks == ()
