"""From a body to a reading: Stripe's published bodies, expansions put back to ids, and identity checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from providers.stripe import names, reading
from providers.stripe.kinds import KINDS, ROUTES
from reconciler.errors import BadReply
from reconciler.model import ResourceRef, Snapshot, Tombstone
from tests import corpus

VERSION = "2026-10-28.endive"


def ref(kind: str, resource_id: str) -> ResourceRef:
    return ResourceRef("stripe", "main", kind, resource_id)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_published_body_of_each_kind_parses(kind: str) -> None:
    body = corpus.resources()[kind]
    subject = reading.reference("main", kind, body)
    snapshot, *_ = reading.read(subject, body, VERSION)
    assert isinstance(snapshot, Snapshot)
    assert snapshot.ref == subject
    assert snapshot.status == body.get("status")
    assert (snapshot.created_at is None) == (kind == "balance")
    assert snapshot.api_version == VERSION
    assert len(snapshot.content_hash) == 64
    assert subject not in snapshot.related


@pytest.mark.parametrize("kind", sorted(kind for kind, known in KINDS.items() if known.deletable))
def test_published_deleted_body_is_a_tombstone(kind: str) -> None:
    body = corpus.resources()[f"deleted_{kind}"]
    assert isinstance(reading.read(ref(kind, body["id"]), body, VERSION)[0], Tombstone)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_each_published_body_is_refused_as_any_other_kind(name: str) -> None:
    body = corpus.resources()[name]
    for kind in KINDS.keys() - {name}:
        with pytest.raises(BadReply):
            reading.read(ref(kind, str(body.get("id", "balance"))), body, VERSION)


def test_expanded_intent_tells_of_charge_and_balance_transaction_too() -> None:
    samples = corpus.resources()
    transaction = samples["balance_transaction"]
    charge = {**samples["charge"], "balance_transaction": transaction}
    intent = {**samples["payment_intent"], "latest_charge": charge}
    readings = reading.read(ref("payment_intent", intent["id"]), intent, VERSION)
    assert [one.ref.kind for one in readings] == ["payment_intent", "charge", "balance_transaction"]
    assert all(isinstance(one, Snapshot) for one in readings)
    listed = {
        "payment_intent": {**intent, "latest_charge": charge["id"]},
        "charge": {**charge, "balance_transaction": transaction["id"]},
        "balance_transaction": transaction,
    }
    for one in readings:
        assert isinstance(one, Snapshot)
        [alone] = reading.read(one.ref, listed[one.ref.kind], VERSION)
        assert isinstance(alone, Snapshot)
        assert one.content_hash == alone.content_hash
        assert one == alone
    assert intent["latest_charge"] is charge  # the answer itself is left as it was


@pytest.mark.parametrize("kind", sorted(kind for kind, route in ROUTES.items() if route.embeds))
def test_every_expansion_is_put_back_to_its_id(kind: str) -> None:
    samples = corpus.resources()
    body = dict(samples[kind])
    for name, inner in ROUTES[kind].embeds.items():
        body[name] = samples[inner]
    readings = reading.read(ref(kind, body["id"]), body, VERSION)
    assert isinstance(readings[0], Snapshot)
    for name, inner in ROUTES[kind].embeds.items():
        assert readings[0].body[name] == samples[inner]["id"]
        assert reading.reference("main", inner, samples[inner]) in {one.ref for one in readings[1:]}
        assert reading.reference("main", inner, samples[inner]) in readings[0].related


def test_dispute_keeps_its_transactions_and_tells_of_them() -> None:
    samples = corpus.resources()
    body = {**samples["dispute"], "balance_transactions": [samples["balance_transaction"]]}
    dispute, transaction = reading.read(ref("dispute", body["id"]), body, VERSION)
    assert isinstance(dispute, Snapshot)
    assert dispute.body == body
    assert transaction.ref == ref("balance_transaction", samples["balance_transaction"]["id"])
    assert transaction.ref in dispute.related


def test_connected_accounts_resource_names_others_of_the_same_account() -> None:
    samples = corpus.resources()
    charge = {**samples["charge"], "balance_transaction": samples["balance_transaction"], "payment_intent": "pi_9"}
    subject = reading.reference("main", "charge", charge, "acct_X")
    assert subject.id == f"acct_X/{charge['id']}"
    snapshot, transaction = reading.read(subject, charge, VERSION)
    assert isinstance(snapshot, Snapshot)
    assert ref("payment_intent", "acct_X/pi_9") in snapshot.related
    assert transaction.ref.id == f"acct_X/{samples['balance_transaction']['id']}"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("ch_1", "charge"), ("py_1", "charge"), ("re_1", "refund"), ("pyr_1", "refund"), ("po_1", "payout"),
        ("dp_1", "dispute"), ("du_1", "dispute"), ("tr_1", "transfer"), ("tu_1", "topup"), ("fee_1", "application_fee"),
        ("ipi_1", None), ("trr_1", None), ("nonsense", None), ("", None), (None, None), (7, None),
    ],
)  # fmt: skip
def test_source_of_a_transaction_is_known_by_its_prefix(source: object, kind: str | None) -> None:
    subject = ref("balance_transaction", "txn_1")
    expected = (ref(kind, str(source)),) if kind else ()
    assert names.related(subject, {"source": source}) == expected


def test_invoice_names_its_payments_in_the_new_shape_and_the_old() -> None:
    payments = {"data": [{"payment": {"type": "payment_intent", "payment_intent": "pi_1"}}, {"payment": None}, "odd"]}
    new = {"payments": payments, "parent": {"subscription_details": {"subscription": "sub_1"}}}
    old = {"payment_intent": "pi_1", "charge": "ch_1", "subscription": "sub_1"}
    subject = ref("invoice", "in_1")
    assert set(names.related(subject, new)) == {ref("payment_intent", "pi_1"), ref("subscription", "sub_1")}
    assert set(names.related(subject, old)) == {
        ref("payment_intent", "pi_1"), ref("charge", "ch_1"), ref("subscription", "sub_1"),
    }  # fmt: skip


def test_volatile_fields_are_stored_but_leave_the_hash_alone() -> None:
    body = corpus.resources()["charge"]
    one, other = (
        reading.read(ref("charge", body["id"]), {**body, "receipt_url": url}, VERSION)[0] for url in ("a", "b")
    )
    assert isinstance(one, Snapshot)
    assert isinstance(other, Snapshot)
    assert one.body["receipt_url"] == "a"
    assert one.content_hash == other.content_hash


def test_product_alone_says_when_it_changed() -> None:
    body = {**corpus.resources()["product"], "updated": 1_700_000_000}
    [product] = reading.read(ref("product", body["id"]), body, VERSION)
    assert isinstance(product, Snapshot)
    assert product.updated_at == datetime.fromtimestamp(1_700_000_000, UTC)


@pytest.mark.parametrize("value", [None, "1700000000", 1.5, True, 10**30, -(10**30)])
def test_what_is_no_time_is_none(value: Any) -> None:
    assert reading.instant(value) is None


@pytest.mark.parametrize("odd", [1e308, 5, {"id": "txn_1"}, "txn_1", [None, 5]])
def test_a_list_that_is_none_holds_nothing(odd: object) -> None:
    body = {"id": "dp_1", "object": "dispute", "balance_transactions": odd}
    [dispute] = reading.read(ref("dispute", "dp_1"), body, VERSION)
    assert isinstance(dispute, Snapshot)


def test_an_id_that_no_database_could_index_is_none() -> None:
    """Stripe promises 255 characters at most. In a list it is refused; a field that holds such a one names nothing."""
    with pytest.raises(BadReply):
        reading.reference("main", "charge", {"id": "ch_" + "x" * 300, "object": "charge"})
    body = {"id": "ch_1", "object": "charge", "payment_intent": "pi_" + "x" * 300}
    assert names.related(ref("charge", "ch_1"), body) == ()


@pytest.mark.parametrize(
    "body", [{}, {"object": "charge"}, {"object": "charge", "id": 7}, {"object": "charge", "id": "ch_other"}]
)
def test_body_of_something_else_is_a_bad_reply(body: dict[str, Any]) -> None:
    with pytest.raises(BadReply):
        reading.read(ref("charge", "ch_1"), body, VERSION)
