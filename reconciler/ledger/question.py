"""A statement written once, in the words of each database's driver: for what runs with every read of a resource.

SQLAlchemy takes 50 to 100 us of CPU a statement to look at its parameters and to wrap its rows; that was half of what
the ledger's thread did for a drain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.ledger.transaction import Dialect, Transaction

_NAMED = re.compile(r"(?<![:\w]):([a-z_]+)")

Asked = tuple[str, tuple[Any, ...]]
"""SQL in the driver's own words, and what stands in the places of its parameters."""


class Question:
    """`:name` stands for a parameter, as it does for SQLAlchemy. Text goes to the driver as it is: what comes out of
    the ledger is storable already."""

    def __init__(self, sql: str) -> None:
        self._names = tuple(_NAMED.findall(sql))
        self._sqlite = _NAMED.sub("?", sql)
        self._postgres = _NAMED.sub("%s", sql.replace("%", "%%"))

    def of(self, dialect: Dialect, values: Mapping[str, Any]) -> Asked:
        """To be asked with others, in one round trip."""
        sql = self._postgres if dialect.is_postgres else self._sqlite
        return sql, tuple([values[name] for name in self._names])

    def ask(self, tx: Transaction, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All its rows."""
        return tx.ask_driver(*self.of(tx.dialect, values))

    def ask_ahead(self, tx: Transaction, values: Mapping[str, Any]) -> Callable[[], list[tuple[Any, ...]]]:
        """Told after the `pipelined` block around it."""
        return tx.ask_ahead(*self.of(tx.dialect, values))

    def run(self, tx: Transaction, values: Mapping[str, Any]) -> int:
        """How many rows it touched."""
        return tx.run_driver(*self.of(tx.dialect, values))

    def run_ahead(self, tx: Transaction, values: Mapping[str, Any]) -> Callable[[], int]:
        """Told after the `pipelined` block around it."""
        return tx.run_ahead(*self.of(tx.dialect, values))
