"""Upgrading without a pause: what a step of the schema may do, and that a node which runs goes on beside it.

The limit of this: the "old program" is this very code, and the step that it lives through is made here, with everything
that the rule allows. The last release's own code is not in the repository.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from reconciler.errors import SchemaMismatch
from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger import migrations as shipped
from reconciler.ledger.schema import create_at, current, migrate, newest, require_current
from tests.intake.serving import connection, read_reply
from tests.operations.test_reload import OLD, running

PROMISED_SINCE = "0010"
"""From here on steps only add. What came before was never run by two programs at once."""

_ADDS = re.compile(
    r"CREATE TABLE (?P<table>\w+)|"
    r"CREATE (UNIQUE )?INDEX (CONCURRENTLY )?\S+ ON (?P<indexed>\w+)|"
    r"ALTER TABLE \S+ ADD COLUMN (?P<column>.+)|"
    r"UPDATE alembic_version|INSERT INTO alembic_version|SELECT|PRAGMA|SHOW|BEGIN|SET ",
    re.IGNORECASE,
)


def faults(statements: list[str]) -> list[str]:
    """Those that a node of the program before could trip over, or would have to wait for."""
    made: set[str] = set()
    found = []
    for statement in statements:
        plain = " ".join(statement.split())
        match = _ADDS.match(plain)
        if match is None:
            found.append(plain)
            continue
        made.add(match["table"] or "")
        column, indexed = match["column"], match["indexed"]
        if column is not None and "NOT NULL" in column.upper() and "DEFAULT" not in column.upper():
            found.append(plain)
        if indexed is not None and indexed not in made and "CONCURRENTLY" not in plain.upper():
            found.append(plain)  # it would hold up every write of a large table
    return found


@contextmanager
def statements_of(ledger: Ledger) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(ledger.store.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(ledger.store.engine, "before_cursor_execute", note)


def test_every_step_since_then_only_adds(empty_url: str) -> None:
    with closing(open_ledger(empty_url)) as ledger:
        create_at(ledger.store, PROMISED_SINCE)
        with statements_of(ledger) as seen:
            migrate(ledger.store)
    assert any("secret_seen" in each for each in seen)
    assert faults(seen) == []


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE resource DROP COLUMN last_error",
        "ALTER TABLE resource RENAME COLUMN state TO standing",
        "ALTER TABLE resource ADD COLUMN colour TEXT NOT NULL",
        "ALTER TABLE gate RENAME TO doors",
        "ALTER TABLE resource ALTER COLUMN state TYPE INTEGER",
        "ALTER TABLE resource ADD CONSTRAINT ck CHECK (version > 0)",
        "DROP TABLE gate",
        "DROP INDEX ix_resource_due",
        "CREATE INDEX ix_slow ON delivery (type)",
        "UPDATE resource SET state = 'present'",
    ],
)
def test_the_rule_knows_what_an_old_program_would_trip_over(statement: str) -> None:
    assert faults([statement]) == [statement]


def test_the_rule_allows_what_nobody_trips_over() -> None:
    assert faults(["CREATE TABLE shade (id INTEGER)", "CREATE INDEX ix ON shade (id)"]) == []
    assert faults(["ALTER TABLE gate ADD COLUMN colour TEXT"]) == []
    assert faults(["ALTER TABLE gate ADD COLUMN n INT NOT NULL DEFAULT 0"]) == []


def next_step(folder: Path) -> str:
    """A program one step ahead, which does everything that it may."""
    (ours,) = shipped.__path__
    (folder / "versions").mkdir(parents=True)
    for path in [Path(ours) / "env.py", *sorted((Path(ours) / "versions").glob("v*.py"))]:
        (folder / path.relative_to(ours)).write_text(path.read_text())
    (folder / "versions" / "next.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision, down_revision, branch_labels, depends_on = 'next', {newest()!r}, None, None\n"
        "def upgrade():\n"
        "    op.create_table('colour', sa.Column('id', sa.Integer, primary_key=True))\n"
        "    for table in ('resource', 'delivery', 'version', 'job', 'alert', 'finding'):\n"
        "        op.add_column(table, sa.Column('shade', sa.Text(), nullable=False, server_default='grey'))\n"
        "        op.add_column(table, sa.Column('tint', sa.Text()))\n"
    )
    return str(folder)


def test_a_node_goes_on_while_the_schema_moves_ahead_and_none_starts_on_it(ledger_url: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, ledger_url) as here:
            over, answers = asyncio.Event(), list[int]()

            async def keep_sending() -> None:
                while not over.is_set():
                    answers.append(await here.send(OLD))

            sender = asyncio.create_task(keep_sending())
            with closing(open_ledger(ledger_url)) as new:
                await asyncio.to_thread(migrate, new.store, next_step(tmp_path / "migrations"))
                assert current(new.store) == "next"
            sent = len(answers)
            await here.until(lambda: len(answers) > sent + 10)
            over.set()
            await sender
            assert set(answers) == {200}, "not one was refused"
            async with connection(int((here.daemon.url or "").rpartition(":")[2])) as (reader, writer):
                writer.write(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
                assert (await read_reply(reader)).status == 200
            with here.ledger.view() as view:
                assert view.delivery_counts()["stored"] == len(answers)
            with pytest.raises(SchemaMismatch, match="upgrade this program"):
                await asyncio.to_thread(require_current, here.ledger.store)

    asyncio.run(story())
