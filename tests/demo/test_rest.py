"""When the demo may compare: a sweep that began and ended is no proof, if it answered an older question."""

from __future__ import annotations

import asyncio

from providers.sandbox import Chance, FaultPlan
from reconciler.demo.looking import Rest
from reconciler.sweeps import SweepSettings
from tests.loop.harness import MINUTE, SECOND, looping

QUICK = SweepSettings(every=MINUTE, lag=SECOND, overlap=5 * SECOND, full_every=2 * MINUTE)
SESSIONS = "checkout.session"


def test_sweeps_that_go_on_with_an_interrupted_run_are_no_rest_yet(sqlite_ledger_url: str) -> None:
    """A checkout session is announced only when it ends: until then nothing but a list names it."""

    async def story() -> None:
        jobs = (f"recent/main/{SESSIONS}", f"complete/main/{SESSIONS}")
        async with looping(sqlite_ledger_url, sweeps=QUICK) as loop:
            loop.server.set_faults(FaultPlan(server_error=Chance(1.0)))
            asked = loop.now()
            for job in jobs:
                await loop.run_job(job)
            loop.server.set_faults(FaultPlan())
            loop.world.checkout.open(2_500)
            loop.advance(SECOND)
            rest = Rest(loop.now(), lag=QUICK.lag, overlap=QUICK.overlap)
            loop.advance(MINUTE)
            dues = [await loop.run_job(job) for job in jobs]
            assert loop.unlike_truth([SESSIONS]) != [], "both went on with the question of before"
            assert "sweeps have yet to run once more" in rest.unrest(loop.ledger)
            assert dues == [asked + QUICK.every, asked + QUICK.full_every], "the next question is not put off by it"
            for job in jobs:
                await loop.run_job(job)
            assert rest.unrest(loop.ledger) == ""
            assert loop.unlike_truth([SESSIONS]) == []

    asyncio.run(story())
