"""The shop's side of a day: each payment has its order, and names what Stripe calls it."""

from __future__ import annotations

from collections import Counter

from providers.sandbox import SandboxServer
from providers.sandbox.day import FULL_DAY, pace_of, plan_day, relive
from providers.sandbox.orders import GATEWAY, with_orders
from providers.sandbox.shopify import Shop
from providers.sandbox.shopify.bodies import minor_of
from reconciler.clock import ManualClock
from tests.sandbox_fixtures import START, a_world


def test_every_payment_of_the_day_is_for_an_order_of_the_same_amount() -> None:
    clock = ManualClock(START)
    world = a_world(seed=7, clock=clock, pace=pace_of(FULL_DAY.total_seconds()))
    shop = Shop(seed=7, clock=clock, payments=False)
    day = with_orders(plan_day(7, payments=200))
    assert relive(day, world, SandboxServer(world).advance, shop=shop) == []
    truth = shop.snapshot()["objects"]
    sales: Counter[tuple[str, int, str]] = Counter()
    for row in truth["transaction"].values():
        assert row["gateway"] == GATEWAY
        if row["kind"] == "sale":
            named = world.store.get(row["receipt"]["payment_intent"])["latest_charge"]
            assert row["authorization"] in (named, None)
            sales[named, minor_of(row["amount"], row["currency"]), row["currency"]] += 1
    invoiced = {each["payment"]["payment_intent"] for each in world.truth.all_of("invoice_payment")}
    charged = Counter(
        (charge["id"], charge["amount_captured"], charge["currency"].upper())
        for charge in world.truth.all_of("charge")
        if charge["captured"] and charge["status"] == "succeeded" and charge["payment_intent"] not in invoiced
    )
    assert sales == charged
    assert len({currency for _, _, currency in sales}) == 4
    refunds = {row["authorization"] for row in truth["transaction"].values() if row["kind"] == "refund"}
    assert refunds == {each["id"] for each in world.truth.all_of("refund") if each["status"] == "succeeded"}


def test_an_order_in_another_currency_has_both_amounts() -> None:
    shop = Shop(clock=ManualClock(START))
    order = shop.place_order(minor=1_250, currency="jpy")
    assert order["currency"] == "USD"
    assert order["presentment_currency"] == "JPY"
    assert order["total_price_set"]["presentment_money"] == {"amount": "1250", "currency_code": "JPY"}
    assert order["total_price"] == order["total_price_set"]["shop_money"]["amount"] == "8.34"
    paid = shop.pay(order["id"])
    assert (paid["amount"], paid["currency"]) == ("1250", "JPY")
    assert shop.shelf.need("order", order["id"])["total_outstanding"] == "0.00"
