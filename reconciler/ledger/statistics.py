"""On Postgres: what the planner knows of tables that have just begun to grow.

A planner that knows nothing of a table takes "of this account and of this kind" for a handful of rows, and prefers an
index on these two to the one on the whole key: every page of a first backfill then walked all that it had stored until
then. Autovacuum ends that, but looks once a minute at most, and a minute is all that a first backfill may take.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from threading import Thread

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from reconciler.ledger.transaction import Transaction

_FIRST_LOOK, _LAST_LOOK = 16, 4096
"""Commits of this process: it looks at each power of two between them. Later, autovacuum is quick enough."""
_LEAST_PAGES = 8
"""Of a table of less than twice as many, some hundred rows, any plan is good."""
_LONGEST_SECONDS = 20

# By their files: how many rows were written each connection tells the server once a second at most, which for a first
# backfill may be once.
_GROWN = text(
    "SELECT quote_ident(relname) FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
    " AND pg_relation_size(oid) >= 2 * greatest(relpages, :least) * current_setting('block_size')::bigint"
    " ORDER BY relname"
)

_BROUGHT = "resource, version, entry, delivery, delivery_link"
"""What may be large in what one transaction brings, and is asked for again by it."""


def learn(tx: Transaction) -> None:
    """In the middle of a transaction that fills tables: until it ends nobody else sees what they hold. Those of another
    role are left out by the server, and those that somebody else analyzes or vacuums: none of it is worth a wait."""
    if tx.dialect.is_postgres:
        tx.run(text(f"ANALYZE (SKIP_LOCKED) {_BROUGHT}"))


class Statistics:
    """Has tables analyzed whose files have at least doubled since the last time, beside the commits and not in them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._commits = count(1)
        self._looking: Thread | None = None

    def committed(self) -> None:
        """Called by every thread that commits."""
        at = next(self._commits)
        if at & (at - 1) or not _FIRST_LOOK <= at <= _LAST_LOOK:
            return
        if self._looking is None or not self._looking.is_alive():
            self._looking = Thread(target=self.refresh, name="statistics", daemon=True)
            self._looking.start()

    def refresh(self) -> None:
        """One look. A failure, or tables of another role, only mean that autovacuum decides alone."""
        with suppress(SQLAlchemyError), self._engine.begin() as connection:
            connection.execute(text(f"SET LOCAL statement_timeout = '{_LONGEST_SECONDS}s'"))
            grown = connection.execute(_GROWN, {"least": _LEAST_PAGES}).scalars().all()
            if grown:
                connection.execute(text(f"ANALYZE {', '.join(grown)}"))

    def end(self) -> None:
        """Wait for a look that is under way."""
        if self._looking is not None:
            self._looking.join()
