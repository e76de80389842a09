"""Which deliveries are accepted, and what each names."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from providers.shopify.finance import FINANCE
from providers.shopify.kinds import KINDS
from providers.shopify.topics import REQUIRED
from reconciler.errors import DeliveryRejected, MalformedDelivery, SignatureRejected
from reconciler.ledger import Ledger, PageRow
from reconciler.ledger.redaction import Asked
from reconciler.model import Cause, Redaction, Snapshot
from reconciler.redaction import keeping_of
from tests.shopify.server import ACCOUNT, NOW, delivery, offline, ref, signed

_AT = "2026-11-21T06:59:58-05:00"
_ORDER = {"id": 1, "updated_at": _AT, "financial_status": "paid", "created_at": "2026-11-20T00:00:00Z"}


def _named(topic: str, body: dict[str, Any]) -> list[str]:
    return [f"{hint.ref.kind}/{hint.ref.id}" for hint in offline().verify(delivery(topic, body)).hints]


@pytest.mark.parametrize("prefix", ["x-shopify-", "shopify-"])
def test_both_families_of_headers_are_read(prefix: str) -> None:
    notice = offline().verify(delivery("orders/paid", _ORDER, prefix=prefix))
    assert notice.event_id == "event-1:orders/paid:1"
    assert notice.type == "orders/paid"
    assert notice.occurred_at is not None
    assert [hint.ref for hint in notice.hints] == [ref("order", 1)]


def test_any_of_several_secrets_will_do_while_they_are_changed() -> None:
    shop = offline(webhook_secrets=(SecretStr("new"), SecretStr("old")))
    for secret in ("new", "old"):
        assert shop.verify(delivery("orders/paid", _ORDER, secret=secret)).hints
    with pytest.raises(SignatureRejected) as refused:
        shop.verify(delivery("orders/paid", _ORDER, secret="another"))
    assert refused.value.reason == "wrong"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"hmac_sha256": ""}, "missing"),
        ({"hmac_sha256": "not base64!"}, "malformed"),
        ({"hmac_sha256": "YWJj"}, "malformed"),
        ({"hmac_sha256": signed(b"something else")}, "wrong"),
    ],
)
def test_what_was_not_signed_is_rejected(headers: dict[str, str], reason: str) -> None:
    with pytest.raises(SignatureRejected) as refused:
        offline().verify(delivery("orders/paid", _ORDER, **headers))
    assert refused.value.reason == reason


def test_without_a_secret_nothing_is_accepted() -> None:
    with pytest.raises(SignatureRejected) as refused:
        offline(webhook_secrets=()).verify(delivery("orders/paid", _ORDER))
    assert refused.value.reason == "no_secret"


def test_a_changed_body_is_rejected() -> None:
    genuine = delivery("orders/paid", _ORDER)
    with pytest.raises(SignatureRejected):
        offline().verify(replace(genuine, body=genuine.body.replace(b"paid", b"void")))


@pytest.mark.parametrize(
    ("said", "headers", "reason"),
    [
        (b"\xff", {}, "not_utf8"),
        (b"{", {}, "not_json"),
        (b"[]", {}, "not_an_object"),
        (_ORDER, {"shop_domain": "other.myshopify.com"}, "other_shop"),
    ],
)
def test_what_was_signed_and_cannot_be_read_is_malformed(said: Any, headers: dict[str, str], reason: str) -> None:
    with pytest.raises(MalformedDelivery) as refused:
        offline().verify(delivery("orders/paid", said, **headers))
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("topic", "body", "named"),
    [
        ("orders/create", {"id": 1}, ["order/1"]),
        ("orders/delete", {"id": 1}, ["order/1"]),
        ("orders/edited", {"order_edit": {"id": 9, "order_id": 1}}, ["order/1"]),
        ("orders/risk_assessment_changed", {"order_id": 1}, ["order/1"]),
        ("order_transactions/create", {"id": 7, "order_id": 1}, ["order_transactions/1", "order/1"]),
        ("refunds/create", {"id": 5, "order_id": 1, "transactions": [{"id": 7}]}, ["order/1", "order_transactions/1"]),
        ("fulfillments/update", {"id": 6, "order_id": 1, "updated_at": _AT}, ["order/1"]),
        ("returns/approve", {"id": 3, "order": {"id": 1}}, ["order/1"]),
        ("draft_orders/update", {"id": 4}, ["draft_order/4"]),
        ("products/update", {"id": 8}, ["product/8"]),
        ("customers/update", {"id": 2}, ["customer/2"]),
        (
            "customers/merge",
            {
                "admin_graphql_api_customer_kept_id": "gid://shopify/Customer/2",
                "admin_graphql_api_customer_deleted_id": "gid://shopify/Customer/3",
            },
            ["customer/2", "customer/3"],
        ),
        ("inventory_levels/update", {"inventory_item_id": 11, "location_id": 12}, ["inventory_level/11/12"]),
        ("inventory_items/update", {"id": 11}, ["inventory_item/11"]),
        ("disputes/create", {"id": 13, "order_id": 1, "status": "needs_response"}, ["dispute/13", "order/1"]),
        ("tender_transactions/create", {"id": 14, "order_id": 1}, ["tender_transaction/14"]),
        ("app/uninstalled", {"id": 99, "name": "a shop"}, ["access_scopes/access_scopes"]),
        ("app/scopes_update", {"previous": [], "current": ["read_orders"]}, ["access_scopes/access_scopes"]),
        ("customers/data_request", {"customer": {"id": 2}, "orders_requested": [1]}, []),
        ("themes/publish", {"id": 15}, []),
        ("orders/paid", {"id": "../../2"}, []),
    ],
)
def test_a_topic_says_which_sort_and_the_body_which_one(topic: str, body: dict[str, Any], named: list[str]) -> None:
    assert _named(topic, body) == named


def test_without_its_topic_a_delivery_says_nothing() -> None:
    with pytest.raises(MalformedDelivery) as refused:
        offline().verify(delivery("", _ORDER))
    assert refused.value.reason == "no_topic"


@pytest.mark.parametrize("topic", REQUIRED)
def test_a_topic_that_the_shop_should_send_without_an_object_is_told_apart(topic: str) -> None:
    assert offline().verify(delivery(topic, {"note": "x"})).nameless is (not topic.startswith("app/"))
    whole = {"id": 1, "order_id": 2, "inventory_item_id": 3, "location_id": 4, "order_edit": {"order_id": 2},
             "admin_graphql_api_customer_kept_id": "gid://shopify/Customer/5"}  # fmt: skip
    assert offline().verify(delivery(topic, whole)).nameless is False


@pytest.mark.parametrize("topic", ["customers/data_request", "shop/redact", "themes/publish"])
def test_a_topic_that_names_no_resource_is_understood(topic: str) -> None:
    assert offline().verify(delivery(topic, {"shop_id": 1})).nameless is False


def test_one_event_through_two_subscriptions_is_one_event_and_through_two_topics_is_two() -> None:
    shop = offline()
    twice = [shop.verify(delivery("orders/paid", _ORDER, webhook_id=name)) for name in ("a", "b")]
    assert twice[0].event_id == twice[1].event_id
    refund = shop.verify(delivery("refunds/create", {"id": 5, "order_id": 1}))
    assert refund.event_id != twice[0].event_id


def test_without_any_id_in_the_headers_deliveries_are_told_apart_by_their_bodies() -> None:
    bare = {"event_id": "", "webhook_id": ""}
    one, other, again = (
        offline().verify(delivery("orders/paid", {**_ORDER, "note": note}, **bare)).event_id for note in ("x", "y", "x")
    )
    assert one == again != other


@pytest.mark.parametrize("topic", ["customers/redact", "shop/redact", "customers/data_request"])
def test_compliance_topics_are_rejected_without_a_good_signature(topic: str) -> None:
    with pytest.raises(DeliveryRejected) as refused:
        offline().verify(delivery(topic, {"shop_id": 1, "customer": {"id": 2}}, secret="another"))
    assert isinstance(refused.value, SignatureRejected)


def test_a_customer_is_redacted_with_the_orders_that_are_named() -> None:
    asked = {"shop_id": 1, "customer": {"id": 2, "email": "a@b"}, "orders_to_redact": [10, 11]}
    notice = offline().verify(delivery("customers/redact", asked))
    assert notice.redact == (Redaction("customer", "2"), Redaction("order", "10"), Redaction("order", "11"))
    assert notice.hints == ()


def test_a_shop_is_redacted_whole() -> None:
    assert offline().verify(delivery("shop/redact", {"shop_id": 1})).redact == (Redaction(),)


def test_a_redaction_of_nobody_is_refused_so_that_it_cannot_pass_as_done() -> None:
    with pytest.raises(MalformedDelivery):
        offline().verify(delivery("customers/redact", {"shop_id": 1}))


def test_a_redacted_sale_still_finds_its_charge(ledger: Ledger) -> None:
    receipt = {"id": "pi_3OqAb12", "client_secret": "pi_3OqAb12_secret_xyz", "metadata": {"email": "ada@example.com"},
               "latest_charge": {"id": "ch_3OqAb12", "billing_details": {"name": "Ada"}}}  # fmt: skip
    body = {"id": 5, "order_id": 10, "kind": "sale", "status": "success", "gateway": "stripe", "amount": "12.00",
            "currency": "EUR", "processed_at": "2026-11-02T12:00:00Z", "receipt": receipt}  # fmt: skip
    sale = Snapshot(ref("transaction", "10/5"), body)
    kind = KINDS["transaction"]
    ledger.apply_page([PageRow(sale)], start=ledger.tick(), started_at=NOW, cause=Cause.SWEEP,
                      settle={"transaction": timedelta(0)}, now=NOW)  # fmt: skip
    assert kind.words_kept_when_redacted is not None
    keeping = keeping_of({kind.name: kind})
    asked = Asked(ACCOUNT, Redaction("order", "10"), "e")
    ledger.redactions.shrink(asked, lambda _: keeping, after=(-(2**63), 0), limit=10)
    with ledger.view() as view:
        resource = view.resource(sale.ref)
        assert resource is not None
        left = list(view.versions(resource))[-1].body
    assert left is not None
    (before,), (after,) = FINANCE.read(sale), FINANCE.read(Snapshot(sale.ref, left))
    assert after.clues == before.clues
    assert {clue.value for clue in after.clues} > {"pi_3OqAb12", "ch_3OqAb12"}
    assert not [word for word in ("Ada", "ada@", "secret") if word in str(left)]
