"""A Stripe with very many payment intents, listed as Stripe lists them: newest first, 100 a page, by time of creation.

`python -m tests.benchmarks.lister COUNT FIRST_SECOND SPAN_SECONDS [LATENCY]` prints its port and serves until its
standard input closes. Nothing is stored: the number of an object is in its id, and its time follows from the number.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import cast
from urllib.parse import parse_qs, urlsplit

import httptools
import orjson
import uvloop

from tests.benchmarks.events import Deliveries

PAGE = 100
_EMPTY = orjson.dumps({"object": "list", "data": [], "has_more": False, "url": "/"})


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`count` payment intents, evenly created over a span of seconds."""

    count: int
    first: int
    span: int

    def created(self, number: int) -> int:
        return self.first + number * self.span // self.count

    def page(self, *, after: int | None, since: int, until: int) -> tuple[range, bool]:
        """The numbers of one page, newest first, and whether there are more."""
        newest = min(self.count if after is None else after, self._at(until)) - 1
        oldest = self._at(since)
        last = max(oldest, newest - PAGE + 1)
        return range(newest, last - 1, -1), last > oldest

    def _at(self, second: int) -> int:
        """The number of the first object that was not created before this second."""
        return min(self.count, max(0, -(-(second - self.first) * self.count // self.span)))


def name_of(number: int) -> str:
    return f"pi_{number:015d}"


class _Pages:
    """Pages as bytes: each object is the same but for its name and its time."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        intent = orjson.loads(Deliveries("list", livemode=True).body())["data"]["object"]
        # What is listed must not name further resources: the list alone is measured.
        alone = {**intent, "livemode": True, "latest_charge": None, "customer": None, "payment_method": None}
        self._parts = orjson.dumps({**alone, "created": 1234567890}).split(intent["id"].encode())

    def answer(self, url: bytes) -> bytes:
        address = urlsplit(url.decode())
        if address.path != "/v1/payment_intents":
            return _EMPTY
        asked = {name: int(values[0].removeprefix("pi_")) for name, values in parse_qs(address.query).items()
                 if name in ("starting_after", "created[gte]", "created[lt]")}  # fmt: skip
        numbers, more = self._catalogue.page(
            after=asked.get("starting_after"),
            since=asked.get("created[gte]", 0),
            until=asked.get("created[lt]", 1 << 40),
        )
        rows = b",".join([self._object(number) for number in numbers])
        return b'{"object":"list","data":[%b],"has_more":%b,"url":"/v1/payment_intents"}' % (
            rows,
            b"true" if more else b"false",
        )

    def _object(self, number: int) -> bytes:
        created = b"%d" % self._catalogue.created(number)
        return name_of(number).encode().join(self._parts).replace(b"1234567890", created)


class _Connection(asyncio.Protocol):
    def __init__(self, pages: _Pages, latency: float) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._pages = pages
        self._latency = latency
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
        body = self._pages.answer(self._url)
        answer = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_1\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        asyncio.get_running_loop().call_later(self._latency, self._transport.write, answer)


async def serve(catalogue: Catalogue, latency: float) -> None:
    loop = asyncio.get_running_loop()
    pages = _Pages(catalogue)
    server = await loop.create_server(lambda: _Connection(pages, latency), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - how the benchmark learns the port
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    count, first, span = (int(each) for each in sys.argv[1:4])
    uvloop.run(serve(Catalogue(count, first, span), float(sys.argv[4]) if len(sys.argv) > 4 else 0.0))
