"""Coverage arithmetic, held against the plainest model there is: a set of instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reconciler.ledger import Coverage
from reconciler.ledger.coverage import merge
from reconciler.model import Window
from reconciler.status.coverage import NO_LOOK, Gap, Reach, last_reason, reaches, subtract

START = datetime(2026, 5, 5, tzinfo=UTC)
END = 40


def minute(count: int) -> datetime:
    return START + timedelta(minutes=count)


def window(since: int, until: int) -> Window:
    return Window(minute(since), minute(until))


def looked(since: int, until: int, *, failed: str = "") -> Coverage:
    return Coverage("main", "charge", window(since, until), complete=not failed, reason=failed)


def minutes(windows: list[Window]) -> set[int]:
    return {count for count in range(END) for each in windows if minute(count) in each}


WINDOWS = st.lists(
    st.tuples(st.integers(0, END - 1), st.integers(0, END - 1)).map(lambda pair: window(min(pair), max(pair))),
    max_size=12,
)


@given(WINDOWS)
def test_merged_windows_hold_the_same_instants_apart_and_in_order(windows: list[Window]) -> None:
    merged = merge(windows)
    assert minutes(merged) == minutes(windows)
    assert all(one.until < other.since for one, other in pairwise(merged))
    assert all(each.since < each.until for each in merged)


@given(WINDOWS, WINDOWS)
def test_what_is_left_is_the_difference(windows: list[Window], without: list[Window]) -> None:
    assert minutes(subtract(windows, without)) == minutes(windows) - minutes(without)


@given(WINDOWS, WINDOWS)
def test_every_instant_up_to_the_end_was_looked_at_or_is_in_a_gap(good: list[Window], bad: list[Window]) -> None:
    facts = [Coverage("main", "charge", each, complete=True) for each in good]
    facts += [Coverage("main", "charge", each, complete=False, reason="403") for each in bad]
    reach = reaches(facts).get(("main", "charge"))
    seen = minutes(good)
    if reach is None:
        assert not seen
        return
    gaps = minutes([gap.window for gap in reach.gaps])
    assert not gaps & seen, "nothing is both"
    assert reach.through == minute(max(seen) + 1)
    assert seen | gaps >= set(range(min(seen), max(seen) + 1))
    assert gaps >= minutes(bad) - seen, "a failed look is named wherever no other look succeeded"
    assert minutes([gap.window for gap in reach.gaps if gap.reason == "403"]) == minutes(bad) - seen


def test_a_hole_that_nobody_tried_is_named_as_such() -> None:
    assert reaches([looked(0, 10), looked(20, 30)]) == {
        ("main", "charge"): Reach(minute(0), minute(30), (Gap(window(10, 20), NO_LOOK),))
    }


def test_a_failed_look_is_a_gap_until_a_later_one_succeeds() -> None:
    failed = [looked(0, 10), looked(8, 20, failed="throttled")]
    assert reaches(failed)["main", "charge"] == Reach(minute(0), minute(10), (Gap(window(10, 20), "throttled"),))
    healed = [*failed, looked(8, 25)]
    assert reaches(healed)["main", "charge"] == Reach(minute(0), minute(25), ())


def test_the_same_failure_over_and_over_is_one_gap() -> None:
    facts = [looked(0, 10), *(looked(10, until, failed="403") for until in range(11, 30))]
    reach = reaches(facts)["main", "charge"]
    assert reach is not None
    assert reach.gaps == (Gap(window(10, 29), "403"),)


def test_a_kind_whose_every_look_failed_has_no_reach_but_a_reason() -> None:
    facts = [looked(0, 10, failed="throttled"), looked(0, 20, failed="permission")]
    assert reaches(facts) == {("main", "charge"): None}
    assert last_reason(facts, "main", "charge") == "permission"
    assert last_reason([*facts, looked(0, 30)], "main", "charge") == ""
    assert last_reason(facts, "main", "refund") == ""
