"""The floor of a backfill: the least that "list it all, then durably stored" can cost in Python here.

As many windows of time at once as a backfill has, each from page to page with aiohttp's client under uvloop; one JSON
parse of each page, one dump and one hash of each row, and one group commit at a time of what a first read stores
(`tests.benchmarks.bare`). No budget, no retries, no canonical JSON, no compression, no comparison with what is known,
no entries, no change for the outbox, no coverage, no resumption and no proof: what `reconcile --since` adds to this is
what it is measured by.

`python -m tests.benchmarks.listing LEDGER_URL PORT SINCE UNTIL` (seconds of the epoch) prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import orjson
import uvloop

from reconciler.backfill.stretches import MOST_AT_ONCE
from tests.benchmarks.bare import HEADERS, Group, Row


async def _walk(
    session: aiohttp.ClientSession, address: str, since: int, until: int, numbers: Iterator[int], group: Group
) -> None:
    """One window of time, newest first."""
    asked = {"limit": "100", "created[gte]": str(since), "created[lt]": str(until)}
    more = True
    while more:
        async with session.get(address, params=asked, headers=HEADERS, allow_redirects=False) as response:
            response.raise_for_status()
            page: dict[str, Any] = orjson.loads(await response.read())
        at = int(time.time() * 1e6)
        await group.add([_row(next(numbers), each, at) for each in page["data"]])
        more = page["has_more"]
        if more:
            asked["starting_after"] = page["data"][-1]["id"]


def _row(number: int, payment: dict[str, Any], at: int) -> Row:
    body = orjson.dumps(payment)
    return number, payment["id"], hashlib.sha256(body).hexdigest(), body, payment["status"], at


async def backfill(url: str, port: int, since: int, until: int) -> dict[str, float]:
    group = Group(url)
    numbers = itertools.count(1)
    address = f"http://127.0.0.1:{port}/v1/payment_intents"
    bounds = [since + (until - since) * share // MOST_AT_ONCE for share in range(MOST_AT_ONCE + 1)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=MOST_AT_ONCE)) as session:
        began, spent = time.perf_counter(), time.process_time()
        walks = [_walk(session, address, *window, numbers, group) for window in itertools.pairwise(bounds)]
        await asyncio.gather(*walks)
        await group.emptied()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - spent
    return {"objects": next(numbers) - 1, "seconds": seconds, "cpu_seconds": cpu_seconds}


if __name__ == "__main__":
    _, ledger_url, *given = sys.argv
    sys.stdout.write(orjson.dumps(uvloop.run(backfill(ledger_url, *map(int, given)))).decode() + "\n")
