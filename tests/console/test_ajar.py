"""A daemon that nobody looks at does without the console; the first request opens it, once."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import httpx

from reconciler.clock import SystemClock
from reconciler.config import Config
from reconciler.console import Ajar
from reconciler.desk import Desk
from reconciler.ledger import GroupCommit, Ledger


def test_application_loads_no_page_before_somebody_asks_for_one() -> None:
    pages = "[name for name in sys.modules if name.startswith('reconciler.console.pages')]"
    code = f"import sys, reconciler.app; print({pages})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180)
    assert ran.stdout.strip() == "[]"


def test_first_requests_open_one_console_and_a_ledger_that_is_away_is_asked_again(ledger: Ledger) -> None:
    async def story() -> None:
        clock = SystemClock()
        writer = GroupCommit(ledger, clock)
        desk = Desk(Config(), {}, ledger, clock)
        closed = GroupCommit(ledger, clock)
        await closed.close()
        for commit, status in ((closed, 503), (writer, 200)):
            console = Ajar(desk, commit, backfill=None)
            transport = httpx.ASGITransport(app=console)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                answers = await asyncio.gather(*[client.get("/console/login") for _ in range(5)])
            assert [answer.status_code for answer in answers] == [status] * 5
            await console.close()
        await writer.close()

    asyncio.run(story())
