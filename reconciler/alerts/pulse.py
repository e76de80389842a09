"""Whether the ledger takes what is written: the one condition that the ledger itself cannot hold, so each node does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from reconciler.alerts.conditions import Condition
from reconciler.alerts.messages import Manners, decide
from reconciler.alerts.ringing import Sender, send_all
from reconciler.clock import Clock
from reconciler.errors import LedgerError
from reconciler.ledger import GroupCommit, Ledger
from reconciler.ledger.alerts import Alert
from reconciler.model import Severity

CODE = "ledger-unavailable"

_PATIENCE_SECONDS = 10.0
"""An answer that takes longer is none: providers have given up on theirs by then."""

log = structlog.get_logger(__name__)


class Pulse:
    """Of one process. What it told of is remembered here, and forgotten with the process.

    It is told with the second look in a row that failed: a database that is restarted is none of the night's business.
    """

    def __init__(
        self,
        ledger: GroupCommit,
        clock: Clock,
        *,
        sender: Sender | None,
        manners: Manners,
        every: timedelta,
        node: str,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._sender = sender
        self._manners = manners
        self._every = every
        self._node = node
        self._known: tuple[Alert, ...] = ()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._every.total_seconds())

    async def look(self) -> None:
        fault = await self._fault()
        found = [] if fault is None else [self._condition(fault)]
        now = self._clock.now()
        if fault is not None:
            log.error("the ledger does not take writes", error=fault)
        elif any(alert.ended_at is None for alert in self._known):
            log.info("the ledger takes writes again")
        decision = decide(self._known, found, now, self._manners)
        sent, _ = await send_all(self._sender, decision.messages)
        self._known = tuple(decision.after(sent, now))

    @property
    def known(self) -> Sequence[Alert]:
        """What it has open, or has still to take back."""
        return self._known

    async def _fault(self) -> str | None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._ledger.call(Ledger.tick)
        except LedgerError as error:
            return str(error)
        except TimeoutError:
            return f"no answer within {_PATIENCE_SECONDS:g} s"
        return None

    def _condition(self, fault: str) -> Condition:
        return Condition(
            CODE,
            self._node,
            Severity.ERROR,
            f"{self._node}: the ledger does not take writes: {fault}. Deliveries are answered 503 and come again",
            "see that its database runs, can be reached and has room on its disk; nothing has to be restarted",
            self._every / 2,
        )
