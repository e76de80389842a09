"""The ledger's statements, word for word, straight to SQLite's driver: SQLAlchemy's way there costs ten times as much.

What a simulation spends its time on decides how many seeds fit into a night. The other tests of the ledger go through
SQLAlchemy, and `test_simulation` holds that both ways make the same run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import Connection, CursorResult
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.sql.elements import TextClause

from reconciler.ledger.codec import storable
from reconciler.ledger.transaction import Dialect, Transaction
from tests.ledger.seams import Faults, FaultyTransaction

_NOTHING = "SELECT 1 WHERE 0"
"""What an empty list is compared with."""


class _Rows(IteratorResult[Any]):
    """A result whose rows were all fetched: SQLite has then done all that the statement does."""

    rowcount = -1


@lru_cache(maxsize=1024)
def _columns(names: tuple[str, ...]) -> SimpleResultMetaData:
    return SimpleResultMetaData(names)


@lru_cache(maxsize=4096)
def _written(statement: str, lengths: tuple[tuple[str, int], ...]) -> str:
    """In the driver's own words, with every list written out."""
    for name, length in lengths:
        places = ", ".join(f":{name}_{number}" for number in range(length)) or _NOTHING
        statement = re.sub(rf":{name}\b", f"({places})", statement)
    return statement.replace("\\:", ":")


class _QuickTransaction(FaultyTransaction):
    def __init__(self, connection: Connection, dialect: Dialect, faults: Faults) -> None:
        super().__init__(connection, dialect, faults)
        self._quick: Any = connection.connection.driver_connection

    def run(self, statement: TextClause, parameters: Mapping[str, Any] | None = None) -> CursorResult[Any]:
        self._faults.pass_statement()
        given = {name: storable(each) if type(each) is str else each for name, each in (parameters or {}).items()}
        lengths = []
        for name, bind in statement._bindparams.items():
            if bind.expanding:
                values = list(given.pop(name))
                lengths.append((name, len(values)))
                given.update((f"{name}_{number}", value) for number, value in enumerate(values))
            elif name not in given and not bind.required:
                given[name] = bind.value
        cursor = self._quick.execute(_written(statement.text, tuple(lengths)), given)
        described = cursor.description
        rows = cursor.fetchall() if described is not None else []
        result = _Rows(_columns(tuple(each[0] for each in described or ())), iter(rows))
        result.rowcount = cursor.rowcount
        return cast("CursorResult[Any]", result)

    def run_many(self, statement: TextClause, rows: Sequence[Mapping[str, Any]]) -> int:
        self._faults.pass_statement()
        if not rows:
            return 0
        touched: int = self._quick.executemany(_written(statement.text, ()), rows).rowcount
        return touched


class QuickFaults(Faults):
    """Faults around statements that take the short way."""

    def begin(self, connection: Connection, dialect: Dialect) -> Transaction:
        self.transactions += 1
        return _QuickTransaction(connection, dialect, self)
