"""Making a ledger of a backup. What comes out is a new epoch of it: it knows that it was asleep.

* The ledger clock jumps ahead, so that no token and no start of a read from before means anything any more.
* Leases are gone, everything that was under way is due, and every periodic job runs at once: the sweeps go on where
  they stood when the backup was taken, and so read what happened since.
* Cursors of the change feed are refused, so that no reader takes what follows now for what followed then.
* What the sweeps cannot bring back (deliveries that were acknowledged in between, edits that the provider's feed no
  longer holds) is named by a finding for each account, until a backfill from before the backup has verified everything.
"""

from __future__ import annotations

import os
import sqlite3
import zipfile
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.errors import LedgerError, UsageError
from reconciler.ledger import schema
from reconciler.ledger.backup.archive import BadBackup, Manifest, pieces, reading, verify
from reconciler.ledger.backup.taking import DATABASE_FILE, copy_of, member_of
from reconciler.ledger.breaks import append_audit
from reconciler.ledger.changes import begin_epoch
from reconciler.ledger.findings import RESTORED, note_findings
from reconciler.ledger.store import Store
from reconciler.ledger.tables import metadata
from reconciler.ledger.transaction import Transaction
from reconciler.model import Finding, Severity

EPOCH = 1 << 32
"""How far the ledger clock jumps: further than any node can have counted since the backup."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was brought back."""

    manifest: Manifest
    accounts: tuple[str, ...]
    """Those that the ledger knows something of; each has a finding now."""


def restore(store: Store, file: Path, *, actor: str, now: datetime) -> Restored:
    """Make a ledger at the store's URL, where there is none. The file is checked as a whole first.

    Raises BadBackup, UsageError where something is there already, SchemaMismatch for a backup of a newer program.
    """
    manifest = verify(file)
    if manifest.database != store.dialect.name:
        raise UsageError(
            f"{file} was taken from {manifest.database}, and ledger.url names {store.dialect.name}; restore it into "
            "its own kind of database, then move it with `reconcile export` and `reconcile import`"
        )
    schema.refuse_unknown(manifest.revision)
    with reading(file) as (archive, _):
        if store.dialect.is_postgres:
            _into_postgres(store, archive, manifest)
        else:
            _into_sqlite(store, archive, manifest)
    schema.migrate(store)
    with store.write() as tx:
        accounts = _begin_epoch(tx, manifest, actor=actor, now=now)
    return Restored(manifest, accounts)


def _into_sqlite(store: Store, archive: zipfile.ZipFile, manifest: Manifest) -> None:
    target = Path(str(store.url.database))
    for suffix in ("", "-wal", "-shm"):
        found = Path(f"{target}{suffix}")
        if found.exists() and (found.stat().st_size or not suffix):
            raise UsageError(f"{found} exists; stop every node and move it away first: a restore replaces nothing")
    unfinished = target.with_name(f"{target.name}.part")
    try:
        with unfinished.open("wb") as out:
            for piece in pieces(archive, DATABASE_FILE, manifest.members[DATABASE_FILE]):
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        with closing(sqlite3.connect(unfinished)) as copy:
            faults = [row[0] for row in copy.execute("PRAGMA integrity_check(5)")]
        if faults != ["ok"]:
            raise BadBackup(f"{archive.filename}: the database in it is damaged ({'; '.join(faults)})")
        unfinished.rename(target)
    except KeyError as error:
        raise BadBackup(f"{archive.filename}: {DATABASE_FILE} is missing") from error
    except sqlite3.Error as error:
        raise BadBackup(f"{archive.filename}: the database in it is damaged ({error})") from error
    except OSError as error:
        raise UsageError(f"{unfinished} cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _into_postgres(store: Store, archive: zipfile.ZipFile, manifest: Manifest) -> None:
    schema.create_at(store, manifest.revision)
    with store.write() as tx:
        tx.be_patient()
        for name, table in manifest.tables.items():
            tx.run(text(f"TRUNCATE {name}"))  # what the migrations put there is in the backup too
            with tx.copying(copy_of(name, table, "FROM STDIN")) as copy:
                for piece in pieces(archive, member_of(name), manifest.members[member_of(name)]):
                    copy.write(piece)
            stored = tx.run(text(f"SELECT count(*) FROM {name}")).scalar_one()
            if stored != table.rows:
                raise LedgerError(f"{name} has {stored:,} rows instead of {table.rows:,}; nothing was restored")


def _begin_epoch(tx: Transaction, manifest: Manifest, *, actor: str, now: datetime) -> tuple[str, ...]:
    clock, at = manifest.ledger_clock + EPOCH, to_micros(now)
    if tx.dialect.is_postgres:
        tx.run(text("SELECT setval('ledger_clock', :value)"), {"value": clock})
    else:
        tx.run(text("UPDATE ledger_clock_row SET value = :value WHERE id = 1"), {"value": clock})
    begin_epoch(tx)
    tx.run(text("UPDATE resource SET due_at = :at WHERE lease_until IS NOT NULL"), {"at": at})
    tx.run(text("UPDATE outbox SET due_at = :at WHERE lease_until IS NOT NULL"), {"at": at})
    for name, table in metadata.tables.items():
        for column in {"lease_until", "lease_owner"} & set(table.columns.keys()):
            tx.run(text(f"UPDATE {name} SET {column} = NULL WHERE {column} IS NOT NULL"))
    tx.run(text("UPDATE job SET due_at = :at WHERE due_at > :at"), {"at": at})
    begin_epoch(tx)  # of the change feed: cursors from before may point at other changes now
    accounts = tuple(tx.run(text("SELECT DISTINCT account FROM resource ORDER BY account")).scalars())
    taken = f"{manifest.taken_at:%Y-%m-%dT%H:%M:%SZ}"
    for account in accounts:
        finding = Finding(
            account=account,
            code=RESTORED,
            severity=Severity.WARNING,
            text=f"the ledger was restored from a backup of {taken}: webhooks of after that are not in it",
            remedy=f"run `reconcile --since {taken} --account {account}`: it reads again what changed since, and "
            "clears this when everything in it was verified",
            subject=taken,
        )
        note_findings(tx, account, [finding], codes=frozenset(), now=now)
    detail = {"taken_at": taken, "program": manifest.program, "rows": {n: t.rows for n, t in manifest.tables.items()}}
    append_audit(tx, actor=actor, action="restore", subject="ledger", detail=detail, at=now)
    return accounts
