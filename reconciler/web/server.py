"""An ASGI application on uvicorn, inside the running event loop."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Any, Self, cast

import uvicorn

from reconciler.errors import UsageError
from reconciler.intake.asgi import ASGIApp
from reconciler.web.connection import BoundedConnection, ServerLimits

_BACKLOG = 2048


class WebServer:
    """`async with WebServer(app) as server: ...`; `server.port` is the bound port, also where 0 was asked for."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        sock: socket.socket | None = None,
        limits: ServerLimits = ServerLimits(),  # noqa: B008 - frozen, so sharing the default is safe
    ) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._given = sock
        self._limits = limits
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
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

    async def start(self) -> None:
        """Returns when connections are accepted. Raises UsageError when the address cannot be bound."""
        listening = self._given or _bind(self._host, self._port)
        self._bound = listening.getsockname()[:2]
        self._server = _Server(self._config())
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]), name="web server")
        accepting = asyncio.create_task(self._server.accepting.wait())
        await asyncio.wait({self._serving, accepting}, return_when=asyncio.FIRST_COMPLETED)
        if not accepting.done():
            accepting.cancel()
            self._serving.result()
            raise UsageError(f"the web server at {self.url} ended before it began")

    async def stop(self) -> None:
        """Refuse new connections, finish requests in flight within `stop_seconds`, cancel the others. Idempotent."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        await asyncio.wait({self._serving}, timeout=self._limits.stop_seconds + 2.0)
        self._server.abort_connections()
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)
        self._server = self._serving = None

    def _config(self) -> uvicorn.Config:
        limits = self._limits
        # uvicorn constructs one for each connection, and its signature has no room for our limits.
        protocol = type("Connection", (BoundedConnection,), {"limits": limits})
        return uvicorn.Config(
            cast("Any", self._app),
            interface="asgi3",
            http=protocol,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=limits.idle_seconds,
            timeout_graceful_shutdown=limits.stop_seconds,
        )


class _Server(uvicorn.Server):
    """Leaves signals to the program around it, and says when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()

    def abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port} ({error.strerror}); "
            "choose another server.host or server.port, or stop what listens there"
        ) from error
