"""Which lane goes first, and how it is read: the choices as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.health import Health
from reconciler.ledger import GATE_STORM, Density, Gate, Lane
from reconciler.model import Window
from reconciler.planner import Choice, Singly, Walk, choose, in_turn, plan
from reconciler.provider import Kind

NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

CHARGE = Lane("main", "charge", 0, NOW - 1 * SECOND)
REFUND = Lane("main", "refund", 0, NOW - 9 * SECOND)
SWEPT = Lane("main", "charge", 2, NOW - 60 * SECOND)
LATER = Lane("main", "payout", 0, NOW + 30 * SECOND)
OTHER = Lane("other", "charge", 0, NOW - 5 * SECOND)


WITNESS = Lane("main", "charge", 1, NOW - 1 * SECOND)


def gate(account: str, kind: str, seconds: int, reason: str = "credentials") -> Gate:
    return Gate(account, kind, reason, "", NOW - SECOND, NOW + seconds * SECOND, 1)


@dataclass(frozen=True)
class Case:
    says: str
    lanes: Sequence[Lane]
    chosen: Lane | None
    look_again: timedelta | None = None
    gates: Sequence[Gate] = ()
    room: Mapping[str, int] = field(default_factory=lambda: {"main": 16, "other": 16})
    paused: Mapping[tuple[str, str, int], datetime] = field(default_factory=dict)
    probing: frozenset[tuple[str, str]] = frozenset()
    doors: frozenset[tuple[str, str]] = frozenset()
    turn: int = 0
    batched: frozenset[tuple[str, str]] = frozenset()


CASES = [
    Case("nothing pending: no time to look again", [], None),
    Case("the one that is due", [CHARGE], CHARGE),
    Case("the longest due among equals", [CHARGE, REFUND], REFUND),
    Case("urgency goes before age", [SWEPT, CHARGE], CHARGE),
    Case("but every eighth turn is the oldest's", [SWEPT, CHARGE], SWEPT, turn=7),
    Case(
        "what one request reads many of goes first", [CHARGE, REFUND], CHARGE, batched=frozenset({("main", "charge")})
    ),
    Case("but not before what is more urgent", [SWEPT, REFUND], REFUND, batched=frozenset({("main", "charge")})),
    Case(
        "nor on a turn of the oldest",
        [CHARGE, REFUND],
        REFUND,
        turn=7,
        batched=frozenset({("main", "charge")}),
    ),
    Case("nothing due yet: when the first will be", [LATER], None, 30 * SECOND),
    Case("an account that is not configured waits for nobody", [Lane("gone", "charge", 0, NOW)], None),
    Case("no room: a read that ends wakes the worker", [CHARGE], None, room={"main": 0}),
    Case("no room here, but there", [CHARGE, OTHER], OTHER, room={"main": 0, "other": 1}),
    Case("a closed account", [CHARGE], None, 7 * SECOND, gates=[gate("main", "", 7)]),
    Case("a closed kind closes no other", [CHARGE, REFUND], REFUND, gates=[gate("main", "charge", 7)]),
    Case(
        "the later of two gates counts",
        [CHARGE],
        None,
        9 * SECOND,
        gates=[gate("main", "charge", 9), gate("main", "", 7)],
    ),
    Case("another account's gate closes nothing here", [CHARGE], CHARGE, gates=[gate("other", "", 7)]),
    Case(
        "a gate whose time is up is asked one question",
        [CHARGE],
        CHARGE,
        gates=[gate("main", "", -1)],
        doors=frozenset({("main", "")}),
    ),
    Case(
        "while the question is under way nobody else asks",
        [CHARGE, REFUND],
        None,
        gates=[gate("main", "", -1)],
        probing=frozenset({("main", "")}),
    ),
    Case(
        "in a storm what may end it goes before a backlog of webhooks",
        [REFUND, WITNESS],
        WITNESS,
        gates=[gate("main", "", -1, GATE_STORM)],
        doors=frozenset({("main", "")}),
    ),
    Case(
        "and so it does not behind another gate",
        [REFUND, WITNESS],
        REFUND,
        gates=[gate("main", "", -1), gate("other", "", -1, GATE_STORM)],
        doors=frozenset({("main", "")}),
    ),
    Case(
        "while one kind is asked, the others are read",
        [CHARGE, REFUND],
        REFUND,
        gates=[gate("main", "charge", -1)],
        probing=frozenset({("main", "charge")}),
    ),
    Case(
        "a lane that the budget refused waits",
        [CHARGE],
        None,
        3 * SECOND,
        paused={("main", "charge", 0): NOW + 3 * SECOND},
    ),
    Case(
        "a backfill without budget holds up no webhook of its kind",
        [SWEPT, CHARGE],
        CHARGE,
        paused={("main", "charge", 2): NOW + 3 * SECOND},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_choose(case: Case) -> None:
    choice = choose(
        case.lanes, case.gates, case.room, case.paused, batched=case.batched, probing=case.probing, turn=case.turn,
        now=NOW,
    )  # fmt: skip
    assert choice == Choice(case.chosen, case.look_again, case.doors)


# --- how ------------------------------------------------------------------------------------------

LISTED = Kind(name="charge", endpoint="charge.retrieve", list_endpoint="charge.list")
BATCHED = Kind(name="product", endpoint="product.retrieve", list_endpoint="product.list", id_batch=100)
UNLISTED = Kind(name="balance", endpoint="balance.retrieve")
UNWINDOWED = Kind(name="odd", endpoint="odd.retrieve", list_endpoint="odd.list", windowed=False)


def dense(objects: int, due: int) -> Density:
    return Density(Window(NOW - timedelta(hours=1), NOW), objects, due)


@pytest.mark.parametrize(
    ("kind", "density", "pages"),
    [
        (LISTED, None, None),
        (LISTED, dense(1, 1), None),
        (LISTED, dense(100, 1), None),
        (LISTED, dense(100, 2), 1),
        (LISTED, dense(100, 100), 1),
        (LISTED, dense(101, 3), None),
        (LISTED, dense(101, 4), 2),
        (LISTED, dense(1000, 1000), 10),
        (LISTED, dense(1001, 1000), None),
        (BATCHED, dense(100, 100), None),
        (BATCHED, dense(100, 101), 1),
        (UNLISTED, dense(100, 100), None),
        (UNWINDOWED, dense(100, 100), None),
    ],
)
def test_a_list_is_walked_only_where_it_at_least_halves_the_requests(
    kind: Kind, density: Density | None, pages: int | None
) -> None:
    expected = Singly(kind.id_batch) if pages is None or density is None else Walk(density, pages)
    assert plan(kind, density) == expected


@pytest.mark.parametrize(
    ("due", "newest", "expected"),
    [
        (400, False, (Walk(dense(400, 400), 4), 1)),
        (400, True, (Singly(1), 1)),
        (25, True, (Singly(1), 1)),
        (24, True, (Walk(dense(400, 24), 4), 1)),
    ],
)
def test_the_newest_interrupt_a_walk_with_one_read_where_the_backlog_is_worth_it(
    due: int, newest: bool, expected: tuple[Singly | Walk, int]
) -> None:
    """From a quarter of a page that is due on; below that the walk is over before anybody waits for long."""
    assert in_turn(LISTED, Walk(dense(400, due), 4), 16, newest=newest) == expected


@pytest.mark.parametrize("newest", [True, False])
def test_single_reads_take_all_the_room_there_is(newest: bool) -> None:
    assert in_turn(LISTED, Singly(1), 16, newest=newest) == (Singly(1), 16)


# --- whether lists pay ----------------------------------------------------------------------------


def test_lists_that_fail_rest_ever_longer_until_one_shows_what_it_was_walked_for() -> None:
    health, now, rests = Health(), NOW, []
    for _ in range(9):
        health.rest_walks("charge", now)
        assert health.may_walk("refund", now)
        began = now
        while not health.may_walk("charge", now):
            now += SECOND
        rests.append((now - began) // SECOND)
    assert rests == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    health.walked("charge")
    health.rest_walks("charge", now)
    assert health.may_walk("charge", now + 5 * SECOND)
