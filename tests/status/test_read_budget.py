"""The read allocation: what is used, and where the present pace leads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconciler.ledger import Ledger, ReadTally
from reconciler.model import Priority
from reconciler.provider import Limit
from reconciler.status.reading import read_budget

NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MIDNIGHT = NOW.replace(hour=0)


def a_day(ago: int, requests: int, priority: Priority = Priority.SWEEP, account: str = "main") -> ReadTally:
    return ReadTally(account, MIDNIGHT - ago * DAY, "charge.list", priority, requests)


def test_only_the_last_thirty_days_of_this_account_are_used() -> None:
    tallies = [a_day(0, 10), a_day(29, 100), a_day(30, 1000), a_day(1, 5, account="other")]
    assert read_budget("main", 10_000, tallies, NOW, kinds=8).used == 110


def test_a_pace_that_fits_never_runs_out() -> None:
    found = read_budget("main", 10_000, [a_day(ago, 100) for ago in range(8)], NOW, kinds=8)
    assert found.runs_out_at is None
    assert found.left == 10_000 - 800
    assert 2_900 < found.forecast < 3_300


def test_a_pace_that_does_not_fit_says_when_it_is_over() -> None:
    found = read_budget("main", 10_000, [a_day(ago, 1000) for ago in range(6)], NOW, kinds=8)
    assert found.forecast > 10_000
    assert found.runs_out_at is not None
    assert NOW + 3 * DAY < found.runs_out_at < NOW + 5 * DAY


def test_nothing_sent_is_no_pace() -> None:
    found = read_budget("main", 10_000, [], NOW, kinds=8)
    assert (found.used, found.forecast, found.runs_out_at, found.left) == (0, 0, None, 10_000)


def test_without_an_allocation_nothing_is_left_to_count() -> None:
    found = read_budget("main", None, [a_day(0, 10, Priority.LIVE), a_day(0, 5)], NOW, kinds=8)
    assert (found.left, found.runs_out_at) == (None, None)
    assert found.by_priority == {Priority.LIVE: 10, Priority.SWEEP: 5}


def test_beyond_half_of_the_allocation_sweeps_rest_so_that_it_lasts() -> None:
    def rest(used: int, allocation: int | None = 10_000) -> timedelta:
        return read_budget("main", allocation, [a_day(20, used)], NOW, kinds=8).rest

    assert (rest(4_999), rest(10**6, None)) == (timedelta(0), timedelta(0))
    assert timedelta(hours=1) < rest(5_000) < rest(9_000) < rest(10_000) == rest(10**6) == DAY


def test_what_is_drawn_is_counted_and_what_goes_back_is_not(ledger: Ledger) -> None:
    limits = {"charge.list": Limit(rate=25, burst=25)}
    granted, _ = ledger.requests.draw("main", "charge.list", limits, want=7, priority=Priority.LIVE, now=NOW)
    ledger.requests.give_back("main", "charge.list", limits, unused=3, priority=Priority.LIVE, now=NOW)
    with ledger.view() as view:
        tallies = view.read_tallies(NOW - 30 * DAY)
    assert granted == 7
    assert read_budget("main", None, tallies, NOW, kinds=8).used == 4
