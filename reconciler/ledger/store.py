"""Opening a ledger's database and running one transaction in it: everything the two databases do differently.

SQLite: WAL, `synchronous=FULL`, explicit BEGIN IMMEDIATE, and a file lock around each write transaction and each
checkpoint of every process. Before SQLite 3.51.3 two connections that write and checkpoint at the same instant can
corrupt the file; the lock makes that impossible for cooperating processes, and hands the turn over without the
starvation that SQLite's own busy handler shows (a process waited 4 s beside seven others).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.pool import QueuePool, StaticPool

from reconciler.errors import LedgerError, LedgerUnavailable
from reconciler.ledger.address import parse
from reconciler.ledger.failing import mapping_errors
from reconciler.ledger.packing import PLAIN, Packing
from reconciler.ledger.room import Room, room_in
from reconciler.ledger.statistics import Statistics
from reconciler.ledger.transaction import POSTGRES, SQLITE, Dialect, Transaction
from reconciler.ledger.turn import FileTurn

SQLITE_SAFE = (3, 51, 3)
"""The first SQLite without the WAL-reset bug."""


def sqlite_version() -> tuple[int, ...]:
    """Of the library that this Python is linked with."""
    return sqlite3.sqlite_version_info


BUSY_SECONDS = 2.0
"""How long a write waits for another process; below the 5 s within which Shopify wants its answer."""

_QUIET_SECONDS = 1.0
"""After which the writing connection is asked whether it lives before it is used again."""

_RANDOM_PAGE_COST = 1.1
"""What Postgres is to think of a page out of order, in pages in a row; by default 4, as of a disk that turns, for which
it read all of a table of some thousand rows to find ten of them (docs/decisions/0120)."""

_COMMITS_PER_CHECKPOINT = 250
_ROWS_PER_CHECKPOINT = 4_000
"""Written since the last one, whichever comes first: 250 commits of 64 deliveries each are 150 MB of journal, and every
delivery would wait half a second for the disk that then has to take them."""
_JOURNAL_LIMIT_BYTES = 64 * 1024 * 1024

NOTICE_A_DEAD_NETWORK = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""Seconds, and milliseconds: a node that is cut off from its database finds out within half a minute. The kernel's own
patience is two hours, and for all of it the node's one writing thread would wait for an answer."""


_NOTE_KEY = text(
    "INSERT INTO sealing_key (id) VALUES (:id) ON CONFLICT (id) DO UPDATE SET retired_at = NULL"
    " WHERE sealing_key.retired_at IS NOT NULL"
)


