"""Trying again what another transaction stood in the way of: how often, how long, and after what."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.errors import LedgerContention, LedgerLocked, LedgerUnavailable
from reconciler.ledger.again import AT_LEISURE, WHILE_OTHERS_WAIT, Again


def tried(again: Again, raised: Callable[[], BaseException]) -> int:
    tries = 0

    def act() -> None:
        nonlocal tries
        tries += 1
        raise raised()

    with pytest.raises(type(raised())):
        again(act)
    return tries


@pytest.mark.parametrize(
    ("again", "raised", "tries"),
    [
        (WHILE_OTHERS_WAIT, LedgerContention, 3),
        (WHILE_OTHERS_WAIT, LedgerLocked, 1),
        (WHILE_OTHERS_WAIT, LedgerUnavailable, 1),
        (AT_LEISURE, LedgerContention, 10),
        (AT_LEISURE, LedgerLocked, 10),
        (AT_LEISURE, LedgerUnavailable, 1),
        (AT_LEISURE, KeyboardInterrupt, 1),
    ],
)
def test_only_what_another_transaction_did_is_tried_again(
    again: Again, raised: Callable[[], BaseException], tries: int
) -> None:
    assert tried(again, raised) == tries


def test_a_try_that_took_all_the_time_is_the_last() -> None:
    """Of a start that waits a minute for another node's migration there are not ten."""
    seconds = iter([0.0, 25.0, 50.0, 75.0, 100.0])
    assert tried(Again((LedgerLocked,), 10, 60.0, monotonic=lambda: next(seconds)), LedgerLocked) == 3


def test_what_was_done_at_last_is_returned() -> None:
    outcomes = iter([LedgerLocked("not yet"), LedgerContention("not yet"), None])

    def act() -> str:
        if (error := next(outcomes)) is not None:
            raise error
        return "done"

    assert AT_LEISURE(act) == "done"
