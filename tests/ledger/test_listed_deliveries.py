"""Filters of deliveries: page by page they name each that fits, once, newest first, whatever the tally says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import product
from random import Random

import pytest
from sqlalchemy import text

from reconciler.ledger import Ledger, listing
from reconciler.ledger.deliveries import Rejection
from reconciler.ledger.listing import DeliveryFilter, ListedDelivery
from reconciler.ledger.transaction import Transaction
from tests.ledger.factories import NOON, delivery, receipt, ref, webhook

DAYS = 75
WANTED = [
    DeliveryFilter(verdict="rejected"),
    DeliveryFilter(verdict="rejected", account="shop"),
    DeliveryFilter(verdict="ignored"),
    DeliveryFilter(verdict="stored", type="charge.*"),
    DeliveryFilter(verdict="duplicate", since=NOON - timedelta(days=40), until=NOON - timedelta(days=3, hours=5)),
    DeliveryFilter(account="shop"),
    DeliveryFilter(account="nobody"),
    DeliveryFilter(verdict="stored", since=NOON + timedelta(days=1)),
]


@pytest.fixture
def busy(ledger: Ledger) -> Ledger:
    """Days with many deliveries, days with none, and a flood of which only the count was kept."""
    chance = Random(4)
    with ledger.together():
        for day in range(DAYS):
            if chance.random() < 0.3:
                continue
            receipts, rejections = [], []
            for number in range(chance.choice((1, 2, 5, 12))):
                at = NOON - timedelta(days=day, seconds=chance.randrange(-40_000, 40_000))
                name = f"evt_{day}_{number - number % 2 * chance.randrange(2)}"
                account = "shop" if chance.random() < 0.2 else "main"
                kind = chance.choice(("charge.updated", "product.updated"))
                marks = (webhook(ref(account=account)),) if chance.random() < 0.8 else ()
                receipts.append(receipt(name, *marks, kind=kind, at=at, account=account))
                if chance.random() < 0.05:
                    rejections.append(Rejection("stripe", delivery(at=at, account=account), "signature", 2))
            ledger.receive(receipts, NOON)
            flood = [Rejection("stripe", delivery(at=at), "signature", 2, audited=False)] * (200 if day == 11 else 0)
            ledger.reject(rejections + flood)
    return ledger


def test_every_page_goes_on_where_the_one_before_ended(busy: Ledger) -> None:
    with busy.store.read() as tx:
        every = list(_pages(tx, DeliveryFilter(), 40))
        assert [(each.received_at, each.id) for each in every] == sorted(
            ((each.received_at, each.id) for each in every), reverse=True
        )
        for wanted, scanned in product(WANTED, (5, 40, 20_000)):
            fitting = [each for each in every if _fits(wanted, each)]
            assert list(_pages(tx, wanted, scanned)) == fitting, (wanted, scanned)


def test_a_rare_verdict_is_on_the_first_page(busy: Ledger) -> None:
    """The tally says on which days it is: nobody walks through all that came since."""
    with busy.store.read() as tx:
        every = list(_pages(tx, DeliveryFilter(), 40))
        oldest = [each for each in every if each.verdict == "ignored"][-1]
    with busy.store.write() as tx:
        tx.run(text("DELETE FROM delivery WHERE verdict = 'ignored' AND id <> :id"), {"id": oldest.id})
        tx.run(text("DELETE FROM delivery_tally WHERE verdict = 'ignored'"))
        tx.run(
            text(
                "INSERT INTO delivery_tally (account, day, verdict, reason, count)"
                " VALUES (:account, :day, 'ignored', '', 1)"
            ),
            {"account": oldest.account, "day": _day(oldest.received_at)},
        )
    with busy.store.read() as tx:
        found = listing.deliveries(tx, DeliveryFilter(verdict="ignored"), after=None, limit=50, scanned=40)
    assert [each.id for each in found.rows] == [oldest.id]
    assert found.after is None


def _pages(tx: Transaction, wanted: DeliveryFilter, scanned: int) -> Iterator[ListedDelivery]:
    after = None
    for _ in range(2000):
        stretch = listing.deliveries(tx, wanted, after=after, limit=7, scanned=scanned)
        yield from stretch.rows
        if stretch.after is None:
            return
        assert after is None or stretch.after < after
        after = (stretch.after[0], stretch.after[1])
    raise AssertionError("a list without an end")


def _fits(wanted: DeliveryFilter, each: ListedDelivery) -> bool:
    return (
        wanted.verdict in ("", each.verdict)
        and wanted.account in ("", each.account)
        and str(each.type).startswith(wanted.type.removesuffix("*"))
        and (wanted.since is None or each.received_at >= wanted.since)
        and (wanted.until is None or each.received_at < wanted.until)
    )


def _day(at: datetime) -> int:
    return int(at.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * 1_000_000
