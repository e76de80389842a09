"""Giving changes their positions soon after they commit, so that whoever reads the feed by SQL alone sees them too.

Positions are given here on Postgres only; on SQLite it is passed on to who waits that something was stored. Any number
of nodes may do it: whoever finds another one at it leaves it alone.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from reconciler.errors import LedgerError
from reconciler.ledger import GroupCommit
from reconciler.ledger.changes import PLACED_AT_ONCE
from reconciler.ledger.ledger import Ledger
from reconciler.outbox.bell import Bell

log = structlog.get_logger(__name__)

POLL: Final = timedelta(seconds=1)
"""What another node or a command applied is placed within this, if nobody else places it sooner."""


GATHER: Final = timedelta(milliseconds=30)
"""How long changes gather once one was heard of, so that a place is not given in a transaction for each."""

LEAST_INTERVAL: Final = timedelta(milliseconds=100)
"""Between two rings, and on Postgres two transactions that place, while one change follows the other."""


class Placer:
    """`placed` rings when there is something new to read."""

    def __init__(self, ledger: GroupCommit, applied: Bell, placed: Bell) -> None:
        self._ledger = ledger
        self._applied = applied
        self._placed = placed

    async def run(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        changed = False
        while True:
            next_at = loop.time() + LEAST_INTERVAL.total_seconds()
            bell = self._applied.listen()
            try:
                count = await place(self._ledger, heard=changed)
            except LedgerError as error:
                log.warning("changes could not be placed, trying again", error=str(error))
                count = 0
            if count:
                self._placed.ring()
            if count == PLACED_AT_ONCE:
                continue
            changed = await bell.wait(POLL.total_seconds())
            if changed:
                self._placed.ring()  # on SQLite they are placed as they are applied
                await asyncio.sleep(max(GATHER.total_seconds(), next_at - loop.time()))
                self._placed.ring()  # and more of them meanwhile, which nobody listened for


async def place(ledger: GroupCommit, *, heard: bool = False) -> int:
    """Place what has committed, if anything has; a ledger where nothing waits for its place is only read. `heard`: of a
    change, so that it is placed without asking first whether any waits."""
    if not ledger.places_later or not (heard or await ledger.read(_any_unplaced)):
        return 0
    return await ledger.call(_place)


def _any_unplaced(ledger: Ledger) -> bool:
    return ledger.changes.any_unplaced()


def _place(ledger: Ledger) -> int:
    return ledger.changes.place()
