"""One account's hands, without a worker: how much they may hold, and when that is worth a turn."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from reconciler.ahead import Hands, Read
from reconciler.ledger import Claim
from reconciler.provider import Limit

CONCURRENCY = 100
HELD = timedelta(seconds=10)
STARTED = 86_400.0
"""By the monotonic clock of a machine that has been up for a day."""


def hands(concurrency: int = CONCURRENCY) -> Hands:
    return Hands(concurrency, dict, HELD.total_seconds())


async def _never(_: Read) -> None:
    raise AssertionError("hands start nothing themselves")


def read(at: float = STARTED, **more: Any) -> Read:
    claims: list[Claim] = []
    return Read("main", claims, frozenset(), 3, "charges", at, _never, **more)


def under_way(of: Hands, count: int, at: float = STARTED) -> list[Read]:
    """So many, all begun."""
    begun = []
    for _ in range(count):
        of.hold(read(at))
        each = of.next(at)
        assert each is not None
        begun.append(each)
    return begun


def quick(concurrency: int = CONCURRENCY) -> Hands:
    """Those of an account whose provider has just answered at once."""
    made = hands(concurrency)
    (one,) = under_way(made, 1)
    made.answered(one, STARTED + 0.4)
    made.ended(one)
    return made


def test_as_much_is_held_as_is_read_at_once_where_the_provider_answers_within_half_a_second() -> None:
    assert hands().room == CONCURRENCY
    assert quick().room == 2 * CONCURRENCY
    slow = hands()
    (one,) = under_way(slow, 1)
    slow.answered(one, STARTED + 0.6)
    assert slow.room == CONCURRENCY


def test_no_more_is_held_than_the_limits_refill_meanwhile_also_when_they_have_grown() -> None:
    limits = {"each": Limit(rate=1000.0, burst=1000), "all": Limit(rate=500.0, burst=1000)}
    learned = {"each": Limit(rate=2000.0, burst=1000)}
    now = [limits]
    made = Hands(CONCURRENCY, lambda: now[0], HELD.total_seconds())
    (one,) = under_way(made, 1)
    made.answered(one, STARTED + 0.4)
    made.ended(one)
    assert made.room == CONCURRENCY + 10
    now[0] = learned
    assert made.room == CONCURRENCY + 40


def test_after_a_read_that_brought_no_answer_nothing_is_held_any_more() -> None:
    made = quick()
    (one,) = under_way(made, 1)
    made.ended(one)
    assert made.room == CONCURRENCY
    assert not made.has_to_let_go(STARTED), "nothing is held that would have to go back"


def test_a_list_that_ends_between_two_pages_says_nothing_of_how_quick_the_provider_is() -> None:
    made = quick()
    made.hold(read(lists=True))
    walked = made.next(STARTED)
    assert walked is not None
    made.ended(walked)
    assert made.room == 2 * CONCURRENCY


def test_after_what_was_held_for_too_long_went_back_nothing_is_held_until_the_provider_is_quick_again() -> None:
    made = quick()
    made.hold(read())
    made.hold(read(STARTED + 5.0))
    late = made.let_go(STARTED + HELD.total_seconds(), everything=False)
    assert [each.taken_at for each in late] == [STARTED]
    assert (made.room, len([*made.held])) == (CONCURRENCY - 1, 1)


def test_answers_that_pile_up_unstored_take_the_place_of_reads() -> None:
    made = quick(concurrency=4)
    rooms = []
    for _ in range(5):
        (one,) = under_way(made, 1)
        made.answered(one, STARTED + 0.1)
        rooms.append(made.room)
    assert rooms == [8, 8, 8, 8, 7]


def test_a_turn_is_worth_it_at_the_latest_with_32_places() -> None:
    made = quick()
    made.had_no_room = True
    begun = under_way(made, CONCURRENCY)
    for _ in range(CONCURRENCY):
        made.hold(read())
    for number, each in enumerate(begun[:32], 1):
        made.answered(each, STARTED + 0.1)
        made.ended(each)
        assert made.next(STARTED + 0.1) is not None, "the end of one is the beginning of the next"
        assert made.is_worth_a_turn == (number >= 32)
