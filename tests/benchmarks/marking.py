"""The floor of a mark: what Postgres or SQLite itself takes to note on so many resources that they may have changed.

One update by key of a counter and two instants, with every index of the ledger's table, in a commit of its own, through
the bare driver. No priority, no cause, no settle window, no hints, nothing about leases and dead letters.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import psycopg

from tests.benchmarks.events import ACCOUNT
from tests.benchmarks.floor import bare_address

_NOTE = "UPDATE resource SET generation = generation + 1, due_at = coalesce(due_at, {at}), last_marked_at = {at}"
_KEY = f"account = '{ACCOUNT}' AND kind = 'payment_intent' AND remote_id ="


class BareMarks(AbstractContextManager["BareMarks"]):
    """A connection of its own to the ledger at `url`."""

    def __init__(self, url: str) -> None:
        name, address = bare_address(url)
        self._sqlite: sqlite3.Connection | None = None
        self._postgres: psycopg.Connection | None = None
        if name == "sqlite":
            self._sqlite = sqlite3.connect(address, isolation_level=None)
            self._sqlite.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;")
        else:
            self._postgres = psycopg.connect(address, autocommit=True)

    def __exit__(self, *_: Any) -> None:
        for connection in (self._sqlite, self._postgres):
            if connection is not None:
                connection.close()

    def mark(self, ids: Sequence[str], at: int) -> None:
        """`at` in microseconds. In the order of the keys, as every mark is made."""
        if self._sqlite is not None:
            self._sqlite.execute("BEGIN IMMEDIATE")
            self._sqlite.executemany(f"{_NOTE.format(at='?')} WHERE {_KEY} ?", [(at, at, each) for each in sorted(ids)])
            self._sqlite.execute("COMMIT")
        if self._postgres is not None:
            self._postgres.execute(
                f"{_NOTE.format(at='%s')} FROM unnest(%b::text[]) AS given(id) WHERE {_KEY} given.id",
                (at, at, sorted(ids)),
            )
