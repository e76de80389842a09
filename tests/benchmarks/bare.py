"""What the floors of reads and of backfills share: who asks, and how what a first read brings is stored.

Two rows for each resource, its own and its version's, into the same tables of the ledger through the bare driver, by
one group commit at a time on a thread of its own.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import psycopg

from tests.benchmarks.events import ACCOUNT
from tests.benchmarks.floor import bare_address

Row = tuple[int, str, str, bytes, str, int]
"""Id, resource id, content hash, body, status, read at in microseconds."""

HEADERS = {
    "Authorization": "Bearer rk_live_benchmark",
    "Stripe-Version": "2026-10-28.endive",
    "Accept": "application/json",
    "User-Agent": "floor",
}
_RESOURCE = (
    "INSERT INTO resource (id, provider, account, kind, remote_id, state, generation, settled_generation, version,"
    " content_hash, status, fetched_at, applied_seq)"
)
_VERSION = (
    "INSERT INTO version (resource_id, version, state, content_hash, body, status, cause, recorded_at, fetched_at,"
    " applied_seq)"
)
_MOST_WAITING = 2_000
"""Rows read and not yet taken by a commit, so that a floor's memory is as flat as what it is compared with."""
_NAMED = f"'stripe', '{ACCOUNT}', 'payment_intent'"


class _Database(Protocol):
    def store(self, rows: Sequence[Row]) -> None: ...


class _Sqlite:
    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")

    def store(self, rows: Sequence[Row]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            f"{_RESOURCE} VALUES (?, {_NAMED}, ?, 'present', 1, 1, 1, ?, ?, ?, ?)",
            [(at, remote_id, digest, status, read_at, at) for at, remote_id, digest, _, status, read_at in rows],
        )
        self._connection.executemany(
            f"{_VERSION} VALUES (?, 1, 'present', ?, ?, ?, 'backfill', ?, ?, ?)",
            [(at, digest, body, status, read_at, read_at, at) for at, _, digest, body, status, read_at in rows],
        )
        self._connection.execute("COMMIT")


class _Postgres:
    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def store(self, rows: Sequence[Row]) -> None:
        ids, remote_ids, digests, bodies, statuses, read = (list(column) for column in zip(*rows, strict=True))
        with self._connection.transaction(), self._connection.pipeline():
            self._connection.execute(
                f"{_RESOURCE} SELECT id, {_NAMED}, remote_id, 'present', 1, 1, 1, digest, status, read_at, id"
                " FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::text[], %b::bigint[])"
                " AS given(id, remote_id, digest, status, read_at)",
                (ids, remote_ids, digests, statuses, read),
            )
            self._connection.execute(
                f"{_VERSION} SELECT id, 1, 'present', digest, body, status, 'backfill', read_at, read_at, id"
                " FROM unnest(%b::bigint[], %b::text[], %b::bytea[], %b::text[], %b::bigint[])"
                " AS given(id, digest, body, status, read_at)",
                (ids, digests, bodies, statuses, read),
            )


class Group:
    """What is read while one commit runs is the next commit."""

    def __init__(self, url: str) -> None:
        name, address = bare_address(url)
        self._database: _Database = _Sqlite(address) if name == "sqlite" else _Postgres(address)
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[Row] = []
        self._begun = asyncio.Event()
        self._commit: asyncio.Task[None] | None = None

    async def add(self, rows: Iterable[Row]) -> None:
        """At once, or when the commit under way has ended where `_MOST_WAITING` wait for it."""
        while len(self._waiting) >= _MOST_WAITING:
            self._begun.clear()
            await self._begun.wait()
        self._waiting.extend(rows)
        if self._commit is None:
            self._commit = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._waiting:
            rows, self._waiting = self._waiting, []
            self._begun.set()
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.store, rows)
        self._commit = None

    async def emptied(self) -> None:
        if self._commit is not None:
            await self._commit
