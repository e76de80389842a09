"""One transaction, and the words in which the two databases differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, CursorResult, text
from sqlalchemy.sql.elements import TextClause

from reconciler.errors import LedgerError
from reconciler.ledger.codec import storable
from reconciler.ledger.packing import PLAIN, Place


@dataclass(frozen=True, slots=True)
class Dialect:
    """The words in which the two databases differ; statements are otherwise the same text."""

    name: str
    least: str
    greatest: str
    place_of: str
    """Of a text in another, from 1; 0 where it is not there."""
    for_update: str
    skip_locked: str
    by_bytes: str = ""
    """After a column to be ordered by: as Python orders, whatever the database's own collation."""

    @property
    def words(self) -> dict[str, str]:
        """For the templates of `reconciler.ledger.bulk`."""
        return {"_least": self.least, "_greatest": self.greatest, "_place_of": self.place_of}

    @property
    def is_postgres(self) -> bool:
        return self.name == "postgresql"


SQLITE = Dialect("sqlite", least="min", greatest="max", place_of="instr", for_update="", skip_locked="")
POSTGRES = Dialect(
    "postgresql",
    least="LEAST",
    greatest="GREATEST",
    place_of="strpos",
    for_update="FOR UPDATE",
    skip_locked="FOR UPDATE SKIP LOCKED",
    by_bytes=' COLLATE "C"',
)


_PATIENCE = text("SET LOCAL idle_in_transaction_session_timeout = '15min'")
"""A session's own is ten seconds, after which a node that hangs lets go of its locks; who only reads has none. A report
that reads every body, on a busy machine, thought for longer than that, and ended as "the ledger cannot be reached"."""


