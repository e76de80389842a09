"""The load generator: a process of its own, so that what it costs is not counted as the server's.

`python -m tests.benchmarks.load PORT --connections N --seconds S [--rate R]` prints one JSON object. Without a rate
each connection sends its next request when the last was answered; with one, requests leave at fixed instants and
their time is taken from that instant, so that a stalled server cannot hide by slowing the questions down.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

import httptools
import uvloop

from tests.benchmarks.events import Deliveries


@dataclass(slots=True)
class Tally:
    """What was answered so far."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    lost: int = 0
    """Connections that ended under us."""
    enough_at: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Enough was answered, or a connection was lost."""


class _Connection(asyncio.Protocol):
    def __init__(self, tally: Tally, free: deque[_Connection], on_free: asyncio.Event) -> None:
        self._tally = tally
        self._free = free
        self._on_free = on_free
        self._parser = httptools.HttpResponseParser(self)
        self._since = 0.0
        self._transport: asyncio.Transport | None = None
        self.next_request: Deliveries | None = None
        """Set while the connection is to send again by itself."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.lost += 1
        self._tally.ended.set()
        self._on_free.set()

    def close(self) -> None:
        self._tally.lost -= 1
        if self._transport is not None:
            self._transport.abort()

    def send(self, request: bytes, since: float) -> None:
        assert self._transport is not None
        self._since = since
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self._tally.statuses[self._parser.get_status_code()] += 1
        self._tally.seconds.append(now - self._since)
        if len(self._tally.seconds) == self._tally.enough_at:
            self._tally.ended.set()
        if self.next_request is not None:
            self.send(self.next_request.request(), time.perf_counter())
            return
        self._free.append(self)
        self._on_free.set()


async def load(
    port: int,
    deliveries: Deliveries,
    *,
    connections: int,
    seconds: float,
    rate: float | None,
    count: int | None,
) -> Tally:
    tally = Tally()
    free: deque[_Connection] = deque()
    on_free = asyncio.Event()
    loop = asyncio.get_running_loop()
    opened: list[_Connection] = []
    for _ in range(connections):
        _, connection = await loop.create_connection(lambda: _Connection(tally, free, on_free), "127.0.0.1", port)
        opened.append(connection)
    free.extend(opened)
    if rate is None:
        await _closed_loop(opened, free, on_free, deliveries, tally, seconds, count)
    else:
        await _open_loop(free, on_free, deliveries, tally, rate, seconds)
    for connection in opened:
        connection.close()
    return tally


async def _closed_loop(
    opened: list[_Connection],
    free: deque[_Connection],
    on_free: asyncio.Event,
    deliveries: Deliveries,
    tally: Tally,
    seconds: float,
    count: int | None,
) -> None:
    free.clear()
    for connection in opened:
        connection.next_request = deliveries
        connection.send(deliveries.request(), time.perf_counter())
    tally.enough_at = count
    with suppress(TimeoutError):
        await asyncio.wait_for(tally.ended.wait(), seconds)
    for connection in opened:
        connection.next_request = None
    await _all_free(opened, free, on_free, tally)


async def _open_loop(
    free: deque[_Connection],
    on_free: asyncio.Event,
    deliveries: Deliveries,
    tally: Tally,
    rate: float,
    seconds: float,
) -> None:
    opened = list(free)
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        leaves_at = began + number / rate
        if (wait := leaves_at - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        while not free and not tally.lost:
            on_free.clear()
            await on_free.wait()
        if tally.lost:
            break
        free.popleft().send(deliveries.request(), leaves_at)
    await _all_free(opened, free, on_free, tally)


async def _all_free(opened: list[_Connection], free: deque[_Connection], on_free: asyncio.Event, tally: Tally) -> None:
    """What was asked is answered before the connections close, so that each side counts the same."""
    async with asyncio.timeout(30):
        while len(free) < len(opened) - tally.lost:
            on_free.clear()
            await on_free.wait()


def percentile(ordered: list[float], share: float) -> float:
    """Of an ascending list; 0 for an empty one."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--count", type=int)
    parser.add_argument("--run", default="a")
    parser.add_argument("--livemode", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    began = time.perf_counter()
    tally = uvloop.run(
        load(
            asked.port,
            Deliveries(asked.run, livemode=bool(asked.livemode), first=asked.first),
            connections=asked.connections,
            seconds=asked.seconds,
            rate=asked.rate,
            count=asked.count,
        )
    )
    elapsed = time.perf_counter() - began
    ordered = sorted(tally.seconds)
    json.dump(
        {
            "answered": len(ordered),
            "per_second": len(ordered) / elapsed,
            "seconds": elapsed,
            "statuses": dict(tally.statuses),
            "lost": tally.lost,
            "p50_ms": percentile(ordered, 0.5) * 1000,
            "p99_ms": percentile(ordered, 0.99) * 1000,
            "max_ms": (ordered[-1] if ordered else 0.0) * 1000,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
