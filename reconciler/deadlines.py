"""Deadlines and expectations: what should have happened by now is looked at, and named if it has not.

A deadline reads; it never guesses. Whether something is still unconfirmed is then a question to the ledger
(`reconciler.status`), not a state of its own that could go stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog

from reconciler.clock import Clock
from reconciler.ledger import GroupCommit, Job, Ledger, Mark
from reconciler.model import Cause, ResourceRef
from reconciler.periodic import Ended
from reconciler.provider import DeadlineRule, Kind

log = structlog.get_logger(__name__)


class Deadlines:
    """The deadlines of one account: configured rules, and what applications said to expect."""

    def __init__(
        self,
        account: str,
        kinds: Mapping[str, Kind],
        rules: Sequence[DeadlineRule],
        ledger: GroupCommit,
        clock: Clock,
    ) -> None:
        self._account = account
        self._kinds = kinds
        self._rules = rules
        self._ledger = ledger
        self._clock = clock

    async def run(self, _job: Job) -> Ended:
        """Mark what is past its deadline and has not been looked at since; each resource once for each rule."""
        now = self._clock.now()
        overdue = await self._ledger.read(lambda ledger: self._overdue(ledger, now))
        kinds = await self._ledger.read(lambda ledger: ledger.open_expectation_kinds(self._account))
        expected = await self._ledger.read(lambda ledger: ledger.due_expectations(self._account, now))
        if overdue or expected:
            log.info("deadlines passed", account=self._account, resources=len(overdue), expected=len(expected))

        def also(ledger: Ledger) -> None:
            ledger.mark([Mark(ref, Cause.DEADLINE) for ref in overdue], now)
            ledger.look_at_expected(expected, now)
            for kind in (self._kinds[name] for name in kinds if name in self._kinds):
                ledger.confirm_expectations(self._account, kind.name, sorted(kind.open_states), now)

        return Ended(complete=True, also=also)

    def _overdue(self, ledger: Ledger, now: datetime) -> list[ResourceRef]:
        found: dict[ResourceRef, None] = {}
        for rule in self._rules:
            if rule.kind not in self._kinds:
                continue
            late = ledger.overdue(self._account, rule.kind, sorted(rule.states), after=rule.after, now=now)
            found.update(dict.fromkeys(late))
        return list(found)
