"""Which causes that entries name nobody ever read, or do not exist: money moved, and no more is known of it."""

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
    """Causes of one kind that an account's entries in one currency name, and of which nothing was known then."""

    account: str
    currency: str
    kind: str
    count: int
    """Each once, however many entries name it."""
    sources: tuple[str, ...]
    """The first few of them, by the provider's id."""
    gone: bool = False
    """They were read, and the provider said that they do not exist; else nobody had read them."""


@cache
def _unread(kinds: int) -> TextClause:
    """`:of_0` are the categories whose causes are of the first kind, and so on."""
    cause = " ".join(f"WHEN e.category IN :of_{place} THEN {place}" for place in range(kinds))
    listed = ("types", "currencies", "categories", "kinds", *(f"of_{place}" for place in range(kinds)))
    # An aggregate, and not NOT EXISTS: Postgres makes a join of that, over every version that the ledger holds. NULL
    # where nothing was read, 0 where the last that was said is that it does not exist.
    return text(
        f"""
        SELECT named.currency, named.cause, named.source_id, named.is_there, named.sources
        FROM (
          SELECT once.*, count(*) OVER same AS sources, row_number() OVER (same ORDER BY once.source_id) AS place
          FROM (
            SELECT DISTINCT known.currency, known.cause, known.source_id, known.is_there
            FROM (
              SELECT e.currency, CASE {cause} END AS cause, e.source_id, (
                SELECT max((
                  SELECT CASE v.state WHEN 'deleted' THEN 0 ELSE 1 END FROM version v
                  WHERE v.resource_id = r.id AND v.recorded_at <= :as_of ORDER BY v.version DESC LIMIT 1))
                FROM resource r
                WHERE r.account = e.account AND r.kind IN :kinds AND r.remote_id = e.source_id) AS is_there
              FROM entry e
              WHERE e.account = :account AND e.balance_type IN :types AND e.currency IN :currencies
                AND e.effective_at >= :start AND e.effective_at < :end AND e.category IN :categories
                AND e.source_id <> '' AND {KNOWN}
            ) AS known
            WHERE COALESCE(known.is_there, 0) = 0
          ) AS once
          WINDOW same AS (PARTITION BY once.currency, once.cause, once.is_there)
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
    these kinds and `others`, as they were known at `as_of`."""
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
    found: dict[tuple[str, int, bool], tuple[int, list[str]]] = {}
    for row in tx.run(_unread(len(kinds)), given):
        known = row.currency, row.cause, row.is_there is not None
        found.setdefault(known, (int(row.sources), []))[1].append(row.source_id)
    for (currency, cause, gone), (count, sources) in found.items():
        yield UnreadCause(keys[0].account, currency, kinds[cause], count, tuple(sources), gone)
