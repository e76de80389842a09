"""The row of a resource: what decisions about a reading see of it, and what they write."""

from __future__ import annotations

from typing import Final, NamedTuple

from reconciler.ledger.bulk import WHOLE, WORDS
from reconciler.model import ResourceRef


class ResourceRow(NamedTuple):
    """A resource as the transaction holds it locked."""

    id: int
    provider: str
    account: str
    kind: str
    remote_id: str
    generation: int
    settled_generation: int
    cause: str
    due_at: int | None
    not_before: int
    first_marked_at: int | None
    settle_at: int
    hints: str | None
    lease_token: int
    lease_until: int | None
    lease_owner: str | None
    attempts: int
    last_error: str | None
    dead_at: int | None
    discarded_at: int | None
    state: str
    version: int
    content_hash: str | None
    applied_seq: int
    fetched_at: int | None
    status: str | None
    created_at: int | None
    provider_updated_at: int | None

    @property
    def ref(self) -> ResourceRef:
        return ResourceRef(self.provider, self.account, self.kind, self.remote_id)


ROW: Final = ", ".join(ResourceRow._fields)

CLAIM_COLUMNS: Final = {
    "settled_generation": WHOLE,
    "first_marked_at": WHOLE,
    "due_at": WHOLE,
    "not_before": WHOLE,
    "attempts": WHOLE,
    "last_error": WORDS,
    "dead_at": WHOLE,
    "discarded_at": WHOLE,
    "lease_until": WHOLE,
    "lease_owner": WORDS,
}
"""Of marks, claims and wake-ups, those that an answer may change."""

READ_COLUMNS: Final = {
    "state": WORDS,
    "version": WHOLE,
    "content_hash": WORDS,
    "applied_seq": WHOLE,
    "fetched_at": WHOLE,
    "status": WORDS,
    "created_at": WHOLE,
    "provider_updated_at": WHOLE,
}
"""What a reading says, and when it was accepted."""

DECIDED_COLUMNS: Final = CLAIM_COLUMNS | READ_COLUMNS
"""What a decision sets, each time all of it, so that one statement serves every outcome."""

SET_DECIDED: Final = ", ".join(f"{name} = {{{name}}}" for name in DECIDED_COLUMNS)
