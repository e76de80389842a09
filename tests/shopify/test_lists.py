"""Lists: complete, narrowed to what changed, and continued exactly as Shopify says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from providers.shopify import Shopify
from providers.shopify.paging import Position, next_query
from reconciler.errors import BadReply, OutOfSight, UsageError
from reconciler.model import Page, Snapshot, Window
from tests.shopify.server import (
    API,
    NOW,
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

_WINDOW = Window(NOW - timedelta(hours=1, microseconds=5), NOW)
_BEGUN = str(Position(begun=True))


def _page(kind: str, window: Window | None = _WINDOW, cursor: str | None = None) -> Any:
    async def story(shop: Shopify) -> Page:
        return await shop.page(kind, window, cursor)

    return story


@pytest.mark.parametrize("kind", ["draft_order", "product", "customer"])
def test_a_window_lists_what_changed_since_then(kind: str) -> None:
    script = Script(lambda asked: body({f"{kind}s": []}))
    played(script, _page(kind))
    (asked,) = script.asked
    # Rounded down, and open at its end: what changed meanwhile would otherwise be in no list.
    assert asked.query == [("limit", "250"), ("updated_at_min", "2026-11-21T10:59:59Z")]


@pytest.mark.usefixtures("documented")
def test_a_walk_over_orders_first_asks_what_it_may_see() -> None:
    def answer(asked: Asked) -> Says:
        return scopes("read_orders") if "access_scopes" in asked.path else body({"orders": [an_order(1)]})

    async def story(shop: Shopify) -> tuple[Page, Page, Page]:
        first = await shop.page("order", None, None)
        return first, await shop.page("order", None, first.cursor), await shop.page("order", None, None)

    script = Script(answer)
    first, second, again = played(script, story)
    assert first.rows == ()
    assert [row.ref for row in second.rows] == [ref("order", 1)] == [row.ref for row in again.rows]
    assert [row.ref.kind for row in second.along] == ["refund", "fulfillment"]
    assert second.reach == NOW - timedelta(days=60)
    assert [asked.path for asked in script.asked] == ["/admin/oauth/access_scopes.json"] + [f"{API}/orders.json"] * 2
    assert script.asked[1].query == [("limit", "250"), ("status", "any")]


def test_who_sees_every_order_reaches_back_to_the_beginning() -> None:
    def answer(asked: Asked) -> Says:
        return scopes("read_all_orders", "read_orders") if "access" in asked.path else body({"orders": []})

    async def story(shop: Shopify) -> Page:
        return await shop.page("order", None, (await shop.page("order", None, None)).cursor)

    assert played(answer, story).reach is None


@pytest.mark.usefixtures("documented")
def test_the_next_page_is_asked_for_exactly_as_given() -> None:
    given = "limit=250&page_info=eyJkaXJ.e-_%3D&fields="

    def answer(asked: Asked) -> Says:
        if asked.one("page_info"):
            return body({"products": []})
        link = f'<https://elsewhere.invalid{API}/products.json?{given}>; rel="next"'
        return body({"products": [sample("product", "products/632910392.json")["product"]]}, link=link)

    async def story(shop: Shopify) -> Page:
        first = await shop.page("product", _WINDOW, None)
        assert first.cursor is not None
        return await shop.page("product", _WINDOW, first.cursor)

    script = Script(answer)
    assert played(script, story).cursor is None
    # Neither another host, nor the filter again: with page_info Shopify takes nothing else.
    assert dict(script.asked[1].query) == {"limit": "250", "page_info": "eyJkaXJ.e-_=", "fields": ""}


def test_of_several_links_only_the_next_one_counts() -> None:
    before = '<https://s/admin/api/x/orders.json?page_info=b&limit=1>; rel="previous"'
    after = '<https://s/admin/api/x/orders.json?page_info=n&limit=1>; rel="next"'
    assert next_query(f"{before}, {after}", "") == "page_info=n&limit=1"
    assert next_query(before, "") is None
    assert next_query("", "") is None
    with pytest.raises(BadReply):
        next_query('<https://s/orders.json?page=2>; rel="next"', "")


@pytest.mark.parametrize(
    "cursor", ["x", "v1:a|", "v1:|page_info=a b", "v1:|limit=5", "v2:|page_info=a", "v1:|page_info=\n"]
)
def test_a_cursor_of_somebody_else_s_is_refused(cursor: str) -> None:
    with pytest.raises(UsageError):
        played(lambda asked: body({"products": []}), _page("product", cursor=cursor))


def test_a_list_that_cannot_be_found_is_not_empty() -> None:
    with pytest.raises(OutOfSight):
        played(lambda asked: missing(), _page("product"))


@pytest.mark.parametrize("kind", ["dispute", "payout", "balance_transaction"])
def test_without_shopify_payments_its_lists_are_empty_only_if_the_configuration_says_so(kind: str) -> None:
    with pytest.raises(OutOfSight, match="shopify_payments = false"):
        played(lambda asked: missing(), _page(kind))
    assert played(lambda asked: missing(), _page(kind), shopify_payments=False) == Page((), None)


@pytest.mark.usefixtures("documented")
def test_payouts_are_listed_by_day_with_a_day_of_slack() -> None:
    script = Script(lambda asked: body(sample("payout", "shopify_payments/payouts.json")))
    page = played(script, _page("payout"))
    assert script.asked[0].one("date_min") == "2026-11-20"
    assert page.rows[0].created_at == datetime(2013, 12, 1, tzinfo=UTC)


def test_balance_transactions_come_newest_first_and_are_not_read_to_their_end() -> None:
    row = {"id": 1, "amount": "1.00", "fee": "0.00", "net": "1.00", "currency": "USD", "type": "charge"}

    def answer(asked: Asked) -> Says:
        link = f'<https://s{API}/shopify_payments/balance/transactions.json?page_info=n>; rel="next"'
        return body({"transactions": [{**row, "processed_at": "2026-11-19T00:00:00Z"}]}, link=link)

    assert played(answer, _page("balance_transaction")).cursor is None
    assert played(answer, _page("balance_transaction", window=None)).cursor is not None


def test_inventory_levels_are_listed_fifty_locations_at_a_time() -> None:
    places = [{"id": 1000 + n} for n in range(60)]

    def answer(asked: Asked) -> Says:
        if asked.path.endswith("locations.json"):
            return body({"locations": places})
        asked_for = (asked.one("location_ids") or "").split(",")
        level = {"inventory_item_id": 7, "location_id": int(asked_for[0]), "available": 1}
        return body({"inventory_levels": [level]})

    async def story(shop: Shopify) -> list[Snapshot]:
        found: list[Snapshot] = []
        cursor: str | None = None
        while True:
            page = await shop.page("inventory_level", None, cursor)
            found += page.rows
            cursor = page.cursor
            if cursor is None:
                return found

    script = Script(answer)
    levels = played(script, story)
    assert [one.ref.id for one in levels] == ["7/1000", "7/1050"]
    assert len(script.asked) == 3


def test_members_of_a_payout_are_its_balance_transactions_without_its_own() -> None:
    listed = sample("payment_transaction", "shopify_payments/balance/transactions.json?payout_id=623721858")
    own = {**listed["transactions"][0], "id": 9, "type": "payout"}
    payout = sample("payout", "shopify_payments/payouts/623721858.json")["payout"]

    async def story(shop: Shopify) -> tuple[Page | None, Page | None]:
        paid = Snapshot(ref("payout", 623721858), payout)
        waiting = Snapshot(ref("payout", 623721858), {**payout, "status": "scheduled"})
        return await shop.members(paid, None), await shop.members(waiting, None)

    script = Script(lambda asked: body({"transactions": [*listed["transactions"], own]}))
    paid, waiting = played(script, story)
    assert waiting is None
    assert paid is not None
    assert len(paid.rows) == len(listed["transactions"])
    assert script.asked[0].one("payout_id") == "623721858"
    assert len(script.asked) == 1


def test_what_has_no_list_is_not_listed() -> None:
    with pytest.raises(UsageError):
        played(lambda asked: body({}), _page("refund", cursor=_BEGUN))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"id": None}, "an order came without an id"),
        ({"id": 2, "refunds": [{"id": None}]}, "a refund came without an id"),
        ({"id": 2, "refunds": [{"id": 9, "order_id": 3}]}, "which is another order's"),
    ],
    ids=["no id", "inside", "another's"],
)
def test_a_row_that_cannot_be_held_is_named_and_hides_no_other(broken: dict[str, Any], said: str) -> None:
    rows = [an_order(1), an_order(2) | broken, an_order(3)]
    for page in (_page("order", cursor=_BEGUN), lambda shop: shop.created("order", _WINDOW, None)):
        found = played(Script(lambda asked: body({"orders": rows})), page)
        assert [row.ref for row in found.rows] == [ref("order", 1), ref("order", 3)]
        assert [each.part_of for each in found.along if each.part_of == ref("order", 2)] == []
        (named,) = found.broken
        assert said.removeprefix("an order") in named.said
        assert named.created_at == datetime.fromisoformat(an_order(2)["created_at"])
