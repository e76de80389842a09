"""Nodes that live until they are killed: `python -m tests.outbox.children URL RECEIVER`. They apply, and tell.

For each seed on stdin one is forked, because a fresh interpreter takes far longer to start than it is to live.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from datetime import timedelta
from functools import partial

from reconciler.clock import SystemClock
from reconciler.errors import LedgerError
from reconciler.ledger import Ledger, PageRow
from reconciler.ledger.subscriptions import Subscription
from reconciler.model import Cause, Snapshot
from reconciler.outbox.placing import place
from reconciler.outbox.pool import PoolSettings
from reconciler.worker import is_gone, owner_name
from tests.ledger.factories import ref
from tests.outbox.harness import node

NAMES = [f"ch_{number}" for number in range(12)]
SECRET = "whsec_" + "a" * 43 + "="
LEASE = timedelta(seconds=3)


def subscription(url: str) -> Subscription:
    return Subscription("erp", url, concurrency=8)


async def live(url: str, receiver: str, seed: int) -> None:
    """Until it is killed. A ledger that does not answer at first, on a machine that stands still, is asked again."""
    while True:
        try:
            await _live(url, receiver, seed)
            return
        except LedgerError:
            await asyncio.sleep(0.05)


async def _live(url: str, receiver: str, seed: int) -> None:
    clock, chance, parent = SystemClock(), random.Random(seed), os.getppid()
    owner = owner_name(clock.now())
    async with node(
        url,
        [subscription(receiver)],
        secrets={"erp": [SECRET]},
        owner=owner,
        is_gone=partial(is_gone, self_name=owner),
        settings=PoolSettings(lease=LEASE, drain=timedelta(seconds=1)),
    ) as at:
        while os.getppid() == parent:  # a test that failed leaves nobody behind
            rows = [Snapshot(ref(name), {"value": chance.random()}) for name in chance.sample(NAMES, 3)]
            try:
                await at.commit.call(partial(_see, rows, clock))
                await place(at.commit)
            except LedgerError:
                continue
            at.applied.ring()
            _say("applied", seed)
            await asyncio.sleep(chance.uniform(0, 0.02))


def _see(rows: list[Snapshot], clock: SystemClock, ledger: Ledger) -> None:
    now = clock.now()
    ledger.apply_page(
        [PageRow(row) for row in rows],
        start=ledger.tick(),
        started_at=now,
        cause=Cause.SWEEP,
        settle={"charge": timedelta(0)},
        now=now,
    )


def _say(*words: object) -> None:
    """One write: several lives share the pipe."""
    os.write(sys.stdout.fileno(), (" ".join(map(str, words)) + "\n").encode())


def breed(url: str, receiver: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        seed = int(line)
        number = os.fork()
        if number == 0:
            asyncio.run(live(url, receiver, seed))
            os._exit(0)
        _say("born", seed, number)


if __name__ == "__main__":
    breed(sys.argv[1], sys.argv[2])