class Store:
    """One process's way to the database: at most one write transaction at a time, any number of readers.

    Errors of the database do not quote what a statement was given (`hide_parameters`): that is somebody's data.
    """

    def __init__(
        self,
        url: str,
        *,
        packing: Packing = PLAIN,
        busy_seconds: float = BUSY_SECONDS,
        transactions: Callable[[Connection, Dialect], Transaction] = Transaction,
        engine: Engine | None = None,
    ) -> None:
        """`transactions` makes the write transactions: the seam at which a test lets a statement fail. `engine` is
        another store's, to share its connections (`beside`)."""
        self.url = parse(url)
        self.packing = packing
        self._transactions = transactions
        self.dialect = SQLITE if self.url.get_backend_name() == "sqlite" else POSTGRES
        self._busy_seconds = busy_seconds
        self._turn = threading.RLock()
        self._open: Transaction | None = None
        self._lock = FileTurn.beside(self.url) if self.dialect is SQLITE else None
        self.engine = engine or (self._sqlite_engine() if self.dialect is SQLITE else self._postgres_engine())
        self._reader = self._reading_engine()
        self._commits_since_checkpoint = 0
        self._rows_at_checkpoint = 0
        """SQLite's count of what the writing connection had changed by then."""
        self._key_noted = False
        self._kept: Connection | None = None
        """The writing connection between two transactions: to fetch it from the pool and to put it back costs 0.1 ms
        each time, on Postgres a round trip more."""
        self._kept_until = 0.0
        self._siblings: list[Store] = []
        self._statistics = Statistics(self.engine) if self.dialect.is_postgres else None

    # --- transactions ---

    @contextmanager
    def write(self, *, alone: bool = False, at_once: bool = False) -> Iterator[Transaction]:
        """One write transaction; inside another one of this thread, a savepoint of it. `alone`: nothing else shares it,
        so that what fails inside undoes it whole, and no savepoint is made. `at_once`: nothing follows its `ask_last`.

        Raises LedgerUnavailable, and has then stored nothing, when the database is locked, full or away.
        """
        with self._turn:
            if self._open is not None:
                with mapping_errors(self.engine), self._open.inside():
                    yield self._open
                return
            with (
                mapping_errors(self.engine),
                self._exclusively(),
                self._writing() as connection,
                connection.begin(),
            ):
                self._open = self._begun(self._transactions(connection, self.dialect))
                try:
                    self._open.ends_at_once = at_once and self.dialect.is_postgres and self._key_is_noted
                    with self._open.whole() if alone else nullcontext():
                        yield self._open
                    noted = self._note_key(self._open)
                finally:
                    self._open = None
            self._key_noted |= noted
            self._after_commit()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Hold the turn of SQLite's writer: for whoever decides what to write when it has come. Raises
        LedgerUnavailable. What is due after commits is left to `tidy`, which may take as long as several of them."""
        with self._turn, self._exclusively():
            yield

    @property
    def is_wanted(self) -> bool:
        """Whether another process waits for the turn that is ours; on Postgres nobody waits for more than rows."""
        return self._lock is not None and self._lock.is_wanted

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """The kept connection. After any failure the next one comes from the pool, which knows what is still good."""
        if self._kept is not None and time.monotonic() > self._kept_until:
            self._let_go()
        if self._kept is None:
            self._kept = self.engine.connect()
        try:
            yield self._kept
        except BaseException:
            self._let_go()
            raise
        self._kept_until = time.monotonic() + _QUIET_SECONDS

    @contextmanager
    def _apart(self) -> Iterator[Connection]:
        """A connection of which nothing is kept; on SQLite there is only one at a time."""
        self._let_go()
        with self.engine.connect() as connection:
            yield connection

    def _let_go(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """One consistent view. On SQLite its length holds back the checkpoint: keep it short."""
        if self._in_memory:
            with self.write() as tx:
                yield tx
            return
        with mapping_errors(self.engine), self._reader.connect() as connection, connection.begin():
            yield self._begun(Transaction(connection, self.dialect))

    def _reading_engine(self) -> Engine:
        if self.dialect.is_postgres:
            # The driver says so with its BEGIN, where a statement of its own would be a round trip more.
            return self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        return self.engine if self._in_memory else self._sqlite_reader()

    def _begun(self, tx: Transaction) -> Transaction:
        tx.packing = self.packing
        return tx

    @property
    def _key_is_noted(self) -> bool:
        """Or there is none: nothing has to be written beside a body."""
        return self._key_noted or self.packing.seal is None

    def _note_key(self, tx: Transaction) -> bool:
        """In the commit that holds the first body of a key: nobody shall miss the key without the ledger naming it."""
        if self._key_noted or not self.packing.used or self.packing.seal is None:
            return False
        tx.run(_NOTE_KEY, {"id": self.packing.seal.first})
        return True

    @contextmanager
    def exclusively(self) -> Iterator[Connection]:
        """A bare connection for schema changes, one process at a time; on SQLite also with writes held off."""
        with (
            self._turn,
            mapping_errors(self.engine),
            self._exclusively(_MIGRATION_SECONDS),
            self._apart() as connection,
        ):
            if not self.dialect.is_postgres:
                yield connection
                return
            with _advisory_lock(connection):
                yield connection

    def beside(self) -> Store:
        """Another way to the same database, for another thread's write transactions. Postgres only: on SQLite there is
        one writer. It closes with this one."""
        if not self.dialect.is_postgres:
            raise ValueError("SQLite has one writer")
        sibling = Store(
            self.url.render_as_string(hide_password=False),
            packing=self.packing,
            busy_seconds=self._busy_seconds,
            transactions=self._transactions,
            engine=self.engine,
        )
        sibling._statistics = self._statistics
        self._siblings.append(sibling)
        return sibling

    def at_file(self, database: Path) -> Store:
        """Another SQLite file, opened as this one is: one that is made ready before it gets its name. The caller closes
        it."""
        return Store(
            self.url.set(database=str(database)).render_as_string(hide_password=False),
            busy_seconds=self._busy_seconds,
            transactions=self._transactions,
        )

    def room(self) -> Room | None:
        """Where the ledger's file may grow; None on Postgres, whose disk is another machine's, and in memory."""
        if self.dialect.is_postgres or self._in_memory:
            return None
        return room_in(Path(str(self.url.database)).parent)

    def close(self) -> None:
        for each in (*self._siblings, self):
            with each._turn:
                each._let_go()
            if each._statistics is not None:
                each._statistics.end()
        with self._turn:
            self._reader.dispose()
            self.engine.dispose()
            if self._lock is not None:
                self._lock.close()

    # --- SQLite ---

    @property
    def _in_memory(self) -> bool:
        return self.dialect is SQLITE and self.url.database in (None, "", ":memory:")

    def _sqlite_engine(self) -> Engine:
        if self._in_memory:
            engine = create_engine(
                "sqlite://", hide_parameters=True, poolclass=StaticPool, connect_args={"check_same_thread": False}
            )
        else:
            engine = create_engine(
                self.url,
                hide_parameters=True,
                poolclass=QueuePool,
                pool_size=1,
                max_overflow=0,
                connect_args={
                    "check_same_thread": False,
                    "timeout": self._busy_seconds,
                    "cached_statements": 256,
                },
            )
        journal = "MEMORY" if self._in_memory else "WAL"
        path = None if self._in_memory else Path(str(self.url.database))

        @event.listens_for(engine, "do_connect")
        def create(*_: object) -> None:
            if path is not None:
                _create_for_us_alone(path)

        @event.listens_for(engine, "connect")
        def configure(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None  # BEGIN is ours: see `begin` below
            for pragma in (
                f"journal_mode={journal}",
                "synchronous=FULL",
                "secure_delete=ON",  # what is taken away or redacted is overwritten, not only unlinked
                "foreign_keys=ON",
                "wal_autocheckpoint=0",  # checkpoints are taken under the file lock, in _after_commit
                f"journal_size_limit={_JOURNAL_LIMIT_BYTES}",
                "temp_store=MEMORY",
                "mmap_size=0",
                "fullfsync=1",  # macOS: without it fsync does not reach the disk
            ):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.connection.cursor().execute("BEGIN IMMEDIATE")  # past SQLAlchemy: 5 us instead of 40

        return engine

    def _sqlite_reader(self) -> Engine:
        # Kept, because a new connection reads the whole schema first: 2 ms of CPU, for questions that take 0.3 ms.
        engine = create_engine(
            self.url,
            hide_parameters=True,
            poolclass=QueuePool,
            pool_size=2,
            max_overflow=-1,
            connect_args={"check_same_thread": False, "timeout": self._busy_seconds},
        )

        @event.listens_for(engine, "connect")
        def configure(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None
            for pragma in ("query_only=ON", "wal_autocheckpoint=0", "temp_store=MEMORY"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        return engine

    @contextmanager
    def _exclusively(self, patience_seconds: float | None = None) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        with self._lock.taken(self._busy_seconds if patience_seconds is None else patience_seconds):
            yield

    def _after_commit(self) -> None:
        if self._statistics is not None:
            self._statistics.committed()
        self._commits_since_checkpoint += 1
        if self._lock is not None and not self._lock.is_held:
            self.tidy()

    def tidy(self) -> None:
        """SQLite: checkpoint now and then; a failure only means a longer journal, and the next commit tries again."""
        if self._lock is None:
            return
        with self._turn:
            rows = self._rows_written() - self._rows_at_checkpoint
            if self._commits_since_checkpoint < _COMMITS_PER_CHECKPOINT and 0 <= rows < _ROWS_PER_CHECKPOINT:
                return
            # The commit is durable already: whatever stops the checkpoint must not look like a failure of the call.
            with suppress(LedgerError):
                self.checkpoint()

    def _rows_written(self) -> int:
        """By the kept connection, since it was opened."""
        driver = None if self._kept is None else self._kept.connection.driver_connection
        return driver.total_changes if isinstance(driver, sqlite3.Connection) else 0

    def checkpoint(self) -> None:
        """Move the journal into the database file, without waiting for readers. Raises LedgerUnavailable."""
        self._checkpoint("PASSIVE")

    def empty_journal(self) -> None:
        """Leave nothing of earlier states in SQLite's journal either. Waits for readers as long as for writers; raises
        LedgerUnavailable."""
        self._checkpoint("TRUNCATE")

    def _checkpoint(self, how: str) -> None:
        if self._lock is None:
            return
        with self._turn, mapping_errors(self.engine), self._exclusively(), self._writing() as connection:
            # Around SQLAlchemy, which would open a transaction first: a checkpoint cannot run inside one.
            try:
                connection.connection.cursor().execute(f"PRAGMA wal_checkpoint({how})")
            except sqlite3.Error as error:
                raise LedgerUnavailable(f"the journal could not be moved into the database: {error}") from error
            self._commits_since_checkpoint = 0
            self._rows_at_checkpoint = self._rows_written()

    # --- Postgres ---

    def _postgres_engine(self) -> Engine:
        return create_engine(
            self.url,
            hide_parameters=True,
            poolclass=QueuePool,
            pool_size=4,
            max_overflow=4,
            pool_pre_ping=True,
            pool_timeout=self._busy_seconds,
            connect_args=self._postgres_arguments(),
        )

    def _postgres_arguments(self) -> dict[str, str | int]:
        """What the driver is told, beside the URL. What the URL says itself holds, but for the time zone."""
        ours = {"connect_timeout": max(2, round(self._busy_seconds)), **NOTICE_A_DEAD_NETWORK}
        settings = (
            f"-c lock_timeout={round(self._busy_seconds * 1000)}",
            "-c idle_in_transaction_session_timeout=10000",
            f"-c random_page_cost={_RANDOM_PAGE_COST}",
            *self.url.normalized_query.get("options", ()),
            "-c timezone=UTC",
        )
        return {name: value for name, value in ours.items() if name not in self.url.query} | {
            "options": " ".join(settings)  # of two that speak of the same one Postgres takes the later
        }


def _create_for_us_alone(path: Path) -> None:
    """SQLite creates a file as readable as the umask has it, and gives its journal what the file has. Whoever may read
    a ledger reads its customers. Never opens a file that is there: to close it would end every lock that SQLite has of
    it in this process."""
    with suppress(OSError):  # it is there, or SQLite will say why it cannot be
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


@contextmanager
def _advisory_lock(connection: Connection) -> Iterator[None]:
    """Held by the session, so that the transactions of a migration may come and go under it."""
    connection.execute(text(f"SET LOCAL lock_timeout = '{_MIGRATION_SECONDS}s'"))
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_KEY})
    connection.commit()
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_KEY})
            connection.commit()


_MIGRATION_KEY = 0x7265636F6E63696C
"""`reconcil`, as a number that no other program is likely to lock."""

_MIGRATION_SECONDS = 60
"""How long a start waits for another node's migration."""
