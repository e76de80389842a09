"""Coverage facts that stand for others: nothing that anybody could ask about the past changes, and few are read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.ledger import Coverage, Ledger, open_ledger
from reconciler.ledger.bulk import TRUTH, WHOLE, WORDS, insert_into
from reconciler.ledger.coverage import ALL_STANDING, LATER_SUPERSEDED, record_coverage, supersede_imported
from reconciler.ledger.transaction import Transaction
from reconciler.model import Window
from reconciler.status.coverage import NO_LOOK, Gap, Reach, last_reason, reaches
from tests.databases import sqlite_url
from tests.ledger.factories import NOON

MINUTE = timedelta(minutes=1)
BEGINNING = NOON - 100 * MINUTE
KINDS = ("charge", "payout")
Recorded = tuple[int, Coverage]
"""The minute it was recorded in, and the fact."""


def fact(since: int, until: int, reason: str = "", kind: str = "charge") -> Coverage:
    window = Window(BEGINNING + since * MINUTE, BEGINNING + until * MINUTE)
    return Coverage("main", kind, window, complete=not reason, reason=reason)


_facts = st.builds(
    lambda since, length, reason, kind: fact(since, since + length, reason, kind),
    st.integers(0, 30),
    st.integers(0, 12),
    st.sampled_from(["", "", "403", "throttled"]),
    st.sampled_from(KINDS),
)
_histories = st.lists(st.tuples(st.integers(0, 20), _facts), max_size=25)
"""In any order of recording times, as by nodes whose clocks differ."""


def said(facts: Sequence[Coverage]) -> dict[tuple[str, str], Reach | str | None]:
    """All that is ever said of coverage: the reach, or why there is none."""
    return {key: reach or last_reason(facts, *key) for key, reach in reaches(facts).items()}


def known(history: Sequence[Recorded], minute: int) -> list[Coverage]:
    """By the plainest rule there is: every fact that was recorded by then."""
    return [each for _, each in sorted((one for one in history if one[0] <= minute), key=lambda one: one[0])]


def check_the_past(ledger: Ledger, history: Sequence[Recorded]) -> None:
    with ledger.view() as view:
        for minute in range(-1, 22):
            assert said(view.coverage(NOON + minute * MINUTE)) == said(known(history, minute)), minute


@pytest.fixture(scope="module")
def emptied(_sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """One ledger for all examples of a property."""
    path = tmp_path_factory.mktemp("coverage") / "ledger.db"
    shutil.copy(_sqlite_template, path)
    with closing(open_ledger(sqlite_url(path))) as ledger:
        yield ledger


def forget(ledger: Ledger) -> Ledger:
    with ledger.together() as tx:
        tx.run(text("DELETE FROM coverage"))
    return ledger


@pytest.mark.parametrize(
    ("looks", "stands"),
    [
        ([(0, 10), (8, 20)], (0, 20)),
        ([(0, 10), (0, 12)], (0, 12)),
        ([(8, 20), (6, 20)], (6, 20)),
        ([(0, 10), (10, 20)], (0, 20)),
        ([(10, 20), (0, 10)], (0, 20)),
        ([(0, 4), (4, 8), (3, 5)], (0, 8)),
        ([(4, 6), (6, 8), (4, 7)], (4, 8)),
        ([(4, 6), (2, 4), (3, 6)], (2, 6)),
        ([(0, 9), (3, 9)], (0, 9)),
    ],
)
def test_looks_that_touch_stand_as_one_also_in_the_instant_in_which_they_become_it(
    ledger: Ledger, looks: Sequence[tuple[int, int]], stands: tuple[int, int]
) -> None:
    """Also those that are recorded in one instant; and an import finds the same one."""
    for kind, step in (("charge", MINUTE), ("payout", timedelta(0))):
        for number, look in enumerate(looks):
            ledger.record_coverage([fact(*look, kind=kind)], NOON + number * step)
    now = NOON + (len(looks) - 1) * MINUTE
    with ledger.view() as view:
        assert view.coverage(now) == [fact(*stands), fact(*stands, kind="payout")]


@pytest.mark.parametrize("inner", [(2, 9), (2, 5), (4, 9), (4, 5), (4, 4)])
def test_a_complete_look_inside_a_known_one_is_no_new_fact_and_a_failed_one_is(
    ledger: Ledger, inner: tuple[int, int]
) -> None:
    assert ledger.record_coverage([fact(2, 9)], NOON) == 1
    assert ledger.record_coverage([fact(*inner)], NOON + MINUTE) == 0
    assert ledger.record_coverage([fact(*inner, "403")], NOON + 2 * MINUTE) == 1
    assert ledger.record_coverage([fact(*inner), fact(*inner, kind="payout")], NOON + 3 * MINUTE) == 1
    with ledger.view() as view:
        assert view.coverage(NOON + 3 * MINUTE) == [fact(2, 9), fact(*inner, "403"), fact(*inner, kind="payout")]


def test_an_import_finds_what_stands_now_as_if_it_had_been_recorded_here(ledger: Ledger) -> None:
    growing = [fact(2, 3), *(fact(0, until) for until in (3, 5, 8))]
    failing = [fact(8, 11, "403"), fact(8, 9, "throttled"), fact(7, 11, "403"), fact(7, 12, "403")]
    with ledger.together() as tx:
        for number, each in enumerate([*growing, *failing]):
            record_coverage(tx, [each], NOON + number * MINUTE)
        tx.run(text("UPDATE coverage SET superseded_at = NULL"))
        supersede_imported(tx)
    with ledger.view() as view:
        assert view.coverage(NOON + 20 * MINUTE) == [growing[-1], failing[1], failing[-1]]
        assert view.coverage(NOON + 4 * MINUTE) == [growing[-1], failing[0]]


@settings(max_examples=60, deadline=None)
@given(_histories)
def test_what_is_said_as_of_any_instant_is_what_all_facts_say(emptied: Ledger, history: list[Recorded]) -> None:
    ledger = forget(emptied)
    # One failure of a kind at one instant: the table never kept two of the same window that differ by reason.
    first = {(at, each.kind, each.window if each.complete else None): (at, each) for at, each in reversed(history)}
    recorded = list(reversed(first.values()))
    with ledger.together() as tx:
        for minute, each in recorded:
            record_coverage(tx, [each], NOON + minute * MINUTE)
    check_the_past(ledger, recorded)
    with ledger.together() as tx:
        tx.run(text("UPDATE coverage SET superseded_at = NULL"))
        supersede_imported(tx)
    check_the_past(ledger, recorded)


SWEEPS = 1000


@pytest.mark.long
def test_after_100_000_sweeps_a_handful_of_facts_is_read(ledger: Ledger) -> None:
    """100 kinds with a thousand sweeps each; one has failed ever since, one has a hole. Then sweeping goes on."""
    kinds = [f"kind{number}" for number in range(100)]
    with ledger.together() as tx:
        tx.be_patient()
        for number in range(len(kinds)):
            _INSERT.run_rows(tx, list(_swept(number, tx)))
        supersede_imported(tx)
        for turn in (SWEEPS, SWEEPS + 1):
            looked = [fact(turn, turn + 2, "403" if kind == "kind7" else "", kind) for kind in kinds]
            record_coverage(tx, looked, NOON + turn * MINUTE)
    with ledger.view() as view:
        found = view.coverage(NOON + 2 * SWEEPS * MINUTE)
        early = view.coverage(NOON)
    assert len(found) == len(kinds) + 1
    assert {each.window for each in early} == {Window(BEGINNING, BEGINNING + 2 * MINUTE)}
    reached, whole = reaches(found), BEGINNING + (SWEEPS + 3) * MINUTE
    assert reached["main", "kind1"] == Reach(BEGINNING, whole, ())
    assert reached["main", "kind7"] is None
    hole = Window(BEGINNING + 501 * MINUTE, BEGINNING + 502 * MINUTE)
    assert reached["main", "kind8"] == Reach(BEGINNING, whole, (Gap(hole, NO_LOOK),))
    with ledger.store.read() as tx:
        assert tx.run(text("SELECT count(*) FROM coverage")).scalar_one() > 100_000, "every step of the past is there"
    for plan in _plans(ledger):
        assert "ix_coverage_standing" in plan


_INSERT = insert_into(
    "coverage",
    {"id": WHOLE, "account": WORDS, "kind": WORDS, "since": WHOLE, "until": WHOLE,
     "complete": TRUTH, "reason": WORDS, "recorded_at": WHOLE},
)  # fmt: skip


def _swept(number: int, tx: Transaction) -> Iterator[tuple[Any, ...]]:
    """What a thousand sweeps of a kind record: each time the whole stretch."""
    for turn, row_id in enumerate(tx.ticks(SWEEPS)):
        since, until = 0, turn + 2
        if number == 8 and turn >= 500:
            since, until = (0, 501) if turn < 502 else (502, turn + 2)
        recorded_at = to_micros(NOON + turn * MINUTE)
        window = (to_micros(BEGINNING + since * MINUTE), to_micros(BEGINNING + until * MINUTE))
        yield row_id, "main", f"kind{number}", *window, number != 7, "403" if number == 7 else "", recorded_at


def _plans(ledger: Ledger) -> list[str]:
    """How the database finds the facts that stand now, once it knows how many there are in all."""
    with ledger.together() as tx:
        tx.run(text("ANALYZE"))
    with ledger.store.read() as tx:
        explain = "EXPLAIN " if tx.dialect.is_postgres else "EXPLAIN QUERY PLAN "
        now = {"as_of": to_micros(NOON + 2 * SWEEPS * MINUTE)}
        return [
            "\n".join(str(row[-1]) for row in tx.run(text(explain + statement.text), now))
            for statement in (ALL_STANDING, LATER_SUPERSEDED)
        ]
