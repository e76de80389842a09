"""A customer pays in euros at a shop in dollars: read over HTTP by a daemon, and what the report makes of it."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from providers.sandbox.shopify import Shop, ShopServer
from providers.shopify.currencies import EXPONENTS
from providers.shopify.finance import FINANCE
from reconciler.clock import SystemClock
from reconciler.ledger import Ledger, open_ledger
from reconciler.report.facts import AccountTerms
from reconciler.report.making import make
from reconciler.report.model import Params, Report, Rules
from tests.shopify.living import delivered, differences, living
from tests.shopify.shops import ACCOUNT, PATIENT, a_shop

pytestmark = pytest.mark.long


def _order(shop: Shop, minor: int, quantity: int = 1) -> Any:
    order = shop.place_order(minor=minor, currency="EUR", quantity=quantity)
    shop.pay(order["id"])
    return order


def _report(ledger: Ledger) -> Report:
    now = SystemClock().now()
    days = ((now - timedelta(days=2)).date(), now.date())
    params = Params(*days, as_of=now, accounts=(ACCOUNT,), rules=Rules(gateways=("shopify_payments",)))
    with ledger.store.read() as tx:
        report, _ = make(tx, (AccountTerms(ACCOUNT, "shopify", EXPONENTS, FINANCE),), params)
    return report


def test_what_is_paid_in_euros_is_matched_with_the_dollars_that_it_was_settled_for(
    tmp_path: Path, sqlite_ledger_url: str
) -> None:
    async def run() -> None:
        shop = a_shop(clock=SystemClock())
        async with (
            ShopServer(shop, retries=PATIENT) as server,
            living(server, tmp_path, sqlite_ledger_url) as daemon,
        ):
            _order(shop, 333, quantity=3)
            given_back = _order(shop, 10000)
            shop.refund(given_back["id"], 10000, settles=10437)
            partly = _order(shop, 5000)
            shop.refund(partly["id"], 1250)
            await delivered(server)
            await daemon.until(lambda ledger: differences(server, ledger))
            booked.extend(row for _, row in shop.shelf.all("balance_transaction"))

    booked: list[Any] = []
    asyncio.run(run())
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        report = _report(ledger)

    charges = [EXPONENTS.parse(row["amount"], "USD").minor for row in booked]
    assert (charges[2], len(charges)) == (-10437, 5)
    assert sorted((pair.currency, pair.amount.minor) for pair in report.pairs) == sorted(
        ("USD", minor) for minor in charges[:4]
    )
    (unsaid,) = [each for each in report.breaks if each.plane == "P3"]
    assert (unsaid.type, unsaid.currency, unsaid.left_amount.minor) == ("CURRENCY_MISMATCH", "EUR", -1250)
