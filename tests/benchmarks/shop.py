"""A Stripe that answers at once: what the daemon under test reads from, so that nothing but the daemon is slow.

`python -m tests.benchmarks.shop` prints its port and serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import httptools
import orjson
import uvloop

from tests.benchmarks.events import Deliveries

_INTENT = re.compile(rb"/v1/payment_intents/(pi_[A-Za-z0-9]+)")
_EMPTY = orjson.dumps({"object": "list", "data": [], "has_more": False, "url": "/"})


def _intent() -> bytes:
    """The payment intent of the benchmark's events, on its own."""
    intent = orjson.loads(Deliveries("shop", livemode=True).body())["data"]["object"]
    # What is read must not name further resources: each delivery costs one read then.
    return orjson.dumps({**intent, "livemode": True, "latest_charge": None, "customer": None, "payment_method": None})


class _Connection(asyncio.Protocol):
    def __init__(self, intent: bytes) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._intent = intent
        self._id = orjson.loads(intent)["id"].encode()
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
        named = _INTENT.match(self._url)
        body = _EMPTY if named is None else self._intent.replace(self._id, named[1])
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_1\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )


async def serve() -> None:
    loop = asyncio.get_running_loop()
    intent = _intent()
    server = await loop.create_server(lambda: _Connection(intent), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - how the benchmark learns the port
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
