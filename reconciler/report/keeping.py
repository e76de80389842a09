"""The daemon's share of setting aside: a little at a time, read beside everybody else and written in short turns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from reconciler.clock import Clock
from reconciler.ledger import GroupCommit, Job
from reconciler.periodic import Ended, Periodic
from reconciler.report.aside import BEGINNING, JOB, SettingAside
from reconciler.report.facts import AccountTerms

EVERY = timedelta(minutes=1)
_BATCH = 200
_STEPS = 100
"""Of one run: it ends well inside its lease, and the next one goes on at once."""


class Keeping:
    """Keeps a ledger ready for its reports."""

    def __init__(
        self, ledger: GroupCommit, terms: Sequence[AccountTerms], gateways: Sequence[str], clock: Clock
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._setting = SettingAside(terms, gateways, batch=_BATCH)

    def periodic(self) -> Periodic:
        return Periodic(JOB, lambda: EVERY, self.run, group="aside")

    async def run(self, job: Job) -> Ended:
        now = self._clock.now()
        if not await self._ledger.call(partial(self._setting.begin, now=now)):
            return Ended(complete=True)
        place = BEGINNING
        for _ in range(_STEPS):
            step = await self._ledger.read(partial(self._setting.next_step, place=place))
            if step is None or not await self._ledger.call(step.carry_out):
                return Ended(complete=True, watermark=now)
            place = step.place
        return Ended(complete=True, watermark=now, due_at=job.due_at)
