"""Deliveries, counted by day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class DayTally:
    day: datetime
    account: str
    verdict: str
    count: int


_TALLIES = text(
    """
    SELECT day, account, verdict, sum(count) AS how_many FROM delivery_tally WHERE day >= :since AND day <= :until
    GROUP BY day, account, verdict ORDER BY day DESC, account, verdict
    """
)
_IS_TOLD_OF = text(
    """
    SELECT 1 WHERE EXISTS (SELECT 1 FROM delivery_tally WHERE account = :account)
      OR EXISTS (SELECT 1 FROM missed_event WHERE account = :account)
    """
)


def is_told_of(tx: Transaction, account: str) -> bool:
    """Whether a delivery ever came to the account, or one was missed: also to one of which nothing else is held."""
    return tx.run(_IS_TOLD_OF, {"account": account}).one_or_none() is not None


def day_tallies(tx: Transaction, since: datetime, until: datetime) -> list[DayTally]:
    """Deliveries by day of UTC, floods included; newest day first."""
    given = {"since": to_micros(since), "until": to_micros(until)}
    return [
        DayTally(from_micros(row.day), row.account, row.verdict, int(row.how_many)) for row in tx.run(_TALLIES, given)
    ]
