"""What the finance report asks of the ledger: facts as they were known at an instant, in sets, never row by row.

A fact counts as of T if `recorded_at <= T`; an entry also must not have been superseded by then. Sums run on
`ix_entry_proof` alone, which holds every column that they need (docs/decisions/0041); what lies before a period is
asked of `openings`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import orjson
from sqlalchemy import bindparam, text
from sqlalchemy.sql.elements import TextClause

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.sums import summed
from reconciler.ledger.transaction import Transaction

KNOWN = "e.recorded_at <= :as_of AND (e.superseded_at IS NULL OR e.superseded_at > :as_of)"
_CHUNK = 1000
"""Ids that one statement names."""


@dataclass(frozen=True, slots=True, order=True)
class BalanceKey:
    """One of an account's balances in one currency: what a roll-forward is about."""

    account: str
    balance_type: str
    currency: str


@dataclass(frozen=True, slots=True)
class DaySum:
    """All entries of one category on one business day, the `day`-th of the period."""

    key: BalanceKey
    category: str
    day: int
    count: int
    gross: int
    fee: int
    net: int


@dataclass(frozen=True, slots=True)
class EntryFact:
    """One entry, as it was known."""

    key: BalanceKey
    id: str
    category: str
    gross: int
    fee: int
    net: int
    effective_at: datetime
    available_on: datetime | None
    source_id: str | None
    payout_id: str | None
    fee_details: str
    """JSON, as the ledger keeps it."""


@dataclass(frozen=True, slots=True)
class EntryChange:
    """An entry that became known, or stopped being what was known, after some instant."""

    key: BalanceKey
    id: str
    effective_at: datetime
    recorded_at: datetime
    source: str
    net: int
    gross: int
    fee: int
    gone: bool
    """True: this is the value that was known before and is no longer."""


def over(sql: str) -> TextClause:
    return text(sql).bindparams(bindparam("accounts", expanding=True))


# --- sums -----------------------------------------------------------------------------------------

_DAYS = {
    "sqlite": """(SELECT json_extract(value, '$[0]') AS number, json_extract(value, '$[1]') AS since,
        json_extract(value, '$[2]') AS until FROM json_each(:days))""",
    "postgresql": """(SELECT CAST(value ->> 0 AS bigint) AS number, CAST(value ->> 1 AS bigint) AS since,
        CAST(value ->> 2 AS bigint) AS until FROM json_array_elements(CAST(:days AS json)))""",
}
_DAY_SUMS = {
    dialect: over(
        f"""
        SELECT d.number, e.account, e.balance_type, e.currency, e.category, count(*) AS n,
          sum(e.gross) AS gross, sum(e.fee) AS fee, sum(e.net) AS net
        FROM {days} d CROSS JOIN entry e
        WHERE e.account IN :accounts AND e.balance_type IN :types AND e.currency IN :currencies
          AND e.effective_at >= d.since AND e.effective_at < d.until AND {KNOWN}
        GROUP BY d.number, e.account, e.balance_type, e.currency, e.category
        ORDER BY d.number, e.account, e.balance_type, e.currency, e.category
        """
    ).bindparams(bindparam("types", expanding=True), bindparam("currencies", expanding=True))
    for dialect, days in _DAYS.items()
}
_NET = text(
    f"""
    SELECT coalesce(sum(e.net), 0) FROM entry e
    WHERE e.account = :account AND e.balance_type = :balance_type AND e.currency = :currency
      AND e.effective_at >= :since AND e.effective_at < :until AND {KNOWN}
    """
)


def day_sums(
    tx: Transaction, keys: Collection[BalanceKey], bounds: Sequence[datetime], as_of: datetime
) -> list[DaySum]:
    """Count, gross, fee and net per balance, category and day; `bounds` are the days' starts and the last one's end."""
    if not keys:
        return []
    given = {
        "accounts": sorted({key.account for key in keys}),
        "types": sorted({key.balance_type for key in keys}),
        "currencies": sorted({key.currency for key in keys}),
        "days": orjson.dumps(
            [(day, to_micros(since), to_micros(until)) for day, (since, until) in enumerate(pairwise(bounds))]
        ).decode(),
        "as_of": to_micros(as_of),
    }
    return [
        DaySum(key_of(row), row.category, int(row.number), int(row.n), int(row.gross), int(row.fee), int(row.net))
        for row in summed(tx, _DAY_SUMS[tx.dialect.name], given)
    ]


def net_between(tx: Transaction, key: BalanceKey, since: datetime, until: datetime, as_of: datetime) -> int:
    """The sum of one balance's entries, `since <= effective < until`."""
    ((net,),) = summed(tx, _NET, between(key, since, until, as_of))
    return int(net)


