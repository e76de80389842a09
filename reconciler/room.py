"""Telling that a disk fills up while there is still room: once it is full, every delivery is refused.

Of SQLite only. The disk of a Postgres is its server's, and cannot be seen from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from reconciler.clock import Clock
from reconciler.ledger import GroupCommit, Job, Room
from reconciler.ledger.findings import NOBODYS
from reconciler.model import Finding, Severity
from reconciler.periodic import Ended, Periodic

DISK_LOW: Final = "disk-low"


@dataclass(frozen=True, slots=True)
class Least:
    """What must stay free. Both count, because of a large disk a small part is still much."""

    share: float = 0.05
    bytes: int = 10 * 2**30

    def of(self, room: Room) -> int:
        """In bytes: the smaller of the two."""
        return min(round(room.total_bytes * self.share), self.bytes)


USUAL: Final = Least()


def shortage(room: Room, least: Least) -> Iterator[Finding]:
    """Nothing while there is enough."""
    if room.free_bytes < least.of(room):
        yield Finding(
            DISK_LOW,
            Severity.WARNING,
            NOBODYS,
            f"the ledger's disk fills up: {room}; when it is full, every delivery is answered 503",
            f"make room in {room.folder}, enlarge the disk, or shorten [retention]; `reconciler_ledger_bytes` shows "
            "how fast the ledger grows",
        )


class RoomWatch:
    """The finding is of the moment: it goes with the next look that finds enough room."""

    def __init__(self, ledger: GroupCommit, clock: Clock, *, least: Least, every: timedelta) -> None:
        self._ledger = ledger
        self._clock = clock
        self._least = least
        self._every = every

    def periodic(self) -> Periodic:
        return Periodic("room", lambda: self._every, self.run)

    async def run(self, _job: Job) -> Ended:
        room = await self._ledger.read(lambda ledger: ledger.store.room())
        now = self._clock.now()
        found = [] if room is None else list(shortage(room, self._least))
        return Ended(
            complete=True,
            also=lambda ledger: ledger.note_findings(NOBODYS, found, codes=frozenset({DISK_LOW}), now=now),
        )
