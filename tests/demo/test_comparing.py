"""The comparison of ledger and truth, by itself: what it must notice, and what it must let pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from providers.shopify import kinds as shopify
from providers.stripe import kinds as stripe
from reconciler.demo.comparing import VOLATILE, Comparison, Held, compare
from reconciler.model import ResourceRef, State

CHARGE = {"id": "ch_1", "object": "charge", "amount": 500, "status": "succeeded", "receipt_url": "https://a"}
INVOICE = {"id": "in_1", "object": "invoice", "status": "paid"}
PAYMENT = {"id": "inpay_1", "object": "invoice_payment", "invoice": "in_1", "status": "paid"}
LISTED = {"object": "list", "data": [PAYMENT], "has_more": False, "url": "/v1/invoices/in_1/payments"}
BALANCE = {"object": "balance", "available": [{"amount": 500, "currency": "usd"}]}


def ref(kind: str, resource_id: str) -> ResourceRef:
    return ResourceRef("stripe", "main", kind, resource_id)


def truth(*, deleted: tuple[str, ...] = ()) -> dict[str, Any]:
    objects = {"charge": {"ch_1": CHARGE}, "invoice": {"in_1": INVOICE}, "invoice_payment": {"inpay_1": PAYMENT}}
    return {"objects": objects, "deleted": {"charge": list(deleted)}, "balance": BALANCE}


def held(**charge: Any) -> dict[ResourceRef, Held]:
    rows = [
        Held(ref("charge", "ch_1"), State.PRESENT, "succeeded", {**CHARGE, **charge}),
        Held(ref("invoice", "in_1"), State.PRESENT, "paid", {**INVOICE, "payments": LISTED}),
        Held(ref("balance", "balance"), State.PRESENT, None, BALANCE),
    ]
    return {row.ref: row for row in rows}


def a_charge(
    resource_id: str, state: State, status: str | None, body: dict[str, Any] | None
) -> dict[ResourceRef, Held]:
    named = ref("charge", resource_id)
    return {named: Held(named, state, status, body)}


def compared(told: dict[str, Any], rows: dict[ResourceRef, Held]) -> Comparison:
    return compare(told, rows.values(), provider="stripe", account="main", kinds=["charge", "invoice", "balance"])


def only(comparison: Comparison) -> str:
    (difference,) = comparison.differences
    assert not comparison.equal
    return f"{difference.ref}: {difference.text}"


def test_equal_ledger_is_equal_and_says_how_much_was_compared() -> None:
    comparison = compared(truth(), held(receipt_url="https://signed-anew"))
    assert comparison.equal
    assert {each.kind: each.present for each in comparison.kinds} == {"balance": 1, "charge": 1, "invoice": 1}


def test_field_that_differs_is_named_with_both_values() -> None:
    text = only(compared(truth(), held(amount=499)))
    assert text == "stripe/main/charge/ch_1: amount is 499 in the ledger, 500 at the provider"


def test_missing_resource_is_a_difference() -> None:
    rows = held()
    del rows[ref("charge", "ch_1")]
    assert only(compared(truth(), rows)) == "stripe/main/charge/ch_1: missing in the ledger"


@pytest.mark.parametrize("state", [State.UNKNOWN, State.DELETED])
def test_present_resource_that_the_ledger_has_not_is_a_difference(state: State) -> None:
    assert "present at the provider" in only(compared(truth(), held() | a_charge("ch_1", state, None, None)))


@pytest.mark.parametrize("state", [State.UNKNOWN, State.PRESENT])
def test_deleted_resource_without_a_tombstone_is_a_difference(state: State) -> None:
    rows = held() | a_charge("ch_2", state, "succeeded", CHARGE)
    assert "deleted at the provider" in only(compared(truth(deleted=("ch_2",)), rows))


def test_deleted_resource_that_nobody_ever_saw_is_counted_and_no_difference() -> None:
    comparison = compared(truth(deleted=("ch_2",)), held())
    assert comparison.equal
    assert comparison.never_known == 1


def test_resource_that_the_provider_never_had_is_a_difference() -> None:
    rows = held() | a_charge("ch_9", State.PRESENT, "succeeded", CHARGE)
    assert "unknown to the provider" in only(compared(truth(), rows))


def test_status_column_is_compared_as_well_as_the_body() -> None:
    rows = held() | a_charge("ch_1", State.PRESENT, "failed", CHARGE)
    assert "status column is 'failed'" in only(compared(truth(), rows))


def test_payments_inside_an_invoice_are_compared() -> None:
    named = ref("invoice", "in_1")
    empty = {**INVOICE, "payments": {**LISTED, "data": []}}
    rows = held() | {named: Held(named, State.PRESENT, "paid", empty)}
    assert "payments.data" in only(compared(truth(), rows))


def test_nothing_compared_is_not_equal() -> None:
    assert not compare({"objects": {}, "deleted": {}}, [], provider="stripe", account="main", kinds=["charge"]).equal


def test_another_account_s_resources_are_not_compared() -> None:
    other = ResourceRef("shopify", "shop", "order", "1")
    assert compared(truth(), held() | {other: Held(other, State.PRESENT, None, {})}).equal


def test_two_accounts_are_equal_only_together() -> None:
    fine, wrong = compared(truth(), held()), compared(truth(), held(amount=499))
    assert (fine + fine).resources == 2 * fine.resources
    assert not (fine + wrong).equal


def test_balance_that_the_provider_does_not_have_is_a_tombstone() -> None:
    """A shop without Shopify Payments."""
    none = {**truth(), "balance": None}
    balance = ref("balance", "balance")
    gone = {balance: Held(balance, State.DELETED, None, None)}
    assert compared(none, held() | gone).equal
    assert "deleted at the provider" in only(compared(none, held()))


@pytest.mark.parametrize(("provider", "routes"), [("stripe", stripe.ROUTES), ("shopify", shopify.ROUTES)])
def test_volatile_fields_are_exactly_the_providers(provider: str, routes: Mapping[str, Any]) -> None:
    assert {kind: route.volatile for kind, route in routes.items() if route.volatile} == VOLATILE[provider]
