"""Forgetting what nobody needs any more: which rows are old enough, and taking them away, a few at a time.

What is to go is looked for in a read transaction, however long that takes; only taking it away holds the writer.
Nothing here touches what a report reads: versions, entries, totals, payouts' members, coverage, breaks, locks, kept
reports and the audit log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.sql.elements import TextClause

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Rule:
    """What one kind of row is recognised by. `oldest` names it by its key and tells its time as `at`, oldest first."""

    name: str
    table: str
    oldest: TextClause
    remove: TextClause
    from_watermark: bool = False
    """Older rows of other sorts stand before them: look only behind what the last complete run looked at."""


@dataclass(frozen=True, slots=True)
class Old:
    """Rows that may go, and where to look on; `until` None: there is nothing more."""

    keys: Sequence[Mapping[str, Any]]
    until: datetime | None


DELIVERIES: Final = Rule(
    "deliveries",
    "delivery",
    text(
        """
        SELECT id, received_at AS at FROM delivery
        WHERE received_at >= :since AND received_at < :before AND verdict <> 'rejected'
        ORDER BY received_at LIMIT :limit
        """
    ),
    text("DELETE FROM delivery WHERE id = :id"),
)
REJECTED: Final = Rule(
    "rejected",
    "delivery",
    text(
        """
        SELECT id, received_at AS at FROM delivery
        WHERE received_at >= :since AND received_at < :before AND verdict = 'rejected'
        ORDER BY received_at LIMIT :limit
        """
    ),
    text("DELETE FROM delivery WHERE id = :id"),
    from_watermark=True,
)
MISSED: Final = Rule(
    "missed",
    "missed_event",
    text(
        """
        SELECT account, event_id, noticed_at AS at FROM missed_event
        WHERE noticed_at >= :since AND noticed_at < :before ORDER BY noticed_at LIMIT :limit
        """
    ),
    text("DELETE FROM missed_event WHERE account = :account AND event_id = :event_id"),
)
"""Before the deliveries: an event that came late counts as missed again when its delivery is gone."""
EXPECTATIONS: Final = Rule(
    "expectations",
    "expectation",
    text(
        """
        SELECT id, confirmed_at AS at FROM expectation
        WHERE confirmed_at >= :since AND confirmed_at < :before ORDER BY confirmed_at LIMIT :limit
        """
    ),
    text("DELETE FROM expectation WHERE id = :id"),
)
READS: Final = Rule(
    "reads",
    "read_tally",
    text(
        """
        SELECT account, day, endpoint, priority, day AS at FROM read_tally
        WHERE day >= :since AND day < :before ORDER BY day LIMIT :limit
        """
    ),
    text(
        "DELETE FROM read_tally"
        " WHERE account = :account AND day = :day AND endpoint = :endpoint AND priority = :priority"
    ),
)


class _Names:
    """A table of what deliveries named, and its key."""

    def __init__(self, table: str, before_all: Mapping[str, Any]) -> None:
        self.table = table
        self.before_all = before_all
        key = ", ".join(f"m.{name}" for name in before_all)
        place = ", ".join(f":{name}" for name in before_all)
        self.next = text(
            f"""
            SELECT {key}, NOT EXISTS (SELECT 1 FROM delivery d WHERE d.id = m.delivery_id) AS gone
            FROM {table} m WHERE ({key}) > ({place}) ORDER BY {key} LIMIT :limit
            """
        )
        self.remove = text(f"DELETE FROM {table} WHERE {' AND '.join(f'{name} = :{name}' for name in before_all)}")


BEGINNING: Final[Mapping[str, Any]] = {"account": "", "kind": "", "remote_id": "", "delivery_id": 0}
"""Before every name that a delivery gave."""
_BEFORE_ERAS: Final = _Names("delivery_mark", BEGINNING)
_BY_ERA: Final = _Names("delivery_link", {"era": -1, **BEGINNING})


def old(tx: Transaction, rule: Rule, *, since: datetime, before: datetime, limit: int) -> Old:
    """The oldest rows of a rule, of which each may go."""
    rows = tx.run(rule.oldest, {"since": to_micros(since), "before": to_micros(before), "limit": limit}).all()
    keys = [{name: value for name, value in row._mapping.items() if name != "at"} for row in rows]
    return Old(keys, from_micros(rows[-1].at) if len(rows) == limit else None)


def remove(tx: Transaction, rule: Rule, keys: Sequence[Mapping[str, Any]]) -> int:
    """How many were still there."""
    return tx.run_many(rule.remove, keys)


def unnamed(
    tx: Transaction, after: Mapping[str, Any], *, limit: int
) -> tuple[list[Mapping[str, Any]], Mapping[str, Any] | None]:
    """One stretch of what deliveries named: those whose delivery is gone, and where to go on (None: that was the end).

    Found by walking, because an index by delivery would cost every webhook that comes in.
    """
    names = _names(after)
    rows = tx.run(names.next, dict(after) | {"limit": limit}).all()
    keys: list[Mapping[str, Any]] = [{name: getattr(row, name) for name in names.before_all} for row in rows]
    gone = [key for key, row in zip(keys, rows, strict=True) if row.gone]
    if len(rows) == limit:
        return gone, keys[-1]
    return gone, _BY_ERA.before_all if names is _BEFORE_ERAS else None


def unname(tx: Transaction, keys: Sequence[Mapping[str, Any]]) -> int:
    """Of one stretch; how many were still there."""
    return tx.run_many(_names(keys[0]).remove, keys)


def table_of(key: Mapping[str, Any]) -> str:
    """Where a name of a stretch stands."""
    return _names(key).table


def _names(key: Mapping[str, Any]) -> _Names:
    return _BY_ERA if "era" in key else _BEFORE_ERAS
