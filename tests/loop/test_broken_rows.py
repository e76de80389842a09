"""A row that the ledger cannot hold keeps none of its neighbours from being read; what it hides is named."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from reconciler.broken import MOST, around, as_stored, holes, stored, together
from reconciler.model import BrokenRow, Window
from reconciler.provider import Kind
from reconciler.sweeps import looked_at
from tests.loop.harness import DAY, HOUR, MINUTE, SECOND, START, Loop, looping
from tests.loop.sweeping import coverage
from tests.loop.test_backfill import backfilled, not_verified, since

LONG = f"ch_{'x' * 300}"
SAID = "sent a charge without an id, or with one that is none"


def poison(loop: Loop) -> datetime:
    """A charge with a name that no index takes, which the provider lists; when it was made."""
    like = loop.world.store.get(loop.world.payments.pay(900)["latest_charge"])
    loop.world.store.add("charge", {**like, "id": LONG})
    return datetime.fromtimestamp(like["created"], START.tzinfo)


def gaps(loop: Loop, at: datetime) -> list[tuple[Window, bool]]:
    """What was said of that instant."""
    return [(each.window, each.complete) for each in coverage(loop, "charge") if at in each.window]


@pytest.mark.parametrize("job", ["recent/main/charge", "complete/main/charge"])
def test_a_sweep_reads_what_stands_beside_it_and_goes_on(url: str, job: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            await loop.run_job(job)
            await loop.run_for(MINUTE)
            loop.world.payments.pay(1_000)
            at = poison(loop)
            loop.world.payments.pay(2_000)
            await loop.run_for(5 * MINUTE)
            await loop.run_job(job)
            await loop.settle()
            assert [each for each in loop.unlike_truth() if LONG not in each] == []
            assert gaps(loop, at) == [(Window(at, at + SECOND), False)]
            (said,) = [each.reason for each in coverage(loop, "charge") if not each.complete]
            assert SAID in said
            assert f"'{LONG[:40]}'..., 303 characters" in said
            beside = [gaps(loop, at + SECOND), gaps(loop, at - SECOND)]
            assert [[complete for _, complete in each] for each in beside] == [[True], [True]]
            loop.advance(HOUR)
            later = loop.world.payments.pay(3_000)["latest_charge"]
            await loop.run_for(5 * MINUTE)
            await loop.run_job(job)
            assert loop.known(loop.ref("charge", later)).version == 1

    asyncio.run(story())


def test_a_backfill_stores_the_others_and_says_what_it_could_not(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            for _ in range(3):
                loop.world.payments.pay(1_000)
            at = poison(loop)
            loop.world.payments.pay(2_000)
            loop.advance(HOUR)
            results = await backfilled(loop, since(loop, DAY))
            assert [each for each in loop.unlike_truth() if LONG not in each] == []
            (reason,) = not_verified(results)["charge"]
            assert SAID in reason
            assert [each for each in not_verified(results) if each != "charge"] == []
            assert gaps(loop, at) == [(Window(at, at + SECOND), False)]

    asyncio.run(story())


def test_a_body_that_is_nested_too_deep_is_named_and_hides_no_other(url: str) -> None:
    """Once a list and once its own read shows it; the others of its page, and of its commit, are stored."""

    async def story() -> None:
        async with looping(url) as loop:
            plain, known = (loop.world.payments.pay(amount)["latest_charge"] for amount in (1_000, 2_000))
            await loop.deliver_all()
            await loop.settle()
            fresh = loop.world.payments.pay(3_000)["latest_charge"]
            for charge in (known, fresh):
                loop.world.store.replace({**loop.world.store.get(charge), "metadata": {"a": "DEEP"}})
            loop.transport.alter = lambda content: content.replace(b'"DEEP"', b"[" * 300 + b"]" * 300)
            loop.lose_all()
            await loop.mark(loop.ref("charge", plain), loop.ref("charge", known))
            for _ in range(20):
                await loop.run_for(MINUTE)
                await loop.run_job("recent/main/charge")
            assert not loop.known(loop.ref("charge", plain)).dirty
            assert loop.dead() == {known, fresh}
            assert "nested too deep" in (loop.known(loop.ref("charge", fresh)).last_error or "")
            assert loop.unlike_truth(["charge"]) == [f"charge/{known} differs", f"charge/{fresh} is unknown here"]
            assert loop.body(loop.ref("charge", known))["amount"] == 2_000

    asyncio.run(story())


# --- as values ------------------------------------------------------------------------------------


DAY_LONG = Window(START, START + DAY)


def row(said: str, after: timedelta | None) -> BrokenRow:
    return BrokenRow(said, None if after is None else START + after)


def test_what_was_looked_at_ends_where_a_broken_row_stands() -> None:
    inside, last = row("a", HOUR), row("b", DAY - SECOND / 2)
    found = holes(DAY_LONG, [inside, last])
    assert found == [
        (Window(START + HOUR, START + HOUR + SECOND), "a"),
        (Window(START + DAY - SECOND / 2, START + DAY), "b"),
    ]
    assert around(DAY_LONG, [window for window, _ in found]) == [
        Window(START, START + HOUR),
        Window(START + HOUR + SECOND, START + DAY - SECOND / 2),
    ]
    assert around(DAY_LONG, []) == [DAY_LONG]


@pytest.mark.parametrize("after", [None, -SECOND, DAY, 30 * DAY])
def test_a_row_that_may_be_of_any_time_leaves_nothing_looked_at(after: timedelta | None) -> None:
    (found,) = holes(DAY_LONG, [row("a", after)])
    assert found == (DAY_LONG, "a")
    assert around(DAY_LONG, [DAY_LONG, Window(START + HOUR, START + 2 * HOUR)]) == []


def test_they_are_kept_once_each_and_not_without_end() -> None:
    some = tuple(row(str(number), number * SECOND) for number in range(MOST))
    assert together(some, some[:3]) == some
    many = together(some, [row("one more", None)])
    assert (len(many), many[: MOST - 1], many[-1].created_at) == (MOST, some[: MOST - 1], None)
    assert together(many, [row("still more", HOUR)])[-1] == many[-1]
    assert stored({"broken": as_stored((*some, row("no time", None)))}) == (*some, row("no time", None))
    assert stored({}) == ()


def test_the_reach_of_the_credentials_and_a_broken_row_both_leave_something_out() -> None:
    kind = Kind("order", "order.retrieve")
    reach = START + HOUR
    found = looked_at("main", kind, DAY_LONG, reach=reach, broken=[row("a", 2 * HOUR)])
    assert [(each.window, each.complete) for each in found] == [
        (Window(START, reach), False),
        (Window(reach, START + 2 * HOUR), True),
        (Window(START + 2 * HOUR + SECOND, START + DAY), True),
        (Window(START + 2 * HOUR, START + 2 * HOUR + SECOND), False),
    ]