def between(key: BalanceKey, since: datetime, until: datetime, as_of: datetime) -> dict[str, Any]:
    return {
        "account": key.account,
        "balance_type": key.balance_type,
        "currency": key.currency,
        "since": to_micros(since),
        "until": to_micros(until),
        "as_of": to_micros(as_of),
    }


# --- entries --------------------------------------------------------------------------------------

ENTRY = """
  e.account, e.balance_type, e.currency, e.remote_id, e.category, e.gross, e.fee, e.net, e.effective_at,
  e.available_on, e.source_id, e.payout_id, e.fee_details
"""
"""The columns that `entry_fact` reads."""
_BY_SOURCE = text(
    f"SELECT {ENTRY} FROM entry e WHERE e.account = :account AND e.source_id IN :ids AND {KNOWN}"
    " ORDER BY e.effective_at, e.remote_id"
).bindparams(bindparam("ids", expanding=True))
_BY_ID = text(
    f"SELECT {ENTRY} FROM resource r JOIN entry e ON e.resource_id = r.id"
    f" WHERE r.account = :account AND r.kind = :kind AND r.remote_id IN :ids AND {KNOWN}"
    " ORDER BY e.effective_at, e.remote_id"
).bindparams(bindparam("ids", expanding=True))
_OF_CATEGORY = over(
    f"SELECT {ENTRY} FROM entry e WHERE e.account IN :accounts AND e.category = :category"
    f" AND e.effective_at >= :start AND e.effective_at < :end AND {KNOWN} ORDER BY e.effective_at, e.remote_id"
)


def entries_by_source(tx: Transaction, account: str, source_ids: Collection[str], as_of: datetime) -> list[EntryFact]:
    """Every entry that these objects caused, oldest first."""
    return _named(tx, _BY_SOURCE, source_ids, {"account": account, "as_of": to_micros(as_of)})


def entries_by_id(tx: Transaction, account: str, kind: str, ids: Collection[str], as_of: datetime) -> list[EntryFact]:
    """Those of the resources of one kind that are named, oldest first."""
    return _named(tx, _BY_ID, ids, {"account": account, "kind": kind, "as_of": to_micros(as_of)})


def _named(tx: Transaction, statement: TextClause, names: Collection[str], given: dict[str, Any]) -> list[EntryFact]:
    named = sorted(names)
    return [
        entry_fact(row)
        for at in range(0, len(named), _CHUNK)
        for row in tx.run(statement, given | {"ids": named[at : at + _CHUNK]})
    ]


def entries_of_category(
    tx: Transaction, accounts: Collection[str], category: str, start: datetime, end: datetime, as_of: datetime
) -> Iterator[EntryFact]:
    """One category's entries of the period, one at a time: there may be a million."""
    given = {
        "accounts": sorted(accounts),
        "category": category,
        "start": to_micros(start),
        "end": to_micros(end),
        "as_of": to_micros(as_of),
    }
    for row in tx.run(_OF_CATEGORY, given).yield_per(_CHUNK):
        yield entry_fact(row)


_CHANGED = over(
    """
    SELECT e.account, e.balance_type, e.currency, e.remote_id, e.category, e.effective_at, e.gross, e.fee, e.net,
      v.recorded_at, v.cause, {gone} AS gone
    FROM entry e JOIN version v ON v.resource_id = e.resource_id AND v.version = {version}
    WHERE e.account IN :accounts AND e.effective_at < :before AND {when}
    ORDER BY e.account, e.balance_type, e.currency, e.effective_at, e.remote_id
    """.format(gone=0, version="e.version", when="e.recorded_at > :since AND " + KNOWN)
)
_REPLACED = over(
    """
    SELECT e.account, e.balance_type, e.currency, e.remote_id, e.category, e.effective_at, e.gross, e.fee, e.net,
      e.superseded_at AS recorded_at, v.cause, 1 AS gone
    FROM entry e JOIN version v ON v.resource_id = e.resource_id AND v.version = e.version + 1
    WHERE e.account IN :accounts AND e.effective_at < :before
      AND e.recorded_at <= :since AND e.superseded_at > :since AND e.superseded_at <= :as_of
    ORDER BY e.account, e.balance_type, e.currency, e.effective_at, e.remote_id
    """
)


