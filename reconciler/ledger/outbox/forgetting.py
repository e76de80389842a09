"""Forgetting what ended long ago; and naming as dead what waited as long for a subscription that gets nothing."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.ledger.transaction import Transaction

_EXPIRE = text(
    """
    UPDATE outbox SET due_at = NULL, lease_until = NULL, lease_owner = NULL, outcome = 'dead', ended_at = :now,
      last_error = 'waited too long for a subscription that gets nothing; replay it when it does'
    WHERE due_at IS NOT NULL AND created_at < :before AND subscription IN (
      SELECT name FROM subscription WHERE state IN ('paused', 'disabled'))
    """
)
_PRUNE = text(
    """
    DELETE FROM outbox WHERE (subscription, resource_id, version) IN (
      SELECT subscription, resource_id, version FROM outbox WHERE ended_at < :before ORDER BY ended_at LIMIT :limit)
    """
)
_PRUNE_LOG = text(
    "DELETE FROM outbox_attempt WHERE id IN (SELECT id FROM outbox_attempt WHERE at < :before ORDER BY at LIMIT :limit)"
)


def prune(tx: Transaction, *, before: datetime, now: datetime, limit: int) -> int:
    """Forget what ended before then, and its log; how much it was, at most `limit` of each. `replay` finds it again."""
    bounds = {"before": to_micros(before), "limit": limit}
    tx.run(_EXPIRE, {"before": to_micros(before), "now": to_micros(now)})
    return max(tx.run(_PRUNE, bounds).rowcount, tx.run(_PRUNE_LOG, bounds).rowcount)
