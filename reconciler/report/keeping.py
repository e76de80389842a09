"""The daemon's share of setting aside: a little at a time, read beside everybody else and written in short turns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from reconciler.ledger import GroupCommit, Job
from reconciler.periodic import Ended, Periodic
from reconciler.report.aside import BEGINNING, SettingAside
from reconciler.report.facts import AccountTerms

EVERY = timedelta(minutes=1)
_BATCH = 200
_STEPS = 100
"""Of one run: it ends well inside its lease, and the next one goes on at once."""


class Keeping:
    """Keeps a ledger ready for its reports."""

    def __init__(self, ledger: GroupCommit, terms: Sequence[AccountTerms], gateways: Sequence[str]) -> None:
        self._ledger = ledger
        self._setting = SettingAside(terms, gateways, batch=_BATCH)

    def periodic(self) -> Periodic:
        return Periodic("aside", lambda: EVERY, self.run, group="aside")

    async def run(self, job: Job) -> Ended:
        await self._ledger.call(self._setting.begin)
        place = BEGINNING
        for _ in range(_STEPS):
            step = await self._ledger.read(partial(self._setting.next_step, place=place))
            if step is None or not await self._ledger.call(step.carry_out):
                return Ended(complete=True)
            place = step.place
        return Ended(complete=True, due_at=job.due_at)
