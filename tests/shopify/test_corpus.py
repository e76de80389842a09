"""Every body that Shopify documents can be read: kinds that we follow as resources, everything else as an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from providers.shopify import reading
from providers.shopify.kinds import KINDS, ROUTES
from providers.shopify.replies import Missing, understand
from reconciler.errors import BadReply
from reconciler.model import Snapshot
from reconciler.provider import Reply
from tests import corpus
from tests.shopify.server import ACCOUNT, NOW, offline, ref, sample

_DOES_NOT_FOOT = 758509248
"""One documented adjustment has amount -1.50, fee -0.25 and net -1.75, where every other example nets amount - fee."""

_KIND_OF_RESOURCE = {"payment_transaction": "balance_transaction"}


def _documented() -> Iterator[tuple[str, str, str, int, Any]]:
    for resource, examples in corpus.load(corpus.SHOPIFY).items():
        for method, url, status, answer in examples:
            yield resource, method, url, status, answer


def test_every_documented_answer_is_understood() -> None:
    count = 0
    for _, method, url, status, answer in _documented():
        understood = understand(Reply(status, {}, orjson.dumps(answer)), f"{method} {url}", NOW)
        assert not isinstance(understood, Missing)
        assert understood == answer
        count += 1
    assert count == 626


def _bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Whole bodies of the kinds that we follow (examples of `fields=` are cut down to a few)."""
    for resource, method, url, _, answer in _documented():
        kind = _KIND_OF_RESOURCE.get(resource, resource)
        route = ROUTES.get(kind)
        if (
            route is None
            or method == "delete"
            or "fields=" in url
            or kind == "balance"
            or not kind
            or "calculate" in url
        ):
            continue
        rows = answer.get(route.plural) or ([answer[route.singular]] if answer.get(route.singular) else [])
        for row in rows:
            yield kind, row


def test_every_documented_body_of_a_kind_becomes_a_resource() -> None:
    shop = offline()
    seen: dict[str, int] = {}
    for kind, row in _bodies():
        snapshot = reading.snapshot(ACCOUNT, kind, row, "2026-07")
        assert snapshot.ref.kind == kind
        assert snapshot.content_hash
        assert snapshot.created_at is not None or kind == "inventory_level", snapshot.ref
        for related in (*snapshot.related, *snapshot.affects, *snapshot.parts):
            assert related.kind in KINDS
        if kind == "balance_transaction" and row["id"] == _DOES_NOT_FOOT:
            with pytest.raises(BadReply, match="is not net"):
                shop.entries(snapshot)
        else:
            assert len(shop.entries(snapshot)) == (kind == "balance_transaction" and not row.get("test"))
        for movement in shop.finance.read(snapshot):
            assert movement.ref == snapshot.ref
        seen[kind] = seen.get(kind, 0) + 1
    # A list's own body, and what the app may see, are not documented as resources.
    assert set(seen) == set(KINDS) - {"balance", "order_transactions", "access_scopes"}


def test_an_order_holds_its_refunds_and_fulfillments() -> None:
    order = sample("order", "orders/450789469.json")["order"]
    whole = reading.snapshot(ACCOUNT, "order", order, "2026-07")
    assert [each.ref for each in reading.inside(whole)] == [
        ref("refund", "450789469/509562969"),
        ref("fulfillment", "450789469/255858046"),
    ]
    assert whole.parts == (ref("order_transactions", 450789469),)
    assert ref("customer", 207119551) in whole.related
    assert whole.status == "partially_refunded"


def test_transactions_of_an_order_are_a_list_and_each_of_them() -> None:
    answer = sample("transaction", "orders/450789469/transactions.json")
    first, *each = reading.transactions(ACCOUNT, "450789469", answer, "2026-07")
    assert first.body == {"order_id": 450789469, "transaction_ids": [179259969, 389404469, 801038806]}
    assert {one.ref for one in each} == {ref("transaction", f"450789469/{n}") for n in first.body["transaction_ids"]}


def test_a_transaction_does_not_change_with_what_its_order_still_owes() -> None:
    answer = sample("transaction", "orders/450789469/transactions.json")["transactions"][1]
    settled = {**answer, "total_unsettled_set": {"shop_money": {"amount": "0.00", "currency": "USD"}}}
    before, after = (reading.snapshot(ACCOUNT, "transaction", row, "") for row in (answer, settled))
    assert before.content_hash == after.content_hash
    failed = reading.snapshot(ACCOUNT, "transaction", {**answer, "status": "failure"}, "")
    assert failed.content_hash != before.content_hash


@pytest.mark.parametrize("kind", ["order", "draft_order"])
def test_the_copy_of_the_customer_inside_an_order_makes_no_version(kind: str) -> None:
    url = {"order": "orders/450789469.json", "draft_order": "draft_orders/994118539.json"}[kind]
    answer = sample(kind, url)[kind]
    other = {**answer, "customer": {**answer["customer"], "note": "calls often"}}
    before, after = (reading.snapshot(ACCOUNT, kind, row, "") for row in (answer, other))
    assert before.content_hash == after.content_hash


def test_control_totals_are_the_balance_as_shopify_states_it() -> None:
    answer = sample("balance", "shopify_payments/balance.json")
    stated = reading.named(ref("balance", "balance"), answer, "2026-07")
    assert isinstance(stated, Snapshot)
    (total,) = offline().control_totals(stated, NOW)
    assert (total.amount.minor, total.amount.currency, total.balance_type) == (5399, "USD", "payments")
