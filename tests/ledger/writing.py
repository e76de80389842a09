"""A writer for the length of a story."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from typing import Any

from reconciler.clock import ManualClock
from reconciler.ledger import GroupCommit, Ledger
from reconciler.ledger.writer import QUEUE_BOUND


def run(story: Coroutine[Any, Any, None]) -> None:
    """A story must end: a call that nobody answers is a failure, not a hang."""
    asyncio.run(asyncio.wait_for(story, 180))


@asynccontextmanager
async def opened(ledger: Ledger, clock: ManualClock, *, bound: int = QUEUE_BOUND) -> Any:
    writer = GroupCommit(ledger, clock, bound=bound)
    try:
        yield writer
    finally:
        await writer.close()
