"""Both providers in a thread of their own, behind a network that can be cut and a clock that can be set."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from providers.sandbox import ApiKey, RetrySchedule, SandboxServer, World
from providers.sandbox.shopify import ShopServer
from providers.sandbox.shopify.server import DEFAULT_TOKEN
from tests.shopify.shops import a_shop

T = TypeVar("T")
PATIENCE_SECONDS = 180.0

API_KEY, WEBHOOK_SECRET, TOKEN = "sk_test_sandbox", "whsec_" + "first" * 6, DEFAULT_TOKEN


class SetClock:
    """A wall clock that somebody may set; spans are measured as ever."""

    def __init__(self) -> None:
        self.off_by = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.off_by

    def monotonic(self) -> float:
        return time.monotonic()


class Relay:
    """One direction of the network: whoever connects here reaches `target`, until it is cut."""

    def __init__(self) -> None:
        self.target = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for each in list(self._open):
            each.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, back}
        self._open |= ends
        await asyncio.gather(_pump(reader, back), _pump(there, writer))
        self._open -= ends


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()


class Providers:
    """Touch what is in here through `ask` and `do` only: it belongs to another thread's loop."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.outwards, self.inwards = Relay(), Relay()
        """From the daemon to Stripe, and from Stripe to the daemon."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="providers", daemon=True)
        self._stack = AsyncExitStack()

    def __enter__(self) -> Providers:
        self._thread.start()
        self.do(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()

    @property
    def stripe_url(self) -> str:
        return f"http://127.0.0.1:{self.outwards.port}"

    def ask(self, question: Callable[[], T]) -> T:
        async def answer() -> T:
            return question()

        return self.do(answer)

    def do(self, work: Callable[[], Awaitable[T]]) -> T:
        async def waited() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(waited(), self._loop).result(PATIENCE_SECONDS)

    def act(self, action: str, **arguments: Any) -> Any:
        return self.ask(lambda: self.stripe.world.act(action, **arguments))

    @contextlib.contextmanager
    def offline(self) -> Iterator[None]:
        for each in (self.outwards, self.inwards):
            self.do(each.cut)
        try:
            yield
        finally:
            for each in (self.outwards, self.inwards):
                self.do(each.mend)

    async def _start(self) -> None:
        world = World(seed=11, clock=self.clock)
        retries = RetrySchedule(speed=200, factor=1.2)
        self.stripe = await self._stack.enter_async_context(
            SandboxServer(world, keys=[ApiKey(API_KEY)], retries=retries)
        )
        self.shop = await self._stack.enter_async_context(ShopServer(a_shop(clock=self.clock)))
        self.outwards.target = int(self.stripe.url.rpartition(":")[2])
        for each in (self.outwards, self.inwards):
            await each.mend()
            self._stack.push_async_callback(each.cut)

    async def _end(self) -> None:
        await self._stack.aclose()
