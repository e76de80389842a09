"""Which groups that are set aside a report has to read after all, and what the others say in its period."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime

from sqlalchemy import bindparam, text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.aside import Flow
from reconciler.ledger.movements import OPEN
from reconciler.ledger.transaction import Transaction

_CUT = (
    # Something about them became known later: as of then, they looked different.
    text("SELECT id FROM aside_group WHERE changed_at > :as_of AND first_at < :end"),
    text("SELECT id FROM aside_group WHERE plain = 0 AND last_at >= :start AND first_at < :end"),
    text("SELECT DISTINCT group_id AS id FROM aside_flow WHERE earlier < :start AND later >= :start"),
    text("SELECT DISTINCT group_id AS id FROM aside_flow WHERE earlier < :end AND later >= :end"),
)
_FLOWS = text(
    """
    SELECT group_id, code, key, currency, minor, left_ref, right_ref, country, earlier, later FROM aside_flow
    WHERE later >= :start AND later < :end AND earlier >= :start AND changed_at <= :as_of
    ORDER BY group_id, ordinal
    """
)


def cut(tx: Transaction, start: datetime, end: datetime, as_of: datetime) -> set[int]:
    """Groups that a report has to read after all: its period or its instant cuts through them."""
    given = {"start": to_micros(start), "end": to_micros(end), "as_of": to_micros(as_of)}
    return {row.id for statement in _CUT for row in tx.run(statement, _only(given, statement.text))}


def _only(given: Mapping[str, int], sql: str) -> dict[str, int]:
    return {name: value for name, value in given.items() if f":{name}" in sql}


_MIXED = text(
    f"""
    SELECT group_id AS id FROM movement WHERE group_id > {OPEN} GROUP BY group_id
    HAVING min(CASE WHEN account IN :accounts THEN 1 ELSE 0 END) < max(CASE WHEN account IN :accounts THEN 1 ELSE 0 END)
    """
).bindparams(bindparam("accounts", expanding=True))


def mixed(tx: Transaction, accounts: Collection[str]) -> set[int]:
    """Groups that are only partly of these accounts: without the rest, nothing says that they are settled."""
    return {row.id for row in tx.run(_MIXED, {"accounts": sorted(accounts)})}


def flows(tx: Transaction, start: datetime, end: datetime, as_of: datetime, but: Collection[int]) -> Iterator[Flow]:
    """The flows inside a period of every plain group but those that the report reads itself."""
    given = {"start": to_micros(start), "end": to_micros(end), "as_of": to_micros(as_of)}
    for row in tx.run(_FLOWS, given).yield_per(1000):
        if row.group_id not in but:
            yield Flow(
                row.code,
                row.key,
                row.currency,
                row.minor,
                row.left_ref,
                row.right_ref,
                row.country,
                from_micros(row.earlier),
                from_micros(row.later),
                row.group_id,
            )
