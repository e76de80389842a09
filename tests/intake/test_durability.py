"""An answer of 2xx is a promise: what was acknowledged is there, whatever is killed, locked or stopped meanwhile."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from reconciler.ledger import open_ledger
from tests.benchmarks.events import Deliveries
from tests.databases import TestRun, as_shipped, own_server, start
from tests.intake.acme import event
from tests.intake.serving import PATIENCE_SECONDS, Reply, Served, connection, read_reply, serving

ROOT = Path(__file__).parents[2]
KILLS = 4
SENDERS = 8


# --- killed ---------------------------------------------------------------------------------------


@pytest.mark.long
def test_what_was_acknowledged_survives_a_kill_at_any_moment(ledger_url: str) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    dice = random.Random(seed)
    acknowledged: set[str] = set()
    for round_number in range(KILLS):
        # Every other one surely answers before it dies, however slow the machine is.
        run, answers = f"k{round_number}", round_number % 2
        acknowledged |= asyncio.run(_killed_under_load(ledger_url, run, dice.uniform(0.02, 0.5), answers=answers))
        with closing(open_ledger(ledger_url)) as ledger, ledger.store.read() as tx:
            stored = {row[0] for row in tx.run(text("SELECT event_id FROM delivery"))}
            assert acknowledged <= stored
            # The mark and the row are one commit: every stored delivery has added exactly 1 to a generation,
            # and the log names the resource it marked.
            deliveries = tx.run(text("SELECT COUNT(*) FROM delivery")).scalar_one()
            assert tx.run(text("SELECT COALESCE(SUM(generation), 0) FROM resource")).scalar_one() == deliveries
            assert tx.run(text("SELECT COUNT(DISTINCT delivery_id) FROM delivery_link")).scalar_one() == deliveries
            assert tx.run(text("SELECT COALESCE(SUM(count), 0) FROM delivery_tally")).scalar_one() == deliveries
    assert acknowledged, "the load was never answered: this test proved nothing"


async def _killed_under_load(url: str, run: str, after_seconds: float, *, answers: int) -> set[str]:
    """The event ids that were answered 200 before the receiver died, so long after so many of them."""
    receiver = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.receiver", url, str(PATIENCE_SECONDS),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    try:
        assert receiver.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            port = int(await receiver.stdout.readline())
        answered: set[str] = set()
        senders = [asyncio.create_task(_send(port, f"{run}s{number}", answered)) for number in range(SENDERS)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(answered) < answers:  # noqa: ASYNC110 - the senders ring no bell
                await asyncio.sleep(0.001)
        await asyncio.wait(senders, timeout=after_seconds)
        receiver.send_signal(signal.SIGKILL)
        await asyncio.gather(*senders)
        return answered
    finally:
        if receiver.returncode is None:
            receiver.kill()
        await receiver.wait()


async def _send(port: int, run: str, answered: set[str]) -> None:
    deliveries = Deliveries(run)
    try:
        async with connection(port) as (reader, writer):
            for number in range(100_000):
                writer.write(deliveries.request())
                assert (await read_reply(reader)).status == 200
                answered.add(f"evt_1{run}{number:012d}")
    except (OSError, asyncio.IncompleteReadError):
        return


# --- locked ---------------------------------------------------------------------------------------

_HOLD_SQLITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""
_HOLD_POSTGRES = """
import psycopg, sys
with psycopg.connect(sys.argv[1]) as connection:
    connection.execute("LOCK TABLE delivery IN ACCESS EXCLUSIVE MODE")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.long
def test_a_locked_ledger_is_503_and_recovers_by_itself(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served:
            assert (await served.post(event(1))).status == 200
            async with _held(ledger_url):
                reply = await served.post(event(2))
                assert (reply.status, reply.headers["retry-after"]) == (503, "5")
                assert (await served.post(event(3), secret="forged")).status == 401
                assert (await served.get("/healthz")).status == 200
                assert (await served.get("/readyz")).status == 503
            assert (await served.post(event(2))).status == 200
            stored = await served.rows("SELECT event_id FROM delivery WHERE verdict = 'stored' ORDER BY id")
            assert stored == [("evt_1",), ("evt_2",)]
            # What was turned away meanwhile was not forgotten.
            reasons = await served.rows("SELECT reason FROM delivery WHERE verdict = 'rejected' ORDER BY reason")
            assert reasons == [("unavailable",), ("wrong",)]

    with as_shipped():
        asyncio.run(story())


@asynccontextmanager
async def _held(url: str) -> AsyncIterator[None]:
    """Another process that holds the ledger in the middle of a transaction."""
    parsed = make_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    target = str(parsed.database) if is_sqlite else parsed.set(drivername="postgresql").render_as_string(False)
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLD_SQLITE if is_sqlite else _HOLD_POSTGRES, target,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert await holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.stdin.close()
        await holder.wait()


# --- stopped --------------------------------------------------------------------------------------


@pytest.mark.long
def test_postgres_may_stop_and_come_back(test_run: TestRun) -> None:
    async def story(own_postgres: Any) -> None:
        url = own_postgres.get_uri()
        with closing(open_ledger(url)) as ledger:
            ledger.require_current_schema()
        async with serving(url) as served:
            assert (await served.post(event(1))).status == 200
            await asyncio.to_thread(own_postgres.stop)
            assert (await served.post(event(2))).status == 503
            assert (await served.get("/readyz")).status == 503
            await asyncio.to_thread(start, own_postgres)
            assert (await _until_stored(served)).status == 200
            assert (await served.rows("SELECT event_id FROM delivery WHERE verdict = 'stored' ORDER BY id"))[0] == (
                "evt_1",
            )

    with own_server(test_run) as own_postgres:
        asyncio.run(story(own_postgres))


async def _until_stored(served: Served) -> Reply:
    """As a provider does: again until it is taken. One broken connection may still lie in the pool."""
    reply = await served.post(event(2))
    for _ in range(10):
        if reply.status == 200:
            break
        reply = await served.post(event(2))
    return reply


# --- the order ------------------------------------------------------------------------------------


def test_the_answer_follows_the_commit(sqlite_ledger_url: str) -> None:
    """At the instant of every 2xx, another process already reads the delivery and its mark."""

    async def story() -> None:
        path = str(make_url(sqlite_ledger_url).database)
        async with serving(sqlite_ledger_url) as served, connection(served.port) as (reader, writer):
            with closing(sqlite3.connect(path)) as other:
                for number in range(30):
                    writer.write(served.request(event(number)))
                    assert (await read_reply(reader)).status == 200
                    assert other.execute("SELECT COUNT(*) FROM delivery").fetchone() == (number + 1,)
                    assert other.execute("SELECT generation FROM resource").fetchone() == (number + 1,)

    asyncio.run(story())
