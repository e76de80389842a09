"""What is unusual about the deliveries of the last minutes, measured by those of the day before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.ledger.deliveries import NAMELESS
from reconciler.ledger.transaction import Transaction

WINDOW = timedelta(minutes=10)
BEFORE = timedelta(days=1)
LEAST = 100
"""Deliveries within the window from which on anything is unusual."""
SURGE = 10
"""How many times the usual rate is a surge."""


@dataclass(frozen=True, slots=True)
class Anomalies:
    rejected: tuple[tuple[str, str, int], ...] = ()
    """Account, reason, how many rows; a flood is logged only in part, and says so by reaching any threshold."""
    new_sources: tuple[tuple[str, str, int], ...] = ()
    """Account, address, how many: none of them in the day before, in which the account did get deliveries."""
    surges: tuple[tuple[str, str, int, float], ...] = ()
    """Account, type, how many, and how many were usual in that time."""
    nameless: tuple[tuple[str, str, int], ...] = ()
    """Account, type that we follow, how many deliveries of it named nothing."""


_WITH_REASON = text(
    """
    SELECT account, verdict = 'rejected' AS rejected, coalesce(reason, '') AS reason,
      CASE WHEN verdict = 'rejected' THEN NULL ELSE type END AS type, count(*) AS n FROM delivery
    WHERE received_at >= :since AND (verdict = 'rejected' OR reason IS NOT NULL)
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    """
)
# An account by itself has an index, and SQLite would rather walk through that, all of the log in the order of accounts,
# than sort the deliveries of ten minutes; `account || ''` has none.
_MANY_BY_SOURCE = text(
    """
    SELECT account || '' AS account, source, count(*) AS n FROM delivery
    WHERE received_at >= :since AND source <> '' GROUP BY 1, 2 HAVING count(*) >= :least ORDER BY 1, 2
    """
)
_SENT_BEFORE = text(
    """
    SELECT coalesce(sum(CASE WHEN source = :source THEN 1 ELSE 0 END), 0) AS mine, count(*) AS all_of_them FROM delivery
    WHERE received_at >= :before AND received_at < :since AND account || '' = :account
    """
)
_MANY_BY_TYPE = text(
    """
    SELECT account || '' AS account, type, count(*) AS n FROM delivery
    WHERE received_at >= :since AND type IS NOT NULL AND verdict <> 'rejected'
    GROUP BY 1, 2 HAVING count(*) >= :least ORDER BY 1, 2
    """
)
_OF_TYPE_BEFORE = text(
    """
    SELECT count(*) FROM delivery
    WHERE received_at >= :before AND received_at < :since AND account || '' = :account AND type = :type
    """
)


def anomalies(tx: Transaction, now: datetime) -> Anomalies:
    since = now - WINDOW
    window = {"since": to_micros(since)}
    span = window | {"before": to_micros(since - BEFORE)}
    new_sources = []
    for row in tx.run(_MANY_BY_SOURCE, window | {"least": LEAST}).all():
        before = tx.run(_SENT_BEFORE, span | {"account": row.account, "source": row.source}).one()
        if before.all_of_them and not before.mine:
            new_sources.append((row.account, row.source, row.n))
    surges = []
    for row in tx.run(_MANY_BY_TYPE, window | {"least": LEAST}).all():
        count = tx.run(_OF_TYPE_BEFORE, span | {"account": row.account, "type": row.type}).scalar_one()
        usual = count * (WINDOW / BEFORE)
        if count and row.n > SURGE * usual:
            surges.append((row.account, row.type, row.n, usual))
    found = tx.run(_WITH_REASON, window).all()
    rejected = tuple((row.account, row.reason, row.n) for row in found if row.rejected)
    nameless = tuple((row.account, row.type, row.n) for row in found if row.reason == NAMELESS and not row.rejected)
    return Anomalies(rejected, tuple(new_sources), tuple(surges), nameless)
