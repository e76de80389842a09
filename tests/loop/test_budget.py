"""The arithmetic of budgets, as properties: whatever is asked, by whomever, in whatever order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.stripe.kinds import PER_ACCOUNT, PER_ENDPOINT, limits
from reconciler.budget import MILLI, RESERVED, SAFETY, draw, full, give_back, refill, stretched, throttle
from reconciler.clock import ManualClock
from reconciler.errors import LedgerContention, LedgerUnavailable
from reconciler.fetcher import Fetcher, FetchSettings
from reconciler.ledger import GroupCommit, Ledger, Offer, open_ledger
from reconciler.model import Priority
from reconciler.provider import ACCOUNT_LIMIT, Kind, Limit, Provider
from reconciler.retry import RetryPolicy

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND

LIMITS = st.builds(
    Limit, rate=st.floats(0.2, 200, allow_nan=False).map(lambda rate: round(rate, 2)), burst=st.integers(1, 200)
)
PRIORITIES = st.sampled_from(list(Priority))
WANTS = st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 60), PRIORITIES)


@given(LIMITS, st.lists(WANTS, max_size=40))
def test_no_window_of_time_ever_holds_more_requests_than_the_limit(
    limit: Limit, wants: list[tuple[int, int, Priority]]
) -> None:
    bucket, now = full(limit, NOW), NOW
    sent: list[tuple[int, int]] = []
    for gap, want, priority in wants:
        now += gap
        drawn = draw(bucket, limit, want=want, priority=priority, now=now)
        bucket = drawn.bucket
        if drawn.granted:
            sent.append((now, drawn.granted))
    for start in range(len(sent)):
        total = 0
        for at, granted in sent[start:]:
            total += granted
            seconds = (at - sent[start][0]) / SECOND
            assert total <= max(1.0, SAFETY * limit.burst) + SAFETY * limit.rate * seconds + 0.01
            assert total <= limit.burst + limit.rate * seconds + 0.01


@given(LIMITS, st.lists(WANTS, max_size=30))
def test_what_is_reserved_is_there_when_somebody_more_urgent_comes(
    limit: Limit, wants: list[tuple[int, int, Priority]]
) -> None:
    bucket, now = full(limit, NOW), NOW
    capacity = bucket.level
    for gap, want, priority in wants:
        now += gap
        drawn = draw(bucket, limit, want=want, priority=priority, now=now)
        if drawn.granted:
            assert drawn.bucket.level >= min(int(capacity * RESERVED[priority]), capacity - MILLI)
        bucket = drawn.bucket


@given(st.sampled_from([None, False, True]), st.lists(WANTS, max_size=40))
def test_no_second_holds_more_requests_than_stripe_allows(
    livemode: bool | None, wants: list[tuple[int, int, Priority]]
) -> None:
    """Stripe words its limits by the second: emptying a bucket and refilling it within one must stay inside."""
    allowed = PER_ENDPOINT if livemode is False else PER_ACCOUNT
    limit = limits(livemode=livemode)[ACCOUNT_LIMIT]
    bucket, now = full(limit, NOW), NOW
    sent: list[tuple[int, int]] = []
    for gap, want, priority in wants:
        now += gap // 20
        drawn = draw(bucket, limit, want=want, priority=priority, now=now)
        bucket = drawn.bucket
        sent.append((now, drawn.granted))
    for start, _ in sent:
        assert sum(granted for at, granted in sent if start <= at < start + SECOND) <= allowed
    assert SAFETY * limit.rate >= allowed * 4 / 5, "and little is given away"


def test_a_backfill_leaves_half_of_the_bucket_to_a_fresh_payment() -> None:
    limit = Limit(25, 25)
    greedy = draw(full(limit, NOW), limit, want=1000, priority=Priority.BACKFILL, now=NOW)
    assert greedy.granted == 10
    assert draw(greedy.bucket, limit, want=1000, priority=Priority.LIVE, now=NOW).granted == 10


@given(LIMITS, st.integers(0, 10**7), PRIORITIES)
def test_whoever_waits_as_long_as_told_gets_a_request(limit: Limit, spent: int, priority: Priority) -> None:
    """Also with a bucket so small that the reserve would be all of it."""
    bucket = full(limit, NOW)
    bucket = replace(bucket, level=max(0, bucket.level - spent))
    refused = draw(bucket, limit, want=1, priority=priority, now=NOW)
    if refused.granted:
        return
    later = NOW + refused.wait // timedelta(microseconds=1)
    assert draw(refused.bucket, limit, want=1, priority=priority, now=later).granted == 1


@given(LIMITS, st.integers(0, 3600 * SECOND), PRIORITIES, st.integers(1, 3600 * SECOND))
def test_nothing_is_sent_inside_a_retry_after_and_little_right_after_it(
    limit: Limit, early: int, priority: Priority, wait: int
) -> None:
    until = NOW + wait
    closed = throttle(full(limit, NOW), limit, until=until, now=NOW)
    inside = NOW + early % wait
    refused = draw(closed, limit, want=5, priority=priority, now=inside)
    assert refused.granted == 0
    assert inside + refused.wait // timedelta(microseconds=1) == until
    assert draw(closed, limit, want=5, priority=priority, now=until).granted == 0, "the bucket is empty then"


@given(LIMITS, st.lists(st.integers(0, 60 * SECOND), min_size=1, max_size=6))
def test_a_shorter_retry_after_does_not_shorten_a_longer_one(limit: Limit, waits: list[int]) -> None:
    bucket = full(limit, NOW)
    for wait in waits:
        bucket = throttle(bucket, limit, until=NOW + wait, now=NOW)
    assert bucket.closed_until == NOW + max(waits)
    at_the_end = refill(bucket, limit, bucket.closed_until)
    assert at_the_end.level == 0, "time inside a closure fills nothing"


@given(LIMITS)
def test_the_rate_halves_once_for_a_burst_of_throttles_and_grows_back(limit: Limit) -> None:
    top = full(limit, NOW).rate
    once = throttle(full(limit, NOW), limit, until=NOW + SECOND, now=NOW)
    again = throttle(once, limit, until=NOW + SECOND, now=NOW + 1)
    assert once.rate == again.rate == max(top // 2, min(top, MILLI))
    assert refill(again, limit, NOW + 21 * SECOND).rate >= top - 1


@given(LIMITS, st.integers(0, 200 * MILLI), st.integers(0, 500))
def test_given_back_requests_never_overfill_the_bucket(limit: Limit, spent: int, returned: int) -> None:
    bucket = full(limit, NOW)
    used = replace(bucket, level=max(0, bucket.level - spent))
    assert used.level <= give_back(used, limit, returned).level <= bucket.level


@given(LIMITS, st.integers(1, 20_000))
def test_looking_often_loses_nothing_to_rounding(limit: Limit, gap: int) -> None:
    bucket = replace(full(limit, NOW), level=0)
    often, looks = bucket, 300
    for look in range(1, looks + 1):
        often = refill(often, limit, NOW + look * gap)
    microsecond = bucket.rate / SECOND
    at_once = refill(bucket, limit, NOW + looks * gap)
    assert at_once.level - 1 - looks * microsecond <= often.level <= at_once.level


@given(LIMITS, st.integers(6, 40 * 86_400), st.integers(0, 5 * SECOND))
def test_a_clock_that_was_set_back_neither_gives_nor_starves(limit: Limit, back_seconds: int, gap: int) -> None:
    empty = replace(full(limit, NOW), level=0)
    before = NOW - back_seconds * SECOND
    stepped = refill(empty, limit, before)
    assert stepped.level == 0
    full_again = refill(stepped, limit, before + 2000 * SECOND)
    assert full_again.level == full(limit, NOW).level, "an hour's step must not mean an hour without reads"


@given(LIMITS, st.integers(1, 4 * SECOND), st.integers(1, 50))
def test_two_nodes_with_slightly_different_clocks_do_not_fill_the_bucket_twice(
    limit: Limit, skew: int, turns: int
) -> None:
    bucket = replace(full(limit, NOW), level=0)
    for turn in range(turns):
        bucket = refill(bucket, limit, NOW + turn * 1000 + (skew if turn % 2 else 0))
    honest = refill(replace(full(limit, NOW), level=0), limit, NOW + turns * 1000 + skew)
    assert bucket.level <= honest.level


# --- the rows -------------------------------------------------------------------------------------

TWO = {ACCOUNT_LIMIT: Limit(100, 100), "charge.retrieve": Limit(25, 25), "charge.list": Limit(25, 25)}


def test_two_processes_draw_from_one_bucket(ledger_url: str, clock: ManualClock) -> None:
    now = clock.now()
    with closing(open_ledger(ledger_url)) as one, closing(open_ledger(ledger_url)) as other:
        got = 0
        for _ in range(10):
            for ledger in (one, other):
                granted, _ = ledger.requests.draw(
                    "main", "charge.retrieve", TWO, want=3, priority=Priority.LIVE, now=now
                )
                got += granted
        assert got == 20
        other.requests.give_back("main", "charge.retrieve", TWO, unused=2, priority=Priority.LIVE, now=now)
        assert one.requests.draw("main", "charge.retrieve", TWO, want=9, priority=Priority.LIVE, now=now)[0] == 2


def test_an_endpoint_that_is_throttled_stops_itself_only_and_an_account_everything(
    ledger: Ledger, clock: ManualClock
) -> None:
    now = clock.now()

    def may(endpoint: str) -> bool:
        return ledger.requests.draw("main", endpoint, TWO, want=1, priority=Priority.LIVE, now=now)[0] == 1

    ledger.requests.throttle("main", "charge.retrieve", TWO, until=now + timedelta(seconds=9), now=now)
    assert not may("charge.retrieve")
    assert may("charge.list")
    ledger.requests.throttle("main", ACCOUNT_LIMIT, TWO, until=now + timedelta(seconds=9), now=now)
    assert not may("charge.list")
    assert ledger.requests.draw("other", "charge.list", TWO, want=1, priority=Priority.LIVE, now=now)[0] == 1
    now += timedelta(seconds=10)
    assert may("charge.list")


def test_reads_are_counted_for_a_month_and_unsent_ones_are_not(ledger: Ledger, clock: ManualClock) -> None:
    month = timedelta(days=30)
    ledger.requests.draw("main", "charge.list", TWO, want=5, priority=Priority.SWEEP, now=clock.now())
    ledger.requests.give_back("main", "charge.list", TWO, unused=2, priority=Priority.SWEEP, now=clock.now())
    assert ledger.requests.reads_used("main", period=month, now=clock.now()) == 3
    assert ledger.requests.reads_used("main", period=month, now=clock.now() + timedelta(days=31)) == 0


def test_reads_are_counted_by_the_day_that_begins_at_midnight(ledger: Ledger, clock: ManualClock) -> None:
    """Of a period, the days that begin in it: a day that began just as the period did is as old as the period."""
    midnight, instant = clock.now().replace(hour=0), timedelta(microseconds=1)

    def draws(at: datetime) -> None:
        ledger.requests.draw("main", "charge.list", TWO, want=1, priority=Priority.SWEEP, now=at)

    for at in (midnight, midnight + timedelta(days=1) - instant, midnight + timedelta(days=1)):
        draws(at)
    with ledger.view() as view:
        tallies = view.read_tallies(midnight - instant)
        assert view.read_tallies(midnight) == tallies[1:]
    assert [(each.day, each.requests) for each in tallies] == [(midnight, 2), (midnight + timedelta(days=1), 1)]
    month = timedelta(days=30)
    assert ledger.requests.reads_used("main", period=month, now=midnight + month - instant) == 3
    assert ledger.requests.reads_used("main", period=month, now=midnight + month) == 1


def test_what_was_refused_is_not_counted_at_all(ledger: Ledger, clock: ManualClock) -> None:
    now = clock.now()
    ledger.requests.throttle("main", "charge.list", TWO, until=now + timedelta(seconds=9), now=now)
    assert ledger.requests.draw("main", "charge.list", TWO, want=1, priority=Priority.LIVE, now=now)[0] == 0
    with ledger.view() as view:
        assert view.read_tallies(now - timedelta(days=30)) == []


class Learning:
    """As much of a provider as a budget needs: its limit is twenty times as large once an answer has said so."""

    kinds: ClassVar[Mapping[str, Kind]] = {}

    def __init__(self) -> None:
        self.limits: Mapping[str, Limit] = {ACCOUNT_LIMIT: Limit(rate=2.0, burst=40)}

    def answered(self) -> None:
        self.limits = {ACCOUNT_LIMIT: Limit(rate=40.0, burst=800)}


@pytest.mark.parametrize("fails", [None, LedgerContention("a deadlock"), LedgerUnavailable("the disk is full")])
def test_a_larger_limit_counts_from_the_moment_its_requests_are_there(
    ledger: Ledger, clock: ManualClock, fails: Exception | None
) -> None:
    """By the larger limit's reserve the old bucket is empty: a worker that used it at once waited for a minute. So it
    is when the commit that was to bring the requests does not happen."""
    failing = [] if fails is None else [fails]

    def with_it(_: Ledger) -> None:
        if failing:
            raise failing.pop()

    async def story() -> None:
        provider, commit = Learning(), GroupCommit(ledger, clock)
        fetcher = Fetcher(
            "main", cast("Provider", provider), commit, clock,
            policy=RetryPolicy(), settings=FetchSettings(), rng=random.Random(1),
        )  # fmt: skip
        granted, _ = await fetcher.budget.draw("order.list", Priority.SWEEP, want=12)
        provider.answered()

        def offered(ledger: Ledger) -> Offer:
            """As the worker asks."""
            return ledger.requests.offer(
                "main", "order.read", fetcher.budget.limits, want=1, priority=Priority.SWEEP, now=clock.now()
            )

        before = await commit.call(offered)
        told = await asyncio.gather(
            fetcher.budget.draw("order.list", Priority.SWEEP), commit.call(with_it), return_exceptions=True
        )
        if type(fails) is LedgerUnavailable:
            assert [*told] == [fails, fails], "both were in the commit that did not happen"
            assert fetcher.budget.limits != provider.limits
            await fetcher.budget.draw("order.list", Priority.SWEEP)
        after = await commit.call(offered)
        assert (granted, before.granted, after.granted) == (12, 1, 1)
        assert fetcher.budget.limits == provider.limits
        await commit.close()

    asyncio.run(story())


# --- the monthly allocation -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "allocation", "expected"),
    [
        (10**9, None, timedelta(minutes=5)),
        (0, 10_000, timedelta(minutes=5)),
        (4_999, 10_000, timedelta(minutes=5)),
        (5_000, 10_000, timedelta(days=30) * 40 / 2_500),
        (9_000, 1_000_000, timedelta(minutes=5)),
    ],
)
def test_sweeps_keep_their_pace_up_to_half_of_the_allocation(
    used: int, allocation: int | None, expected: timedelta
) -> None:
    assert stretched(timedelta(minutes=5), used=used, allocation=allocation, kinds=20) == expected


@given(st.integers(1, 10**6), st.integers(0, 10**7), st.integers(0, 250))
def test_an_allocation_that_is_used_up_slows_sweeps_but_never_silences_them(
    allocation: int, used: int, kinds: int
) -> None:
    """A job's next time is fixed when it ends: months ahead would be for ever."""
    every = timedelta(minutes=5)
    wait = stretched(every, used=used, allocation=allocation, kinds=kinds)
    assert every <= wait <= timedelta(days=1)
    assert stretched(timedelta(days=2), used=used, allocation=allocation, kinds=kinds) >= timedelta(days=2)


def test_a_clock_that_was_set_back_while_the_bucket_was_empty_is_not_waited_for(
    ledger: Ledger, clock: ManualClock
) -> None:
    """Else every read of the account would wait an hour, asking the ledger all the time."""
    limited = {ACCOUNT_LIMIT: Limit(rate=2, burst=4)}

    def drawn(ahead: timedelta = timedelta(0)) -> int:
        now = clock.now() + ahead
        return ledger.requests.draw("main", "charge.list", limited, want=1, priority=Priority.LIVE, now=now)[0]

    while drawn(ahead=timedelta(hours=1)):
        continue
    assert drawn() == 0, "it is as empty as it was, by whichever clock"
    clock.advance(timedelta(seconds=2))
    assert drawn() == 1
