"""What tests of other parts use of the sandbox: worlds, servers, a receiver of webhooks. Plain functions, and fixtures.

Import the fixtures by name where they are needed: `from tests.sandbox_fixtures import sandbox  # noqa: F401`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from providers.sandbox import ApiKey, FaultPlan, Limits, RetrySchedule, SandboxServer, ThreadedSandbox, World
from providers.sandbox.api import read_call
from providers.sandbox.server import DEFAULT_KEY
from providers.sandbox.truth import Pace
from reconciler.clock import Clock, ManualClock

START = datetime(2026, 11, 2, 12, tzinfo=UTC)
SECRET = "whsec_of_the_sandbox"
PATIENT = RetrySchedule(timeout_seconds=180)
"""A machine that stands still for ten seconds is no receiver that does not answer."""


def a_world(*, seed: int = 7, clock: Clock | None = None, pace: Pace | None = None, **options: Any) -> World:
    """On a clock that stands still at `START` until it is advanced, unless a clock is given."""
    return World(seed=seed, clock=clock or ManualClock(START), pace=pace, **options)


@contextlib.asynccontextmanager
async def serving(world: World | None = None, **options: Any) -> AsyncIterator[SandboxServer]:
    """A server on a real socket, in this loop. Options as for `SandboxServer`."""
    async with SandboxServer(world or a_world(), **{"retries": PATIENT, **options}) as server:
        yield server


# --- asking without a socket ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    status: int
    headers: Mapping[str, str]
    body: Any
    """Parsed; None where it is no JSON."""

    @property
    def ids(self) -> list[str]:
        """Of a list's rows, in order."""
        return [row["id"] for row in self.body["data"]]


def ask(
    server: SandboxServer,
    path: str,
    *,
    method: str = "GET",
    key: str | None = DEFAULT_KEY,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
    json: Any = None,
) -> Told:
    """One API request, straight to the application: `ask(server, "/v1/charges?limit=2")`."""
    sent = {} if key is None else {b"authorization": f"Bearer {key}".encode()}
    sent |= {name.lower().encode(): value.encode() for name, value in (headers or {}).items()}
    body = b"" if json is None else orjson.dumps(json)
    if form is not None:
        body = urlencode(form).encode()
    location, _, query = path.partition("?")
    answer = server.api.answer(read_call(method, location, query.encode(), sent, body))
    try:
        parsed = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        parsed = None
    return Told(answer.status, answer.headers, parsed)


# --- receiving webhooks ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    complete: bool
    """False: the connection ended before the announced length."""

    @property
    def event(self) -> Any:
        return orjson.loads(self.body)

    @property
    def signature(self) -> str:
        return self.headers["stripe-signature"]


@dataclass(slots=True)
class Receiver:
    """An HTTP server that keeps what it is sent; `answers` holds the statuses of the next answers, then 200."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def types(self) -> list[str]:
        return [each.event["type"] for each in self.received]

    async def until(self, count: int) -> None:
        """Wait for that many deliveries."""
        while len(self.received) < count:
            self._news.clear()
            await self._news.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            complete = True
            try:
                body = await reader.readexactly(int(headers["content-length"]))
            except asyncio.IncompleteReadError as broken:
                body, complete = broken.partial, False
            self.received.append(Received(head[0].split(" ")[1], headers, body, complete))
            self._news.set()
            status = self.answers.pop(0) if self.answers else 200
            writer.write(f"HTTP/1.1 {status} Answer\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/webhooks/stripe/main"
    try:
        yield receiver
    finally:
        server.close()


@contextlib.asynccontextmanager
async def wired(
    world: World | None = None, *, faults: FaultPlan | None = None, thin: bool = False, **options: Any
) -> AsyncIterator[tuple[SandboxServer, Receiver]]:
    """A server that sends its webhooks, signed with `SECRET`, to a receiver; one after the other."""
    async with receiving() as receiver, serving(world, faults=faults, concurrency=1, **options) as server:
        server.add_endpoint(receiver.url, secret=SECRET, thin=thin)
        yield server, receiver


# --- for synchronous tests ------------------------------------------------------------------------


@pytest.fixture
def sandbox() -> Iterator[ThreadedSandbox]:
    """A server in its own thread, on a clock that stands still at `START`; one secret key, no limits, no faults."""
    with ThreadedSandbox(lambda: SandboxServer(a_world())) as running:
        yield running


__all__ = [
    "PATIENT", "SECRET", "START", "ApiKey", "FaultPlan", "Limits", "Received", "Receiver", "RetrySchedule", "Told",
    "a_world", "ask", "receiving", "sandbox", "serving", "wired",
]  # fmt: skip
