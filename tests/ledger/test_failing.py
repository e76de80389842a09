"""What the errors of a database become, by whichever way they come: each in our words, none with somebody's data."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from reconciler.errors import LedgerContention, LedgerError, LedgerForbidden, LedgerLocked, LedgerUnavailable
from reconciler.ledger import Store
from reconciler.ledger.failing import mapping_errors


def of_sqlite(error: sqlite3.Error, name: str) -> sqlite3.Error:
    error.sqlite_errorname = name
    return error


def through(error: Exception, kind: type[DBAPIError] = DBAPIError) -> DBAPIError:
    """As SQLAlchemy raises it."""
    return kind("UPDATE resource", {}, error)


CORRUPT = of_sqlite(sqlite3.DatabaseError("malformed"), "SQLITE_CORRUPT")
DISK = of_sqlite(sqlite3.DatabaseError("disk I/O error"), "SQLITE_IOERR_WRITE")
LOCKED = of_sqlite(sqlite3.OperationalError("locked"), "SQLITE_BUSY")
WRONG = of_sqlite(sqlite3.IntegrityError("CHECK constraint failed"), "SQLITE_CONSTRAINT")
FORBIDDEN = psycopg.errors.InsufficientPrivilege("permission denied")
DEADLOCK = psycopg.errors.DeadlockDetected("deadlock detected")
LOCK_TIMEOUT = psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
TOO_LONG = psycopg.errors.ProgramLimitExceeded("index row requires 20032 bytes, maximum size is 8191")
REFUSED = psycopg.errors.CheckViolation("a row")


@pytest.mark.parametrize(
    ("url", "raised", "becomes"),
    [
        ("sqlite://", through(LOCKED, OperationalError), LedgerUnavailable),
        ("sqlite://", LOCKED, LedgerUnavailable),
        ("sqlite://", through(CORRUPT), LedgerError),
        ("sqlite://", CORRUPT, LedgerError),
        ("sqlite://", through(DISK), LedgerUnavailable),
        ("sqlite://", DISK, LedgerUnavailable),
        ("sqlite://", through(WRONG), DBAPIError),
        ("sqlite://", WRONG, sqlite3.IntegrityError),
        ("sqlite://", PoolTimeout("no connection"), LedgerUnavailable),
        ("postgresql+psycopg://me@here/books", through(FORBIDDEN, ProgrammingError), LedgerForbidden),
        ("postgresql+psycopg://me@here/books", FORBIDDEN, LedgerForbidden),
        ("postgresql+psycopg://me@here/books", through(DEADLOCK, OperationalError), LedgerContention),
        ("postgresql+psycopg://me@here/books", DEADLOCK, LedgerContention),
        ("postgresql+psycopg://me@here/books", through(LOCK_TIMEOUT, OperationalError), LedgerLocked),
        ("postgresql+psycopg://me@here/books", LOCK_TIMEOUT, LedgerLocked),
        ("postgresql+psycopg://me@here/books", through(TOO_LONG, OperationalError), DBAPIError),
        ("postgresql+psycopg://me@here/books", TOO_LONG, psycopg.errors.ProgramLimitExceeded),
        ("postgresql+psycopg://me@here/books", through(REFUSED), DBAPIError),
        ("postgresql+psycopg://me@here/books", REFUSED, psycopg.errors.CheckViolation),
    ],
    ids=lambda each: each if isinstance(each, str) else getattr(each, "__name__", type(each).__name__),
)
def test_what_the_database_cannot_do_is_told_from_what_we_did_wrong(
    url: str, raised: Exception, becomes: type[Exception]
) -> None:
    with closing(Store(url)) as store, pytest.raises(becomes) as caught, mapping_errors(store.engine):
        raise raised
    assert type(caught.value) is (becomes if becomes is not DBAPIError else type(raised))


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql+psycopg://me@here/books", "the role me"),
        ("postgresql+psycopg://here/books", "ledger.url logs in as"),
    ],
)
def test_a_role_that_may_not_is_named_with_what_to_do(url: str, named: str) -> None:
    with closing(Store(url)) as store, pytest.raises(LedgerForbidden) as caught, mapping_errors(store.engine):
        raise FORBIDDEN
    assert named in str(caught.value)
    assert "reconcile migrate" in str(caught.value)


def test_a_row_that_a_constraint_refused_is_not_quoted(postgres_ledger_url: str) -> None:
    with (
        closing(Store(postgres_ledger_url)) as store,
        store.engine.connect() as connection,
        pytest.raises(psycopg.errors.UndefinedTable) as caught,
        mapping_errors(store.engine),
    ):
        connection.connection.cursor().execute("SELECT 'somebody@example.com' FROM nowhere")
    assert "somebody@example.com" not in str(caught.value)
