"""Taking a backup while everybody goes on working: one consistent view, written to a file, read back, then named."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

from sqlalchemy import text

from reconciler import __version__
from reconciler.errors import LedgerUnavailable, UsageError
from reconciler.ledger.backup.archive import Manifest, Table, Writing, verify, writing
from reconciler.ledger.schema import current
from reconciler.ledger.store import Store
from reconciler.ledger.transaction import Transaction
from reconciler.ledger.unfinished import give_name, room_beside

DATABASE_FILE = "ledger.db"
_ALEMBIC = "alembic_version"


def take(store: Store, out: Path, *, now: datetime) -> Manifest:
    """Write a backup to `out`, which appears when it is whole, durable and verified. `now` is stored as its instant.

    Raises UsageError where `out` exists or cannot be written, LedgerUnavailable.
    """
    if out.exists():
        raise UsageError(f"{out} exists; a backup never replaces a file")
    revision = current(store)
    if revision is None:
        raise UsageError("there is no ledger to back up")
    try:
        with room_beside(out) as room:
            unfinished = room / "backup.part"  # and not as it will be called, which may be the name of the copy
            with writing(unfinished) as archive:
                if store.dialect.is_postgres:
                    manifest = _from_postgres(store, archive, revision, now)
                else:
                    manifest = _from_sqlite(store, archive, revision, now, room / DATABASE_FILE)
                archive.finish(manifest)
            make_durable(unfinished)
            verify(unfinished)
            give_name(unfinished, out)
            make_durable(out.parent)
    except FileExistsError:
        raise UsageError(f"{out} exists by now; a backup never replaces a file") from None
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}") from error
    return manifest


def _from_sqlite(store: Store, archive: Writing, revision: str, now: datetime, copy: Path) -> Manifest:
    """A copy by SQLite's own backup in one step: a reader's view, so that no writer waits for it."""
    try:
        with (
            closing(
                sqlite3.connect(f"{Path(str(store.url.database)).absolute().as_uri()}?mode=ro", uri=True)
            ) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target, pages=-1)
            target.execute("PRAGMA journal_mode=DELETE")
            faults = [row[0] for row in target.execute("PRAGMA integrity_check(5)")]
            tables = _tables_of_file(target)
            clock = target.execute("SELECT value FROM ledger_clock_row").fetchone()[0]
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"the ledger's file could not be copied: {error}") from error
    if faults != ["ok"]:
        raise LedgerUnavailable(f"the ledger's file is damaged, and no backup was kept: {'; '.join(faults)}")
    with copy.open("rb") as file, archive.member(DATABASE_FILE) as member:
        member.write_all(file)
    copy.unlink()  # two copies are enough for the disk while the archive is read back
    return Manifest(
        database="sqlite",
        revision=revision,
        taken_at=now,
        program=__version__,
        ledger_clock=clock,
        tables=tables,
        members=archive.members,
    )


def _from_postgres(store: Store, archive: Writing, revision: str, now: datetime) -> Manifest:
    """Each table by COPY, as text, in one repeatable-read view."""
    tables: dict[str, Table] = {}
    with store.read() as tx:
        tx.be_patient()
        for name, columns in _columns_of_postgres(tx).items():
            rows = tx.run(text(f"SELECT count(*) FROM {name}")).scalar_one()
            tables[name] = table = Table(rows=rows, columns=columns)
            out = copy_of(name, table, "TO STDOUT")
            with archive.member(member_of(name), rows=rows) as member, tx.copying(out) as copy:
                for piece in copy:
                    member.write(piece)
        clock = tx.run(text("SELECT last_value FROM ledger_clock")).scalar_one()
    return Manifest(
        database="postgresql",
        revision=revision,
        taken_at=now,
        program=__version__,
        ledger_clock=clock,
        tables=tables,
        members=archive.members,
    )


def _tables_of_file(copy: sqlite3.Connection) -> dict[str, Table]:
    """As they are, and not as this program would have them: a backup comes before a migration."""
    names = [row[0] for row in copy.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {
        name: Table(
            rows=copy.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0],
            columns=tuple(row[0] for row in copy.execute("SELECT name FROM pragma_table_info(?)", (name,))),
        )
        for name in names
        if name != _ALEMBIC
    }


_COLUMNS = text(
    """
    SELECT c.table_name, c.column_name FROM information_schema.columns c
    JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
    WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' AND c.is_generated = 'NEVER'
    ORDER BY c.table_name COLLATE "C", c.ordinal_position
    """
)


def _columns_of_postgres(tx: Transaction) -> dict[str, tuple[str, ...]]:
    """Its clock is a sequence there, which no table holds; its revision is in the manifest."""
    found: dict[str, tuple[str, ...]] = {}
    for row in tx.run(_COLUMNS):
        found[row.table_name] = (*found.get(row.table_name, ()), row.column_name)
    found.pop(_ALEMBIC, None)
    return found


def member_of(table: str) -> str:
    return f"{table}.copy"


def copy_of(name: str, table: Table, direction: str) -> str:
    """Columns by name, so that one which a migration puts elsewhere still gets its own values."""
    columns = ", ".join(f'"{column}"' for column in table.columns)
    return f"COPY {name} ({columns}) {direction}"


def make_durable(path: Path) -> None:
    """A file's content, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
