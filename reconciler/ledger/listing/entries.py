"""Money lines: those of one resource, and those that a figure of the balance proof is the sum of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.listing.stretch import FOREVER, Stretch, instant, micros
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef


@dataclass(frozen=True, slots=True)
class EntryOf:
    """A money line, with the resource that it was read out of."""

    ref: ResourceRef
    version: int
    balance_type: str
    category: str
    currency: str
    gross: int
    fee: int
    net: int
    effective_at: datetime
    available_on: datetime | None
    source_id: str | None
    payout_id: str | None


_ENTRY_COLUMNS: Final = """
  r.provider, e.account, e.kind, e.remote_id, e.version, e.ordinal, e.resource_id, e.balance_type, e.category,
  e.currency, e.gross, e.fee, e.net, e.effective_at, e.available_on, e.source_id, e.payout_id
"""
_KNOWN: Final = "e.recorded_at <= :as_of AND (e.superseded_at IS NULL OR e.superseded_at > :as_of)"
_ENTRIES_OF = text(
    f"""
    SELECT * FROM (
    SELECT {_ENTRY_COLUMNS} FROM entry e JOIN resource r ON r.id = e.resource_id
    WHERE e.resource_id = :id AND {_KNOWN}
    UNION ALL
    SELECT {_ENTRY_COLUMNS} FROM entry e JOIN resource r ON r.id = e.resource_id
    WHERE e.account = :account AND e.source_id = :remote_id AND e.resource_id <> :id AND {_KNOWN}
    ) both_ways
    ORDER BY effective_at, resource_id, version, ordinal LIMIT :limit
    """
)


def entries_of(
    tx: Transaction, resource_id: int, ref: ResourceRef, *, as_of: datetime | None, limit: int
) -> list[EntryOf]:
    """The money lines that a resource is, and those that name it as their source."""
    given = {
        "id": resource_id,
        "account": ref.account,
        "remote_id": ref.id,
        "as_of": micros(as_of, FOREVER - 1),
        "limit": limit,
    }
    return [_entry(row) for row in tx.run(_ENTRIES_OF, given)]


def _entry(row: Any) -> EntryOf:
    return EntryOf(
        ResourceRef(row.provider, row.account, row.kind, row.remote_id),
        row.version,
        row.balance_type,
        row.category,
        row.currency,
        row.gross,
        row.fee,
        row.net,
        from_micros(row.effective_at),
        instant(row.available_on),
        row.source_id,
        row.payout_id,
    )


_ENTRIES_BEHIND: Final = f"""
  SELECT {_ENTRY_COLUMNS} FROM entry e JOIN resource r ON r.id = e.resource_id
  WHERE e.account = :account AND e.balance_type = :balance_type AND e.currency = :currency
    AND e.effective_at >= :since AND e.effective_at < :until
    AND (e.effective_at > :since OR (e.resource_id, e.version, e.ordinal) > (:resource_id, :version, :ordinal))
    AND {_KNOWN} {{category}}
  ORDER BY e.effective_at, e.resource_id, e.version, e.ordinal LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """What a figure of the balance proof is the sum of."""

    account: str
    balance_type: str
    currency: str
    category: str
    """Empty: of every category."""
    since: datetime
    until: datetime
    as_of: datetime


def entries_behind(tx: Transaction, figure: Figure, *, after: tuple[int, int, int, int] | None, limit: int) -> Stretch:
    """The entries that a figure is the sum of, oldest first."""
    start = after or (to_micros(figure.since), -(2**62), 0, -1)
    statement = _ENTRIES_BEHIND.format(category="AND e.category = :category" if figure.category else "")
    given = {
        "account": figure.account,
        "balance_type": figure.balance_type,
        "currency": figure.currency,
        "category": figure.category,
        "since": start[0],
        "resource_id": start[1],
        "version": start[2],
        "ordinal": start[3],
        "until": to_micros(figure.until),
        "as_of": to_micros(figure.as_of),
        "limit": limit,
    }
    rows = tx.run(text(statement), given).all()
    last = rows[-1] if len(rows) == limit else None
    key = None if last is None else (last.effective_at, last.resource_id, last.version, last.ordinal)
    return Stretch(tuple(_entry(row) for row in rows), key)
