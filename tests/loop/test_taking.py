"""What one turn takes from the ledger, and what it leaves for the next."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from providers.stripe import Stripe
from reconciler.fetcher import Fetcher
from reconciler.ledger import Ledger
from reconciler.provider import Limit
from reconciler.taking import Taker, Turn
from tests.ledger.factories import LEASE, NOON, by_hand, ref, settle, snapshot

ROOM = 16
CHARGES = [ref(f"ch_{number}") for number in range(40)]
LIST = str(Stripe.kinds["charge"].list_endpoint)


class Listing:
    """Stands for a fetcher whose lists have been worth their requests."""

    provider = Stripe
    budget = SimpleNamespace(limits={LIST: Limit(1.0, 10)})

    def may_walk(self, kind: object, now: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("closed", "batches", "wait"),
    [
        (timedelta(0), [len(CHARGES)], None),
        (timedelta(seconds=1), [], timedelta(seconds=1)),
        (timedelta(seconds=1, microseconds=1), [1] * ROOM, None),
    ],
    ids=["one walk", "waits for the list", "reads singly"],
)
def test_a_list_is_waited_for_a_second_and_no_longer(
    ledger: Ledger, closed: timedelta, batches: list[int], wait: timedelta | None
) -> None:
    """Single reads have a budget of their own, and a backlog of them is read meanwhile."""
    for charge in CHARGES:
        settle(ledger, charge, snapshot(charge, created_at=NOON - timedelta(hours=1)), NOON)
    now = NOON + timedelta(minutes=1)
    ledger.mark([by_hand(charge) for charge in CHARGES], now)
    if closed:
        ledger.requests.throttle("main", LIST, Listing.budget.limits, until=now + closed, now=now)
    taker = Taker({"main": cast("Fetcher", Listing())}, owner="node1:1:0", lease=LEASE)
    turn = taker.take(ledger, Turn(now, room={"main": ROOM}, paused={}, probing=set()))
    assert [len(batch) for taken in turn.taken for batch in taken.batches] == batches
    if wait is not None:
        assert turn.wait == wait
