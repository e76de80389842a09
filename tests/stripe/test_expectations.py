"""An announcement is never taken for true by a read of the state before it; everything doubtful is no."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from providers.stripe.events import ALL_TYPES
from providers.stripe.expectations import announced, satisfied
from reconciler.model import ResourceRef, Snapshot, Tombstone

REF = ResourceRef("stripe", "main", "payment_intent", "pi_1")


def read(body: Mapping[str, Any]) -> Snapshot:
    return Snapshot(REF, dict(body))


scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "open", "succeeded", "1"])
names = st.sampled_from(
    ["status", "amount", "captured", "metadata", "shipping", "items", "amount_refunded", "payment_status"]
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)
bodies = st.dictionaries(names, values, max_size=6)


def previous_attributes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """As Stripe builds them: old values of what changed; of nested objects only that part, null for a new key."""
    old: dict[str, Any] = {}
    for name in before.keys() | after.keys():
        one, other = before.get(name), after.get(name)
        if one == other and type(one) is type(other):
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            old[name] = previous_attributes(one, other)
            continue
        old[name] = copy.deepcopy(one)
    return old


@given(before=bodies, after=bodies)
def test_state_from_before_a_change_never_satisfies_it(before: dict[str, Any], after: dict[str, Any]) -> None:
    previous = previous_attributes(before, after)
    assume(previous)
    expected = announced("payment_intent.updated", after, previous)
    assert expected is not None
    assert not satisfied(expected, read(before))


@given(before=bodies, after=bodies, event_type=st.sampled_from(ALL_TYPES))
def test_no_type_is_satisfied_by_the_state_that_it_changed(
    before: dict[str, Any], after: dict[str, Any], event_type: str
) -> None:
    previous = previous_attributes(before, after)
    assume(previous)
    expected = announced(event_type, after, previous)
    if expected is not None and expected != {"exists": True}:
        assert not satisfied(expected, read(before))


@given(
    before=st.dictionaries(names, scalars, min_size=1, max_size=6),
    after=st.dictionaries(names, scalars, min_size=1, max_size=6),
)
def test_state_after_a_change_of_plain_fields_satisfies_it(before: dict[str, Any], after: dict[str, Any]) -> None:
    after = {**before, **after}
    before = {**dict.fromkeys(after), **before}  # one API version: both bodies have the same fields
    before.pop("metadata", None)
    after.pop("metadata", None)
    previous = previous_attributes(before, after)
    assume(previous)
    assert satisfied(announced("charge.updated", after, previous) or {}, read(after))


@given(
    old=st.dictionaries(st.sampled_from("xyz"), st.sampled_from("ab")),
    new=st.dictionaries(st.sampled_from("xyz"), st.sampled_from("ab")),
)
def test_metadata_added_changed_or_removed_is_seen(old: dict[str, str], new: dict[str, str]) -> None:
    before, after = {"metadata": old}, {"metadata": new}
    previous = previous_attributes(before, after)
    assume(previous)
    expected = announced("charge.updated", after, previous)
    assert expected is not None
    assert satisfied(expected, read(after))
    assert not satisfied(expected, read(before))


def test_an_older_state_than_the_one_before_does_not_pass_as_new() -> None:
    expected = announced("payout.updated", {"status": "in_transit"}, {"status": "pending"})
    assert expected == {"changed_from": {"status": "pending"}, "is": {"status": "in_transit"}}
    assert satisfied(expected, read({"status": "in_transit"}))
    assert not satisfied(expected, read({"status": "scheduled"}))


_STATES = {
    "payment_intent.succeeded": ("processing", "succeeded"),
    "payment_intent.processing": ("requires_confirmation", "processing"),
    "payment_intent.canceled": ("requires_payment_method", "canceled"),
    "charge.succeeded": ("pending", "succeeded"),
    "charge.failed": ("pending", "failed"),
    "refund.failed": ("succeeded", "failed"),
    "payout.paid": ("in_transit", "paid"),
    "payout.failed": ("paid", "failed"),
    "checkout.session.completed": ("open", "complete"),
    "checkout.session.expired": ("open", "expired"),
    "invoice.paid": ("open", "paid"),
    "invoice.voided": ("open", "void"),
    "customer.subscription.deleted": ("active", "canceled"),
    "topup.succeeded": ("pending", "succeeded"),
}


@pytest.mark.parametrize(("event_type", "states"), sorted(_STATES.items()))
def test_state_events_expect_the_state_with_and_without_the_object(event_type: str, states: tuple[str, str]) -> None:
    old, new = states
    for subject in ({"status": new}, None):
        expected = announced(event_type, subject, None)
        assert expected == {"is": {"status": new}}
        assert satisfied(expected, read({"status": new, "amount": 1}))
        assert not satisfied(expected, read({"status": old}))
        assert not satisfied(expected, read({}))
        assert not satisfied(expected, Tombstone(REF))


def test_object_that_disagrees_with_its_own_type_announces_nothing() -> None:
    assert announced("payment_intent.succeeded", {"status": "processing"}, None) is None


@pytest.mark.parametrize(
    "event_type", ["payment_intent.payment_failed", "payment_intent.requires_action", "charge.expired"]
)
def test_types_that_can_leave_the_status_as_it_was_announce_nothing(event_type: str) -> None:
    assert announced(event_type, {"status": "requires_payment_method"}, None) is None


def test_amounts_that_move_are_expected_as_they_are_now() -> None:
    expected = announced("charge.refunded", {"refunded": False, "amount_refunded": 500, "amount": 900}, None)
    assert expected == {"is": {"refunded": False, "amount_refunded": 500}}
    assert not satisfied(expected, read({"refunded": False, "amount_refunded": 0}))
    assert satisfied(expected, read({"refunded": False, "amount_refunded": 500}))
    assert announced("charge.refunded", None, None) is None
    assert announced("charge.refunded", {"refunded": False}, None) is None


def test_created_and_deleted() -> None:
    created, deleted = announced("customer.created", {}, None), announced("customer.deleted", {}, None)
    assert created == {"exists": True}
    assert deleted == {"gone": True}
    assert satisfied(created, read({}))
    assert not satisfied(created, Tombstone(REF))
    assert satisfied(deleted, Tombstone(REF))
    assert not satisfied(deleted, read({"status": "canceled"}))


@given(
    expected=st.dictionaries(st.sampled_from(["is", "changed_from", "exists", "gone", "later"]), values, max_size=3),
    body=bodies,
)
def test_any_expectation_at_all_ends_in_yes_or_no(expected: dict[str, Any], body: dict[str, Any]) -> None:
    for reading in (read(body), Tombstone(REF)):
        assert satisfied(expected, reading) in (True, False)
        if not expected or "later" in expected:
            assert not satisfied(expected, reading)


def test_true_is_not_one_and_absent_is_not_null() -> None:
    assert not satisfied({"is": {"captured": True}}, read({"captured": 1}))
    assert not satisfied({"is": {"captured": None}}, read({}))
    assert not satisfied({"changed_from": {"captured": False}}, read({}))
    assert satisfied({"changed_from": {"captured": False}}, read({"captured": 0}))
