"""Reads by id: how many requests, which ones, and what an answer is taken to mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from providers.shopify import Shopify
from reconciler.errors import AccessDenied, BadReply, OutOfSight
from reconciler.model import Reading, ResourceRef, Snapshot, Tombstone
from tests.shopify.server import (
    API,
    TOKEN,
    Asked,
    Says,
    Script,
    an_order,
    body,
    missing,
    played,
    ref,
    sample,
    scopes,
)  # fmt: skip


def _fetch(*refs: ResourceRef) -> Any:
    async def story(shop: Shopify) -> list[Reading]:
        return list(await shop.fetch(refs))

    return story


@pytest.mark.usefixtures("documented")
def test_one_order_is_read_alone_and_brings_its_refunds_and_fulfillments() -> None:
    script = Script(lambda asked: body({"order": an_order(1)}, x_shopify_api_version="2026-10"))
    order, *along = played(script, _fetch(ref("order", 1)))
    (asked,) = script.asked
    assert asked.path == f"{API}/orders/1.json"
    assert asked.headers["x-shopify-access-token"] == TOKEN
    assert isinstance(order, Snapshot)
    assert order.api_version == "2026-10"
    assert [one.ref.kind for one in along] == ["refund", "fulfillment"]


@pytest.mark.usefixtures("documented")
def test_many_orders_are_read_in_one_request_whatever_their_status() -> None:
    def answer(asked: Asked) -> Says:
        assert asked.one("status") == "any"
        assert asked.one("limit") == "250"
        return body({"orders": [an_order(int(one)) for one in reversed((asked.one("ids") or "").split(","))]})

    script = Script(answer)
    refs = [ref("order", number) for number in range(1, 251)]
    readings = played(script, _fetch(*refs))
    assert [one.ref for one in readings[:250]] == refs
    assert len(script.asked) == 1


@pytest.mark.usefixtures("documented")
def test_a_batch_leaves_out_what_the_answer_does_not_hold() -> None:
    """Absence from a list is no evidence: the core asks for it alone."""
    readings = played(lambda asked: body({"orders": [an_order(2)]}), _fetch(ref("order", 1), ref("order", 2)))
    assert [one.ref for one in readings if one.ref.kind == "order"] == [ref("order", 2)]


@pytest.mark.usefixtures("documented")
def test_a_batch_that_holds_strangers_is_no_answer() -> None:
    with pytest.raises(BadReply):
        played(lambda asked: body({"orders": [an_order(3)]}), _fetch(ref("order", 1), ref("order", 2)))


@pytest.mark.usefixtures("documented")
def test_another_resource_than_the_one_asked_for_is_no_answer() -> None:
    with pytest.raises(BadReply):
        played(lambda asked: body({"order": an_order(3)}), _fetch(ref("order", 1)))


# --- missing --------------------------------------------------------------------------------------


def test_a_missing_order_may_be_old_unless_every_order_is_seen() -> None:
    (gone,) = played(_missing_for("read_orders"), _fetch(ref("order", 1)))
    assert isinstance(gone, Tombstone)
    assert gone.sees_since is not None
    (certain,) = played(_missing_for("read_orders", "read_all_orders"), _fetch(ref("order", 1)))
    assert isinstance(certain, Tombstone)
    assert certain.sees_since is None


@pytest.mark.parametrize("part", ["refund", "fulfillment", "transaction"])
def test_a_part_of_a_missing_order_is_missing_only_to_who_sees_every_order(part: str) -> None:
    """A process that just began asks first what it may see: nothing that is gone waits for a scope that it has."""
    with pytest.raises(OutOfSight):
        played(_missing_for("read_orders"), _fetch(ref(part, "1/2")))
    (gone,) = played(_missing_for("read_all_orders"), _fetch(ref(part, "1/2")))
    assert isinstance(gone, Tombstone)


def _missing_for(*granted: str) -> Callable[[Asked], Says]:
    return lambda asked: scopes(*granted) if "access_scopes" in asked.path else missing()


@pytest.mark.parametrize("kind", ["product", "customer", "draft_order", "inventory_item"])
def test_other_kinds_are_seen_whatever_their_age(kind: str) -> None:
    (gone,) = played(lambda asked: missing(), _fetch(ref(kind, 1)))
    assert isinstance(gone, Tombstone)
    assert gone.sees_since is None


def test_a_page_of_something_else_is_never_a_tombstone() -> None:
    with pytest.raises(BadReply):
        played(lambda asked: Says(404, b"<html>no such host</html>"), _fetch(ref("product", 1)))


# --- parts ----------------------------------------------------------------------------------------


def test_refunds_of_many_orders_are_read_in_one_request() -> None:
    script = Script(lambda asked: body({"orders": [an_order(1), an_order(2)]}))
    refund = sample("order", "orders/450789469.json")["order"]["refunds"][0]["id"]
    refs = [ref("refund", f"{order}/{refund}") for order in (2, 1)]
    readings = played(script, _fetch(*refs))
    assert [one.ref for one in readings[:2]] == refs
    assert {one.ref.kind for one in readings[2:]} == {"order", "fulfillment"}
    assert len(script.asked) == 1


@pytest.mark.usefixtures("documented")
def test_a_refund_that_its_order_does_not_hold_is_gone() -> None:
    gone, *along = played(lambda asked: body({"order": an_order(1)}), _fetch(ref("refund", "1/2")))
    assert isinstance(gone, Tombstone)
    assert ref("order", 1) in [one.ref for one in along]


def test_a_transaction_comes_with_its_order_s_whole_list() -> None:
    answer = sample("transaction", "orders/450789469/transactions.json")
    script = Script(lambda asked: body(answer))
    first, *along = played(script, _fetch(ref("transaction", "450789469/801038806")))
    assert first.ref == ref("transaction", "450789469/801038806")
    assert ref("order_transactions", 450789469) in [one.ref for one in along]
    assert len(along) == 3
    (asked,) = script.asked
    assert asked.path == f"{API}/orders/450789469/transactions.json"


def test_an_order_s_transactions_are_one_request_for_all_of_them() -> None:
    answer = sample("transaction", "orders/450789469/transactions.json")
    first, *along = played(lambda asked: body(answer), _fetch(ref("order_transactions", 450789469)))
    assert isinstance(first, Snapshot)
    assert first.body["transaction_ids"] == [179259969, 389404469, 801038806]
    assert len(along) == 3


@pytest.mark.usefixtures("documented")
def test_inventory_levels_are_read_by_item_and_location() -> None:
    def answer(asked: Asked) -> Says:
        assert asked.one("inventory_item_ids") == "808950810,39072856"
        assert asked.one("location_ids") == "655441491,487838322"
        return body(sample("inventory_level", "inventory_levels.json?inventory_item_ids=808950810%2C39072856"
                           "&location_ids=655441491%2C487838322"))  # fmt: skip

    refs = [ref("inventory_level", "808950810/655441491"), ref("inventory_level", "39072856/487838322")]
    readings = played(answer, _fetch(*refs))
    assert [one.ref for one in readings[:2]] == refs
    assert len(readings) == 4


def test_an_item_that_is_not_stocked_there_has_no_level() -> None:
    (gone,) = played(lambda asked: body({"inventory_levels": []}), _fetch(ref("inventory_level", "1/2")))
    assert isinstance(gone, Tombstone)


@pytest.mark.usefixtures("documented")
def test_a_tender_transaction_is_found_where_the_list_begins_at_its_id() -> None:
    def answer(asked: Asked) -> Says:
        assert (asked.one("since_id"), asked.one("limit")) == ("1011222835", "1")
        return body(sample("tender_transaction", "tender_transactions.json"))

    (first,) = played(answer, _fetch(ref("tender_transaction", 1011222836)))
    assert isinstance(first, Snapshot)
    assert first.affects == (ref("order", 450789469),)


@pytest.mark.usefixtures("documented")
def test_several_tender_transactions_are_found_in_one_page_and_what_lies_beyond_it_is_left_out() -> None:
    def answer(asked: Asked) -> Says:
        assert asked.one("since_id") == "1011222835"
        return body(sample("tender_transaction", "tender_transactions.json"))

    refs = [ref("tender_transaction", each) for each in (9_999_999_999, 1011222837, 1011222836)]
    readings = played(answer, _fetch(*refs))
    assert [one.ref for one in readings] == refs[1:], "and nothing that other reads are about"
    assert all(isinstance(one, Snapshot) for one in readings)


def test_what_has_no_single_read_is_never_called_missing() -> None:
    with pytest.raises(BadReply):
        played(lambda asked: body({"tender_transactions": []}), _fetch(ref("tender_transaction", 5)))


# --- Shopify Payments -----------------------------------------------------------------------------


def test_a_shop_without_shopify_payments_has_no_balance_only_if_the_configuration_says_so() -> None:
    with pytest.raises(OutOfSight, match="shopify_payments = false"):
        played(lambda asked: missing(), _fetch(ref("balance", "balance")))
    (none,) = played(lambda asked: missing(), _fetch(ref("balance", "balance")), shopify_payments=False)
    assert isinstance(none, Tombstone)


# --- what the answers say of the shop -------------------------------------------------------------


def test_the_bucket_is_as_large_as_the_shop_says() -> None:
    async def story(shop: Shopify) -> tuple[float, int, float, int]:
        before = shop.limits[""]
        await shop.fetch([ref("order", 1)])
        after = shop.limits[""]
        return before.rate, before.burst, after.rate, after.burst

    plus = body({"order": an_order(1)}, x_shopify_shop_api_call_limit="32/400")
    assert played(lambda asked: plus, story) == (2.0, 40, 20.0, 400)


def test_an_id_that_would_lead_elsewhere_is_never_asked_for() -> None:
    script = Script(lambda asked: body({}))
    for bad in ("../shop", "1/2/3", "", "1?x", "٣"):
        with pytest.raises(BadReply):
            played(script, _fetch(ref("order", bad)))
    assert script.asked == []


def test_a_refused_scope_closes_the_kind_and_names_it() -> None:
    said = "[API] This action requires merchant approval for read_products scope."
    with pytest.raises(AccessDenied) as refused:
        played(lambda asked: body({"errors": said}, 403), _fetch(ref("product", 1)))
    assert refused.value.permission == "read_products"
