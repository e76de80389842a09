"""Transactions that fail on purpose, or that are counted: given to a Store through its constructor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, CursorResult
from sqlalchemy.sql.elements import TextClause

from reconciler.ledger import Ledger, Store
from reconciler.ledger.transaction import Dialect, Transaction


class Crash(BaseException):
    """The process died here. No `except Exception` may survive it."""


@dataclass(slots=True)
class Faults:
    """What happens around the statements of every write transaction of a store."""

    transactions: int = 0
    statements: int = 0
    fail_before: int | None = None
    """Number of the statement, counted from now, in whose place `error` is raised; 0 is the next one."""
    error: Callable[[], BaseException] = Crash
    seen: list[str] = field(default_factory=list)

    def arm(self, statement: int, error: Callable[[], BaseException] = Crash) -> None:
        self.fail_before, self.error = statement, error

    def disarm(self) -> bool:
        """Whether it had still to go off."""
        armed, self.fail_before = self.fail_before is not None, None
        return armed

    def begin(self, connection: Connection, dialect: Dialect) -> Transaction:
        self.transactions += 1
        return FaultyTransaction(connection, dialect, self)

    def pass_statement(self) -> None:
        self.statements += 1
        if self.fail_before is None:
            return
        if self.fail_before == 0:
            self.fail_before = None
            raise self.error()
        self.fail_before -= 1


class FaultyTransaction(Transaction):
    def __init__(self, connection: Connection, dialect: Dialect, faults: Faults) -> None:
        super().__init__(connection, dialect)
        self._faults = faults

    def run(self, statement: TextClause, parameters: Mapping[str, Any] | None = None) -> CursorResult[Any]:
        self._faults.pass_statement()
        return super().run(statement, parameters)

    def run_many(self, statement: TextClause, rows: Sequence[Mapping[str, Any]]) -> int:
        self._faults.pass_statement()
        return super().run_many(statement, rows)

    def run_driver(self, sql: str, parameters: tuple[Any, ...]) -> int:
        self._faults.pass_statement()
        return super().run_driver(sql, parameters)

    def send(self, sql: str, parameters: tuple[Any, ...]) -> Any:
        self._faults.pass_statement()
        return super().send(sql, parameters)

    def ask_driver(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        self._faults.pass_statement()
        return super().ask_driver(sql, parameters)


def faulty_ledger(url: str) -> tuple[Ledger, Faults]:
    faults = Faults()
    return Ledger(Store(url, transactions=faults.begin)), faults
