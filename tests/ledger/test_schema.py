"""The schema: made in an empty database, migrated on request, refused when it is anything else."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from reconciler.errors import LedgerContention, SchemaMismatch
from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger import migrations as shipped
from reconciler.ledger.schema import REVISION, SCRIPTS, create_at, current, migrate, newest, require_current
from reconciler.ledger.tables import metadata
from tests.ledger.factories import NOON, by_hand, ref, table
from tests.ledger.processes import together


def execute(ledger: Ledger, statement: str) -> None:
    with ledger.together() as tx:
        tx.run(text(statement))


@pytest.fixture
def next_program(tmp_path: Path) -> str:
    """The migrations of a program one step ahead of this one."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (ours,) = shipped.__path__
    for path in [Path(ours) / "env.py", *sorted((Path(ours) / "versions").glob("v*.py"))]:
        (folder / path.relative_to(ours)).write_text(path.read_text())
    (folder / "versions" / "next.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision = 'next'\ndown_revision = {newest()!r}\nbranch_labels = depends_on = None\n"
        "def upgrade():\n    op.add_column('gate', sa.Column('colour', sa.Text()))\n"
    )
    return str(folder)


def test_migrations_make_exactly_what_the_tables_declare(ledger: Ledger) -> None:
    options = {"compare_type": True, "compare_server_default": _defaults_differ}
    with ledger.store.exclusively() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    assert differences == []


def test_the_program_knows_its_newest_step_without_asking_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION == newest()


def _defaults_differ(
    _context: object, _found: object, _declared: object, found: str | None, _default: object, declared: str | None
) -> bool | None:
    """None leaves it to Alembic, which on SQLite takes an empty text for a different one."""
    return False if found == "('')" and declared == "" else None


