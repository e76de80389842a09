"""Telling other processes that something was marked: Postgres only, at most once every 100 ms, never relied upon.

NOTIFY serialises commits under a lock of the whole server (measured -42 to -75 % of the commit rate at 16
connections), so it is never part of a writing transaction: it follows the commit, on a connection
of its own, which stays open. Whoever misses it finds the work with the next poll.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from reconciler.ledger.store import NOTICE_A_DEAD_NETWORK, Store

if TYPE_CHECKING:
    import psycopg

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
        self._lock = threading.Lock()
        self._speaking: psycopg.Connection | None = None
        """Used under the lock: a notification may still be on its way while the process stops."""

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
        await asyncio.to_thread(self._hang_up)

    async def _send(self) -> None:
        while True:
            self._again = False
            await asyncio.to_thread(self._notify)
            await asyncio.sleep(LEAST_INTERVAL_SECONDS)
            if not self._again:
                return

    # --- on threads ---

    def _connect(self) -> psycopg.Connection:
        import psycopg  # only where there is a Postgres: 9 MB
        from psycopg.conninfo import make_conninfo

        assert self._address is not None
        address = make_conninfo(self._address, connect_timeout=2, **NOTICE_A_DEAD_NETWORK)
        return psycopg.connect(address, autocommit=True)

    def _notify(self) -> None:
        from psycopg import Error

        with self._lock:
            try:
                if self._speaking is None:
                    self._speaking = self._connect()
                self._speaking.execute(f"NOTIFY {CHANNEL}")
            except Error as error:
                self._forget_speaker()
                log.debug("marks could not be announced; other nodes find them by polling", error=str(error))

    def _hang_up(self) -> None:
        with self._lock:
            self._forget_speaker()

    def _forget_speaker(self) -> None:
        if self._speaking is not None:
            self._speaking.close()
            self._speaking = None

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        from psycopg import Error

        while not self._stop.is_set():
            try:
                with self._connect() as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    while not self._stop.is_set():
                        for heard in connection.notifies(timeout=0.5, stop_after=1):
                            if not self._is_ours(heard.pid):
                                loop.call_soon_threadsafe(self._wake)
            except Error as error:
                log.debug("listening for marks interrupted", error=str(error))
                self._stop.wait(_RECONNECT_SECONDS)

    def _is_ours(self, speaker: int) -> bool:
        """What this process said itself: it has already woken whom it concerns."""
        speaking = self._speaking
        return speaking is not None and not speaking.closed and speaking.info.backend_pid == speaker
