"""Deadlines and expectations: what should have happened by now is looked at, and named if it has not.

A deadline reads; it never guesses. Whether something is still unconfirmed is then a question to the ledger
(`reconciler.status`), not a state of its own that could go stale.
"""

from __future__ import annotations

import asyncio
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

_FRESH_SECONDS = 1.0
"""How old an answer may be that several accounts share: a fifth of the time until each is asked again."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is to do for deadlines."""

    overdue: Sequence[ResourceRef]
    expected: Sequence[ResourceRef]
    kinds: Sequence[str]
    """Of which something is still expected."""


class Lookout:
    """Whether anything waits for the deadlines of a process's accounts.

    They all come due with the same tick, every five seconds. What the first of them asks is asked for all: ten accounts
    that each asked by itself were a third of what an idle process cost.
    """

    def __init__(self, ledger: GroupCommit, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._deadlines: dict[str, Sequence[candidates.Deadline]] = {}
        self._question = candidates.LateAccounts(self._deadlines)
        self._asking = asyncio.Lock()
        self._seen: frozenset[str] = frozenset()
        self._seen_at: float | None = None

    def add(self, account: str, deadlines: Sequence[candidates.Deadline]) -> None:
        """From now on it looks at this account too."""
        self._deadlines[account] = deadlines
        self._question = candidates.LateAccounts(self._deadlines)
        self._seen_at = None

    async def sees(self, account: str) -> bool:
        """As of now, or of less than a second ago. Raises LedgerError."""
        async with self._asking:
            if self._seen_at is None or self._clock.monotonic() - self._seen_at >= _FRESH_SECONDS:
                question, now, asked_at = self._question, self._clock.now(), self._clock.monotonic()
                self._seen = await self._ledger.read(lambda ledger: ledger.looked(lambda tx: question.find(tx, now)))
                self._seen_at = asked_at
            return account in self._seen


class Deadlines:
    """The deadlines of one account: configured rules, and what applications said to expect."""

    def __init__(
        self,
        account: str,
        kinds: Mapping[str, Kind],
        rules: Sequence[DeadlineRule],
        lookout: Lookout,
        ledger: GroupCommit,
        clock: Clock,
    ) -> None:
        self._account = account
        self._kinds = kinds
        self._deadlines = [
            candidates.Deadline(account, rule.kind, sorted(rule.states), rule.after)
            for rule in rules
            if rule.kind in kinds
        ]
        self._lookout = lookout
        self._ledger = ledger
        self._clock = clock
        self._recorded_at: datetime | None = None
        lookout.add(account, self._deadlines)

    async def idle(self) -> bool:
        """Whether a run would find nothing to do, and one has been recorded lately."""
        at = self._recorded_at
        # After a clock that was set back nothing was recorded lately.
        if at is None or not timedelta(0) <= self._clock.now() - at < RECORDED_EVERY:
            return False
        return not await self._lookout.sees(self._account)

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
        for deadline in self._deadlines:
            found.update(dict.fromkeys(candidates.overdue(tx, deadline, now=now, limit=_MOST)))
        return _Found(
            list(found),
            expectations.due_expectations(tx, self._account, now, limit=_MOST),
            expectations.open_kinds(tx, self._account),
        )
