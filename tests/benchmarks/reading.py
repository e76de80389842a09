"""The floor of a drain: the least that "read one by one, then durably stored" can cost in Python here.

aiohttp's client under uvloop, which is what the daemon reads with, one JSON parse, one hash, and one group commit at a
time of the two rows that a first read stores, the resource's and its version's, into the same tables of the ledger
through the bare driver. No claim and no lease, no budget, no retries and no time-outs of ours, no compression, no
canonical JSON, no entries, no change for the outbox, no second look at what the read names: what the daemon adds to
this is what it is measured by.

`python -m tests.benchmarks.reading LEDGER_URL PORT CONCURRENCY FIRST COUNT` prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import aiohttp
import orjson
import psycopg
import uvloop

from tests.benchmarks.events import ACCOUNT
from tests.benchmarks.floor import bare_address

Row = tuple[int, str, str, bytes, str, int]
"""Id, resource id, content hash, body, status, read at in microseconds."""

_HEADERS = {
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


class _Group:
    """What is read while one commit runs is the next commit."""

    def __init__(self, database: _Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[Row] = []
        self._commit: asyncio.Task[None] | None = None

    def add(self, row: Row) -> None:
        self._waiting.append(row)
        if self._commit is None:
            self._commit = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._waiting:
            rows, self._waiting = self._waiting, []
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.store, rows)
        self._commit = None

    async def emptied(self) -> None:
        if self._commit is not None:
            await self._commit


async def _read(session: aiohttp.ClientSession, base: str, numbers: Iterator[int], group: _Group) -> None:
    """One place of those that read at once."""
    for number in numbers:
        remote_id = f"pi_7{number:015d}"
        async with session.get(f"{base}/{remote_id}", headers=_HEADERS, allow_redirects=False) as response:
            response.raise_for_status()
            body = await response.read()
        payment: dict[str, Any] = orjson.loads(body)
        if payment["id"] != remote_id:
            raise RuntimeError(f"{remote_id} was asked for, and {payment['id']} answered")
        digest = hashlib.sha256(body).hexdigest()
        group.add((number, remote_id, digest, body, payment["status"], int(time.time() * 1e6)))


async def drain(url: str, port: int, concurrency: int, first: int, count: int) -> dict[str, float]:
    name, address = bare_address(url)
    database: _Database = _Sqlite(address) if name == "sqlite" else _Postgres(address)
    group = _Group(database)
    numbers = iter(range(first, first + count))
    base = f"http://127.0.0.1:{port}/v1/payment_intents"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        began, spent = time.perf_counter(), time.process_time()
        await asyncio.gather(*(_read(session, base, numbers, group) for _ in range(concurrency)))
        await group.emptied()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - spent
    return {"per_second": count / seconds, "cpu_us": cpu_seconds / count * 1e6}


if __name__ == "__main__":
    _, ledger_url, *given = sys.argv
    sys.stdout.write(orjson.dumps(uvloop.run(drain(ledger_url, *map(int, given)))).decode() + "\n")
