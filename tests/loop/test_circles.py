"""A walk that is led in a circle is noticed, and one that goes on never is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.circles import Onward
from reconciler.errors import BadReply


@given(before=st.integers(0, 60), circle=st.integers(1, 60))
def test_a_circle_is_found_within_three_times_the_way_to_its_end(before: int, circle: int) -> None:
    onward, steps = Onward("a list"), 0
    try:
        for step in range(1000):
            steps = step
            onward.past(str(step if step < before else before + (step - before) % circle))
    except BadReply:
        pass
    assert before + circle <= steps <= 3 * (before + circle) + 1


@given(pages=st.integers(0, 300))
def test_a_walk_that_goes_on_is_left_alone(pages: int) -> None:
    onward = Onward("a list")
    for page in range(pages):
        onward.past(str(page))
    onward.past(None)
