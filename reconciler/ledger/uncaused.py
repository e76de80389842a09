"""Which causes that entries name nobody ever read: money moved, and no more is known of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import TextClause, bindparam, text

from reconciler.clock import to_micros
from reconciler.ledger.finance import KNOWN, BalanceKey
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class UnreadCause:
    """Causes of one kind that an account's entries in one currency name, and that were not read by then."""

    account: str
    currency: str
    kind: str
    count: int
    """Each once, however many entries name it."""
    sources: tuple[str, ...]
    """The first few of them, by the provider's id."""


@cache
def _unread(kinds: int) -> TextClause:
    """`:of_0` are the categories whose causes are of the first kind, and so on."""
    cause = " ".join(f"WHEN e.category IN :of_{place} THEN {place}" for place in range(kinds))
    listed = ("types", "currencies", "categories", "kinds", *(f"of_{place}" for place in range(kinds)))
    # Not NOT EXISTS: Postgres makes a join of that, over every version that the ledger holds.
    return text(
        f"""
        SELECT named.currency, named.cause, named.source_id, named.sources
        FROM (
          SELECT unread.currency, unread.cause, unread.source_id,
            count(*) OVER (PARTITION BY unread.currency, unread.cause) AS sources,
            row_number() OVER (PARTITION BY unread.currency, unread.cause ORDER BY unread.source_id) AS place
          FROM (
            SELECT DISTINCT e.currency, CASE {cause} END AS cause, e.source_id
            FROM entry e
            WHERE e.account = :account AND e.balance_type IN :types AND e.currency IN :currencies
              AND e.effective_at >= :start AND e.effective_at < :end AND e.category IN :categories
              AND e.source_id <> '' AND {KNOWN} AND (
                SELECT 1 FROM resource r JOIN version v ON v.resource_id = r.id AND v.recorded_at <= :as_of
                WHERE r.account = e.account AND r.kind IN :kinds AND r.remote_id = e.source_id LIMIT 1) IS NULL
          ) AS unread
        ) AS named
        WHERE named.place <= :named ORDER BY named.currency, named.cause, named.place
        """
    ).bindparams(*(bindparam(name, expanding=True) for name in listed))


def unread_causes(
    tx: Transaction,
    keys: Sequence[BalanceKey],
    causes: Mapping[str, str],
    others: Collection[str],
    start: datetime,
    end: datetime,
    as_of: datetime,
    *,
    named: int,
) -> Iterator[UnreadCause]:
    """Of one account's balances, `start <= effective < end`. `causes`: category -> kind; a cause is looked for among
    these kinds and `others`. It was read if any version of it was recorded by `as_of`, be it that it does not exist."""
    if not keys or not causes:
        return
    categories: dict[str, list[str]] = defaultdict(list)
    for category, kind in sorted(causes.items()):
        categories[kind].append(category)
    given = {
        "account": keys[0].account,
        "types": sorted({key.balance_type for key in keys}),
        "currencies": sorted({key.currency for key in keys}),
        "categories": sorted(causes),
        "kinds": sorted({*categories, *others}),
        "start": to_micros(start),
        "end": to_micros(end),
        "as_of": to_micros(as_of),
        "named": named,
    }
    kinds = sorted(categories)
    given |= {f"of_{place}": categories[kind] for place, kind in enumerate(kinds)}
    found: dict[tuple[str, int], tuple[int, list[str]]] = {}
    for row in tx.run(_unread(len(kinds)), given):
        found.setdefault((row.currency, row.cause), (int(row.sources), []))[1].append(row.source_id)
    for (currency, cause), (count, sources) in found.items():
        yield UnreadCause(keys[0].account, currency, kinds[cause], count, tuple(sources))
