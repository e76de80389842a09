"""Carrying out what people asked to be forgotten, a little at a time, so that nobody else has to wait."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import structlog

from reconciler.clock import Clock
from reconciler.ledger import GroupCommit, Job
from reconciler.ledger.redaction import Asked
from reconciler.periodic import LEASE, Ended, Periodic
from reconciler.provider import Kind

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(minutes=1)
_STRETCH: Final = 200
"""Versions in one transaction."""
_BEGINNING: Final = (-(2**63), 0)


class Redactor:
    """The redactions of one account."""

    def __init__(self, account: str, kinds: Mapping[str, Kind], ledger: GroupCommit, clock: Clock) -> None:
        self._account = account
        self._kept = {name: kind.kept_when_redacted for name, kind in kinds.items()}
        self._ledger = ledger
        self._clock = clock

    def periodic(self) -> Periodic:
        return Periodic(f"redact/{self._account}", lambda: EVERY, self.run)

    async def run(self, job: Job) -> Ended:
        """Everything that was asked for until now. One that is interrupted begins anew, and finds less to do."""
        for asked in await self._ledger.read(lambda ledger: ledger.pending_redactions(self._account)):
            await self._redact(asked, job)
        return Ended(complete=True)

    async def _redact(self, asked: Asked, job: Job) -> None:
        total = 0
        after: tuple[int, int] | None = _BEGINNING
        while after is not None:
            since, now = after, self._clock.now()
            versions, after = await self._ledger.call(
                lambda ledger, since=since: ledger.redact_versions(asked, self._kept, after=since, limit=_STRETCH)  # type: ignore[misc]  # mypy does not infer a default's type
            )
            await self._ledger.call(
                lambda ledger, now=now: ledger.renew_job(job, progress={}, lease=LEASE, now=now)  # type: ignore[misc]  # mypy does not infer a default's type
            )
            total += versions
        now = self._clock.now()
        deliveries = await self._ledger.call(lambda ledger: ledger.conclude_redaction(asked, versions=total, now=now))
        log.info("redacted", account=self._account, kind=asked.what.kind, versions=total, deliveries=deliveries)