_CONSTRAINTS = {
    # Alembic does not compare checks, conditions of indexes or storage parameters.
    "sqlite": "SELECT tbl_name, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex%'",
    "postgresql": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
        UNION SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION SELECT relname, 'storage', reloptions::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
    """,
}


def constraints(ledger: Ledger) -> set[tuple[str, ...]]:
    with ledger.store.read() as tx:
        rows = tx.run(text(_CONSTRAINTS[tx.dialect.name])).all()
    beside = ("alembic_version", "ledger_clock")  # Alembic's own, and the sequence, which no table declares
    return {
        (each[0], each[1], *_words(each[2]))
        for each in map(tuple[Any, ...], rows)
        if each[0] == "ledger_clock_row" or not each[0].startswith(beside)
    }


def _words(definition: str | None) -> list[str]:
    """Sorted, because a table's constraints may be declared in any order."""
    return sorted(re.split(r"[\s,()]+", definition or ""))


def test_migrations_make_every_check_and_condition_that_the_tables_declare(ledger: Ledger, empty_url: str) -> None:
    with closing(open_ledger(empty_url)) as declared:
        if declared.store.dialect != ledger.store.dialect:
            return  # the other pairing compares
        with declared.store.exclusively() as connection:
            metadata.create_all(connection)
            connection.commit()
        assert constraints(ledger) == constraints(declared)


def test_postgres_counts_in_the_order_of_asking_and_cleans_the_hot_table_early(postgres_ledger_url: str) -> None:
    """A counter with a cache gives each connection numbers of its own: a later read would count as an earlier one."""
    with closing(open_ledger(postgres_ledger_url)) as ledger, ledger.store.read() as tx:
        counter = tx.run(
            text("SELECT cache_size, increment_by, cycle FROM pg_sequences WHERE sequencename = 'ledger_clock'")
        )
        assert tuple(counter.one()) == (1, 1, False)
        settings = tx.run(text("SELECT reloptions FROM pg_class WHERE oid = 'resource'::regclass")).scalar_one()
    assert set(settings) == {"fillfactor=75", "autovacuum_vacuum_scale_factor=0.01"}


def test_an_empty_database_gets_the_schema_by_itself(empty_url: str) -> None:
    with closing(open_ledger(empty_url)) as ledger:
        assert current(ledger.store) is None
        ledger.require_current_schema()
        assert current(ledger.store) == newest()
        assert ledger.tick() == 1
        ledger.require_current_schema()


def test_migrate_makes_the_schema_and_then_does_nothing(empty_url: str) -> None:
    with closing(open_ledger(empty_url)) as ledger:
        assert migrate(ledger.store) == (None, newest())
        ledger.mark([by_hand(ref())], NOON)
        before = table(ledger, "resource")
        assert migrate(ledger.store) == (newest(), newest())
        assert table(ledger, "resource") == before


def test_an_older_schema_is_refused_with_the_command_and_migrated_by_it(ledger: Ledger, next_program: str) -> None:
    ledger.mark([by_hand(ref())], NOON)
    with pytest.raises(SchemaMismatch, match=r"revision \d+, .* needs next; .*`reconcile migrate`"):
        require_current(ledger.store, next_program)
    assert migrate(ledger.store, next_program) == (newest(), "next")
    require_current(ledger.store, next_program)
    assert len(table(ledger, "resource")) == 1


def test_a_newer_schema_is_refused_and_left_alone(ledger: Ledger, next_program: str) -> None:
    migrate(ledger.store, next_program)
    for refused in (require_current, migrate):
        with pytest.raises(SchemaMismatch, match=r"revision next, which this program does not know.*upgrade"):
            refused(ledger.store)
    assert current(ledger.store) == "next"


@pytest.mark.parametrize("entry", [require_current, migrate, current])
def test_a_foreign_database_is_refused_and_left_alone(empty_url: str, entry: object) -> None:
    with closing(open_ledger(empty_url)) as ledger:
        execute(ledger, "CREATE TABLE customers (id INTEGER PRIMARY KEY)")
        with pytest.raises(SchemaMismatch, match=r"not a ledger; point ledger\.url at an empty database"):
            entry(ledger.store)  # type: ignore[operator]  # both take a store
        with pytest.raises(Exception, match=r"no such table|does not exist"):
            ledger.tick()


def test_a_refusal_does_not_print_the_password(empty_url: str) -> None:
    with closing(open_ledger(empty_url)) as ledger:
        ledger.store.url = ledger.store.url.set(username="me", password="hunter2")
        execute(ledger, "CREATE TABLE customers (id INTEGER PRIMARY KEY)")
        with pytest.raises(SchemaMismatch) as refused:
            ledger.require_current_schema()
    assert "hunter2" not in str(refused.value)


def test_a_step_that_meets_others_again_and_again_is_given_up(postgres_ledger_url: str, next_program: str) -> None:
    step = Path(next_program) / "versions" / "next.py"
    ended_by_postgres = "DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END $$"
    step.write_text(step.read_text() + f"    op.execute({ended_by_postgres!r})\n")
    with closing(open_ledger(postgres_ledger_url)) as ledger:
        with pytest.raises(LedgerContention, match="deadlock detected"):
            migrate(ledger.store, next_program)
        assert current(ledger.store) == newest()


@pytest.mark.parametrize("code", ["40P01", "55P03"])
def test_a_step_that_meets_others_for_a_while_is_tried_again(
    postgres_ledger_url: str, next_program: str, code: str
) -> None:
    """A deadlock, and a report that reads the table for longer than a lock is waited for."""
    step = Path(next_program) / "versions" / "next.py"
    statement = (
        f"DO $$ BEGIN IF nextval('tries') < 5 THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END IF; END $$"
    )
    step.write_text(step.read_text() + f"    op.execute({statement!r})\n")
    with closing(open_ledger(postgres_ledger_url)) as ledger:
        execute(ledger, "CREATE SEQUENCE tries")  # what was drawn stays drawn, whatever becomes of the transaction
        assert migrate(ledger.store, next_program) == (newest(), "next")


def test_members_of_payouts_from_before_they_had_rows_get_them(empty_url: str) -> None:
    """As version 0002 found them: lists, of which the later one of a payout takes the place of the earlier."""
    lists: list[dict[str, Any]] = [
        {"payout": "po_1", "at": 10, "members": ["txn_1", "txn_2"]},
        {"payout": "po_1", "at": 20, "members": ["txn_2", "txn_3"]},
        {"payout": "po_2", "at": 15, "members": []},
        {"payout": "po_3", "at": 15, "members": ["txn_9"]},
    ]
    with closing(open_ledger(empty_url)) as ledger:
        create_at(ledger.store, "0001")
        with ledger.together() as tx:
            for number, each in enumerate(lists, start=1):
                members = json.dumps([f"stripe/main/balance_transaction/{name}" for name in each["members"]])
                tx.run(
                    text(
                        "INSERT INTO payout_members (id, provider, account, payout_id, members, complete, recorded_at)"
                        " VALUES (:id, 'stripe', 'main', :payout, :members, :complete, :at)"
                    ),
                    {"id": number, "payout": each["payout"], "members": members, "complete": True, "at": each["at"]},
                )
        migrate(ledger.store)
        found = [(each["payout_id"], each["remote_id"], each["recorded_at"], each["superseded_at"])
                 for each in table(ledger, "payout_member", "payout_id, recorded_at, remote_id")]  # fmt: skip
    assert found == [
        ("po_1", "txn_1", 10, 20),
        ("po_1", "txn_2", 10, 20),
        ("po_1", "txn_2", 20, None),
        ("po_1", "txn_3", 20, None),
        ("po_3", "txn_9", 15, None),
    ]


def test_a_migration_that_fails_changes_nothing(ledger: Ledger, next_program: str) -> None:
    step = Path(next_program) / "versions" / "next.py"
    step.write_text(step.read_text() + "    op.execute('SELECT no_such_thing()')\n")
    with pytest.raises(Exception, match="no_such_thing"):
        migrate(ledger.store, next_program)
    assert current(ledger.store) == newest()
    assert "colour" not in [column for each in table(ledger, "gate") for column in each]
    execute(ledger, "ALTER TABLE gate ADD COLUMN colour TEXT")


def test_nodes_that_start_at_once_on_an_empty_database_all_start(empty_url: str) -> None:
    said = together("start", empty_url, count=3)
    assert sorted(each[0] for each in said) == ["started 1", "started 2", "started 3"]