def changed_entries(
    tx: Transaction, accounts: Collection[str], before: datetime, since: datetime, as_of: datetime
) -> list[EntryChange]:
    """What was learnt after `since` of entries effective before `before`: new values, and the values they replaced.

    Without entries that a new version only repeats: every balance transaction has a second one when its money becomes
    available, and of that nothing is told that a report counts.
    """
    given = {
        "accounts": sorted(accounts),
        "before": to_micros(before),
        "since": to_micros(since),
        "as_of": to_micros(as_of),
    }
    return [
        EntryChange(
            key=key_of(row),
            id=row.remote_id,
            effective_at=from_micros(row.effective_at),
            recorded_at=from_micros(row.recorded_at),
            source=row.cause,
            net=int(row.net),
            gross=int(row.gross),
            fee=int(row.fee),
            gone=bool(row.gone),
        )
        for row in _without_repeated(tx.run(_REPLACED, given).all(), tx.run(_CHANGED, given).all())
    ]


def _without_repeated(replaced: Sequence[Any], changed: Sequence[Any]) -> Iterator[Any]:
    repeated = {_booked(row) for row in replaced} & {_booked(row) for row in changed}
    return (row for row in (*replaced, *changed) if _booked(row) not in repeated)


def _booked(row: Any) -> tuple[Any, ...]:
    """All that a balance's proof reads of an entry."""
    return (
        *(row.account, row.balance_type, row.currency, row.remote_id, row.category, row.effective_at),
        *(row.gross, row.fee, row.net),
    )


def key_of(row: Any) -> BalanceKey:
    return BalanceKey(row.account, row.balance_type, row.currency)


def entry_fact(row: Any) -> EntryFact:
    return EntryFact(
        key=key_of(row),
        id=row.remote_id,
        category=row.category,
        gross=row.gross,
        fee=row.fee,
        net=row.net,
        effective_at=from_micros(row.effective_at),
        available_on=None if row.available_on is None else from_micros(row.available_on),
        source_id=row.source_id,
        payout_id=row.payout_id,
        fee_details=row.fee_details,
    )


# --- payouts and what they paid out ---------------------------------------------------------------

_LISTED = text(
    """
    SELECT p.payout_id, p.complete FROM payout_members p
    WHERE p.account = :account AND p.recorded_at <= :as_of
    ORDER BY p.payout_id, p.recorded_at
    """
)
_PAID_BY = """
    FROM entry e LEFT JOIN payout_member m ON m.account = e.account AND m.remote_id = e.remote_id
      AND m.recorded_at <= :as_of AND (m.superseded_at IS NULL OR m.superseded_at > :as_of)
"""
_PAYOUT_SET = {
    "sqlite": "SELECT value FROM json_each(:payouts)",
    "postgresql": "SELECT value FROM json_array_elements_text(CAST(:payouts AS json))",
}
_UNSETTLED = f"""
    SELECT {ENTRY} {_PAID_BY}
    WHERE e.account = :account AND e.balance_type = :balance_type AND e.currency = :currency
      AND e.effective_at < :end AND {KNOWN} AND e.category <> 'payout'
      AND (coalesce(m.payout_id, e.payout_id) IS NULL OR coalesce(m.payout_id, e.payout_id) NOT IN ({{payouts}}))
    ORDER BY e.effective_at DESC{{and_name}} LIMIT :limit
"""


def listed_payouts(tx: Transaction, account: str, as_of: datetime) -> dict[str, bool]:
    """Payouts whose members the provider listed -> whether the latest list is complete."""
    given = {"account": account, "as_of": to_micros(as_of)}
    return {row.payout_id: bool(row.complete) for row in tx.run(_LISTED, given)}


def unsettled(
    tx: Transaction,
    key: BalanceKey,
    payout_ids: Collection[str],
    end: datetime,
    as_of: datetime,
    *,
    count: int,
    limit: int,
) -> list[EntryFact]:
    """The newest entries of a balance that none of these payouts paid out, payouts themselves left out; of one instant
    in the order of their names. `count` is how many there are, in all.

    Walks back from `end` to the oldest that it returns, and not to the ledger's beginning: asked for all of them in the
    order of their names, the database would look for another one of the oldest's instant behind it.
    """
    sql = _UNSETTLED.format(payouts=_PAYOUT_SET[tx.dialect.name], and_name=", e.remote_id" if limit < count else "")
    given = {
        "account": key.account,
        "balance_type": key.balance_type,
        "currency": key.currency,
        "payouts": orjson.dumps(sorted(payout_ids)).decode(),
        "end": to_micros(end),
        "as_of": to_micros(as_of),
        "limit": min(limit, count),
    }
    found = [entry_fact(row) for row in tx.run(text(sql), given)]
    return sorted(sorted(found, key=lambda each: each.id), key=lambda each: each.effective_at, reverse=True)
