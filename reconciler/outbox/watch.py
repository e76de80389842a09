"""Watching over subscriptions: who fails is named, who fails for days gets nothing more, the old is forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

import structlog

from reconciler.clock import Clock
from reconciler.ledger import GroupCommit, Job, Ledger
from reconciler.ledger.findings import NOBODYS
from reconciler.ledger.subscriptions import Standing, Subscriber
from reconciler.ledger.telling import Backlog
from reconciler.model import Finding, Severity
from reconciler.outbox.metrics import OutboxMetrics
from reconciler.periodic import Ended, Periodic

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(minutes=1)
FAILING_FOR: Final = timedelta(hours=1)
"""From when on a subscriber that only fails is a finding; shorter troubles are what retries are for."""

FAILING: Final = "subscription-failing"
"""Also of one that was disabled, as an error: were it a code of its own, the alert of the failing would be taken back
with the word that it recovered, just when it is given up on."""
DEAD: Final = "subscription-dead-letters"
CODES: Final = frozenset({FAILING, DEAD})


def findings_of(subscribers: list[Subscriber], backlogs: Mapping[str, Backlog], now: datetime) -> Iterator[Finding]:
    """Pure. One that is not found any more is cleared, which says that the subscriber recovered."""
    for each in subscribers:
        backlog = backlogs.get(each.name, Backlog(0, None, 0))
        resume = f"`reconcile subscriptions resume {each.name}` when it is well; nothing is lost meanwhile"
        if each.standing is Standing.DISABLED:
            text = f"subscription {each.name} gets nothing: {each.note}; {backlog.pending:,} changes wait"
            yield Finding(FAILING, Severity.ERROR, NOBODYS, text, resume, each.name)
        elif each.failing_since is not None and now - each.failing_since >= FAILING_FOR:
            text = f"subscription {each.name} has only failed since {each.failing_since:%Y-%m-%d %H:%M} UTC"
            remedy = f"`reconcile subscriptions log {each.name}` shows what it answers"
            yield Finding(FAILING, Severity.WARNING, NOBODYS, text, remedy, each.name)
        if backlog.dead:
            text = f"subscription {each.name}: {backlog.dead:,} changes were given up on"
            remedy = f"`reconcile subscriptions dead {each.name}`, then `reconcile subscriptions retry {each.name}`"
            yield Finding(DEAD, Severity.WARNING, NOBODYS, text, remedy, each.name)


class Watch:
    def __init__(
        self,
        ledger: GroupCommit,
        clock: Clock,
        metrics: OutboxMetrics,
        *,
        disable_after: timedelta,
        keep: timedelta,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._disable_after = disable_after
        self._keep = keep

    def periodic(self) -> Periodic:
        return Periodic("outbox/watch", lambda: EVERY, self.run)

    async def run(self, _job: Job) -> Ended:
        now = self._clock.now()
        for name, since in await self._ledger.call(lambda ledger: self._disable(ledger, now)):
            log.error("a subscription was disabled", subscription=name, failing_since=str(since))
        pending, dead = await self._ledger.call(lambda ledger: self._note(ledger, now))
        self._metrics.backlog(pending, dead)
        await self._ledger.call(lambda ledger: ledger.telling.prune(before=now - self._keep, now=now))
        return Ended(complete=True)

    def _disable(self, ledger: Ledger, now: datetime) -> list[tuple[str, datetime]]:
        disabled = []
        for each in ledger.telling.subscribers():
            since = each.failing_since
            if each.standing is not Standing.ACTIVE or since is None or now - since < self._disable_after:
                continue
            note = f"it has only failed since {since:%Y-%m-%d %H:%M} UTC"
            if ledger.telling.stand(each.name, Standing.DISABLED, note, now):
                disabled.append((each.name, since))
        return disabled

    def _note(self, ledger: Ledger, now: datetime) -> tuple[int, int]:
        backlogs = ledger.telling.backlogs()
        found = list(findings_of(ledger.telling.subscribers(), backlogs, now))
        ledger.note_findings(NOBODYS, found, codes=CODES, now=now)
        return sum(each.pending for each in backlogs.values()), sum(each.dead for each in backlogs.values())
