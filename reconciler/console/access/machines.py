"""Machine tokens: what a program shows instead of a password, and the few things that each lets it do."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from reconciler.clock import Clock
from reconciler.console.access.signing import digest, fresh_token
from reconciler.console.pen import Pen
from reconciler.errors import UsageError
from reconciler.ledger import people
from reconciler.ledger.people import MachineToken
from reconciler.ledger.transaction import Transaction

SCOPES: Final = {
    "status": "read the status",
    "resources": "read resources with their versions, personal fields masked",
    "deliveries": "read deliveries, personal fields masked",
    "report": "read the finance report",
    "breaks": "read breaks",
    "breaks:write": "note, assign, resolve and reopen breaks",
    "mark": "have resources read again",
    "expectations": "say that a payment was created",
    "backfills": "read, start and cancel backfills",
    "changes": "read the change feed: references and what changed",
    "changes:full": "read whole states with the change feed, personal fields included",
    "subscriptions": "read subscriptions and their delivery logs",
    "subscriptions:write": "make, pause, resume, test, replay and remove subscriptions",
    "personal": "see personal fields unmasked; every such read is audited",
}
"""By name: what it allows."""

_SECRET: Final = re.compile(r"rct_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
"""The prefix lets scanners find one that was committed somewhere."""
_TOUCH_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Made:
    id: str
    secret: str
    """Shown once; only its hash is kept."""


def make(
    tx: Transaction, name: str, scopes: Collection[str], *, expires_at: datetime | None, by: str, now: datetime
) -> Made:
    """Raises UsageError."""
    if not name.strip() or len(name) > people.NAME_CHARACTERS or not name.isprintable():
        raise UsageError(f"a token's name has 1 to {people.NAME_CHARACTERS} printable characters; say who uses it")
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise UsageError(
            f"scopes are {', '.join(SCOPES)}; name at least one" + (f", not {unknown[0]}" if unknown else "")
        )
    if expires_at is not None and expires_at <= now:
        raise UsageError("a token has to expire in the future")
    token_id, rest = digest(fresh_token())[:12], fresh_token()
    secret = f"rct_{token_id}_{rest}"
    people.add_machine_token(tx, token_id, name.strip(), digest(secret), scopes, expires_at=expires_at, by=by, now=now)
    return Made(token_id, secret)


class Machines:
    def __init__(self, pen: Pen, clock: Clock) -> None:
        self._pen = pen
        self._clock = clock

    async def find(self, header: str) -> MachineToken | None:
        """Whose `Authorization: Bearer ...` this is; None: nobody's, or not any more."""
        scheme, _, secret = header.partition(" ")
        form = _SECRET.fullmatch(secret.strip())
        if scheme.lower() != "bearer" or form is None:
            return None
        token_id, secret_hash, now = form[1], digest(form[0]), self._clock.now()
        found = await self._pen.read(lambda tx: people.machine_token(tx, token_id, secret_hash))
        if found is None or not found.valid(now):
            return None
        if found.used_at is None or now - found.used_at > _TOUCH_EVERY:
            await self._pen.write(lambda tx: people.use_machine_token(tx, token_id, now))
        return found
