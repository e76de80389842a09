"""What people read: true, ordered the same on both databases, and bounded."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from reconciler.clock import ManualClock
from reconciler.ledger import Ledger
from reconciler.ledger.bulk import TRUTH, WHOLE, WORDS, Bulk, insert_into
from reconciler.model import Cause, State, changed_fields
from tests.ledger.factories import (
    SETTLE,
    answer,
    by_hand,
    claim_one,
    ref,
    seconds,
    settle,
    show_page,
    snapshot,
    tombstone,
    webhook,
)

CHARGE = ref()


def test_an_unknown_resource_is_none(ledger: Ledger) -> None:
    with ledger.view() as view:
        assert view.resource(CHARGE) is None


def test_versions_as_of_an_instant(ledger: Ledger, clock: ManualClock) -> None:
    began = clock.now()
    for reading in (snapshot(CHARGE, 1), snapshot(CHARGE, 2), tombstone(CHARGE)):
        settle(ledger, CHARGE, reading, clock.now())
        clock.advance(seconds(60))
    with ledger.view() as view:
        resource = view.resource(CHARGE)
        assert resource is not None
        known = [len(list(view.versions(resource, began + seconds(at)))) for at in (-1, 0, 59, 60, 120, 999)]
        assert known == [0, 1, 1, 2, 3, 3]
        first, second, third = view.versions(resource)
    assert [each.changed for each in (first, second, third)] == [("*",), ("value",), ("*",)]
    assert (third.state, third.body) == (State.DELETED, None)
    assert second.recorded_at == began + seconds(60)


def test_resources_come_in_key_order_page_by_page(ledger: Ledger, clock: ManualClock) -> None:
    names = ["a", "B", "_", "é", "Z", "-", "10", "9", "日"]
    refs = [ref(name, kind=kind, account=account) for account in ("b", "A") for kind in ("y", "X") for name in names]
    ledger.mark([by_hand(each) for each in refs], clock.now())
    with ledger.view() as view:
        for page in (1, 4, 1000):
            found = [each.ref for each in view.resources(page=page)]
            assert found == sorted(refs, key=lambda each: (each.account, each.kind, each.id))


def test_only_the_dirty_ones_on_request(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE), clock.now())
    ledger.mark([by_hand(ref("ch_2"))], clock.now())
    with ledger.view() as view:
        assert [each.ref.id for each in view.resources(only_dirty=True)] == ["ch_2"]


def test_holdings_count_each_condition(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, ref("present"), snapshot(ref("present")), clock.now())
    settle(ledger, ref("deleted"), tombstone(ref("deleted")), clock.now())
    began = clock.now()
    ledger.mark([webhook(ref("dirty"))], began)
    clock.advance(seconds(60))
    ledger.mark([webhook(ref("present"))], clock.now())
    with ledger.view() as view:
        (holding,) = view.holdings()
    assert (holding.total, holding.present, holding.deleted, holding.dirty) == (3, 1, 1, 2)
    assert holding.oldest_dirty_at == began


def test_open_resources_are_the_oldest_in_those_states(ledger: Ledger, clock: ManualClock) -> None:
    for number, status in enumerate(["processing", "succeeded", "processing", None]):
        of = ref(f"ch_{number}")
        created = clock.now() - timedelta(hours=number)
        settle(ledger, of, snapshot(of, status=status, created_at=created), clock.now())
    with ledger.view() as view:
        found = view.open_resources("main", "charge", ["processing"], created_before=clock.now(), limit=10)
        assert [(each.ref.id, each.status, each.dirty) for each in found] == [("ch_2", "processing", False)]
        both = view.open_resources(
            "main", "charge", ["processing", "succeeded"], created_before=clock.now() + seconds(1), limit=2
        )
        assert [each.ref.id for each in both] == ["ch_2", "ch_1"]


def test_changes_and_drift_by_cause(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    clock.advance(SETTLE)
    answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE, 1), now=clock.now())
    clock.advance(SETTLE)
    show_page(ledger, snapshot(CHARGE, 2), start=ledger.tick(), started_at=clock.now(), now=clock.now())
    with ledger.view() as view:
        assert set(view.changes_by_cause(clock.now() - SETTLE)) == {
            ("main", "charge", Cause.SWEEP, 1),
            ("main", "charge", Cause.WEBHOOK, 1),
        }
        assert view.drift_by_cause(clock.now() - SETTLE) == [("main", "charge", Cause.SWEEP, 1)]
        assert view.drift_by_cause(clock.now() + seconds(1)) == []


# --- the difference of two bodies -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (None, None, []),
        (None, {}, ["*"]),
        ({"a": 1}, None, ["*"]),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": 1}, {"a": "1"}, ["a"]),
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": 1}, {"a": 1.0}, ["a"]),
        ({"a": None}, {}, ["a"]),
        ({}, {"b": None}, ["b"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ["a.c"]),
        ({"a": {"b": 1}}, {"a": [1]}, ["a"]),
        ({"a": [1, 2]}, {"a": [2, 1]}, ["a"]),
        ({"a": {}}, {"a": {"b": 1}}, ["a.b"]),
        ({"z": 1, "a": 1}, {"z": 2, "a": 2}, ["a", "z"]),
    ],
)
def test_changed_fields(before: dict[str, object], after: dict[str, object], changed: list[str]) -> None:
    assert changed_fields(before, after) == changed


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a"]),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)
_bodies = st.dictionaries(st.sampled_from("abc"), _json, max_size=3)


@given(_bodies, _bodies)
def test_changed_fields_names_something_exactly_when_bodies_differ(
    before: dict[str, object], after: dict[str, object]
) -> None:
    changed = changed_fields(before, after)
    assert changed == changed_fields(after, before)
    assert changed_fields(before, before) == []
    if before != after:
        assert changed


# --- many rows in one statement ---------------------------------------------------------------------


def test_bulk_writes_many_rows_with_every_kind_of_value(ledger: Ledger) -> None:
    columns = {"account": WORDS, "kind": WORDS, "since": WHOLE, "until": WHOLE, "complete": TRUTH, "id": WHOLE}
    insert = insert_into("coverage", columns | {"recorded_at": WHOLE, "reason": WORDS})
    rows = [
        {
            "account": "quote'\",{}\\ %s :x",
            "kind": "",
            "since": -(2**62),
            "until": number,
            "complete": number % 2 == 0,
            "id": number,
            "recorded_at": 2**62,
            "reason": "ünïcødé\n",
        }
        for number in range(500)
    ]
    with ledger.together() as tx:
        assert insert.run(tx, rows) == 500
        assert insert.run(tx, []) == 0
    with ledger.store.read() as tx:
        found = [dict(each._mapping) for each in tx.run(text("SELECT * FROM coverage ORDER BY id"))]
    assert [{name: each[name] for name in rows[0]} for each in found] == rows


def test_bulk_says_how_many_rows_it_touched(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(ref(f"ch_{number}")) for number in range(3)], clock.now())
    update = Bulk(
        "UPDATE resource SET last_error = {error} {_rows} WHERE resource.remote_id = {name}",
        {"name": WORDS, "error": WORDS},
    )
    with ledger.together() as tx:
        names = ["ch_0", "ch_2", "ch_none"]
        assert update.run(tx, [{"name": name, "error": None} for name in names]) == 2
