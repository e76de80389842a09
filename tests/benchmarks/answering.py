"""A server that answers every GET with what one function makes of its address: whom a benchmark reads from.

A bare asyncio protocol, so that as little as possible of a small machine goes into the other side.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import cast

import httptools
import uvloop

Answering = Callable[[bytes], bytes]
"""From the address, with its query, to the body: JSON."""


class _Connection(asyncio.Protocol):
    def __init__(self, answering: Answering, latency_seconds: float) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._answering = answering
        self._latency_seconds = latency_seconds
        self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        body = self._answering(self._url)
        answer = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_1\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        if not self._latency_seconds:
            self._transport.write(answer)
            return
        asyncio.get_running_loop().call_later(self._latency_seconds, self._transport.write, answer)


async def _serve(answering: Answering, latency_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(answering, latency_seconds), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - how the benchmark learns the port
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def serve(answering: Answering, latency_seconds: float) -> None:
    """Prints its port, and returns when the standard input closes."""
    uvloop.run(_serve(answering, latency_seconds))
