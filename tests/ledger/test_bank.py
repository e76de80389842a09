"""Lines of a bank's statement: all or none, the same again is nothing new, and another one is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from reconciler.clock import ManualClock
from reconciler.errors import UsageError
from reconciler.ledger import Ledger
from reconciler.ledger.bank import BankLine, bank_lines, record_statement
from tests.ledger.factories import NOON, seconds, table

FIRST = BankLine("DE1", "2026-05", 1, "EUR", 9_000, 2, date(2026, 5, 4), date(2026, 5, 5), "STRIPE po_1")
SECOND = replace(FIRST, ordinal=2, minor=-250, value_on=None, reference="fee")
EARLIER = replace(FIRST, statement_id="2026-04", booked_on=date(2026, 4, 30))


def record(ledger: Ledger, *lines: BankLine, opening: int | None = None) -> int:
    with ledger.together() as tx:
        return record_statement(tx, lines, NOON, opening=opening)


def known(ledger: Ledger, clock: ManualClock) -> list[BankLine]:
    with ledger.store.read() as tx:
        return bank_lines(tx, clock.now())


def test_lines_come_back_as_they_were_brought_oldest_first(ledger: Ledger, clock: ManualClock) -> None:
    assert record(ledger, FIRST, SECOND) == 2
    assert record(ledger, EARLIER) == 1
    assert record(ledger) == 0, "a statement without lines says nothing"
    assert known(ledger, clock) == [EARLIER, FIRST, SECOND]
    with ledger.store.read() as tx:
        assert bank_lines(tx, NOON - seconds(1)) == [], "nobody knew them before they were brought"


def test_a_statement_that_is_brought_again_adds_nothing(ledger: Ledger, clock: ManualClock) -> None:
    odd = replace(FIRST, reference="what Postgres cannot hold: \x00")
    record(ledger, odd, SECOND)
    assert record(ledger, odd, SECOND) == 0
    assert (record(ledger, EARLIER), record(ledger, EARLIER)) == (1, 0)
    assert len(known(ledger, clock)) == 3


@pytest.mark.parametrize(
    ("again", "said"),
    [
        ([FIRST], "with 2 lines, and has 1 now"),
        ([FIRST, replace(SECOND, minor=-251)], "its line 2 was another one (2026-05-04 -250 against 2026-05-04 -251"),
    ],
)
def test_a_statement_that_says_something_else_now_is_refused_whole(
    ledger: Ledger, clock: ManualClock, again: list[BankLine], said: str
) -> None:
    record(ledger, FIRST, SECOND)
    with pytest.raises(UsageError) as refused:
        record(ledger, *again)
    assert said in str(refused.value)
    assert known(ledger, clock) == [FIRST, SECOND]


def test_what_an_account_opened_with_may_become_known_later_and_is_then_the_same_for_good(
    ledger: Ledger, clock: ManualClock
) -> None:
    record(ledger, FIRST, SECOND)
    assert [record(ledger, FIRST, SECOND, opening=each) for each in (70, 70, None)] == [0, 0, 0]
    with pytest.raises(UsageError, match="opened with 70 minor units of EUR, not with 71; nothing was imported"):
        record(ledger, FIRST, SECOND, opening=71)
    assert known(ledger, clock) == [FIRST, SECOND]
    stored = [(row["ordinal"], row["minor"]) for row in table(ledger, "bank_line", "ordinal")]
    assert [minor for _, minor in stored] == [70, 9_000, -250], "once"
