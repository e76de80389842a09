"""Tokens that rotate: one renews at a time, and only who holds the lease may keep what came of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.ledger import Ledger
from reconciler.ledger.tokens import KeptToken, TokenLost
from tests.ledger.factories import NOON, seconds

LEASE = timedelta(seconds=30)


def lease(ledger: Ledger, after: float = 0.0, *, seen: int = 0) -> int | None:
    return ledger.lease_token("shop", seen=seen, lease=LEASE, now=NOON + seconds(after))


def test_a_renewal_that_failed_makes_room_for_the_next(ledger: Ledger) -> None:
    fence = lease(ledger)
    assert fence is not None
    assert lease(ledger) is None, "somebody is at it"
    ledger.free_token("shop", fence=fence)
    assert lease(ledger) is not None


def test_whoever_was_too_slow_keeps_nothing(ledger: Ledger) -> None:
    late = lease(ledger)
    quick = lease(ledger, LEASE.total_seconds())
    assert late is not None
    assert quick is not None
    with pytest.raises(TokenLost, match="renewed elsewhere"):
        ledger.keep_token("shop", b"late", fence=late, now=NOON + LEASE)
    ledger.free_token("shop", fence=late)
    assert lease(ledger, LEASE.total_seconds()) is None, "that freed nothing of the other's"
    ledger.keep_token("shop", b"quick", fence=quick, now=NOON + LEASE)
    assert ledger.token("shop") == KeptToken(b"quick", 1)
    assert lease(ledger, 60.0, seen=0) is None, "there is a newer one already"
