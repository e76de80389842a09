"""Deadlines and expectations: what should have happened by now is looked at, and named if it has not.

A deadline reads; it never guesses. Whether something is still unconfirmed is then a question to the ledger
(`reconciler.status`), not a state of its own that could go stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from reconciler.clock import Clock
from reconciler.ledger import GroupCommit, Job, Ledger, Mark, candidates, expectations
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, ResourceRef
from reconciler.periodic import Ended
from reconciler.provider import DeadlineRule, Kind

log = structlog.get_logger(__name__)

RECORDED_EVERY = timedelta(minutes=1)
"""How often a run is recorded that had nothing to do, so that it can be seen that somebody looks."""

_MOST = 1000
"""Of a rule, and of what is expected, in one run."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is to do for deadlines."""

    overdue: Sequence[ResourceRef]
    expected: Sequence[ResourceRef]
    kinds: Sequence[str]
    """Of which something is still expected."""

    def __bool__(self) -> bool:
        return bool(self.overdue or self.expected or self.kinds)


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
        self._recorded_at: datetime | None = None

    async def idle(self) -> bool:
        """Whether a run would find nothing to do, and one has been recorded lately."""
        now = self._clock.now()
        at = self._recorded_at
        # After a clock that was set back nothing was recorded lately.
        if at is None or not timedelta(0) <= now - at < RECORDED_EVERY:
            return False
        return not await self._ledger.read(lambda ledger: ledger.looked(lambda tx: self._find(tx, now)))

    async def run(self, _job: Job) -> Ended:
        """Mark what is past its deadline and has not been looked at since; each resource once for each rule."""
        now = self._clock.now()
        found = await self._ledger.read(lambda ledger: ledger.looked(lambda tx: self._find(tx, now)))
        if found.overdue or found.expected:
            log.info(
                "deadlines passed", account=self._account, resources=len(found.overdue), expected=len(found.expected)
            )

        def also(ledger: Ledger) -> None:
            ledger.mark([Mark(ref, Cause.DEADLINE) for ref in found.overdue], now)
            ledger.look_at_expected(found.expected, now)
            for kind in (self._kinds[name] for name in found.kinds if name in self._kinds):
                ledger.confirm_expectations(self._account, kind.name, sorted(kind.open_states), now)

        self._recorded_at = now
        return Ended(complete=True, also=also)

    def _find(self, tx: Transaction, now: datetime) -> _Found:
        found: dict[ResourceRef, None] = {}
        for rule in self._rules:
            if rule.kind in self._kinds:
                late = candidates.overdue(
                    tx, self._account, rule.kind, sorted(rule.states), after=rule.after, now=now, limit=_MOST
                )
                found.update(dict.fromkeys(late))
        return _Found(
            list(found),
            expectations.due_expectations(tx, self._account, now, limit=_MOST),
            expectations.open_kinds(tx, self._account),
        )
