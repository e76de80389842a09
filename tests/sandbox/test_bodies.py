"""What the look-alike serves has every top-level field of the example that Stripe publishes for the resource."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from providers.sandbox import SandboxServer, World
from providers.sandbox.resources import RESOURCES
from tests.corpus import resources
from tests.sandbox_fixtures import a_world, ask


def a_full_shop() -> World:
    """At least one object of every kind."""
    world = a_world()
    intent = world.payments.pay(5_000)
    world.refunds.create(intent["latest_charge"], amount=100)
    world.disputes.open(world.payments.pay(7_000)["latest_charge"])
    world.funds.top_up(100_000, arrives=False)
    world.funds.succeed_top_up(world.truth.all_of("topup")[0]["id"])
    world.payouts.create_automatic()
    world.funds.top_up(5_000, arrives=False)
    world.funds.succeed_top_up(world.truth.all_of("topup")[1]["id"])
    world.funds.transfer(100, "acct_other")
    world.funds.application_fee(30, "ch_elsewhere", "acct_other")
    product = world.catalogue.create_product()
    price = world.catalogue.create_price(product["id"], interval="month")
    customer = world.customers.create(email="a@example.com")
    world.subscriptions.create(customer["id"], price["id"])
    world.checkout.complete(world.checkout.open(2_000)["id"])
    world.endpoints.create("http://127.0.0.1:9/hooks")
    return world


@pytest.mark.parametrize("kind", sorted(RESOURCES))
def test_listed_bodies_have_every_published_field(kind: str) -> None:
    server = SandboxServer(a_full_shop())
    rows = ask(server, f"{RESOURCES[kind].path}?limit=100").body["data"]
    assert rows, f"the full shop has no {kind}"
    for row in rows:
        assert row["object"] == kind
        assert resources()[kind].keys() <= row.keys(), sorted(resources()[kind].keys() - row.keys())


@pytest.mark.parametrize(("kind", "path"), [("balance", "/v1/balance"), ("account", "/v1/account")])
def test_single_bodies_have_every_published_field(kind: str, path: str) -> None:
    told = ask(SandboxServer(a_full_shop()), path)
    assert resources()[kind].keys() <= told.body.keys()


@pytest.mark.parametrize("kind", ["customer", "product", "price"])
def test_deleted_bodies_are_the_published_ones(kind: str) -> None:
    world = a_world()
    customer = world.customers.create()["id"]
    product = world.catalogue.create_product()["id"]
    price = world.catalogue.create_price(product)["id"]
    world.customers.delete(customer)
    world.catalogue.delete_price(price)
    world.catalogue.delete_product(product)
    object_id = {"customer": customer, "product": product, "price": price}[kind]
    told = ask(SandboxServer(world), f"{RESOURCES[kind].path}/{object_id}")
    assert told.body == {**resources()[f"deleted_{kind}"], "id": object_id, "object": kind}


def test_every_published_body_survives_the_json_that_we_use() -> None:
    for kind, body in resources().items():
        assert orjson.loads(orjson.dumps(body)) == body, kind


def test_the_product_does_not_carry_the_resources() -> None:
    """The published examples stay outside: none of their object ids occurs in the look-alike's source."""
    folder = Path(__file__).resolve().parents[2] / "providers" / "sandbox"
    source = "".join(path.read_text() for path in folder.rglob("*.py"))
    assert source
    assert "B7WZ01zgkW" not in source, "this account id is in every published example"
