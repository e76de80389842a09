"""One statement for many rows, written once and run as fast as each database can.

On SQLite an insert names many rows in one VALUES, given to the driver as it is: a third of the CPU of executemany
through SQLAlchemy, and one step outside Python's interpreter lock instead of one for each row, between which the
event loop's thread would take the lock and keep it. On Postgres every row would be a round trip of its own, so the
rows travel as one array per column and the statement reads them with unnest (19,800 rows/s against 7,300 with
executemany; CORE.md section 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.sql.elements import TextClause

from reconciler.ledger.codec import storable
from reconciler.ledger.store import Dialect, Transaction

WHOLE = "bigint"
WORDS = "text"
BYTES = "bytea"
TRUTH = "boolean"


_MOST_ROWS = 64
"""Of one VALUES on SQLite. Counts are made up of powers of two, so that few statements stay prepared."""


class Bulk:
    """A statement template and the columns that each row brings.

    In the template `{name}` stands for a row's value; `{_source}` for `VALUES (...)` of an insert, `{_rows}` for what
    an update takes its rows from; `{_least}`, `{_greatest}` for the dialect's words.
    """

    def __init__(self, template: str, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self._words = [name for name, kind in columns.items() if kind == WORDS]
        self._template = template
        self._compiled: dict[str, TextClause] = {}
        self._is_insert = "{_source}" in template
        self._inserts: dict[int, str] = {}
        """SQLite's, by how many rows each takes."""

    def run(self, tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> int:
        """How many rows of the table were written. Text is stored as `storable` leaves it."""
        if not rows:
            return 0
        rows = [self._storable(row) for row in rows]
        if self._is_insert and not tx.dialect.is_postgres:
            return self._insert(tx, rows)
        statement = self._compiled.get(tx.dialect.name)
        if statement is None:
            statement = self._compile(tx.dialect)
        if not tx.dialect.is_postgres:
            return tx.run_many(statement, rows)
        columns = {name: [row[name] for row in rows] for name in self._columns}
        return tx.run(statement, columns).rowcount

    def _storable(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        changed = {}
        for name in self._words:
            words = row[name]
            if words is not None and (clean := storable(words)) is not words:
                changed[name] = clean
        return {**row, **changed} if changed else row

    def _insert(self, tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> int:
        """On SQLite."""
        written = done = 0
        while done < len(rows):
            count = min(_MOST_ROWS, 1 << (len(rows) - done).bit_length() - 1)
            sql = self._inserts.get(count)
            if sql is None:
                values = ", ".join([f"({', '.join('?' * len(self._columns))})"] * count)
                sql = self._inserts[count] = self._template.format(
                    _source=f"VALUES {values}", _least=tx.dialect.least, _greatest=tx.dialect.greatest
                )
            written += tx.run_driver(
                sql, tuple([row[name] for row in rows[done : done + count] for name in self._columns])
            )
            done += count
        return written

    def _compile(self, dialect: Dialect) -> TextClause:
        names = list(self._columns)
        if dialect.is_postgres:
            arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in self._columns.items())
            unnest = f"unnest({arrays}) AS given({', '.join(names)})"
            values = {name: f"given.{name}" for name in names}
            source = f"SELECT {', '.join(values.values())} FROM {unnest}"
            rows = f"FROM {unnest}"
        else:
            values = {name: f":{name}" for name in names}
            source = rows = ""
        sql = self._template.format(
            _source=source, _rows=rows, _least=dialect.least, _greatest=dialect.greatest, **values
        )
        self._compiled[dialect.name] = statement = text(sql)
        return statement


def insert_into(table: str, columns: Mapping[str, str], conflict: str = "") -> Bulk:
    """A plain insert of all `columns`, in their order."""
    return Bulk(f"INSERT INTO {table} ({', '.join(columns)}) {{_source}} {conflict}", columns)
