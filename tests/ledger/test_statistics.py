"""On Postgres a ledger that grows from nothing is analyzed before autovacuum comes by."""

from __future__ import annotations

from contextlib import closing
from threading import Event

from sqlalchemy import Engine, create_engine, text

from reconciler.clock import ManualClock
from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.statistics import Statistics
from tests.ledger.factories import by_hand, ref

_KNOWN = text("SELECT reltuples FROM pg_class WHERE oid = 'resource'::regclass")
_FORGET_WHAT_WAS_WRITTEN = text("SELECT pg_stat_reset_single_table_counters('resource'::regclass)")
"""A connection says what it wrote once a second at most: a first backfill of 10,000 may have ended before."""
_EMPTY = text("TRUNCATE resource CASCADE")
"""What the test before wrote into this database may still take its room, though its rows are gone."""


def _known(ledger: Ledger) -> int:
    with ledger.store.read() as tx:
        return int(tx.run(_KNOWN).scalar_one())


def _grow(ledger: Ledger, clock: ManualClock, first: int, count: int) -> None:
    ledger.mark([by_hand(ref(f"ch_{number}")) for number in range(first, first + count)], clock.now())
    with ledger.store.write() as tx:
        tx.run(_FORGET_WHAT_WAS_WRITTEN)


def test_a_table_is_analyzed_each_time_it_has_doubled(postgres_ledger_url: str, clock: ManualClock) -> None:
    with closing(open_ledger(postgres_ledger_url)) as ledger:
        statistics = Statistics(ledger.store.engine)
        with ledger.store.write() as tx:
            tx.run(text("ALTER TABLE resource SET (autovacuum_enabled = off)"))
            tx.run(_EMPTY)
        grown = []
        for first, count in ((0, 400), (400, 400), (800, 200), (1000, 1000)):
            _grow(ledger, clock, first, count)
            statistics.refresh()
            grown.append(_known(ledger))
    assert grown[0] == -1, "a small one is left alone"
    assert grown[1:] == [800, 800, 2000], "and so is one that grew by a quarter"


def test_looks_become_rare_and_end() -> None:
    class Counted(Statistics):
        def __init__(self, engine: Engine) -> None:
            super().__init__(engine)
            self.looks = 0

        def refresh(self) -> None:
            self.looks += 1

    counted = Counted(create_engine("postgresql+psycopg://nobody@localhost/nothing"))
    at = []
    for commit in range(1, 20_000):
        before = counted.looks
        counted.committed()
        counted.end()
        if counted.looks > before:
            at.append(commit)
    assert at == [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]


def test_a_database_that_is_away_does_not_matter() -> None:
    Statistics(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")).refresh()


def test_commits_lead_to_a_look(postgres_ledger_url: str, clock: ManualClock) -> None:
    with closing(open_ledger(postgres_ledger_url)) as ledger:
        with ledger.store.write() as tx:
            tx.run(_EMPTY)
        _grow(ledger, clock, 0, 600)
        for number in range(15):
            ledger.mark([by_hand(ref(f"ch_{number}"))], clock.now())
    with closing(open_ledger(postgres_ledger_url)) as ledger:
        assert _known(ledger) == 600


def test_a_look_that_is_under_way_is_not_joined_by_another() -> None:
    class Held(Statistics):
        def __init__(self, engine: Engine) -> None:
            super().__init__(engine)
            self.looks, self.may_end = 0, Event()

        def refresh(self) -> None:
            self.looks += 1
            self.may_end.wait(120)

    held = Held(create_engine("postgresql+psycopg://nobody@localhost/nothing"))
    for _ in range(100):
        held.committed()
    held.may_end.set()
    held.end()
    assert held.looks == 1
    for _ in range(100, 128):
        held.committed()
    held.end()
    assert held.looks == 2, "at the next turn there is one again"
