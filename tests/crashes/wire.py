"""A TCP proxy in front of a database that can swallow whatever goes through it, as a broken network does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

Opening = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Wire:
    """`cut` tells nobody: connections stay open and nothing arrives. `mend` breaks them, and new ones work."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._whole = asyncio.Event()
        self._whole.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._whole.set()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.mend()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        there, back = await self._opening()
        self._writers |= {writer, back}
        task = asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        own = asyncio.current_task()
        assert own is not None
        self._tasks.add(own)
        try:
            await task
        finally:
            self._tasks.discard(own)
            for each in (writer, back):
                self._writers.discard(each)
                each.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while content := await source.read(65_536):
                await self._whole.wait()
                target.write(content)
                await target.drain()
        with contextlib.suppress(OSError):
            target.close()
