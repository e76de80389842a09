"""The look-alike in a thread of its own, for synchronous tests: it answers while the test's thread waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from providers.sandbox.server import SandboxServer

T = TypeVar("T")
_PATIENCE_SECONDS = 180.0


class ThreadedSandbox:
    """`with ThreadedSandbox(lambda: SandboxServer(World(seed=7))) as sandbox:`; touch the world through `ask` only."""

    def __init__(self, make: Callable[[], SandboxServer]) -> None:
        """`make` runs in the server's thread, inside its loop."""
        self._make = make
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: SandboxServer | None = None
        self._failure: BaseException | None = None
        self._end: asyncio.Event | None = None

    @property
    def url(self) -> str:
        return self._running().url

    @property
    def api_key(self) -> str:
        return self._running().api_key

    def act(self, action: str, **arguments: Any) -> Any:
        """A named action of the platform's world, as in `act("payments.pay", amount=1000)`."""
        return self.ask(lambda server: server.world.act(action, **arguments))

    def ask(self, question: Callable[[SandboxServer], T]) -> T:
        """Run `question` in the server's thread and return what it returns."""

        async def answer() -> T:
            return question(self._running())

        return self._await(answer())

    def flush(self) -> dict[str, int]:
        """As `SandboxServer.flush`."""
        return self._await(self._running().flush())

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_PATIENCE_SECONDS):
            raise RuntimeError("the sandbox did not start")
        if self._failure is not None:
            raise RuntimeError("the sandbox could not start") from self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._end is not None:
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_PATIENCE_SECONDS)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            raise RuntimeError("the sandbox is not running")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_SECONDS)

    def _running(self) -> SandboxServer:
        if self._server is None:
            raise RuntimeError("the sandbox is not running")
        return self._server

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self._failure = failure
            self._ready.set()
            raise

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with self._make() as server:
            self._server = server
            self._ready.set()
            await self._end.wait()
