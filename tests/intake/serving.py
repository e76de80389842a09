"""The real intake behind the real server on a real socket, and a client that says exactly the bytes it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import text

from reconciler.clock import Clock, SystemClock
from reconciler.intake import DoorLimits, Intake, IntakeLimits, IntakeMetrics
from reconciler.intake.asgi import ASGIApp
from reconciler.ledger import GroupCommit, Ledger, open_ledger
from reconciler.provider import Provider
from reconciler.web import Readiness, ServerLimits, Site, WebServer
from tests.intake import acme

PATIENCE_SECONDS = 180.0

PATIENT = IntakeLimits(body_seconds=PATIENCE_SECONDS, store_seconds=PATIENCE_SECONDS)
PATIENT_SERVER = ServerLimits(
    header_seconds=PATIENCE_SECONDS, body_seconds=PATIENCE_SECONDS, idle_seconds=PATIENCE_SECONDS, stop_seconds=2
)
"""A machine that stands still for ten seconds has no slow sender and no ledger that is away."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Served:
    port: int
    ledger: Ledger
    commit: GroupCommit
    clock: Clock

    def request(
        self,
        body: bytes,
        *,
        path: str = acme.PATH,
        method: str = "POST",
        secret: str = acme.SECRET,
        age_seconds: int = 0,
        headers: Mapping[str, str | None] = {},
    ) -> bytes:
        """A signed request; a header given as None is left out."""
        given: dict[str, str | None] = {
            "host": "receiver",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "acme-signature": acme.signature(body, self.clock, secret=secret, age_seconds=age_seconds),
            **headers,
        }
        lines = [f"{name}: {value}" for name, value in given.items() if value is not None]
        return f"{method} {path} HTTP/1.1\r\n".encode() + "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

    async def post(self, body: bytes, **more: Any) -> Reply:
        return await self.ask(self.request(body, **more))

    async def get(self, path: str, method: str = "GET") -> Reply:
        return await self.ask(f"{method} {path} HTTP/1.1\r\nhost: receiver\r\n\r\n".encode(), head=method == "HEAD")

    async def ask(self, request: bytes, *, head: bool = False) -> Reply:
        async with connection(self.port) as (reader, writer):
            writer.write(request)
            return await read_reply(reader, head=head)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the ledger says, once what waits is written."""
        await self.commit.idle()

        def read(ledger: Ledger) -> list[tuple[Any, ...]]:
            with ledger.store.read() as tx:
                return [tuple(row) for row in tx.run(text(sql))]

        return await self.commit.read(read)


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def read_reply(reader: asyncio.StreamReader, *, head: bool = False) -> Reply:
    async with asyncio.timeout(PATIENCE_SECONDS):
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = b"" if head else await reader.readexactly(int(headers.get("content-length", "0")))
    return Reply(int(first.split(" ")[1]), headers, body)


@asynccontextmanager
async def serving(
    url: str,
    *,
    providers: Mapping[str, Provider] | None = None,
    clock: Clock | None = None,
    limits: IntakeLimits = PATIENT,
    server_limits: ServerLimits = PATIENT_SERVER,
    console: ASGIApp | None = None,
    accounts: Mapping[str, DoorLimits] = {},
    queue_bound: int = 10_000,
) -> AsyncIterator[Served]:
    clock = clock or SystemClock()
    providers = {acme.ACCOUNT: acme.acme()} if providers is None else providers
    registry = CollectorRegistry()
    with closing(open_ledger(url)) as ledger:
        commit = GroupCommit(ledger, clock, bound=queue_bound)
        intake = Intake(providers, commit, clock, IntakeMetrics(registry), limits, accounts=accounts)
        site = Site(
            readiness=Readiness(commit, providers, clock),
            registry=registry,
            console=console,
        )
        async with WebServer(site, webhooks=intake, limits=server_limits) as server:
            yield Served(server.port, ledger, commit, clock)
        await commit.close()
