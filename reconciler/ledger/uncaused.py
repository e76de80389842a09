"""Which entries name a cause that nobody ever read: money that moved, and no more is known of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, text

from reconciler.clock import to_micros
from reconciler.ledger.finance import KNOWN, BalanceKey
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class UnreadCause:
    """Entries of one balance and category whose causes were not read by then."""

    key: BalanceKey
    category: str
    entries: int
    sources: tuple[str, ...]
    """The first few causes, by the provider's id."""


_UNREAD = text(
    f"""
    SELECT named.balance_type, named.currency, named.category, named.source_id, named.entries
    FROM (
      SELECT e.balance_type, e.currency, e.category, e.source_id,
        sum(count(*)) OVER (PARTITION BY e.balance_type, e.currency, e.category) AS entries,
        row_number() OVER (PARTITION BY e.balance_type, e.currency, e.category ORDER BY e.source_id) AS place
      FROM entry e
      WHERE e.account = :account AND e.balance_type IN :types AND e.currency IN :currencies
        AND e.effective_at >= :start AND e.effective_at < :end AND e.category IN :categories
        AND e.source_id <> '' AND {KNOWN} AND NOT EXISTS (
          SELECT 1 FROM resource r JOIN version v ON v.resource_id = r.id AND v.recorded_at <= :as_of
          WHERE r.account = e.account AND r.kind IN :kinds AND r.remote_id = e.source_id)
      GROUP BY e.balance_type, e.currency, e.category, e.source_id
    ) AS named
    WHERE named.place <= :named ORDER BY named.balance_type, named.currency, named.category, named.place
    """
).bindparams(*(bindparam(name, expanding=True) for name in ("types", "currencies", "categories", "kinds")))


def unread_causes(
    tx: Transaction,
    keys: Sequence[BalanceKey],
    categories: Collection[str],
    kinds: Collection[str],
    start: datetime,
    end: datetime,
    as_of: datetime,
    *,
    named: int,
) -> Iterator[UnreadCause]:
    """Of one account's balances, `start <= effective < end`. A cause is looked for among all of `kinds`: it was read if
    any version of it was recorded by `as_of`, be it that it does not exist."""
    if not keys or not categories:
        return
    given = {
        "account": keys[0].account,
        "types": sorted({key.balance_type for key in keys}),
        "currencies": sorted({key.currency for key in keys}),
        "categories": sorted(categories),
        "kinds": sorted(kinds),
        "start": to_micros(start),
        "end": to_micros(end),
        "as_of": to_micros(as_of),
        "named": named,
    }
    found: dict[tuple[BalanceKey, str], tuple[int, list[str]]] = {}
    for row in tx.run(_UNREAD, given):
        place = (BalanceKey(keys[0].account, row.balance_type, row.currency), row.category)
        found.setdefault(place, (int(row.entries), []))[1].append(row.source_id)
    for (key, category), (entries, sources) in found.items():
        yield UnreadCause(key, category, entries, tuple(sources))
