"""Making a ledger of a backup. What comes out is a new epoch of it: it knows that it was asleep.

* The ledger clock jumps ahead, so that no token and no start of a read from before means anything any more.
* Leases are gone, everything that was under way is due, and every periodic job runs at once: the sweeps go on where
  they stood when the backup was taken, and so read what happened since.
* Cursors of the change feed are refused, so that no reader takes what follows now for what followed then.
* What the sweeps cannot bring back (deliveries that were acknowledged in between, edits that the provider's feed no
  longer holds) is named by a finding for each account, until a backfill from before the backup has verified everything.

The new epoch begins before anybody can see the ledger: on Postgres in the transaction that brings the rows, on SQLite
in the file before it gets its name. A restore that dies leaves nothing which takes itself for the present one: no file,
or on Postgres an empty schema, over which it may be run again.
"""

from __future__ import annotations

import os
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.errors import LedgerError, UsageError
from reconciler.ledger import schema
from reconciler.ledger.backup.archive import BadBackup, Manifest, pieces, reading, verify
from reconciler.ledger.backup.taking import DATABASE_FILE, copy_of, make_durable, member_of
from reconciler.ledger.breaks import append_audit
from reconciler.ledger.changes import begin_epoch
from reconciler.ledger.findings import RESTORED, note_findings
from reconciler.ledger.store import Store
from reconciler.ledger.tables import metadata
from reconciler.ledger.transaction import Transaction
from reconciler.ledger.unfinished import give_name, room_beside
from reconciler.model import Finding, Severity

Accounts = tuple[str, ...]
Beginning = Callable[[Transaction], Accounts]

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

    def begin_epoch_in(tx: Transaction) -> tuple[str, ...]:
        return _begin_epoch(tx, manifest, actor=actor, now=now)

    with reading(file) as (archive, _):
        bring = _into_postgres if store.dialect.is_postgres else _into_sqlite
        accounts = bring(store, archive, manifest, begin_epoch_in)
    schema.migrate(store)
    if "audit_log" not in manifest.tables:
        with store.write() as tx:
            _note(tx, manifest, actor=actor, now=now)
    return Restored(manifest, accounts)


def _into_sqlite(store: Store, archive: zipfile.ZipFile, manifest: Manifest, begin_epoch_in: Beginning) -> Accounts:
    target = Path(str(store.url.database))
    try:
        with room_beside(target) as room:
            _require_nothing_at(target)
            unfinished = room / target.name
            with unfinished.open("wb") as out:
                for piece in pieces(archive, DATABASE_FILE, manifest.members[DATABASE_FILE]):
                    out.write(piece)
                out.flush()
                os.fsync(out.fileno())
            with closing(sqlite3.connect(unfinished)) as copy:
                faults = [row[0] for row in copy.execute("PRAGMA integrity_check(5)")]
            if faults != ["ok"]:
                raise BadBackup(f"{archive.filename}: the database in it is damaged ({'; '.join(faults)})")
            with closing(store.at_file(unfinished)) as copy:
                with copy.write() as tx:
                    accounts = begin_epoch_in(tx)
                copy.empty_journal()
            _require_nothing_at(target)  # a journal of somebody else's would be taken for this one's
            give_name(unfinished, target)
            make_durable(target.parent)
            return accounts
    except KeyError as error:
        raise BadBackup(f"{archive.filename}: {DATABASE_FILE} is missing") from error
    except sqlite3.Error as error:
        raise BadBackup(f"{archive.filename}: the database in it is damaged ({error})") from error
    except FileExistsError:
        raise _in_the_way(target) from None
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror or error}") from error


def _require_nothing_at(target: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        found = Path(f"{target}{suffix}")
        if found.exists() and (found.stat().st_size or not suffix):
            raise _in_the_way(found)


def _in_the_way(found: Path) -> UsageError:
    return UsageError(
        f"{found} exists; stop every node and move it away first: a restore replaces nothing. One that was "
        "killed at its very end may have done its work: `reconcile audit list` says so"
    )


def _into_postgres(store: Store, archive: zipfile.ZipFile, manifest: Manifest, begin_epoch_in: Beginning) -> Accounts:
    schema.create_at(store, manifest.revision)
    with store.write() as tx:
        tx.be_patient()
        schema.require_still_empty(store, tx, manifest.tables)
        for name, table in manifest.tables.items():
            tx.run(text(f"TRUNCATE {name}"))  # what the migrations put there is in the backup too
            with tx.copying(copy_of(name, table, "FROM STDIN")) as copy:
                for piece in pieces(archive, member_of(name), manifest.members[member_of(name)]):
                    copy.write(piece)
            stored = tx.run(text(f"SELECT count(*) FROM {name}")).scalar_one()
            if stored != table.rows:
                raise LedgerError(f"{name} has {stored:,} rows instead of {table.rows:,}; nothing was restored")
        return begin_epoch_in(tx)


def _begin_epoch(tx: Transaction, manifest: Manifest, *, actor: str, now: datetime) -> Accounts:
    """At the backup's own schema: of the newest tables an older one has some not yet, and then nothing was in them."""
    clock, at = manifest.ledger_clock + EPOCH, to_micros(now)
    if tx.dialect.is_postgres:
        tx.run(text("SELECT setval('ledger_clock', :value)"), {"value": clock})
    else:
        tx.run(text("UPDATE ledger_clock_row SET value = :value WHERE id = 1"), {"value": clock})
    tx.run(text("UPDATE resource SET due_at = :at WHERE lease_until IS NOT NULL"), {"at": at})
    if "outbox" in manifest.tables:
        tx.run(text("UPDATE outbox SET due_at = :at WHERE lease_until IS NOT NULL"), {"at": at})
    for name in manifest.tables.keys() & metadata.tables.keys():
        for column in {"lease_until", "lease_owner"} & set(manifest.tables[name].columns):
            tx.run(text(f"UPDATE {name} SET {column} = NULL WHERE {column} IS NOT NULL"))
    tx.run(text("UPDATE job SET due_at = :at WHERE due_at > :at"), {"at": at})
    if "feed" in manifest.tables:
        begin_epoch(tx)  # of the change feed: cursors from before may point at other changes now
    accounts = tuple(tx.run(text("SELECT DISTINCT account FROM resource ORDER BY account")).scalars())
    taken = _taken(manifest)
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
    if "audit_log" in manifest.tables:
        _note(tx, manifest, actor=actor, now=now)
    return accounts


def _note(tx: Transaction, manifest: Manifest, *, actor: str, now: datetime) -> None:
    """In the audit log; a backup from before there was one gets its row after the migration."""
    rows = {name: table.rows for name, table in manifest.tables.items()}
    detail = {"taken_at": _taken(manifest), "program": manifest.program, "rows": rows}
    append_audit(tx, actor=actor, action="restore", subject="ledger", detail=detail, at=now)


def _taken(manifest: Manifest) -> str:
    return f"{manifest.taken_at:%Y-%m-%dT%H:%M:%SZ}"
