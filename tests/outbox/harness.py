"""A pool that tells a receiver over real HTTP on loopback; the receiver checks with the official verifier."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
import standardwebhooks
from prometheus_client import CollectorRegistry

from reconciler.clock import SystemClock
from reconciler.ledger import GroupCommit, Ledger, open_ledger
from reconciler.ledger.subscriptions import Subscription
from reconciler.model import Reading, ResourceRef
from reconciler.outbox.bell import Bell
from reconciler.outbox.guard import Guard
from reconciler.outbox.keys import Keys
from reconciler.outbox.metrics import OutboxMetrics
from reconciler.outbox.policy import Policy
from reconciler.outbox.pool import Pool, PoolSettings
from reconciler.outbox.sending import Sender
from reconciler.outbox.signing import new_secret
from reconciler.transport import HttpTransport
from tests.ledger.factories import NOON, settle, snapshot, table

PATIENCE_SECONDS = 180.0
BASE_URL = "https://books.example"
LOOPBACK = Guard((ipaddress.ip_network("127.0.0.0/8"),), only_allowed=True)
QUICK = Policy(first_wait=timedelta(milliseconds=20), max_wait=timedelta(milliseconds=200),
               probe_wait=timedelta(milliseconds=50))  # fmt: skip
SECRET = new_secret()
PATIENT = PoolSettings(lease=timedelta(seconds=2 * PATIENCE_SECONDS), drain=timedelta(seconds=1))
"""Nobody is told twice because the machine stood still in the middle of an answer."""


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.005)


@dataclass(frozen=True, slots=True)
class Told:
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> Any:
        return orjson.loads(self.body)

    @property
    def data(self) -> Any:
        return self.message["data"]

    @property
    def what(self) -> tuple[str, int]:
        return ResourceRef.parse(self.data["ref"]).id, self.data["version"]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"


Answering = Callable[[Told], Answer]


@dataclass(slots=True)
class Receiver:
    """Keeps what it is told. `answering` decides; `hold` makes it wait before it answers."""

    secret: str = SECRET
    url: str = ""
    told: list[Told] = field(default_factory=list)
    connections: int = 0
    answering: Answering = lambda _: Answer()
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    @property
    def what(self) -> list[tuple[str, int]]:
        return [each.what for each in self.told]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers["content-length"]))
                told = Told(headers, body)
                standardwebhooks.Webhook(self.secret).verify(body, dict(headers))
                self.told.append(told)
                answer = self.answering(told)
                await self.hold.wait()
                extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
                start = f"HTTP/1.1 {answer.status} X\r\ncontent-length: {len(answer.body)}\r\n{extra}\r\n"
                writer.write(start.encode() + answer.body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, standardwebhooks.WebhookVerificationError):
            return  # whoever sends what does not verify is hung up on, and is not in `told`
        finally:
            writer.close()


@asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver(**options)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        receiver.hold.set()
        server.close()


@dataclass(frozen=True, slots=True)
class Node:
    """One process's worth of pool."""

    pool: Pool
    ledger: Ledger
    commit: GroupCommit
    applied: Bell

    async def change(self, of: ResourceRef, value: object, *, minute: int = 0) -> None:
        """The next version of a resource."""
        at = NOON + timedelta(minutes=minute)
        await self.commit.call(lambda ledger: settle(ledger, of, snapshot(of, value), at))
        self.applied.ring()

    async def read(self, of: ResourceRef, reading: Reading, *, minute: int = 0) -> None:
        at = NOON + timedelta(minutes=minute)
        await self.commit.call(lambda ledger: settle(ledger, of, reading, at))
        self.applied.ring()

    def outcomes(self) -> dict[tuple[str, int, int], str | None]:
        return {
            (row["subscription"], row["resource_id"], row["version"]): row["outcome"]
            for row in table(self.ledger, "outbox")
        }


def sender(clock: SystemClock, stack: contextlib.AsyncExitStack, *, seconds: float = PATIENCE_SECONDS) -> Sender:
    options: dict[str, Any] = {
        "connect_seconds": seconds,
        "read_seconds": seconds,
        "total_seconds": seconds,
        "connections": 500,
        "max_body_bytes": 2048,
        "trust_env": False,
        "cut_answers": True,
    }
    secure = HttpTransport(refuses=Guard(), **options)
    plain = HttpTransport(refuses=LOOPBACK, **options)
    stack.push_async_callback(secure.aclose)
    stack.push_async_callback(plain.aclose)
    return Sender(secure, plain, clock)


@asynccontextmanager
async def node(
    url: str,
    subscriptions: Sequence[Subscription],
    *,
    secrets: Mapping[str, Sequence[str]] | None = None,
    policy: Policy = QUICK,
    settings: PoolSettings = PATIENT,
    seconds: float = PATIENCE_SECONDS,
    owner: str = "node1",
    is_gone: Callable[[str], bool] = lambda _: False,
) -> AsyncIterator[Node]:
    clock = SystemClock()
    keys = Keys(secrets or {each.name: [SECRET] for each in subscriptions}, None)
    async with contextlib.AsyncExitStack() as stack:
        ledger = stack.enter_context(closing(open_ledger(url)))
        commit = GroupCommit(ledger, clock)
        stack.push_async_callback(commit.close)
        await commit.call(lambda ledger: ledger.telling.declare(subscriptions, clock.now()))
        applied = Bell()
        pool = Pool(
            commit,
            clock,
            sender(clock, stack, seconds=seconds),
            keys,
            lambda: BASE_URL,
            applied,
            OutboxMetrics(CollectorRegistry()),
            owner=owner,
            is_gone=is_gone,
            policy=policy,
            settings=settings,
        )
        running = asyncio.create_task(pool.run())
        try:
            yield Node(pool, ledger, commit, applied)
        finally:
            pool.stop()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await running
