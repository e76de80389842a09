"""What the errors of a database mean to us, said without the rows that they quote."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from reconciler.errors import LedgerContention, LedgerError, LedgerForbidden, LedgerLocked, LedgerUnavailable


@contextmanager
def mapping_errors(engine: Engine) -> Iterator[None]:
    """What the database cannot do now becomes LedgerUnavailable; what we did wrong stays what it is."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error, OperationalError | InterfaceError) and not _is_too_long(error.orig):
            raise _away(error.orig) from error
        if _is_forbidden(error.orig):
            raise _forbidden(error.orig, engine) from error
        if _is_damage(error.orig):
            raise _damaged(error.orig) from error
        if error.connection_invalidated or (isinstance(error.orig, sqlite3.DatabaseError) and _is_disk(error.orig)):
            raise LedgerUnavailable(f"the ledger's database was lost: {error.orig}") from error
        _forget_row(error.orig)
        error.args = (f"({type(error.orig).__name__}) {error.orig}",)
        raise
    except (engine.dialect.loaded_dbapi.OperationalError, engine.dialect.loaded_dbapi.InterfaceError) as error:
        if not _is_too_long(error):
            raise _away(error) from error  # from a statement that went to the driver directly
        _forget_row(error)
        raise
    except sqlite3.DatabaseError as error:
        if _is_damage(error):
            raise _damaged(error) from error
        if _is_disk(error):
            raise LedgerUnavailable(f"the ledger's database was lost: {error}") from error
        raise
    except engine.dialect.loaded_dbapi.Error as error:
        if _is_forbidden(error):
            raise _forbidden(error, engine) from error
        _forget_row(error)
        raise
    except PoolTimeout as error:
        raise LedgerUnavailable(f"no connection to the ledger's database in time: {error}") from error


def _is_forbidden(error: BaseException | None) -> bool:
    return getattr(error, "sqlstate", None) == "42501"  # insufficient_privilege


def _forbidden(error: BaseException | None, engine: Engine) -> LedgerForbidden:
    role = f"the role {engine.url.username}" if engine.url.username else "the role that ledger.url logs in as"
    return LedgerForbidden(
        f"{role} may not do this in the ledger's database: {error}. The schema is changed by the role that owns the "
        "tables: run `reconcile migrate` as that one, then docs/operations/postgres-roles.sql again"
    )


def _is_too_long(error: BaseException | None) -> bool:
    """Postgres: a value that no index takes (class 54). The database is well: whoever sends it again fails again."""
    return (getattr(error, "sqlstate", None) or "").startswith("54")


def _forget_row(error: BaseException | None) -> None:
    """Postgres quotes the row that a constraint refused, which is somebody's data."""
    said = getattr(getattr(error, "diag", None), "message_primary", None)
    if error is not None and said:
        error.args = (said,)


def _is_damage(error: BaseException | None) -> bool:
    return getattr(error, "sqlite_errorname", "") in ("SQLITE_NOTADB", "SQLITE_CORRUPT")


def _damaged(error: BaseException | None) -> LedgerError:
    return LedgerError(f"the ledger's file is damaged or no database ({error}); check ledger.url, or restore a backup")


def _away(error: BaseException | None) -> LedgerUnavailable:
    state = getattr(error, "sqlstate", None)
    if state in _CONTENTION:
        return LedgerContention(
            f"the ledger's database ended the transaction, so this step was not stored: {error}. Another one stood in "
            f"its way. Try again: {_REPEATED}"
        )
    if state == _LOCK_NOT_AVAILABLE:
        return LedgerLocked(
            f"somebody else holds a lock in the ledger's database, so this step was not stored: {error}. Try again "
            f"when the migration, the report or whatever else is at work there has ended: {_REPEATED}"
        )
    return LedgerUnavailable(f"the ledger's database did not answer as it should: {error}")


_REPEATED = "steps that were stored before it stay, and are safe to repeat"
"""A command of many steps commits each of them."""

_CONTENTION = frozenset({"40001", "40P01"})
"""Postgres: serialization failure, deadlock detected."""

_LOCK_NOT_AVAILABLE = "55P03"
"""Postgres: `lock_timeout` went by."""


def _is_disk(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_IOERR", "SQLITE_FULL", "SQLITE_BUSY"))
