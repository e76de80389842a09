"""The entries of a period one by one, in the order of the books, however many there are: what exports read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.ledger.finance import ENTRY, KNOWN, BalanceKey, EntryFact, entry_fact
from reconciler.ledger.transaction import Transaction

_PAGE = 2000
_BEFORE_ALL = (-1, 0, -1)

# Page by page over (resource, version, ordinal) within an instant: a million rows never stand in memory, and neither
# database needs a cursor that outlives a statement.
_ENTRIES = text(
    f"""
    SELECT {ENTRY}, e.resource_id, e.version, e.ordinal FROM entry e
    WHERE e.account = :account AND e.balance_type = :balance_type AND e.currency = :currency
      AND e.effective_at >= :since AND e.effective_at < :until
      AND (e.effective_at > :since
        OR (e.resource_id, e.version, e.ordinal) > (:resource_id, :version, :ordinal))
      AND {KNOWN}
    ORDER BY e.effective_at, e.resource_id, e.version, e.ordinal LIMIT :limit
    """
)


def itemised(
    tx: Transaction, keys: Iterable[BalanceKey], start: datetime, end: datetime, as_of: datetime
) -> Iterator[EntryFact]:
    """Every entry with `start <= effective < end`, balance by balance as given, oldest first within each."""
    for key in keys:
        yield from _of_balance(tx, key, start, end, as_of)


def _of_balance(
    tx: Transaction, key: BalanceKey, start: datetime, end: datetime, as_of: datetime
) -> Iterator[EntryFact]:
    since, place = to_micros(start), _BEFORE_ALL
    while True:
        given = {
            "account": key.account,
            "balance_type": key.balance_type,
            "currency": key.currency,
            "since": since,
            "until": to_micros(end),
            "as_of": to_micros(as_of),
            "resource_id": place[0],
            "version": place[1],
            "ordinal": place[2],
            "limit": _PAGE,
        }
        rows = tx.run(_ENTRIES, given).all()
        for row in rows:
            yield entry_fact(row)
        if len(rows) < _PAGE:
            return
        last = rows[-1]
        since, place = last.effective_at, (last.resource_id, last.version, last.ordinal)
