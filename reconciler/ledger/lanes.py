"""What is due, by lane, and how dense it lies: what the worker looks at before it claims."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.gates import ALL_GATES, Gate, gate_of
from reconciler.ledger.question import Question
from reconciler.ledger.transaction import Transaction
from reconciler.model import Window


@dataclass(frozen=True, slots=True)
class Lane:
    """Dirty resources that are read through the same door at the same urgency, and when the first of them is due."""

    account: str
    kind: str
    priority: int
    due_at: datetime


# One index probe for each lane there is, however long the backlog: neither database skips over equal prefixes itself.
# Each step looks one column further only, because SQLite uses no more than the first column of `(a, b, c) > (x, y, z)`:
# with 20,000 due in one lane that form took 4 ms, this one 0.03, once for every delivery that wakes the worker.
_NEXT = """
  SELECT later.id FROM resource AS later
  WHERE later.due_at IS NOT NULL AND {beyond}
  ORDER BY later.account, later.kind, later.priority, later.due_at LIMIT 1
"""
_LANES = Question(
    f"""
    WITH RECURSIVE lane(id, account, kind, priority, due_at) AS (
      SELECT id, account, kind, priority, due_at FROM resource
      WHERE id = ({_NEXT.format(beyond="TRUE")})
      UNION ALL
      SELECT next.id, next.account, next.kind, next.priority, next.due_at
      FROM lane JOIN resource AS next ON next.id = COALESCE(
        ({
        _NEXT.format(
            beyond="later.account = lane.account AND later.kind = lane.kind AND later.priority > lane.priority"
        )
    }),
        ({_NEXT.format(beyond="later.account = lane.account AND later.kind > lane.kind")}),
        ({_NEXT.format(beyond="later.account > lane.account")}))
    )
    SELECT account, kind, priority, due_at FROM lane
    """
)


def lanes(tx: Transaction) -> tuple[list[Lane], list[Gate]]:
    """Every lane with something pending or leased, due or not, and all gates: to apply them is the caller's."""
    found, gates = tx.ask_together([_LANES.of(tx.dialect, {}), ALL_GATES.of(tx.dialect, {})])
    return (
        [Lane(account, kind, priority, from_micros(due_at)) for account, kind, priority, due_at in found],
        [gate_of(row) for row in gates],
    )


@dataclass(frozen=True, slots=True)
class Density:
    """A stretch of creation time around the longest-due resource of a lane: what one walk over it would answer."""

    window: Window
    objects: int
    """Resources of the kind that we know in the window: what a list of it will return, at least."""
    due: int
    """How many of them are due in this lane: what single reads would cost."""


_TWO_DUE = Question(
    """
    SELECT 1 FROM resource WHERE account = :account AND kind = :kind AND priority = :priority AND due_at <= :now
    LIMIT 1 OFFSET 1
    """
)
_PIVOT = Question(
    """
    SELECT created_at FROM (
      SELECT created_at, due_at FROM resource
      WHERE account = :account AND kind = :kind AND priority = :priority AND due_at <= :now
      ORDER BY due_at LIMIT 100
    ) AS longest
    WHERE created_at IS NOT NULL ORDER BY due_at LIMIT 1
    """
)
"""Among the longest-due hundred only: a backlog of which no creation is known would be read to its end each time."""


@cache
def _edge(compare: str, order: str) -> Question:
    return Question(
        f"""
        SELECT created_at FROM resource WHERE account = :account AND kind = :kind AND created_at {compare} :pivot
        ORDER BY created_at {order} LIMIT 1 OFFSET :offset
        """
    )


_OBJECTS = Question(
    """
    SELECT count(*) FROM resource
    WHERE account = :account AND kind = :kind AND created_at >= :since AND created_at < :until
    """
)
_DUE_THERE = Question(
    """
    SELECT count(*) FROM resource
    WHERE account = :account AND kind = :kind AND created_at >= :since AND created_at < :until
      AND priority = :priority AND due_at <= :now
    """
)
_SECOND = 1_000_000


def density(
    tx: Transaction, account: str, kind: str, priority: int, *, page_size: int, now: datetime
) -> Density | None:
    """A stretch of about one page of known objects around the longest-due one, in whole seconds.

    None when fewer than two are due, or when nothing is known of when the longest-due ones were created.
    """
    lane = {"account": account, "kind": kind, "priority": priority, "now": to_micros(now)}
    two, pivots = tx.ask_together([each.of(tx.dialect, lane) for each in (_TWO_DUE, _PIVOT)])
    if not two or not pivots:
        return None
    pivot: int = pivots[0][0]
    around = lane | {"pivot": pivot, "offset": page_size // 2 - 1}
    edges = tx.ask_together([_edge(*way).of(tx.dialect, around) for way in (("<=", "DESC"), (">=", "ASC"))])
    candidates: list[int] = [edge[0][0] if edge else pivot for edge in edges]
    since = min(candidates) // _SECOND * _SECOND
    until = (max(candidates) // _SECOND + 1) * _SECOND
    bounds = lane | {"since": since, "until": until}
    objects, due = tx.ask_together([each.of(tx.dialect, bounds) for each in (_OBJECTS, _DUE_THERE)])
    return Density(Window(from_micros(since), from_micros(until)), objects[0][0], due[0][0])
