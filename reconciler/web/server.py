"""The web server: a socket that listens inside the running event loop, and the connections that came of it."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Self

from reconciler.clock import Clock, SystemClock
from reconciler.intake import Webhooks
from reconciler.intake.asgi import ASGIApp
from reconciler.intake.patience import Patience
from reconciler.web.connection import Connection, Listener, ServerLimits
from reconciler.web.dates import DateLine
from reconciler.web.port import BACKLOG, bind


class WebServer:
    """`async with WebServer(app) as server: ...`; `server.port` is the bound port, also where 0 was asked for.

    `webhooks` takes what lies below its prefix, `app` the rest.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        webhooks: Webhooks | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        sock: socket.socket | None = None,
        limits: ServerLimits = ServerLimits(),  # noqa: B008 - frozen, so sharing the default is safe
        clock: Clock | None = None,
    ) -> None:
        self._app = app
        self._webhooks = webhooks
        self._host = host
        self._port = port
        self._given = sock
        self._limits = limits
        self._clock = clock or SystemClock()
        self._listener: Listener | None = None
        self._server: asyncio.Server | None = None
        self._bound: tuple[str, int] = (host, port)

    @property
    def host(self) -> str:
        return self._bound[0]

    @property
    def port(self) -> int:
        return self._bound[1]

    @property
    def url(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def serve(self, app: ASGIApp, webhooks: Webhooks | None) -> None:
        """From the next request on these answer; requests that have begun are answered by who began them."""
        self._app, self._webhooks = app, webhooks
        if self._listener is not None:
            self._listener.app, self._listener.webhooks = app, webhooks

    async def start(self) -> None:
        """Returns when connections are accepted. Raises UsageError when the address cannot be bound."""
        listening = self._given or bind(self._host, self._port)
        self._bound = listening.getsockname()[:2]
        loop = asyncio.get_running_loop()
        listener = self._listener = Listener(
            self._app, self._webhooks, self._limits, Patience(loop), DateLine(self._clock, loop)
        )
        self._server = await loop.create_server(lambda: Connection(listener), sock=listening, backlog=BACKLOG)

    async def stop(self) -> None:
        """Refuse new connections, finish requests in flight within `stop_seconds`, give up the others. Idempotent."""
        if self._server is None or self._listener is None:
            return
        listener, self._listener = self._listener, None
        self._server.close()
        self._server = None
        listener.stopping = True
        for connection in list(listener.connections):
            connection.shut()
        if await self._emptied(listener, self._limits.stop_seconds):
            return
        for connection in list(listener.connections):
            connection.abort()
        await self._emptied(listener, 1.0)

    async def _emptied(self, listener: Listener, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await listener.empty.wait()
        except TimeoutError:
            return False
        return True
