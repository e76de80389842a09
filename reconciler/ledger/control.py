"""What the finance report holds its sums against: balances that providers stated, and what was looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.sql.elements import TextClause

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.coverage import Coverage, coverage
from reconciler.ledger.finance import KNOWN, BalanceKey, between, key_of, over
from reconciler.ledger.transaction import Transaction

BEGINNING = datetime.fromisoformat("0001-01-02T00:00:00+00:00")
_NEVER = datetime.fromisoformat("9999-12-31T00:00:00+00:00")
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class TotalFact:
    """A balance that the provider stated."""

    key: BalanceKey
    minor: int
    as_at: datetime
    quiet: bool = True
    """False: entries are dated in its own second, and of those nobody knows whether it held them already."""


_TOTAL_KEYS = over(
    "SELECT DISTINCT account, balance_type, currency FROM control_total"
    " WHERE account IN :accounts AND recorded_at <= :as_of ORDER BY account, balance_type, currency"
)
_NEAR = 48
"""How many balances are looked through for a quiet one: two days of hourly readings."""
_QUIET = f"""NOT EXISTS (
      SELECT 1 FROM entry e WHERE e.account = t.account AND e.balance_type = t.balance_type AND e.currency = t.currency
        AND e.effective_at >= t.as_at - t.as_at % 1000000 AND e.effective_at < t.as_at AND {KNOWN}) AS quiet"""
_TOTALS = over(
    f"""
    SELECT t.account, t.balance_type, t.currency, t.minor, t.as_at, {_QUIET} FROM control_total t
    WHERE t.account IN :accounts AND t.as_at >= :since AND t.as_at < :until AND t.recorded_at <= :as_of
    ORDER BY t.account, t.balance_type, t.currency, t.as_at, t.recorded_at DESC, t.id DESC
    """
)
_TOTAL = f"""
    SELECT t.minor, t.as_at, {_QUIET}
    FROM (
      SELECT account, balance_type, currency, minor, as_at, recorded_at, id FROM control_total
      WHERE account = :account AND balance_type = :balance_type AND currency = :currency AND recorded_at <= :as_of
        AND as_at >= :since AND as_at < :until
      ORDER BY {{order}}, recorded_at DESC, id DESC LIMIT {_NEAR}) t
    ORDER BY quiet DESC, {{order}}, recorded_at DESC, id DESC LIMIT 1
"""
_TOTAL_FIRST = text(_TOTAL.format(order="as_at"))
_TOTAL_LAST = text(_TOTAL.format(order="as_at DESC"))


def total_keys(tx: Transaction, accounts: Collection[str], as_of: datetime) -> list[BalanceKey]:
    return [key_of(row) for row in tx.run(_TOTAL_KEYS, {"accounts": sorted(accounts), "as_of": to_micros(as_of)})]


def totals(
    tx: Transaction, accounts: Collection[str], since: datetime, until: datetime, as_of: datetime
) -> Iterator[TotalFact]:
    """Every total stated at `since <= t < until`, balance by balance; where one instant has several, the latest word
    comes first."""
    given = {"accounts": sorted(accounts), "since": to_micros(since), "until": to_micros(until)}
    for row in tx.run(_TOTALS, given | {"as_of": to_micros(as_of)}):
        yield TotalFact(key_of(row), int(row.minor), from_micros(row.as_at), quiet=bool(row.quiet))


def first_total(tx: Transaction, key: BalanceKey, since: datetime, as_of: datetime) -> TotalFact | None:
    """The earliest total stated at or after `since`; the latest word where one instant has several.

    A quiet one close by goes first: Stripe dates in whole seconds, so of what moved in the second of a total nobody
    knows whether it held that already.
    """
    return _one_total(tx, _TOTAL_FIRST, key, since, _NEVER, as_of)


def last_total(tx: Transaction, key: BalanceKey, until: datetime, as_of: datetime) -> TotalFact | None:
    """The latest total stated at or before `until`; a quiet one close by goes first."""
    return _one_total(tx, _TOTAL_LAST, key, BEGINNING, until + _INSTANT, as_of)


def _one_total(
    tx: Transaction, statement: TextClause, key: BalanceKey, since: datetime, until: datetime, as_of: datetime
) -> TotalFact | None:
    row = tx.run(statement, between(key, since, until, as_of)).one_or_none()
    return None if row is None else TotalFact(key, int(row.minor), from_micros(row.as_at), quiet=bool(row.quiet))


def covered(
    tx: Transaction, accounts: Collection[str], start: datetime, end: datetime, as_of: datetime
) -> list[Coverage]:
    """The windows that touch the period, complete ones and failed ones, oldest first within their kind."""
    touching = [
        each
        for each in coverage(tx, as_of)
        if each.account in accounts and each.window.until > start and each.window.since <= end
    ]
    return sorted(touching, key=lambda each: (each.account, each.kind, each.window.since, each.window.until))


def covered_since(tx: Transaction, accounts: Collection[str], as_of: datetime) -> dict[tuple[str, str], datetime]:
    """(account, kind) -> where its complete coverage begins."""
    begun: dict[tuple[str, str], datetime] = {}
    for each in coverage(tx, as_of):
        if each.complete and each.account in accounts:
            key = (each.account, each.kind)
            begun[key] = min(begun.get(key, each.window.since), each.window.since)
    return begun
