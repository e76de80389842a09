"""Windows of list sweeps: what a failed run leaves behind, and what the next one makes of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from providers.sandbox import Chance, FaultPlan
from reconciler.status.coverage import Gap, reaches
from tests.loop.harness import MINUTE, Loop, looping


def holes(loop: Loop, kind: str) -> list[Gap]:
    """What `status` would name as gaps."""
    with loop.ledger.view() as view:
        reach = reaches(view.coverage(loop.now()))["main", kind]
    assert reach is not None, "no complete look at all"
    return list(reach.gaps)


def test_a_complete_list_that_failed_at_first_leaves_no_hole_at_its_far_end(url: str) -> None:
    """The horizon moves with the clock; a run that is tried again must still look at what the first one meant."""

    async def story() -> None:
        async with looping(url) as loop:
            loop.server.set_faults(FaultPlan(server_error=Chance(1.0)))
            await loop.run_job("complete/main/dispute")
            loop.server.set_faults(FaultPlan())
            loop.advance(timedelta(seconds=30))
            await loop.run_job("complete/main/dispute")
            loop.advance(2 * MINUTE)
            await loop.run_job("complete/main/dispute")
            assert holes(loop, "dispute") == []

    asyncio.run(story())
