"""Sums of amounts: exact, or refused; and which amount it was that made them absurd.

Amounts are bounded where they are read (`reconciler.money.LARGEST`), so only what an older version stored, or hundreds
of absurd ones, add up to more than 64 bits. SQLite's `sum` ends with an error then, Postgres' goes on as `numeric`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, bindparam, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.elements import TextClause

from reconciler.clock import to_micros
from reconciler.errors import TooLargeToSum
from reconciler.ledger.transaction import POSTGRES, SQLITE, Transaction
from reconciler.model import ResourceRef

_WIDEST = 2**63
_SIDES = ("gross", "fee", "net")


def summed(tx: Transaction, statement: TextClause, given: Mapping[str, Any]) -> list[Row[Any]]:
    """The rows of a query that adds amounts up. Raises TooLargeToSum where a sum is beyond 64 bits."""
    try:
        rows = list(tx.run(statement, given))
    except OperationalError as error:
        if "integer overflow" in str(error.orig):
            raise TooLargeToSum from error
        raise
    if tx.dialect.is_postgres and any(not fits(each) for row in rows for each in row if isinstance(each, Decimal)):
        raise TooLargeToSum
    return rows


def fits(amount: Decimal | int) -> bool:
    return -_WIDEST <= amount < _WIDEST


def _largest(greatest: str) -> TextClause:
    sizes = ", ".join(f"CASE WHEN e.{side} < 0 THEN -(e.{side} + 1) ELSE e.{side} END" for side in _SIDES)
    return text(
        f"""
        SELECT r.provider, r.account, r.kind, r.remote_id, e.currency, e.gross, e.fee, e.net
        FROM entry e JOIN resource r ON r.id = e.resource_id
        WHERE e.account IN :accounts AND e.recorded_at <= :as_of
        ORDER BY {greatest}({sizes}) DESC, e.account, e.remote_id LIMIT 1
        """
    ).bindparams(bindparam("accounts", expanding=True))


_LARGEST = {dialect.name: _largest(dialect.greatest) for dialect in (SQLITE, POSTGRES)}


def largest(tx: Transaction, accounts: Collection[str], as_of: datetime) -> tuple[ResourceRef, int, str] | None:
    """The largest amount of all entries known then, either way: (whose it is, minor units, currency).

    Reads every entry of these accounts, so it is for when something is wrong already.
    """
    row = tx.run(_LARGEST[tx.dialect.name], {"accounts": sorted(accounts), "as_of": to_micros(as_of)}).one_or_none()
    if row is None:
        return None
    minor = max((int(row.gross), int(row.fee), int(row.net)), key=abs)
    return ResourceRef(row.provider, row.account, row.kind, row.remote_id), minor, row.currency
