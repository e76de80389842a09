"""A PostgreSQL server that crashes under load and comes back: new connections, and what was answered is there."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import closing
from typing import Any

from reconciler.clock import SystemClock
from reconciler.errors import LedgerError
from reconciler.ledger import GroupCommit, Verdict, open_ledger
from tests.crashes.verifying import verify
from tests.ledger.factories import receipt, ref, webhook

AT_ONCE = 8
PATIENCE_SECONDS = 120


def crash_under_load(url: str, server: Any, crashes: int) -> int:
    """One node delivers without a pause; how many deliveries it answered 2xx. Raises AssertionError."""
    acknowledged = asyncio.run(_story(url, server, crashes))
    with closing(open_ledger(url)) as ledger:
        verify(ledger, acknowledged)
    return len(acknowledged)


async def _story(url: str, server: Any, crashes: int) -> dict[str, str]:
    acknowledged: dict[str, str] = {}
    with closing(open_ledger(url)) as ledger:
        commit = GroupCommit(ledger, SystemClock())
        senders = [asyncio.create_task(_deliver(commit, number, acknowledged)) for number in range(AT_ONCE)]
        try:
            for _ in range(crashes):
                await _more(acknowledged)
                await asyncio.to_thread(_crash, server)
                await asyncio.to_thread(server.start)
            await _more(acknowledged)
        finally:
            for each in senders:
                each.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            await commit.close()
    return acknowledged


async def _deliver(commit: GroupCommit, sender: int, acknowledged: dict[str, str]) -> None:
    number = 0
    while True:
        event, name = f"evt_{sender}_{number}", f"ch_{number % 40}"
        try:
            if await commit.receive(receipt(event, webhook(ref(name)))) is Verdict.STORED:
                acknowledged[event] = name
        except LedgerError:
            await asyncio.sleep(0.05)  # the provider is told 503 and comes again, here with the next event
        number += 1


async def _more(acknowledged: dict[str, str]) -> None:
    """It works, again: a hundred more were answered."""
    before = len(acknowledged)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(acknowledged) < before + 100:  # noqa: ASYNC110  # what other tasks do
            await asyncio.sleep(0.01)


def _crash(server: Any) -> None:
    """SIGQUIT to the postmaster: an immediate shutdown, without a checkpoint, as after a crash."""
    postmaster = server.get_pid()
    os.kill(postmaster, signal.SIGQUIT)
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while _lives(postmaster):
        assert time.monotonic() < give_up_at, "the server did not end"
        time.sleep(0.02)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
