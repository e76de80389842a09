"""A ledger that is moved is the same ledger: SQLite to Postgres and back, shuffled, and as often as one likes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from reconciler.ledger import Ledger, Mark, open_ledger
from reconciler.ledger.breaks import verify_audit
from reconciler.ledger.moving import import_lines
from reconciler.model import ResourceRef
from tests.databases import sqlite_url
from tests.ledger.factories import by_hand, claim_all
from tests.moving.ledgers import KINDS, READERS, START, TABLES, Past, books, exported, numbered, wipe

NOW = START + timedelta(days=1)


@pytest.fixture
def ledgers(sqlite_ledger_url: str, postgres_ledger_url: str, tmp_path: Path) -> Iterator[tuple[Ledger, ...]]:
    """Where it began, where it goes, and where it comes back to."""
    with (
        closing(open_ledger(sqlite_ledger_url)) as first,
        closing(open_ledger(postgres_ledger_url)) as second,
        closing(open_ledger(sqlite_url(tmp_path / "third.db"))) as third,
    ):
        third.require_current_schema()
        yield first, second, third


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target],
)
@given(data=st.data(), count=st.integers(0, 40))
def test_a_ledger_survives_its_journeys(ledgers: tuple[Ledger, ...], data: st.DataObject, count: int) -> None:
    first, second, third = ledgers
    for ledger in ledgers:
        wipe(ledger)
    past = Past(first)
    for _ in range(count):
        past.act(data)
    told = exported(first)

    import_lines(second.store, numbered(told), READERS, NOW)
    assert exported(second) == told, "to Postgres"
    assert books(second) == books(first)
    with second.store.read() as tx:
        assert verify_audit(tx) == []

    shuffled = exported(second)
    random.Random(data.draw(st.integers())).shuffle(shuffled)
    import_lines(third.store, numbered(shuffled), READERS, NOW)
    assert exported(third) == told, "back to SQLite, in any order"
    assert books(third) == books(first)

    again = import_lines(third.store, numbered(shuffled[: len(shuffled) // 2]), READERS, NOW)
    assert exported(third) == told, "and again"
    assert books(third) == books(first)
    assert again.new.get("version", 0) == 0


def test_every_table_with_a_past_is_moved(ledgers: tuple[Ledger, ...]) -> None:
    """A table that is added later must be moved too, or be named here with the reason why not."""
    not_moved = {
        "alembic_version": "each database has its own",
        "ledger_clock_row": "each database has its own clock",
        "gate": "found anew by the first read",
        "finding": "found anew by the first look",
        "alert": "judged anew by the first look, and told by whoever looks after the new ledger",
        "change": "placed anew in the feed of the ledger that took them in",
        "outbox_attempt": "the log of requests stays where they were sent from",
        "feed": "each ledger counts for itself, and refuses another one's cursors",
        "bucket": "a budget fills up again within seconds",
        "unread": "every imported version is unread",
        **dict.fromkeys(
            ("movement", "movement_name", "aside_group", "aside_flow", "aside_state"), "made anew from the versions"
        ),
        **dict.fromkeys(("carried_span", "carried_balance", "carried_paid"), "summed up anew from the entries"),
        "console_session": "everybody logs in again",
        "console_key": "signs only sessions, and those are not moved",
        "sealing_key": "an export is plain, and whoever takes it in seals with keys of its own",
    }
    with ledgers[0].store.read() as tx:
        tables = {row.name for row in tx.run(text("SELECT name FROM sqlite_master WHERE type = 'table'"))}
    assert tables - set(not_moved) - set(TABLES) == set()


def test_what_was_dirty_falls_due_where_it_was_moved_to(ledgers: tuple[Ledger, ...]) -> None:
    first, second, _ = ledgers
    first.mark(marks(), START)
    import_lines(second.store, numbered(exported(first)), READERS, NOW)
    assert sorted(claim.ref for kind in KINDS for claim in claim_all(second, NOW, kind=kind)) == sorted(
        each.ref for each in marks()
    )


def marks() -> list[Mark]:
    return [by_hand(ResourceRef("stripe", "main", kind, "1")) for kind in KINDS]
