"""The change feed never passes by a change: not one that commits late, not one whose placer died."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import text

from reconciler.clock import ManualClock
from reconciler.errors import LedgerUnavailable, UsageError
from reconciler.ledger import Answer, Ledger, Mark, PageRow, listing, open_ledger
from reconciler.ledger.changes import Change, Cursor, Filter, ForeignCursor, place, read
from reconciler.ledger.moving import import_lines
from reconciler.ledger.redaction import Asked, Keeping
from reconciler.model import Cause, Redaction, ResourceRef, Snapshot, State
from tests.ledger.factories import NOON, by_hand, claim_all, ref, seconds, settle, show_page, snapshot, tombstone
from tests.moving.ledgers import READERS, exported, numbered

T = TypeVar("T")


def told(ledger: Ledger, after: Cursor | None = None, wanted: Filter | None = None) -> list[tuple[str, int]]:
    """(id, version) of everything behind the cursor."""
    return [(change.ref.id, change.version) for change in follow(ledger, after, wanted)]


def follow(ledger: Ledger, after: Cursor | None = None, wanted: Filter | None = None, limit: int = 3) -> list[Change]:
    found: list[Change] = []
    while True:
        page = ledger.changes.read(after, wanted or Filter(), limit=limit)
        found += page.changes
        after = page.cursor
        if not page.more:
            return found


@pytest.fixture
def second(postgres_ledger_url: str) -> Iterator[tuple[Ledger, Ledger, Ledger]]:
    """Two writers and a reader, each with connections of its own, on one Postgres."""
    with (
        closing(open_ledger(postgres_ledger_url)) as first,
        closing(open_ledger(postgres_ledger_url)) as other,
        closing(open_ledger(postgres_ledger_url)) as reader,
    ):
        yield first, other, reader


# --- what is in it ----------------------------------------------------------------------------------


def test_every_way_to_a_version_is_a_change(ledger: Ledger) -> None:
    one, two = ref("ch_1"), ref("ch_2")
    settle(ledger, one, snapshot(one, 1, status="open"), NOON)
    settle(ledger, one, snapshot(one, 1), NOON + seconds(20))
    settle(ledger, one, snapshot(one, {"deep": 2}), NOON + seconds(40))
    show_page(ledger, snapshot(two, 1), start=ledger.tick(), started_at=NOON, now=NOON, cause=Cause.BACKFILL)
    settle(ledger, one, tombstone(one), NOON + seconds(60))
    ledger.changes.place()
    changes = [each for each in follow(ledger) if each.ref == one]
    assert [(each.version, each.previous_version, each.state, each.changed) for each in changes] == [
        (1, None, State.PRESENT, ("*",)),
        (2, 1, State.PRESENT, ("value",)),
        (3, 2, State.DELETED, ("*",)),
    ]
    (other,) = [each for each in follow(ledger) if each.ref == two]
    assert (other.version, other.cause, other.body) == (1, Cause.BACKFILL, {"id": "ch_2", "value": 1})
    assert sorted(each.position or 0 for each in follow(ledger)) == [1, 2, 3, 4]


def test_an_apply_that_is_rolled_back_announces_nothing(ledger: Ledger) -> None:
    settle(ledger, ref("ch_1"), snapshot(ref("ch_1")), NOON)
    with suppress(ZeroDivisionError), ledger.together():
        settle(ledger, ref("ch_2"), snapshot(ref("ch_2")), NOON)
        raise ZeroDivisionError
    settle(ledger, ref("ch_3"), snapshot(ref("ch_3")), NOON)
    ledger.changes.place()
    assert told(ledger) == [("ch_1", 1), ("ch_3", 1)]
    assert [each.position for each in follow(ledger)] == [1, 2], "and leaves no gap"


def test_filters_narrow_and_the_cursor_moves_on_all_the_same(ledger: Ledger) -> None:
    for value in (1, 2):
        of = ref("ch_1")
        body = snapshot(of, 5 if value == 1 else {"amount": value})
        settle(ledger, of, body, NOON + seconds(20 * value))
    settle(ledger, ref("re_1", kind="refund"), snapshot(ref("re_1", kind="refund")), NOON)
    ledger.changes.place()
    assert told(ledger, wanted=Filter(kinds=frozenset({"refund"}))) == [("re_1", 1)]
    assert told(ledger, wanted=Filter(causes=frozenset({"webhook"}))) == []
    assert told(ledger, wanted=Filter(accounts=frozenset({"other"}))) == []
    assert set(told(ledger, wanted=Filter(fields=frozenset({"value.amount"})))) == {
        ("ch_1", 1),
        ("ch_1", 2),
        ("re_1", 1),
    }
    assert set(told(ledger, wanted=Filter(fields=frozenset({"status"})))) == {("ch_1", 1), ("re_1", 1)}
    page = ledger.changes.read(None, Filter(accounts=frozenset({"other"})), limit=1)
    assert (page.changes, page.more, page.cursor) == ((), False, ledger.changes.head())


def test_large_bodies_make_short_pages_that_pass_nothing_by(ledger: Ledger) -> None:
    """What a change is held against counts as well: it is read for it."""
    for number in range(6):
        settle(ledger, ref("ch_1"), snapshot(ref("ch_1"), f"{number}{'x' * 1000}"), NOON + timedelta(seconds=number))
    ledger.changes.place()
    with ledger.store.read() as tx:
        first = read(tx, None, Filter(), limit=100, most_bytes=1000)
        assert [each.version for each in first.changes] == [1], "one, however large"
        assert first.more
        some = read(tx, first.cursor, Filter(), limit=100, most_bytes=4500)
        assert ([each.version for each in some.changes], some.more) == ([2, 3, 4], True)
        rest = read(tx, some.cursor, Filter(), limit=100)
        assert ([each.version for each in rest.changes], rest.more) == ([5, 6], False)


@pytest.mark.parametrize(
    ("fields", "changed", "wanted"),
    [
        ({"status"}, ("status",), True),
        ({"status"}, ("status.code",), True),
        ({"status.code"}, ("status",), True),
        ({"status"}, ("statuses",), False),
        ({"status.code"}, ("status.codes",), False),
        ({"status"}, ("*",), True),
        ({"status", "amount"}, ("x", "amount"), True),
        ((), ("x",), True),
        ({"x"}, (), False),
    ],
)
def test_a_field_stands_for_what_is_below_it(fields: set[str], changed: tuple[str, ...], wanted: bool) -> None:
    assert Filter(fields=frozenset(fields)).wants_fields(changed) is wanted


# --- commits in another order -----------------------------------------------------------------------


def test_a_change_that_commits_late_is_not_passed_by(second: tuple[Ledger, Ledger, Ledger]) -> None:
    slow, quick, reader = second
    with slow.together():
        settle(slow, ref("ch_slow"), snapshot(ref("ch_slow")), NOON)
        settle(quick, ref("ch_quick", kind="refund"), snapshot(ref("ch_quick", kind="refund")), NOON)
        reader.changes.place()
        before = follow(reader)
        seen = reader.changes.head()
        assert [each.ref.id for each in before] == ["ch_quick"]
    assert applied_seq(reader, "ch_slow") < applied_seq(reader, "ch_quick"), "the sequence has them the other way round"
    reader.changes.place()
    assert told(reader, seen) == [("ch_slow", 1)]


def applied_seq(ledger: Ledger, name: str) -> int:
    with ledger.store.read() as tx:
        statement = text("SELECT applied_seq FROM resource WHERE remote_id = :name")
        return int(tx.run(statement, {"name": name}).scalar_one())


def test_positions_are_seen_only_when_all_before_them_are(second: tuple[Ledger, Ledger, Ledger]) -> None:
    placer, other, reader = second
    settle(placer, ref("ch_1"), snapshot(ref("ch_1")), NOON)
    with placer.store.write() as tx:
        assert place(tx) == 1
        settle(other, ref("ch_2"), snapshot(ref("ch_2")), NOON)
        assert other.changes.place() == 0, "somebody else is at it, and nobody waits for them"
        assert told(reader) == []
    assert other.changes.place() == 1
    assert [(each.ref.id, each.position) for each in follow(reader)] == [("ch_1", 1), ("ch_2", 2)]


def test_a_placer_that_dies_in_the_middle_loses_nothing(second: tuple[Ledger, Ledger, Ledger]) -> None:
    placer, other, reader = second
    settle(other, ref("ch_1"), snapshot(ref("ch_1")), NOON)
    with suppress(ZeroDivisionError), placer.store.write() as tx:
        assert place(tx) == 1
        raise ZeroDivisionError
    assert told(reader) == []
    assert other.changes.place() == 1
    assert [each.position for each in follow(reader)] == [1]


def patiently(act: Callable[[], T]) -> T:
    """As the daemon does: what could not be done, because somebody else was at it for too long, is done again."""
    while True:
        with suppress(LedgerUnavailable):
            return act()


def show(ledger: Ledger, rows: list[PageRow], now: datetime, mark: Mark) -> None:
    start = ledger.tick()
    with ledger.together():
        ledger.apply_page(rows, start=start, started_at=now, cause=Cause.SWEEP, settle={"charge": seconds(0)}, now=now)
        ledger.mark([mark], now)


def test_readers_beside_writers_miss_nothing_and_see_nothing_twice(ledger_url: str) -> None:
    """Four writers on shared resources, two of whom place as well, and a reader who follows from the first moment."""
    rounds, names = 12, ("a", "b", "c")
    failures: list[BaseException] = []

    def write(number: int) -> None:
        with closing(open_ledger(ledger_url)) as ledger:
            for round_ in range(rounds):
                now = NOON + timedelta(minutes=round_)
                rows = [PageRow(snapshot(ref(f"p_{number}_{name}"), round_)) for name in names]
                patiently(partial(show, ledger, rows, now, by_hand(ref(f"c_{number}"))))
                claims = patiently(partial(claim_all, ledger, now))
                answers = [
                    Answer(each, snapshot(each.ref, round_), now) for each in claims if each.ref.id == f"c_{number}"
                ]
                patiently(partial(ledger.apply, answers, now=now, least_interval=timedelta(0)))
                if number % 2:
                    patiently(partial(ledger.changes.place, limit=5))

    def guarded(number: int) -> None:
        try:
            write(number)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=guarded, args=(number,)) for number in range(4)]
    for each in writers:
        each.start()
    seen: list[Change] = []
    cursor: Cursor | None = None
    with closing(open_ledger(ledger_url)) as reader:
        ended = False
        while not ended:
            ended = not any(each.is_alive() for each in writers)
            while ended and reader.changes.place():
                continue
            page = reader.changes.read(cursor, limit=7)
            seen += page.changes
            cursor = page.cursor
            ended = ended and not page.more
        assert failures == []
        with reader.store.read() as tx:
            stored = {
                (row.resource_id, row.version) for row in tx.run(text("SELECT resource_id, version FROM version"))
            }
    assert [change.position for change in seen] == list(range(1, len(seen) + 1))
    assert {(change.resource_id, change.version) for change in seen} == stored
    assert len(stored) > 4 * rounds
    by_resource: dict[ResourceRef, list[int]] = {}
    for change in seen:
        by_resource.setdefault(change.ref, []).append(change.version)
    assert all(after == before + 1 for versions in by_resource.values() for before, after in pairwise(versions))


# --- cursors ----------------------------------------------------------------------------------------


def test_a_cursor_of_another_ledger_or_of_a_lost_future_is_refused(ledger: Ledger) -> None:
    head = ledger.changes.head()
    with pytest.raises(ForeignCursor, match="another ledger"):
        ledger.changes.read(Cursor("somebody", 0))
    with pytest.raises(ForeignCursor, match="restored from a backup"):
        ledger.changes.read(Cursor(head.epoch, head.position + 1))
    assert Cursor.parse(str(head)) == head
    for nonsense in ("", "5", "abc.", "abc.x", "abc.-1", ".5", "abc.9999999999999999999"):
        with pytest.raises(UsageError, match="is no cursor"):
            Cursor.parse(nonsense)


# --- other ways in and out --------------------------------------------------------------------------


def test_an_imported_past_is_in_the_feed_and_in_order(ledger: Ledger, tmp_path: Path) -> None:
    of = ResourceRef("stripe", "main", "charge", "ch_1")
    for value in (1, 2, 3):
        settle(ledger, of, snapshot(of, value), NOON + seconds(20 * value))
    with closing(open_ledger(f"sqlite:///{tmp_path / 'other.db'}")) as other:
        other.require_current_schema()
        import_lines(other.store, numbered(list(reversed(exported(ledger)))), READERS, NOON + timedelta(days=1))
        assert told(other) == [("ch_1", 1), ("ch_1", 2), ("ch_1", 3)]
        with pytest.raises(ForeignCursor, match="another ledger"):
            other.changes.read(ledger.changes.head())


def test_what_is_redacted_is_gone_from_the_feed_too(ledger: Ledger) -> None:
    of = ref("ch_1")
    settle(ledger, of, snapshot(of, {"name": "Ada"}), NOON)
    ledger.changes.place()
    assert "Ada" in str(follow(ledger))
    asked = Asked("main", Redaction("charge", "ch_1"), "evt_1")
    ledger.redactions.shrink(asked, lambda _: Keeping({"charge": frozenset({"id"})}), after=(-(2**63), 0), limit=10)
    assert "Ada" not in str(follow(ledger))
    assert told(ledger) == [("ch_1", 1)]


def test_versions_end_with_the_one_that_goes_beyond_the_bytes(ledger: Ledger, clock: ManualClock) -> None:
    """While the rest is still on its way: the transaction goes on behind it."""
    for number in range(3):
        settle(ledger, ref(), Snapshot(ref(), {"id": ref().id, "n": number}), clock.now())
        clock.advance(seconds(60))
    with ledger.view() as view:
        known = view.resource(ref())
    assert known is not None
    with ledger.store.read() as tx:
        some = listing.versions(tx, known.id, as_of=None, before=None, limit=50, most_bytes=30)
        every = listing.versions(tx, known.id, as_of=None, before=None, limit=50)
    assert [each.version for each in every] == [3, 2, 1]
    assert some == every[: len(some)]
    assert 0 < len(some) < 3


def test_who_finds_nothing_to_place_leaves_nothing_for_the_disk(postgres_ledger_url: str) -> None:
    with closing(open_ledger(postgres_ledger_url)) as ledger:
        settle(ledger, ref("ch_1"), snapshot(ref("ch_1")), NOON)
        for wanted in (1, 0):
            with ledger.store.write() as tx:
                assert place(tx) == wanted
                assigned = tx.run(text("SELECT pg_current_xact_id_if_assigned()")).scalar_one()
                assert (assigned is not None) == bool(wanted)
