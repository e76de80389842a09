"""A burst of N marks costs at most two reads: in every order, doubled or not, with and without satisfied hints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import permutations

import pytest

from reconciler.clock import ManualClock
from reconciler.ledger import Answer, Ledger, PageRow
from reconciler.model import Cause, Priority, Reading, ResourceRef, Snapshot, Tombstone
from tests.ledger.factories import LEASE, LEAST, NOON, SETTLE, ref, row, seconds, settle, snapshot, webhook

STEP = timedelta(milliseconds=100)


@dataclass(slots=True)
class Worker:
    """A worker of one resource that sleeps until it is due, and whose reads take as long as they take."""

    ledger: Ledger
    clock: ManualClock
    of: ResourceRef
    read: Callable[[], Reading]
    hint_holds: Callable[[str, Reading], bool] = lambda _hint, _reading: True
    latency: timedelta = timedelta(0)
    reads: list[datetime] = field(default_factory=list)

    def until(self, end: datetime) -> None:
        """Work until then; whatever is due at that very instant is left for after."""
        for _ in range(1000):
            due = self._due_at()
            if due is None or due >= end:
                break
            self._sleep_until(due)
            self._look()
        self._sleep_until(end)

    def _due_at(self) -> datetime | None:
        with self.ledger.view() as view:
            resource = view.resource(self.of)
        return None if resource is None else resource.due_at

    def _sleep_until(self, instant: datetime) -> None:
        self.clock.advance(max(instant - self.clock.now(), timedelta(0)))

    def _look(self) -> None:
        began = self.clock.now()
        claims = self.ledger.claim("main", "charge", Priority.LIVE, owner="worker", count=1, lease=LEASE, now=began)
        if not claims:
            return
        reading = self.read()
        self.reads.append(began)
        self.clock.advance(self.latency)
        answers = [
            Answer(
                each,
                reading,
                began,
                satisfied=each.hints is not None and all(self.hint_holds(hint, reading) for hint in each.hints),
            )
            for each in claims
        ]
        self.ledger.apply(answers, now=self.clock.now(), least_interval=LEAST)


def burst(worker: Worker, marks: Sequence[tuple[float, str | None]]) -> list[datetime]:
    """Marks at these seconds after now, each with its hint; then quiet until nothing is left to do."""
    began = worker.clock.now()
    for at, hint in marks:
        worker.until(began + seconds(at))
        worker.ledger.mark([webhook(worker.of, expected=hint)], worker.clock.now())
    worker.until(worker.clock.now() + SETTLE * 8)
    assert not row(worker.ledger, worker.of).dirty
    return worker.reads


HINTED: list[tuple[float, str | None]] = [(0.0, '{"n":1}'), (0.2, '{"n":2}'), (0.4, '{"n":3}')]
PLAIN: list[tuple[float, str | None]] = [(0.0, None), (0.2, None), (0.4, None)]
MIXED: list[tuple[float, str | None]] = [(0.0, '{"n":1}'), (0.2, None), (0.4, '{"n":3}')]


def orders(marks: Sequence[tuple[float, str | None]]) -> list[list[tuple[float, str | None]]]:
    """Every order of arrival, each hint once or twice."""
    hints = [hint for _, hint in marks]
    singles = [list(order) for order in permutations(hints)]
    doubled = [[hint for hint in order for _ in range(2)] for order in singles] + [order * 2 for order in singles]
    return [
        [(0.4 * number / len(order), hint) for number, hint in enumerate(order)]
        for order in {tuple(order): order for order in singles + doubled}.values()
    ]


@pytest.mark.parametrize("marks", [HINTED, PLAIN, MIXED], ids=["hinted", "plain", "mixed"])
@pytest.mark.parametrize("holds", [True, False], ids=["satisfied", "unsatisfied"])
@pytest.mark.parametrize(("known", "latency"), [(True, 0.0), (False, 0.3)], ids=["known-quick", "unknown-slow"])
def test_a_burst_costs_at_most_two_reads(
    ledger: Ledger, clock: ManualClock, marks: list[tuple[float, str | None]], holds: bool, known: bool, latency: float
) -> None:
    for number, order in enumerate(orders(marks)):
        of = ref(f"ch_{number}")
        if known:
            settle(ledger, of, snapshot(of), clock.now())
            clock.advance(SETTLE * 2)
        worker = Worker(ledger, clock, of, partial(snapshot, of, 2), lambda *_: holds, seconds(latency))
        assert len(burst(worker, order)) <= 2, order


@pytest.mark.parametrize("spread", [2.0, 8.0, 20.0], ids=["2s", "8s", "20s"])
@pytest.mark.parametrize("deleted", [False, True], ids=["present", "deleted"])
@pytest.mark.parametrize("hint", [None, '{"n":1}'], ids=["plain", "unsatisfied"])
def test_a_long_burst_costs_two_reads_too(
    ledger: Ledger, clock: ManualClock, spread: float, deleted: bool, hint: str | None
) -> None:
    """As long as no pause in it reaches the settle window, and it ends before the wait's own limit."""
    of = ref()
    reading = Tombstone(of) if deleted else snapshot(of)
    worker = Worker(ledger, clock, of, lambda: reading, lambda *_: False)
    marks = [(at / 2, hint) for at in range(int(spread * 2))]
    assert len(burst(worker, marks)) <= 2
    assert row(ledger, of).state == ("deleted" if deleted else "present")


