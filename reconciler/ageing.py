"""Reminding people of webhook secrets that have been in use for long. The ledger keeps since when, by fingerprint."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from reconciler.clock import Clock
from reconciler.ledger import GroupCommit, Job, Ledger
from reconciler.ledger.findings import ROTATION_DUE
from reconciler.model import Finding, Severity
from reconciler.periodic import Ended, Periodic

EVERY: Final = timedelta(hours=1)


def fingerprint(account: str, secret: str) -> str:
    """Tells one secret from another, and is of no use for anything else: a signing secret has 128 bits or more, which
    nobody guesses, and another account's fingerprint of the same secret is another."""
    return hmac.new(secret.encode(), f"reconciler secret of {account}".encode(), hashlib.sha256).hexdigest()[:16]


def old_secrets(
    account: str, fingerprints: Sequence[str], since: Mapping[str, datetime], now: datetime, limit: timedelta
) -> Iterator[Finding]:
    """In the configuration's order, which is how people find the one that is meant."""
    for place, each in enumerate(fingerprints, start=1):
        first = since.get(each)
        if first is None or now - first < limit:
            continue
        yield Finding(
            ROTATION_DUE,
            Severity.WARNING,
            account,
            f"webhook secret {place} of {len(fingerprints)} has been in use since {first:%Y-%m-%d}, "
            f"{(now - first).days} days that we know of",
            "make a new one at the provider, add it to webhook_secrets, reload with SIGHUP, and take the old one out a "
            "day after the provider signs with the new one alone",
            subject=each,
        )


class SecretAges:
    """Of one account."""

    def __init__(
        self, account: str, secrets: Sequence[str], ledger: GroupCommit, clock: Clock, *, limit: timedelta
    ) -> None:
        self._account = account
        self._fingerprints = tuple(fingerprint(account, each) for each in secrets)
        self._ledger = ledger
        self._clock = clock
        self._limit = limit

    def periodic(self) -> Periodic:
        return Periodic(f"secrets/{self._account}", lambda: min(EVERY, self._limit), self.run)

    async def run(self, _job: Job) -> Ended:
        now = self._clock.now()

        def look(ledger: Ledger) -> list[Finding]:
            since = ledger.secrets_since(self._account, self._fingerprints)
            return list(old_secrets(self._account, self._fingerprints, since, now, self._limit))

        await self._ledger.call(lambda ledger: ledger.note_secrets(self._account, self._fingerprints, now))
        found = await self._ledger.read(look)
        return Ended(
            complete=True,
            also=lambda ledger: ledger.note_findings(self._account, found, codes=frozenset({ROTATION_DUE}), now=now),
        )
