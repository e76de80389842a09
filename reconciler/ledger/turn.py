"""Taking turns at a SQLite file among processes: an advisory lock beside the database.

The system releases it when its holder dies. Whoever waits asks again every millisecond, and not ever more seldom:
beside processes that commit without pause the lock is free for a moment between two commits only, and whoever asks
every 20 ms may miss it for seconds.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import URL

from reconciler.errors import LedgerUnavailable

_POLL_SECONDS = 0.001
_LONGEST_POLL_SECONDS = 0.25
"""Of which a waiting counts no more: whoever slept meanwhile, a laptop or a machine that was moved, has not waited, and
the holder has slept as well."""


class FileTurn:
    """One process's place in the queue for a file. Used by one thread at a time, and by that one also nested."""

    def __init__(
        self,
        path: Path,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._monotonic = monotonic
        self._pause = pause
        self._descriptor: int | None = None
        self._depth = 0

    @classmethod
    def beside(cls, url: URL) -> FileTurn | None:
        """None for a database in memory, which no other process can reach."""
        if not url.database or url.database == ":memory:":
            return None
        return cls(Path(f"{url.database}.lock"))

    @contextmanager
    def taken(self, patience_seconds: float) -> Iterator[None]:
        """Raises LedgerUnavailable when the turn does not come in time."""
        if self._depth == 0:
            self._take(patience_seconds)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0 and self._descriptor is not None:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _take(self, patience_seconds: float) -> None:
        descriptor = self._opened()
        waited, looked_at = 0.0, self._monotonic()
        while not _taken_now(descriptor):
            if waited >= patience_seconds:
                raise LedgerUnavailable(
                    f"another process has held {self._path} for {patience_seconds:g} s; "
                    "see which with `fuser`, or wait for its transaction to end"
                )
            self._pause(_POLL_SECONDS)
            now = self._monotonic()
            waited += min(now - looked_at, _LONGEST_POLL_SECONDS)
            looked_at = now

    def _opened(self) -> int:
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise LedgerUnavailable(
                    f"{self._path} cannot be opened ({error.strerror}); the ledger's folder must exist and be writable"
                ) from error
        return self._descriptor

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _taken_now(descriptor: int) -> bool:
    """Whether nobody else had it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
