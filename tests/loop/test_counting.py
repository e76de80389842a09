"""Bisecting by counts: every hole is found, it ends, and it asks little."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from reconciler.counting import MOST_COUNTS, Bisected, bisect
from reconciler.ledger.candidates import KnownCount
from reconciler.model import Window

_START = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime(2026, 11, 22, tzinfo=UTC)
_SECONDS = int((_END - _START).total_seconds())
_PAGE = 5


def _at(second: int) -> datetime:
    return _START + timedelta(seconds=second)


def _bisected(theirs: Sequence[int], ours: Sequence[int], *, most: int = 100_000, exact_to: int = 1_000) -> Bisected:
    """`theirs` and `ours` are the seconds in which resources were created, by each."""

    async def counted(window: Window) -> int | None:
        number = sum(_at(each) in window for each in theirs)
        return None if number > exact_to else number

    async def known(window: Window) -> KnownCount:
        inside = sorted(each for each in ours if _at(each) in window)
        return KnownCount(len(inside), _at(inside[len(inside) // 2]) if inside else None)

    return asyncio.run(bisect(Window(_START, _END), counted, known, page_size=_PAGE, most=most))


_MOMENTS = st.one_of(
    st.integers(0, _SECONDS - 1),
    # Busy hours, and many within one second: what a shop's sale looks like.
    st.integers(_SECONDS - 4_000, _SECONDS - 1),
    st.sampled_from([_SECONDS - 600, _SECONDS - 599]),
)


@given(st.data())
def test_every_hole_lies_in_a_window_that_is_one_page_or_one_second_long(data: st.DataObject) -> None:
    theirs = data.draw(st.lists(_MOMENTS, max_size=60))
    holes = data.draw(st.sets(st.integers(0, max(0, len(theirs) - 1)), max_size=len(theirs)))
    ours = [each for number, each in enumerate(theirs) if number not in holes]
    missing = [each for number, each in enumerate(theirs) if number in holes]
    exact_to = data.draw(st.sampled_from([1_000, 20]))
    found = _bisected(theirs, ours, exact_to=exact_to)
    assert found.finished
    for each in missing:
        assert any(_at(each) in window for window in found.windows)
    for window in found.windows:
        inside = sum(_at(each) in window for each in theirs)
        assert inside <= _PAGE or window.until - window.since == timedelta(seconds=1)
    # Down to a second by halves of the time, after at most as many cuts through the middle of what is known.
    deepest = _SECONDS.bit_length() + 2 * (len(ours) + 1).bit_length()
    assert found.counts <= 1 + 2 * deepest * max(1, len(missing))


@given(st.lists(_MOMENTS, max_size=40), st.lists(_MOMENTS, max_size=40))
def test_it_ends_within_its_bound_whatever_the_two_say(theirs: list[int], ours: list[int]) -> None:
    found = _bisected(theirs, ours, most=MOST_COUNTS)
    assert found.counts <= MOST_COUNTS
    if len(theirs) != len(ours):
        assert found.windows, "a run that lists nothing would never get further"


def test_equal_counts_cost_one_request() -> None:
    found = _bisected([1, 2, 3], [1, 2, 3])
    assert (found.counts, found.windows) == (1, [])


def test_what_is_gone_there_is_found_as_well() -> None:
    found = _bisected([], [77])
    assert any(_at(77) in window for window in found.windows)
