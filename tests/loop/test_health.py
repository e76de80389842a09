"""How many things are missing: what a storm is measured by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconciler.health import STORM_PERIOD, Health
from reconciler.model import ResourceRef

NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)


def shown(kind: str, *ids: str) -> list[ResourceRef]:
    return [ResourceRef("shopify", "shop", kind, each) for each in ids]


def test_what_is_missing_counts_once_for_as_long_as_the_period_is() -> None:
    health, later = Health(), NOW + timedelta(minutes=4)
    assert health.missing(shown("customer", "1", "2"), NOW) == 2
    assert health.missing(shown("customer", "2", "3"), later) == 3
    assert health.missing([], NOW + STORM_PERIOD) == 3
    assert health.missing([], NOW + STORM_PERIOD + timedelta(seconds=1)) == 1, "the third, of four minutes later"
    assert health.missing([], later + STORM_PERIOD + timedelta(seconds=1)) == 0


def test_parts_count_with_their_whole() -> None:
    health = Health({"refund": "order", "order_transactions": "order"})
    assert health.missing(shown("refund", "7/1", "7/2"), NOW) == 1
    assert health.missing(shown("order", "7", "8"), NOW) == 2
    assert health.missing(shown("order_transactions", "8"), NOW) == 2
    assert health.missing(shown("product", "8"), NOW) == 3, "of another kind"
    assert [health.counts(kind) for kind in ("order", "refund", "product")] == [True, False, True]


def test_what_belongs_to_a_connected_account_is_no_part_of_it() -> None:
    """A key of the wrong mode must not be believed because everything is one account's."""
    assert Health().missing(shown("charge", *(f"acct_9/ch_{number}" for number in range(50))), NOW) == 50
