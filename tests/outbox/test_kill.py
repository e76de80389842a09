"""SIGKILL at random moments: every change that committed is told, none that did not, and what comes twice says so."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.changes import Cursor
from reconciler.outbox.pool import PoolSettings
from tests.outbox.children import LEASE, SECRET, subscription
from tests.outbox.harness import Receiver, node, receiving

ROUNDS = 4
"""In each of them two nodes work on one ledger and are killed, one after the other."""


@pytest.mark.long
def test_no_kill_loses_a_change_or_tells_what_did_not_commit(ledger_url: str) -> None:
    asyncio.run(_story(ledger_url))


async def _story(url: str) -> None:
    chance = random.Random(11)
    async with receiving(secret=SECRET) as receiver, _breeding(url, receiver) as breeder:
        for number in range(ROUNDS):
            victims = [await breeder.bear(2 * number + each) for each in range(2)]
            for victim in victims:
                told = len(receiver.told)
                await breeder.works(victim)
                async with asyncio.timeout(180):
                    while len(receiver.told) == told:  # noqa: ASYNC110  # it rings no bell
                        await asyncio.sleep(0.005)
                await asyncio.sleep(chance.uniform(0, 0.3))  # a random instant of its work is the point
                await breeder.kill(victim)
        told_by_the_dead = len(receiver.told)
        await _drain(url, receiver)
    with closing(open_ledger(url)) as ledger:
        stored = _stored(ledger)
        _verify(receiver, stored)
        _verify_feed(ledger, stored)
    assert told_by_the_dead > ROUNDS, "they lived long enough to be killed in the middle of something"


class Breeder:
    """`tests.outbox.children`, and what its lives say."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers: dict[int, int] = {}
        """By seed, the process's."""
        self._applied: Counter[int] = Counter()

    async def bear(self, seed: int) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d\n" % seed)
        while seed not in self._numbers:
            await self._hear()
        return seed

    async def works(self, seed: int) -> None:
        while self._applied[seed] < 3:
            await self._hear()

    async def kill(self, seed: int) -> None:
        os.kill(self._numbers[seed], signal.SIGKILL)
        async with asyncio.timeout(180):
            while _lives(self._numbers[seed]):  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.005)

    async def _hear(self) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(180):
            what, seed, *more = (await self._process.stdout.readline()).split()
        if what == b"born":
            self._numbers[int(seed)] = int(more[0])
        else:
            self._applied[int(seed)] += 1


def _lives(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


@asynccontextmanager
async def _breeding(url: str, receiver: Receiver) -> AsyncIterator[Breeder]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.outbox.children", url, receiver.url), stdin=pipe, stdout=pipe
    )
    try:
        yield Breeder(process)
    finally:
        process.kill()
        await process.wait()


async def _drain(url: str, receiver: Receiver) -> None:
    """A last node tells what is left; the leases of the dead end by themselves, as on another machine."""
    settings = PoolSettings(lease=LEASE)
    async with node(url, [subscription(receiver.url)], secrets={"erp": [SECRET]}, settings=settings) as at:
        async with asyncio.timeout(180):
            while at.ledger.telling.backlogs()["erp"].pending:  # noqa: ASYNC110  # another task's work
                await asyncio.sleep(0.05)
        while at.ledger.changes.place():
            continue


Key = tuple[str, int]


def _stored(ledger: Ledger) -> dict[Key, Any]:
    with ledger.store.read() as tx:
        rows = tx.run(
            text("SELECT r.remote_id, v.version, v.resource_id FROM version v JOIN resource r ON r.id = v.resource_id")
        ).all()
    return {(row.remote_id, row.version): ledger.changes.single(row.resource_id, row.version) for row in rows}


def _verify(receiver: Receiver, stored: dict[Key, Any]) -> None:
    messages: dict[Key, set[tuple[str, bytes]]] = {}
    first: dict[str, list[int]] = {}
    for told in receiver.told:
        name, version = told.what
        if told.what not in messages:
            first.setdefault(name, []).append(version)
        messages.setdefault(told.what, set()).add((told.id, told.body))
        change = stored.get(told.what)
        assert change is not None, f"{told.what} was told and never committed"
        assert told.data["changed"] == list(change.changed)
    assert messages.keys() == stored.keys(), "lost"
    assert all(len(each) == 1 for each in messages.values()), "the same change, said twice, in two ways"
    ids = [message_id for each in messages.values() for message_id, _ in each]
    assert len(ids) == len(set(ids)), "two changes with one id"
    for versions in first.values():
        assert all(before < after for before, after in pairwise(versions)), "out of order"


def _verify_feed(ledger: Ledger, stored: dict[Key, Any]) -> None:
    cursor: Cursor | None = None
    seen: list[Key] = []
    positions: list[int | None] = []
    while True:
        page = ledger.changes.read(cursor, limit=50)
        seen += [(change.ref.id, change.version) for change in page.changes]
        positions += [change.position for change in page.changes]
        cursor = page.cursor
        if not page.more:
            break
    assert positions == list(range(1, len(stored) + 1))
    assert sorted(seen) == sorted(stored)
