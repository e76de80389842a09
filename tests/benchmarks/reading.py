"""The floor of a drain: the least that "read one by one, then durably stored" can cost in Python here.

aiohttp's client under uvloop, which is what the daemon reads with, one JSON parse, one hash, and one group commit at a
time of what a first read stores (`tests.benchmarks.bare`). No claim and no lease, no budget, no retries and no
time-outs of ours, no compression, no canonical JSON, no entries, no change for the outbox, no second look at what the
read names: what the daemon adds to this is what it is measured by.

`python -m tests.benchmarks.reading LEDGER_URL PORT CONCURRENCY FIRST COUNT` prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import orjson
import uvloop

from tests.benchmarks.bare import HEADERS, Group


async def _read(session: aiohttp.ClientSession, base: str, numbers: Iterator[int], group: Group) -> None:
    """One place of those that read at once."""
    for number in numbers:
        remote_id = f"pi_7{number:015d}"
        async with session.get(f"{base}/{remote_id}", headers=HEADERS, allow_redirects=False) as response:
            response.raise_for_status()
            body = await response.read()
        payment: dict[str, Any] = orjson.loads(body)
        if payment["id"] != remote_id:
            raise RuntimeError(f"{remote_id} was asked for, and {payment['id']} answered")
        digest = hashlib.sha256(body).hexdigest()
        await group.add([(number, remote_id, digest, body, payment["status"], int(time.time() * 1e6))])


async def drain(url: str, port: int, concurrency: int, first: int, count: int) -> dict[str, float]:
    group = Group(url)
    numbers = iter(range(first, first + count))
    base = f"http://127.0.0.1:{port}/v1/payment_intents"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        began, spent = time.perf_counter(), time.process_time()
        await asyncio.gather(*(_read(session, base, numbers, group) for _ in range(concurrency)))
        await group.emptied()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - spent
    return {"per_second": count / seconds, "cpu_us": cpu_seconds / count * 1e6}


if __name__ == "__main__":
    _, ledger_url, *given = sys.argv
    sys.stdout.write(orjson.dumps(uvloop.run(drain(ledger_url, *map(int, given)))).decode() + "\n")
