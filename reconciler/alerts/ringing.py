"""The alarm: one periodic job that looks at the ledger, tells what has to be told, and says that it is alive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from reconciler.alerts.conditions import Condition, Rules, conditions
from reconciler.alerts.messages import Manners, Message, decide
from reconciler.clock import Clock
from reconciler.errors import ProviderError
from reconciler.ledger import GroupCommit, Job, Ledger
from reconciler.ledger.alerts import Alert
from reconciler.ledger.anomalies import Anomalies
from reconciler.periodic import Ended, Periodic
from reconciler.provider import Request, Transport
from reconciler.status import Followed, observe, status_of

log = structlog.get_logger(__name__)


class Sender(Protocol):
    """Gets a message to people."""

    async def send(self, message: Message) -> str | None:
        """Whom it did not reach, in words; None when everybody has it. Raises AlertNotSent when nobody has."""


class AlertNotSent(Exception):
    """A message did not go out; it is tried again with the next look."""


async def send_all(sender: Sender | None, messages: Sequence[Message]) -> tuple[list[Message], str | None]:
    """Those that went out, and what failed. With nobody to tell, nobody was told."""
    sent: list[Message] = []
    failure = None
    if sender is None:
        return sent, failure
    for message in messages:
        try:
            missed = await sender.send(message)
        except AlertNotSent as error:
            missed = str(error)
        else:
            sent.append(message)
        if missed is not None:
            log.error("an alert could not be sent", title=message.title, error=missed)
            failure = f"an alert could not be sent: {missed}"
    return sent, failure


class Alarm:
    """Evaluates the rules every `every`, on whichever node holds the job's lease.

    Without senders the conditions are kept all the same: `reconcile status` and the console show them.
    """

    def __init__(
        self,
        followed: Sequence[Followed],
        ledger: GroupCommit,
        clock: Clock,
        *,
        sender: Sender | None,
        rules: Rules,
        manners: Manners,
        every: timedelta,
        heartbeat: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._followed = tuple(followed)
        self._ledger = ledger
        self._clock = clock
        self._sender = sender
        self._rules = rules
        self._manners = manners
        self._every = every
        self._heartbeat = heartbeat
        self._transport = transport

    def periodic(self) -> Periodic:
        return Periodic("alerts", lambda: self._every, self.run, group="alerts")

    async def run(self, job: Job) -> Ended:
        """One look. What could not be sent stays untold, and is tried again with the next look."""
        now = self._clock.now()
        found, known = await self._ledger.read(self._look)
        decision = decide(known, found, now, self._manners)
        sent, failure = await send_all(self._sender, decision.messages)
        kept = decision.after(sent, now)
        error = await self._beat() or failure
        return Ended(complete=True, error=error, also=lambda ledger: ledger.keep_alerts(kept))

    def _look(self, ledger: Ledger) -> tuple[tuple[Condition, ...], list[Alert]]:
        with ledger.view() as view:
            now = self._clock.now()
            status = status_of(observe(view, self._followed, now))
            seen: Anomalies = view.anomalies(now)
            return conditions(status, seen, self._rules), view.alerts()

    async def _beat(self) -> str | None:
        """A dead man's switch: whoever waits for this request notices when it stops."""
        if self._heartbeat is None or self._transport is None:
            return None
        try:
            reply = await self._transport.send(Request("GET", self._heartbeat, {}))
        except ProviderError as error:
            reason = str(error).replace(self._heartbeat, "alerts.heartbeat")  # its address is what keeps it secret
            log.warning("the heartbeat did not arrive", error=reason)
            return f"the heartbeat did not arrive: {reason}"
        if reply.status >= 400:
            log.warning("the heartbeat was refused", status=reply.status)
            return f"the heartbeat was answered {reply.status}"
        return None
