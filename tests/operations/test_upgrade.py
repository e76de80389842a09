"""Upgrading without a pause: what a step of the schema may do, and that a node which runs goes on beside it.

In two ways. A step made here does everything that the rule allows, and this very code lives through it: of what is to
come. And the program before the newest step, taken from the history of the repository, works beside this one: of what
was. It is older than the promise that a running node stays ready, so only its work is looked at.
"""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import make_url

from reconciler.errors import SchemaMismatch
from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger import migrations as shipped
from reconciler.ledger.schema import create_at, current, migrate, newest, require_current
from tests.cli.running import ROOT, run_here
from tests.databases import Postgres
from tests.intake.serving import connection, read_reply
from tests.operations.providers import API_KEY, WEBHOOK_SECRET, Providers
from tests.operations.running import Daemon, pay_and_wait
from tests.operations.test_reload import CONFIG, OLD, running

PROMISED_SINCE = "0010"
"""From here on steps only add. What came before was never run by two programs at once."""

_READ_QUICKLY = frozenset({"expectation"})
"""Tables of which a partial index may be made while nodes write (docs/decisions/0088 says how long they wait)."""

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
        quick = indexed in made or "CONCURRENTLY" in plain.upper() or (indexed in _READ_QUICKLY and " WHERE " in plain)
        if indexed is not None and not quick:
            found.append(plain)  # it would hold up every write of a large table
    return found


def program_before_the_newest_step(folder: Path) -> Path:
    """As it was then, out of the history; skips where this is no clone with its history."""
    [step] = Path(shipped.__file__).parent.glob(f"versions/v{newest()}_*.py")
    added = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", str(step)).decode().strip()
    before = _git("archive", "--format=zip", f"{added}^", "reconciler", "providers") if added else b""
    if not before:
        pytest.skip(f"the history does not say what this program was before it had {step.name}")
    folder.mkdir()
    with zipfile.ZipFile(io.BytesIO(before)) as archive:
        archive.extractall(folder)
    return folder


def _git(*arguments: str) -> bytes:
    """What it answers; nothing where it refuses."""
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, check=False).stdout


@pytest.mark.long
def test_the_program_before_the_last_step_works_beside_this_one(postgres: Postgres, tmp_path: Path) -> None:
    before = program_before_the_newest_step(tmp_path / "before")
    name = postgres.create()
    url = postgres.url(name)

    try:
        with Providers() as providers, ExitStack() as stack:
            (tmp_path / "key").write_text(API_KEY)
            (tmp_path / "secret").write_text(WEBHOOK_SECRET)
            configs = [tmp_path / "old.toml", tmp_path / "new.toml"]
            for config in configs:
                config.write_text(CONFIG.format(ledger=url, folder=tmp_path, stripe=providers.stripe_url))
            old = Daemon(configs[0], program=before)
            stack.callback(old.running.kill)
            address = f"http://127.0.0.1:{providers.inwards.port}/webhooks/stripe/main"
            providers.ask(lambda: providers.stripe.add_endpoint(address, secret=WEBHOOK_SECRET))
            providers.inwards.target = old.port
            pay_and_wait(providers, url)
            with closing(open_ledger(url)) as ledger:
                assert current(ledger.store) == f"{int(newest()) - 1:04}", "it is the old program that runs"
            migrated = run_here("--config", str(configs[1]), "migrate")
            assert migrated.code == 0, migrated.err
            pay_and_wait(providers, url)
            new = Daemon(configs[1])
            stack.callback(new.running.kill)
            pay_and_wait(providers, url)  # taken by the old one, read by either
            providers.inwards.target = new.port
            assert old.stop() == 0
            pay_and_wait(providers, url)
            assert [line for line in old.lines + new.lines if line["level"] in ("error", "critical")] == []
            assert new.stop() == 0
    finally:
        postgres.drop(name)


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
        "CREATE INDEX ix_slow ON delivery (type) WHERE type IS NULL",
        "CREATE INDEX ix_slow ON expectation (note)",
        "UPDATE resource SET state = 'present'",
    ],
)
def test_the_rule_knows_what_an_old_program_would_trip_over(statement: str) -> None:
    assert faults([statement]) == [statement]


def test_the_rule_allows_what_nobody_trips_over() -> None:
    assert faults(["CREATE TABLE shade (id INTEGER)", "CREATE INDEX ix ON shade (id)"]) == []
    assert faults(["CREATE INDEX CONCURRENTLY ix ON delivery (type)"]) == []
    assert faults(["CREATE INDEX ix ON expectation (note) WHERE confirmed_at IS NULL"]) == []
    assert faults(["ALTER TABLE gate ADD COLUMN colour TEXT"]) == []
    assert faults(["ALTER TABLE gate ADD COLUMN n INT NOT NULL DEFAULT 0"]) == []


def next_step(folder: Path, *, before_delivery: str = "") -> str:
    """A program one step ahead, which does everything that it may. `before_delivery` is a statement that it runs
    when it has changed the resources."""
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
        f"        if table == 'delivery' and {before_delivery!r}:\n"
        f"            op.execute({before_delivery!r})\n"
        "        op.add_column(table, sa.Column('shade', sa.Text(), nullable=False, server_default='grey'))\n"
        "        op.add_column(table, sa.Column('tint', sa.Text()))\n"
    )
    return str(folder)


def test_a_migration_that_meets_a_node_in_a_deadlock_tries_again(postgres_ledger_url: str, tmp_path: Path) -> None:
    """The node writes a delivery and then its resource; the step changes the resource and then the delivery."""
    plain = make_url(postgres_ledger_url).set(drivername="postgresql").render_as_string(hide_password=False)
    gate = 4242
    scripts = next_step(tmp_path / "migrations", before_delivery=f"SELECT pg_advisory_xact_lock({gate})")

    def write_a_delivery() -> None:
        with psycopg.connect(plain) as node:
            node.execute("SET deadlock_timeout = '10min'")  # so that Postgres ends the step, and not the node
            node.execute("LOCK TABLE delivery IN ROW EXCLUSIVE MODE")
            ready.set()
            at_the_gate.wait(300)
            node.execute("LOCK TABLE resource IN ROW EXCLUSIVE MODE")

    ready, at_the_gate = threading.Event(), threading.Event()
    with (
        closing(open_ledger(postgres_ledger_url)) as ledger,
        psycopg.connect(plain, autocommit=True) as watching,
        ThreadPoolExecutor(2) as beside,
    ):
        watching.execute("SELECT pg_advisory_lock(%s)", [gate])
        writing = beside.submit(write_a_delivery)
        assert ready.wait(300)
        migrating = beside.submit(migrate, ledger.store, scripts)
        _until_waiting(watching, "locktype = 'advisory'")
        at_the_gate.set()
        _until_waiting(watching, "relation = 'resource'::regclass")
        watching.execute("SELECT pg_advisory_unlock(%s)", [gate])
        assert migrating.result(300) == (newest(), "next")
        writing.result(300)


def _until_waiting(watching: psycopg.Connection[Any], for_what: str) -> None:
    asked: Any = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND database ="
        f" (SELECT oid FROM pg_database WHERE datname = current_database()) AND {for_what}"
    )
    give_up_at = time.monotonic() + 300
    while watching.execute(asked).fetchone() == (0,):
        assert time.monotonic() < give_up_at, f"nobody waits for {for_what}"
        time.sleep(0.01)


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
