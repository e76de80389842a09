"""What one cause brought: the versions that a backfill stored, and which resources it found changed unnoticed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, ResourceRef


@dataclass(frozen=True, slots=True)
class Caused:
    versions: int
    drift: int
    """Of these, changes of resources that the ledger knew already."""
    drifted: tuple[ResourceRef, ...]
    """The first of them, in the order of their change."""


# Each version looks its resource up by itself: of a join, a planner that does not know the two tables yet may make a
# walk through all that was stored for each resource.
_SINCE = """
  FROM version v WHERE v.recorded_at >= :since AND v.cause = :cause
  AND (SELECT r.account = :account AND r.kind = :kind FROM resource r WHERE r.id = v.resource_id)
"""
_COUNTS = text(
    f"SELECT count(*) AS versions, COALESCE(sum(CASE WHEN v.version > 1 THEN 1 ELSE 0 END), 0) AS drift{_SINCE}"
)
_DRIFTED = text(
    "SELECT r.provider, r.account, r.kind, r.remote_id FROM ("
    f"SELECT v.resource_id, min(v.recorded_at) AS at{_SINCE} AND v.version > 1 GROUP BY v.resource_id"
    ") changed JOIN resource r ON r.id = changed.resource_id ORDER BY changed.at, r.remote_id LIMIT :limit"
)


def caused(tx: Transaction, account: str, kind: str, cause: Cause, *, since: datetime, limit: int) -> Caused:
    """Costs as much as was stored since then, whatever the history before it."""
    bounds = {"account": account, "kind": kind, "cause": cause.value, "since": to_micros(since)}
    counted = tx.run(_COUNTS, bounds).one()
    drifted = tx.run(_DRIFTED, bounds | {"limit": limit}).all() if counted.drift else []
    refs = tuple(ResourceRef(row.provider, row.account, row.kind, row.remote_id) for row in drifted)
    return Caused(int(counted.versions), int(counted.drift), refs)
