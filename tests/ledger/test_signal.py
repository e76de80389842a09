"""Marks made known to other processes on Postgres: to the others, not to oneself, and again after an interruption."""

from __future__ import annotations

import asyncio
from contextlib import closing
from functools import partial

import psycopg
from sqlalchemy.engine import make_url

from reconciler.ledger import open_ledger
from reconciler.ledger.signal import CHANNEL, MarkSignal

PATIENCE_SECONDS = 180.0


def server(url: str) -> psycopg.Connection:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


async def until_listening(url: str, count: int) -> None:
    """Until so many connections of this database wait for notifications."""
    with server(url) as connection:
        while True:
            (found,) = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = %s",
                [f"LISTEN {CHANNEL}"],
            ).fetchone() or (0,)
            if found == count:
                return
            await asyncio.sleep(0.01)


def test_the_other_process_is_woken_and_the_speaker_is_not(postgres_ledger_url: str) -> None:
    async def story() -> None:
        with closing(open_ledger(postgres_ledger_url)) as ledger:
            heard: asyncio.Queue[None] = asyncio.Queue()
            own: asyncio.Queue[None] = asyncio.Queue()
            speaker = MarkSignal(ledger.store, partial(own.put_nowait, None))
            other = MarkSignal(ledger.store, partial(heard.put_nowait, None))
            try:
                speaker.start()
                other.start()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await until_listening(postgres_ledger_url, 2)
                    for _ in range(3):
                        speaker.send()
                        await heard.get()
                    other.send()  # what the speaker would have heard of itself comes before this
                    await own.get()
                assert own.empty()
            finally:
                await speaker.stop()
                await other.stop()

    asyncio.run(story())


def test_one_connection_serves_many_signals_and_a_lost_one_is_replaced(postgres_ledger_url: str) -> None:
    async def story() -> None:
        with closing(open_ledger(postgres_ledger_url)) as ledger, server(postgres_ledger_url) as watching:
            woken = asyncio.Event()
            speaker, other = MarkSignal(ledger.store, lambda: None), MarkSignal(ledger.store, woken.set)
            watching.execute(f"LISTEN {CHANNEL}")
            pids: list[int] = []
            try:
                other.start()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await until_listening(postgres_ledger_url, 2)
                    for _ in range(2):
                        speaker.send()
                        await woken.wait()
                        woken.clear()
                        pids += [each.pid for each in watching.notifies(timeout=PATIENCE_SECONDS, stop_after=1)]
                    watching.execute("SELECT pg_terminate_backend(%s)", [pids[0]])
                    while not woken.is_set():  # the one that found its connection lost is lost too: nobody relies on it
                        speaker.send()
                        await asyncio.sleep(0.01)
                assert pids[0] == pids[1]
            finally:
                await speaker.stop()
                await other.stop()

    asyncio.run(story())


def test_where_nobody_listens_nothing_is_announced(sqlite_ledger_url: str) -> None:
    """SQLite has one process that works, and it needs no signal."""

    async def story() -> None:
        with closing(open_ledger(sqlite_ledger_url)) as ledger:
            signal = MarkSignal(ledger.store, lambda: None)
            signal.start()
            signal.send()
            assert len(asyncio.all_tasks()) == 1
            await signal.stop()

    asyncio.run(story())


def test_marks_in_quick_succession_become_two_notifications(postgres_ledger_url: str) -> None:
    """One at once, and one for all that came within the least interval after it."""

    async def story() -> None:
        with closing(open_ledger(postgres_ledger_url)) as ledger, server(postgres_ledger_url) as watching:
            watching.execute(f"LISTEN {CHANNEL}")
            speaker = MarkSignal(ledger.store, lambda: None)
            speaker.send()
            await asyncio.sleep(0)  # it is on its way
            for _ in range(5):
                speaker.send()
            heard = await asyncio.to_thread(lambda: list(watching.notifies(timeout=PATIENCE_SECONDS, stop_after=2)))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110  # it tells nobody that it has nothing more to say
                    await asyncio.sleep(0.01)
            await speaker.stop()
            assert len(heard) == 2

    asyncio.run(story())


def test_whoever_listens_connects_again_after_the_connection_was_lost(postgres_ledger_url: str) -> None:
    async def story() -> None:
        with closing(open_ledger(postgres_ledger_url)) as ledger, server(postgres_ledger_url) as breaking:
            woken = asyncio.Event()
            speaker, other = MarkSignal(ledger.store, lambda: None), MarkSignal(ledger.store, woken.set)
            try:
                other.start()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await until_listening(postgres_ledger_url, 1)
                    breaking.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND query = %s",
                        [f"LISTEN {CHANNEL}"],
                    )
                    await until_listening(postgres_ledger_url, 0)
                    await until_listening(postgres_ledger_url, 1)
                    speaker.send()
                    await woken.wait()
            finally:
                await speaker.stop()
                await other.stop()

    asyncio.run(story())
