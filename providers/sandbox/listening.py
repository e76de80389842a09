"""Serving an ASGI application on a socket inside a test's own loop, and breaking answers on purpose."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from providers.sandbox.answers import Answer, Mishap

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_MOST_BODY_BYTES = 1 << 20
_KEEP_ALIVE_SECONDS = 600
"""Longer than whoever asks keeps a connection: a write on one that was closed meanwhile is never sent again."""


class Listening:
    """One application at `url` between `start` and `stop`."""

    def __init__(self, application: Application, host: str, port: int) -> None:
        self._application = application
        self._host, self._port = host, port
        self._server: uvicorn.Server | None = None
        self._socket: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        # The protocol must be named: asyncio sets TCP_NODELAY only where it is, and without it each answer that goes
        # out in two writes waits 40 ms for the client's delayed acknowledgement.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((self._host, self._port))
        self._port = self._socket.getsockname()[1]
        config = uvicorn.Config(self._application, lifespan="off", log_config=None, log_level=None, access_log=False,
                                date_header=False, server_header=False, ws="none",
                                timeout_graceful_shutdown=1, timeout_keep_alive=_KEEP_ALIVE_SECONDS)  # fmt: skip
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        # startup and shutdown without serve(): no signal handlers, and no ten wake-ups a second.
        await self._server.startup(sockets=[self._socket])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.force_exit = True
            await self._server.shutdown(sockets=[] if self._socket is None else [self._socket])


async def send_answer(
    answer: Answer, receive: Receive, send: Send, *, stopping: asyncio.Event, hang_seconds: float
) -> None:
    """The answer, or what becomes of it on the wire."""
    if answer.mishap is Mishap.HANG:
        await _hang(receive, stopping, hang_seconds)
        return
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    headers.append((b"content-length", b"%d" % len(answer.content)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.mishap is Mishap.CUT:
        # Returning with more to come makes the server break the connection off, which is the point.
        half = answer.content[: len(answer.content) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        return
    await send({"type": "http.response.body", "body": answer.content})


async def read_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size <= _MOST_BODY_BYTES:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body"):
            break
    return b"".join(parts)


async def _hang(receive: Receive, stopping: asyncio.Event, seconds: float) -> None:
    """Until the client goes, the time is up, or the server stops; then the connection breaks."""
    gone = asyncio.ensure_future(_disconnected(receive))
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((gone, stop), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        stop.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
