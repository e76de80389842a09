"""Which fields of a body changed, and what stands there, in bodies that nobody would write."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.ledger.changes import Filter
from reconciler.model import ABSENT, at_path, changed_fields

NAMES = st.sampled_from(["a", "b", "a.b", "b.a", "a.b.a", ".", ""])
BODIES = st.dictionaries(NAMES, st.recursive(st.integers(0, 2), lambda inner: st.dictionaries(NAMES, inner)))


def plainly(body: Any, path: str) -> Any:
    """The same, by trying every way to cut the path, the longest name first."""
    parts = path.split(".")
    while parts:
        for length in range(len(parts), 0, -1):
            name = ".".join(parts[:length])
            if isinstance(body, dict) and name in body:
                body, parts = body[name], parts[length:]
                break
        else:
            return ABSENT
    return body


@given(BODIES, st.lists(NAMES, min_size=1, max_size=4).map(".".join))
def test_what_stands_at_a_path_is_found_by_the_longest_name(body: dict[str, Any], path: str) -> None:
    assert at_path(body, path) == plainly(body, path)


class Counting(dict[str, Any]):
    """How many names were looked at."""

    looked = 0

    def __contains__(self, name: object) -> bool:
        Counting.looked += 1
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        for name in super().__iter__():
            Counting.looked += 1
            yield name


@pytest.mark.parametrize("dots", [100, 1000])
def test_a_name_of_a_thousand_dots_that_is_not_there_is_looked_for_once(dots: int) -> None:
    """Each way to cut it, tried one after the other, is the square of its length: hours, for a megabyte."""
    Counting.looked = 0
    before, after = Counting(a=1), {"a": 1, "a." * dots: 2}
    (path,) = changed_fields(before, after)
    Counting.looked = 0
    assert (at_path(before, path), at_path(after, path)) == (ABSENT, 2)
    assert Counting.looked <= 4


def test_what_changed_is_named_in_about_as_many_letters_as_the_bodies_have() -> None:
    """A long name in front of each of many fields is their product: gigabytes, for two bodies of a megabyte."""
    named = []
    for size in (1_000, 10_000):
        before, after = ({"long" * size: {str(field): number for field in range(size)}} for number in (0, 1))
        named.append(sum(map(len, changed_fields(before, after))))
    assert named[1] < 20 * named[0]


def test_below_a_name_that_is_too_long_the_object_itself_is_named() -> None:
    """Who wants a field of it is told still: too many may be named, and never too few."""
    above = "x" * 256
    before, after = {above: {"a": 1, "b": 2}, "c": {"d": 1}}, {above: {"a": 2, "b": 2}, "c": {"d": 2}}
    assert changed_fields(before, after) == ["c.d", above]
    assert Filter(fields=frozenset({f"{above}.a"})).wants_fields(changed_fields(before, after))


PATHS = st.lists(st.sampled_from(["a", "b", "ab", ""]), min_size=1, max_size=4).map(".".join)


@given(st.frozensets(PATHS, min_size=1, max_size=3), st.lists(PATHS, max_size=3))
def test_a_field_stands_for_what_is_below_it_and_is_touched_by_what_is_above(
    fields: frozenset[str], changed: list[str]
) -> None:
    def is_at_or_below(one: str, other: str) -> bool:
        parts, above = one.split("."), other.split(".")
        return parts[: len(above)] == above

    assert Filter(fields=fields).wants_fields(changed) == any(
        is_at_or_below(path, field) or is_at_or_below(field, path) for path in changed for field in fields
    )


def test_to_compare_a_path_of_many_dots_with_a_field_takes_no_more_room_than_it() -> None:
    tracemalloc.start()
    try:
        assert not Filter(fields=frozenset({"status"})).wants_fields(["a." * 10_000])
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