def test_a_satisfied_hint_costs_one_read(ledger: Ledger, clock: ManualClock) -> None:
    of = ref()
    worker = Worker(ledger, clock, of, lambda: snapshot(of))
    assert len(burst(worker, [(0.0, '{"n":1}')])) == 1


def test_without_a_hint_the_second_read_comes_when_the_window_is_over(ledger: Ledger, clock: ManualClock) -> None:
    of = ref()
    worker = Worker(ledger, clock, of, lambda: snapshot(of))
    first, second = burst(worker, PLAIN)
    assert first == NOON, "at once"
    assert timedelta(0) <= second - (NOON + seconds(0.4) + SETTLE) < STEP, "and one window after the last mark"


def test_a_deleted_resource_that_is_marked_without_pause_is_read_once_a_window(
    ledger: Ledger, clock: ManualClock
) -> None:
    of = ref()
    worker = Worker(ledger, clock, of, lambda: Tombstone(of))
    for _ in range(120):
        ledger.mark([webhook(of)], clock.now())
        worker.until(clock.now() + seconds(1))
    assert len(worker.reads) <= 120 / SETTLE.total_seconds() + 1


def test_what_was_true_at_the_last_mark_is_stored_within_a_window_of_it(ledger: Ledger, clock: ManualClock) -> None:
    """The replica lags by almost the window, and every mark is early: the last read sees the last change."""
    of = ref()
    changes: list[tuple[datetime, int]] = [(NOON - timedelta(days=1), 0)]

    def lagging() -> Snapshot:
        seen = [value for at, value in changes if at <= clock.now() - seconds(4.9)]
        return snapshot(of, seen[-1])

    worker = Worker(ledger, clock, of, lagging)
    for value in range(1, 4):
        changes.append((clock.now(), value))
        ledger.mark([webhook(of)], clock.now())
        worker.until(clock.now() + seconds(1))
    worker.until(clock.now() + SETTLE + STEP)
    with ledger.view() as view:
        resource = view.resource(of)
        assert resource is not None
        assert not resource.dirty
        assert list(view.versions(resource))[-1].body == {"id": of.id, "value": 3}


def test_a_page_within_a_burst_costs_no_read(ledger: Ledger, clock: ManualClock) -> None:
    of = ref()
    worker = Worker(ledger, clock, of, lambda: snapshot(of))
    ledger.mark([webhook(of)], clock.now())
    worker.until(clock.now() + seconds(1))
    ledger.apply_page(
        [PageRow(snapshot(of, "older"))],
        start=ledger.tick(),
        started_at=clock.now(),
        cause=Cause.SWEEP,
        settle={"charge": SETTLE},
        now=clock.now(),
    )
    worker.until(clock.now() + SETTLE * 3)
    assert len(worker.reads) == 2