class Transaction:
    """One open transaction: the only thing that statements may be run on."""

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self.packing = PLAIN
        """The store's, which sets it before anybody sees the transaction."""
        self._connection = connection
        self._driver = connection.connection.cursor()
        self._inside = False
        self._failed = False
        self._pipelined = False
        self.ends_at_once = False
        """Nothing follows `ask_last`, so that it may be the end. The store's as well."""
        self.dialect = dialect

    def take_time(self) -> None:
        """What follows thinks for long between two statements, and only reads: Postgres shall not end it as idle."""
        if self.dialect.is_postgres:
            self.run(_PATIENCE)

    def run(self, statement: TextClause, parameters: Mapping[str, Any] | None = None) -> CursorResult[Any]:
        """Text is stored as `storable` leaves it, on both databases."""
        cleaned = {name: storable(each) if type(each) is str else each for name, each in (parameters or {}).items()}
        return self._connection.execute(statement, cleaned)

    def run_many(self, statement: TextClause, rows: Sequence[Mapping[str, Any]]) -> int:
        """The statement once for each row; how many rows it touched in all."""
        if not rows:
            return 0
        if not self.dialect.is_postgres:
            # SQLite knows `:name` itself. To have SQLAlchemy look at each value cost as much as the statement.
            touched: int = self._driver.executemany(statement.text, rows).rowcount
            return touched
        return self._connection.execute(statement, list(rows)).rowcount

    def run_driver(self, sql: str, parameters: tuple[Any, ...]) -> int:
        """SQL in the driver's own words, past SQLAlchemy, which costs 50 to 100 us a statement; how many rows it
        touched. Only for what runs in every commit of the intake or of a drain, and for `Bulk`."""
        assert not self._pipelined, "nobody knows yet how many"
        touched: int = self._driver.execute(sql, parameters).rowcount
        return touched

    def ask_driver(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """The same for a query; all its rows."""
        rows: list[tuple[Any, ...]] = self._driver.execute(sql, parameters).fetchall()
        return rows

    def ask_last(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """The same for what nothing follows. On Postgres, where it is also the first statement, its own commit: one
        round trip instead of three."""
        driver = self._connection.connection.driver_connection
        if not self.ends_at_once or driver is None or driver.info.transaction_status != _IDLE:
            return self.ask_driver(sql, parameters)
        driver.autocommit = True
        try:
            return self.ask_driver(sql, parameters)
        finally:
            if driver.info.transaction_status == _IDLE:  # else the connection was lost, and takes no settings any more
                driver.autocommit = False

    def pack(self, content: bytes, place: Place) -> bytes:
        """As it is to be stored: packed, and sealed where the configuration has a key."""
        return self.packing.pack(content, place)

    def unpack(self, stored: bytes, place: Place) -> bytes:
        """What was packed, now or by any version before. Raises LedgerError."""
        return self.packing.unpack(stored, place)

    def ask_together(self, questions: Sequence[tuple[str, tuple[Any, ...]]]) -> list[list[tuple[Any, ...]]]:
        """The rows of each query; on Postgres in one round trip, with the transaction's BEGIN in it."""
        with self.pipelined():
            answers = [self.ask_ahead(sql, parameters) for sql, parameters in questions]
        return [answer() for answer in answers]

    def tick(self) -> int:
        return self.ticks(1)[0]

    def ticks(self, count: int) -> list[int]:
        """The next `count` readings of the ledger clock: never repeated, and increasing in the order of asking."""
        return self.ticks_and(count, ())[0]

    def ticks_and(
        self, count: int, questions: Sequence[tuple[str, tuple[Any, ...]]]
    ) -> tuple[list[int], list[list[tuple[Any, ...]]]]:
        """The same, and the answers to queries of the driver's: one round trip for all, where there are any."""
        with self.pipelined():
            ticks = self.ticks_ahead(count)
            answers = [self.ask_ahead(*each) for each in questions]
        return ticks(), [answer() for answer in answers]

    def ticks_ahead(self, count: int) -> Callable[[], list[int]]:
        """The same, told after the `pipelined` block in which it is asked for."""
        if count == 0:
            return list
        if self.dialect.is_postgres:
            answer = self.ask_ahead(_TICK_POSTGRES, (count,))
            return lambda: [row[0] for row in answer()]
        last: int = self.ask_driver(_TICK_SQLITE, (count,))[0][0]
        return lambda: list(range(last - count + 1, last + 1))

    def be_patient(self) -> None:
        """For a transaction that reads or writes a stream: whoever is at its other end may pause."""
        if self.dialect.is_postgres:
            self.run(_BE_PATIENT)

    @contextmanager
    def pipelined(self) -> Iterator[None]:
        """Statements inside go to Postgres without waiting for each answer, in one round trip: what they say is known
        behind the block, if they are asked by what ends in `_ahead`. Inside another such block it is a part of that.

        Their errors are raised at its end.
        """
        driver = self._connection.connection.driver_connection
        if self._pipelined or not self.dialect.is_postgres or driver is None:
            yield
            return
        self._pipelined = True
        try:
            with driver.pipeline():
                yield
        finally:
            self._pipelined = False

    def run_ahead(self, sql: str, parameters: tuple[Any, ...]) -> Callable[[], int]:
        """`run_driver`, whose result is told after the `pipelined` block around it."""
        if not self._pipelined:
            touched = self.run_driver(sql, parameters)
            return lambda: touched
        cursor = self.send(sql, parameters)

        def told() -> int:
            assert not self._pipelined, "it is told behind the block"
            return int(cursor.rowcount)

        return told

    def ask_ahead(self, sql: str, parameters: tuple[Any, ...]) -> Callable[[], list[tuple[Any, ...]]]:
        """`ask_driver`, whose rows are told after the `pipelined` block around it."""
        if self._pipelined:
            fetch: Callable[[], list[tuple[Any, ...]]] = self.send(sql, parameters).fetchall
            return fetch
        rows = self.ask_driver(sql, parameters)
        return lambda: rows

    def send(self, sql: str, parameters: tuple[Any, ...]) -> Any:
        """What both do inside `pipelined`, on Postgres. A cursor of its own; its result is known behind the block."""
        driver = self._connection.connection.driver_connection
        assert driver is not None, "a pipeline is one of a connection"
        return driver.cursor().execute(sql, parameters)

    @contextmanager
    def copying(self, statement: str) -> Iterator[Any]:
        """Postgres's COPY, in this transaction: `TO STDOUT` is iterated over, `FROM STDIN` is written to."""
        with self._driver.copy(statement) as copy:
            yield copy

    @contextmanager
    def inside(self) -> Iterator[None]:
        """What is inside happens wholly or not at all, without ending the transaction around it.

        One savepoint is made, around all that is inside: further ones within it, of each method that a call is made
        of, would undo nothing more, because a failure undoes the whole. That it is not passed over is looked after.
        """
        if self._inside:
            try:
                yield
            except BaseException:
                self._failed = True
                raise
            return
        self._driver.execute(f"SAVEPOINT {_INNER}")
        try:
            with self.whole():
                yield
        except BaseException:
            self._driver.execute(f"ROLLBACK TO SAVEPOINT {_INNER}")
            raise
        finally:
            self._driver.execute(f"RELEASE SAVEPOINT {_INNER}")

    @contextmanager
    def whole(self) -> Iterator[None]:
        """As `inside`, for what is undone whole by whoever opened it."""
        self._inside, self._failed = True, False
        try:
            yield
            if self._failed:
                raise LedgerError("a part of a call failed and the call went on; nothing of it was stored")
        finally:
            self._inside = False


_INNER = "inner_1"
_IDLE = 0
"""Of libpq's states of a connection: no transaction has begun."""
_BE_PATIENT = text("SET LOCAL idle_in_transaction_session_timeout = 0")
_TICK_SQLITE = "UPDATE ledger_clock_row SET value = value + ? WHERE id = 1 RETURNING value"
_TICK_POSTGRES = "SELECT nextval('ledger_clock') FROM generate_series(1, %s)"
