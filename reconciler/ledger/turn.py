"""Taking turns at a SQLite file among processes: two advisory locks beside the database.

The system releases them when their holder dies. One is the turn itself, the other the place behind it: whoever wants
the turn first takes that place, and keeps it until the turn is his. A process that commits without pause frees the
turn for some microseconds between two commits, which whoever asks every millisecond would miss for seconds; so it
finds the place taken, and waits its turn.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import URL

from reconciler.errors import LedgerLocked, LedgerUnavailable

_POLL_SECONDS = 0.001
_NEXT_POLL_SECONDS = 0.00025
"""Of whoever is next: there is only one, and until he notices that the turn is free nobody has it."""
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
        self._next_path = path.with_name(f"{path.name}.next")
        self._monotonic = monotonic
        self._pause = pause
        self._descriptor: int | None = None
        self._next_descriptor: int | None = None
        self._depth = 0

    @classmethod
    def beside(cls, url: URL) -> FileTurn | None:
        """None for a database in memory, which no other process can reach.

        Beside the file itself, as SQLite's own journal is: by a symbolic link to it others take the same turn.
        """
        if not url.database or url.database == ":memory:":
            return None
        return cls(Path(f"{os.path.realpath(url.database)}.lock"))

    @property
    def is_held(self) -> bool:
        """By us."""
        return self._depth > 0

    @property
    def is_wanted(self) -> bool:
        """Whether another process waits for it, while it is ours."""
        assert self.is_held, "the turn is not ours"
        assert self._next_descriptor is not None, "who took the turn had the place before it"
        if not _taken_now(self._next_descriptor):
            return True
        fcntl.flock(self._next_descriptor, fcntl.LOCK_UN)
        return False

    @contextmanager
    def taken(self, patience_seconds: float) -> Iterator[None]:
        """Raises LedgerLocked when the turn does not come in time, LedgerUnavailable where there is no place for it."""
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
        if self._descriptor is None:
            self._descriptor = _opened(self._path)
        if self._next_descriptor is None:
            self._next_descriptor = _opened(self._next_path)
        waited = self._wait_for(self._next_descriptor, _POLL_SECONDS, patience_seconds)
        try:
            self._wait_for(self._descriptor, _NEXT_POLL_SECONDS, patience_seconds, waited)
        finally:
            fcntl.flock(self._next_descriptor, fcntl.LOCK_UN)

    def _wait_for(self, descriptor: int, every_seconds: float, patience_seconds: float, waited: float = 0.0) -> float:
        """How long was waited in all."""
        looked_at = self._monotonic()
        while not _taken_now(descriptor):
            if waited >= patience_seconds:
                raise LedgerLocked(
                    f"another process has held {self._path} for {patience_seconds:g} s; "
                    "see which with `fuser`, or wait for its transaction to end"
                )
            self._pause(every_seconds)
            now = self._monotonic()
            waited += min(now - looked_at, _LONGEST_POLL_SECONDS)
            looked_at = now
        return waited

    def close(self) -> None:
        for descriptor in (self._descriptor, self._next_descriptor):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._next_descriptor = None


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerUnavailable(
            f"{path} cannot be opened ({error.strerror}); the ledger's folder must exist and be writable"
        ) from error


def _taken_now(descriptor: int) -> bool:
    """Whether nobody else had it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
