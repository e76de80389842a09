"""When a read settles what a delivery announced; everything doubtful is no."""

from __future__ import annotations

from typing import Any

import pytest

from providers.shopify import expectations, reading
from reconciler.model import Snapshot, Tombstone
from tests.shopify.server import ACCOUNT, delivery, offline, ref

_SECOND = "2026-11-21T12:00:05Z"
_BEFORE = "2026-11-21T12:00:04Z"
_AFTER = "2026-11-21T12:00:06Z"


def _order(at: str, **changes: Any) -> Snapshot:
    body = {"id": 1, "updated_at": at, "financial_status": "paid", "note": None, **changes}
    return reading.snapshot(ACCOUNT, "order", body, "2026-10")


def _announced(**changes: Any) -> Any:
    body = {"id": 1, "updated_at": _SECOND, "financial_status": "paid", "note": None, **changes}
    return offline().verify(delivery("orders/updated", body)).hints[0].expected


def test_a_read_of_a_later_second_shows_everything_announced_before() -> None:
    assert offline().satisfied(_announced(), _order(_AFTER, financial_status="refunded"))


def test_a_stale_retry_hours_late_is_settled_by_any_read() -> None:
    """A retry carries the payload of the first attempt; what it says is long over, and harmless."""
    assert offline().satisfied(_announced(financial_status="pending"), _order("2026-11-21T15:30:00Z"))


def test_a_read_that_is_older_shows_nothing() -> None:
    assert not offline().satisfied(_announced(), _order(_BEFORE))


def test_two_changes_in_one_second_are_told_apart_by_what_they_say() -> None:
    assert offline().satisfied(_announced(), _order(_SECOND))
    assert not offline().satisfied(_announced(), _order(_SECOND, financial_status="pending"))
    assert not offline().satisfied(_announced(note="gift"), _order(_SECOND))


def test_two_refunds_that_move_no_time_are_told_apart_by_how_many_there_are() -> None:
    expected = _announced(refunds=[{"id": 5}, {"id": 6}], fulfillments=[])
    assert not offline().satisfied(expected, _order(_SECOND, refunds=[{"id": 5}], fulfillments=[]))
    assert offline().satisfied(expected, _order(_SECOND, refunds=[{"id": 5}, {"id": 6}], fulfillments=[]))
    assert offline().satisfied(expected, _order(_AFTER, refunds=[{"id": 5}], fulfillments=[]))


def test_a_read_of_the_same_second_without_any_common_field_is_doubtful() -> None:
    assert not offline().satisfied({"since": _SECOND}, _order(_SECOND))


def test_a_deletion_is_settled_by_a_tombstone_alone() -> None:
    expected = offline().verify(delivery("orders/delete", {"id": 1})).hints[0].expected
    assert expected is not None
    assert offline().satisfied(expected, Tombstone(ref("order", 1)))
    assert not offline().satisfied(expected, _order(_AFTER))


def test_a_refund_is_settled_by_an_order_that_holds_it() -> None:
    body = {"id": 5, "order_id": 1, "transactions": [{"id": 7}]}
    order, transactions = offline().verify(delivery("refunds/create", body)).hints
    assert order.expected is not None
    assert transactions.expected is not None
    assert not offline().satisfied(order.expected, _order(_AFTER, refunds=[]))
    assert offline().satisfied(order.expected, _order(_BEFORE, refunds=[{"id": 5}]))
    listed = reading.named(ref("order_transactions", 1), {"order_id": 1, "transaction_ids": [7]}, "")
    without = reading.named(ref("order_transactions", 1), {"order_id": 1, "transaction_ids": [6]}, "")
    assert offline().satisfied(transactions.expected, listed)
    assert not offline().satisfied(transactions.expected, without)


def test_a_fulfillment_is_settled_by_an_order_that_holds_it_as_new() -> None:
    body = {"id": 6, "order_id": 1, "updated_at": _SECOND, "status": "cancelled"}
    (hint,) = offline().verify(delivery("fulfillments/update", body)).hints
    assert hint.expected is not None

    def held(at: str, status: str) -> Snapshot:
        return _order(_SECOND, fulfillments=[{"id": 6, "updated_at": at, "status": status}])

    assert offline().satisfied(hint.expected, held(_AFTER, "success"))
    assert offline().satisfied(hint.expected, held(_SECOND, "cancelled"))
    assert not offline().satisfied(hint.expected, held(_SECOND, "success"))
    assert not offline().satisfied(hint.expected, held(_BEFORE, "cancelled"))


@pytest.mark.parametrize(
    "doubtful",
    [
        {}, {"agrees": {}}, {"agrees": {"note": None}}, {"since": "soon"}, {"since": None}, {"gone": False}, {"is": {}},
        {"holds": []}, {"holds": ["refunds", "5", None]}, {"lists": "7"}, {"unheard of": True},
        {"since": _BEFORE, "unheard of": True},
    ],
)  # fmt: skip
def test_what_it_does_not_know_is_never_satisfied(doubtful: dict[str, Any]) -> None:
    assert not expectations.satisfied(doubtful, _order(_AFTER))
    assert not expectations.satisfied(doubtful, Tombstone(ref("order", 1)))


def test_long_texts_stay_out_of_the_hint() -> None:
    expected = _announced(note="x" * 5000)
    assert "note" not in expected["agrees"]
