"""The floor: the least that the promise "verified, durable, audited, marked, then 2xx" can cost in Python here.

A bare asyncio protocol with httptools, one HMAC, one JSON parse, and one group commit at a time of the same two rows
that intake writes, the delivery's and the resource's, into the same tables of the ledger, through the bare driver. No
framework, no rejection path, no compression, no duplicate check, no link from delivery to resource, no tally, no
limits, no metrics, no settle rules: what intake adds to this is what it is measured by.

`python -m tests.benchmarks.floor LEDGER_URL` prints its port and serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Protocol, cast

import httptools
import orjson
import psycopg
import uvloop
from sqlalchemy.engine import make_url

from reconciler.ledger import open_ledger
from tests.benchmarks.events import PATH, SECRET

_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_NO = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"

Row = tuple[str, str, int, bytes, str, str]
"""Event id, type, received at in microseconds, body, headers as JSON, resource id."""

_DELIVERY = (
    "INSERT INTO delivery (id, provider, account, event_id, type, received_at, verdict, source, headers, body, size)"
)
_RESOURCE = (
    "INSERT INTO resource (id, provider, account, kind, remote_id, generation, due_at, first_marked_at, last_marked_at)"
)
_AGAIN = "ON CONFLICT (account, kind, remote_id) DO UPDATE SET generation = resource.generation +"


class _Database(Protocol):
    def store(self, rows: Sequence[Row]) -> None: ...


class _Sqlite:
    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        self._next = 1

    def store(self, rows: Sequence[Row]) -> None:
        connection = self._connection
        first = self._next
        self._next += len(rows)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            f"{_DELIVERY} VALUES (?, 'stripe', 'bench', ?, ?, ?, 'stored', '127.0.0.1', ?, ?, ?)",
            [(first + at, row[0], row[1], row[2], row[4], row[3], len(row[3])) for at, row in enumerate(rows)],
        )
        connection.executemany(
            f"{_RESOURCE} VALUES (?, 'stripe', 'bench', 'payment_intent', ?, 1, ?, ?, ?) {_AGAIN} 1,"
            " due_at = min(due_at, excluded.due_at), last_marked_at = excluded.last_marked_at",
            [(first + at, row[5], row[2], row[2], row[2]) for at, row in enumerate(rows)],
        )
        connection.execute("COMMIT")


class _Postgres:
    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._next = 1

    def store(self, rows: Sequence[Row]) -> None:
        event_ids, types, received, bodies, headers, resources = (list(column) for column in zip(*rows, strict=True))
        marks = Counter(cast("list[str]", resources))
        wanted = sorted(marks)
        first = self._next
        self._next += len(rows)
        at = received[0]
        with self._connection.transaction(), self._connection.pipeline():
            self._connection.execute(
                f"{_DELIVERY} SELECT %s + n, 'stripe', 'bench', event_id, type, received_at, 'stored', '127.0.0.1',"
                " headers, body, length(body)"
                " FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::bytea[], %b::text[]) WITH ORDINALITY"
                " AS given(event_id, type, received_at, body, headers, n)",
                (first, event_ids, types, received, bodies, headers),
            )
            self._connection.execute(
                f"{_RESOURCE} SELECT %s + n, 'stripe', 'bench', 'payment_intent', remote_id, count, %s, %s, %s"
                " FROM unnest(%b::text[], %b::bigint[]) WITH ORDINALITY AS given(remote_id, count, n)"
                f" {_AGAIN} excluded.generation, due_at = least(resource.due_at, excluded.due_at),"
                " last_marked_at = excluded.last_marked_at",
                (first, at, at, at, wanted, [marks[each] for each in wanted]),
            )


class _Group:
    """What arrives while one commit runs is the next commit."""

    def __init__(self, database: _Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Row, _Connection]] = []
        self._running = False

    def add(self, row: Row, connection: _Connection) -> None:
        self._waiting.append((row, connection))
        if not self._running:
            self._running = True
            self._loop.call_soon(self._submit)

    def _submit(self) -> None:
        group, self._waiting = self._waiting, []
        self._thread.submit(self._run, group)

    def _run(self, group: list[tuple[Row, _Connection]]) -> None:
        self._database.store([row for row, _ in group])
        self._loop.call_soon_threadsafe(self._done, group)

    def _done(self, group: list[tuple[Row, _Connection]]) -> None:
        for _, connection in group:
            connection.answer(_OK)
        if self._waiting:
            self._submit()
            return
        self._running = False


class _Connection(asyncio.Protocol):
    def __init__(self, group: _Group) -> None:
        self._group = group
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._signature = b""
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        self._headers[lower.decode("latin-1")] = value.decode("latin-1")
        if lower == b"stripe-signature":
            self._signature = value

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._parts)
        self._parts.clear()
        at, _, given = self._signature.partition(b",v1=")
        expected = hmac.digest(SECRET.encode(), at[2:] + b"." + body, "sha256").hex()
        now = time.time()
        if (
            self._url != PATH.encode()
            or not hmac.compare_digest(expected.encode(), given)
            or abs(now - int(at[2:])) > 300
        ):
            self.answer(_NO)
            return
        event: dict[str, Any] = orjson.loads(body)
        headers, self._headers = orjson.dumps(self._headers).decode(), {}
        resource = event["data"]["object"]["id"]
        self._group.add((event["id"], event["type"], int(now * 1e6), body, headers, resource), self)

    def answer(self, response: bytes) -> None:
        assert self._transport is not None
        self._transport.write(response)


def bare_address(url: str) -> tuple[str, str]:
    """Which database a ledger is in, and where, as its bare driver takes it: a path, or libpq's address. The ledger's
    tables are there then."""
    with closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return "sqlite", str(parsed.database)
    return "postgresql", parsed.set(drivername="postgresql").render_as_string(hide_password=False)


async def serve(url: str) -> None:
    name, address = bare_address(url)
    database: _Database = _Sqlite(address) if name == "sqlite" else _Postgres(address)
    group = _Group(database)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(group), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - how the benchmark learns the port
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
