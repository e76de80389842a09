"""The versions of one resource."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from reconciler.clock import from_micros
from reconciler.ledger.listing.stretch import FOREVER, micros
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, State


@dataclass(frozen=True, slots=True)
class StoredVersion:
    version: int
    state: State
    status: str | None
    body: bytes | None
    """Canonical JSON; None: a tombstone."""
    cause: Cause
    recorded_at: datetime
    fetched_at: datetime
    api_version: str
    content_hash: str


_FETCHED = 20
"""Rows at once."""

_VERSIONS = text(
    """
    SELECT version, state, status, body, cause, recorded_at, fetched_at, api_version, content_hash FROM version
    WHERE resource_id = :id AND version < :before AND recorded_at <= :as_of ORDER BY version DESC LIMIT :limit
    """
).execution_options(stream_results=True, yield_per=_FETCHED)


def versions(
    tx: Transaction,
    resource_id: int,
    *,
    as_of: datetime | None,
    before: int | None,
    limit: int,
    most_bytes: int | None = None,
) -> list[StoredVersion]:
    """Newest first; the one whose body goes beyond `most_bytes` is the last."""
    given = {"id": resource_id, "before": before or 2**62, "as_of": micros(as_of, FOREVER), "limit": limit}
    found, size = list[StoredVersion](), 0
    with tx.run(_VERSIONS, given) as rows:
        for row in rows:
            each = StoredVersion(
                row.version,
                State(row.state),
                row.status,
                None if row.body is None else tx.unpack(row.body, Place.VERSION),
                Cause(row.cause),
                from_micros(row.recorded_at),
                from_micros(row.fetched_at),
                row.api_version,
                row.content_hash,
            )
            found.append(each)
            size += len(each.body or b"")
            if most_bytes is not None and size >= most_bytes:
                break
    return found
