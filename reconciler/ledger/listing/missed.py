"""Webhooks that never came."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text

from reconciler.clock import from_micros
from reconciler.ledger.listing.stretch import FOREVER, NEVER, Stretch, instant, micros
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class MissedEvent:
    account: str
    event_id: str
    type: str
    occurred_at: datetime | None
    noticed_at: datetime


_MISSED: Final = """
  SELECT m.account, m.event_id, m.type, m.occurred_at, m.noticed_at FROM missed_event m
  WHERE m.noticed_at >= :noticed_since AND m.noticed_at <= :as_of
    AND COALESCE(m.occurred_at, m.noticed_at) >= :since AND COALESCE(m.occurred_at, m.noticed_at) < :until
    AND (m.noticed_at, m.account, m.event_id) < (:at, :last_account, :last_event)
    AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.account = m.account AND d.event_id = m.event_id
                    AND d.verdict <> 'rejected' AND d.received_at <= :as_of)
    {account}
  ORDER BY m.noticed_at DESC, m.account DESC, m.event_id DESC LIMIT :limit
"""


def missed_events(
    tx: Transaction,
    *,
    account: str,
    since: datetime | None,
    until: datetime | None,
    as_of: datetime | None,
    after: tuple[int, str, str] | None,
    limit: int,
) -> Stretch:
    """Events that happened in a stretch of time and never reached us, the last noticed first."""
    start = after or (FOREVER, "", "")
    statement = _MISSED.format(account="AND m.account = :account" if account else "")
    given = {
        "account": account,
        # Nothing is noticed before it happened.
        "noticed_since": micros(since, NEVER),
        "since": micros(since, NEVER),
        "until": micros(until, FOREVER),
        "as_of": micros(as_of, FOREVER),
        "at": start[0],
        "last_account": start[1],
        "last_event": start[2],
        "limit": limit,
    }
    rows = tx.run(text(statement), given).all()
    found = tuple(
        MissedEvent(row.account, row.event_id, row.type, instant(row.occurred_at), from_micros(row.noticed_at))
        for row in rows
    )
    last = rows[-1] if len(rows) == limit else None
    return Stretch(found, None if last is None else (last.noticed_at, last.account, last.event_id))
