"""Telling other processes that something was marked: Postgres only, at most once every 100 ms, never relied upon.

NOTIFY serialises commits under a lock of the whole server (measured -42 to -75 % of the commit rate at 16
connections, CORE.md section 2), so it is never part of a writing transaction: it follows the commit, on a connection
of its own. Whoever misses it finds the work with the next poll.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

import structlog

from reconciler.ledger.store import Store

log = structlog.get_logger(__name__)

CHANNEL = "reconciler_marks"
LEAST_INTERVAL_SECONDS = 0.1
_RECONNECT_SECONDS = 2.0


class MarkSignal:
    """Both ends of the hint. On SQLite neither does anything: there the processes' polls have to do."""

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        self._address = (
            store.url.set(drivername="postgresql").render_as_string(hide_password=False)
            if store.dialect.is_postgres
            else None
        )
        self._wake = wake
        self._stop = threading.Event()
        self._listener: threading.Thread | None = None
        self._sending: asyncio.Task[None] | None = None
        self._again = False

    def start(self) -> None:
        """Listen from now on; `wake` is called on the running loop."""
        if self._address is None:
            return
        loop = asyncio.get_running_loop()
        self._listener = threading.Thread(target=self._listen, args=(loop,), name="mark-signal", daemon=True)
        self._listener.start()

    def send(self) -> None:
        """Marks were committed. Calls within the least interval become one notification at its end."""
        if self._address is None:
            return
        if self._sending is not None and not self._sending.done():
            self._again = True
            return
        self._sending = asyncio.create_task(self._send())

    async def stop(self) -> None:
        self._stop.set()
        if self._sending is not None:
            self._sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sending
        if self._listener is not None:
            await asyncio.to_thread(self._listener.join, 5.0)

    async def _send(self) -> None:
        while True:
            self._again = False
            await asyncio.to_thread(self._notify)
            await asyncio.sleep(LEAST_INTERVAL_SECONDS)
            if not self._again:
                return

    def _notify(self) -> None:
        import psycopg  # only where there is a Postgres: 9 MB

        assert self._address is not None
        try:
            with psycopg.connect(self._address, autocommit=True, connect_timeout=2) as connection:
                connection.execute(f"NOTIFY {CHANNEL}")
        except psycopg.Error as error:
            log.debug("marks could not be announced; other nodes find them by polling", error=str(error))

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        import psycopg  # only where there is a Postgres: 9 MB

        assert self._address is not None
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._address, autocommit=True, connect_timeout=2) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    while not self._stop.is_set():
                        for _ in connection.notifies(timeout=0.5, stop_after=1):
                            loop.call_soon_threadsafe(self._wake)
            except psycopg.Error as error:
                log.debug("listening for marks interrupted", error=str(error))
                self._stop.wait(_RECONNECT_SECONDS)
