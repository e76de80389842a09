"""On Postgres pages of lists are stored beside each other, and beside everything else that is called."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from reconciler.clock import ManualClock
from reconciler.ledger import GroupCommit, Ledger
from reconciler.ledger.store import Store
from reconciler.ledger.writer import PAGES_AT_ONCE

PATIENCE_SECONDS = 120


@pytest.fixture
def ledger(postgres_ledger_url: str) -> Iterator[Ledger]:
    with closing(Ledger(Store(postgres_ledger_url))) as ledger:
        yield ledger


async def together(
    ledger: Ledger, clock: ManualClock, act: Any, *, calls: int, then: Callable[[], object] = lambda: None
) -> list[Any]:
    """So many pages at once, and one call that has nothing to do with them; `then` when that has ended."""
    writer = GroupCommit(ledger, clock)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            pages = [asyncio.create_task(writer.call_for_page(act)) for _ in range(calls)]
            await writer.call(Ledger.tick)
            await asyncio.to_thread(then)
            return await asyncio.gather(*pages)
    finally:
        await writer.close()


def test_pages_do_not_wait_for_each_other_nor_a_call_for_them(ledger: Ledger, clock: ManualClock) -> None:
    """None ends before all of them are in their transactions, and before the call has ended."""
    meet = threading.Barrier(PAGES_AT_ONCE + 1, timeout=PATIENCE_SECONDS)

    def page(ledger: Ledger) -> int:
        with ledger.together():
            meet.wait()
            return ledger.tick()

    ticks = asyncio.run(together(ledger, clock, page, calls=PAGES_AT_ONCE, then=meet.wait))
    assert len(set(ticks)) == PAGES_AT_ONCE


def test_pages_that_move_one_job_at_once_lose_no_place(ledger: Ledger, clock: ManualClock) -> None:
    now = clock.now()
    job = ledger.take_job("backfill", owner="n:1:0", lease=timedelta(minutes=1), now=now)
    assert job is not None

    def counted(progress: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"pages": progress.get("pages", 0) + 1}

    def page(ledger: Ledger) -> None:
        ledger.move_job(job, counted, now=now)

    asyncio.run(together(ledger, clock, page, calls=40))
    assert ledger.job_progress("backfill") == {"pages": 40}
