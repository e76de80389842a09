"""Telling again: dead letters after all, and the changes of a window, with a preview."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text

from reconciler.clock import to_micros
from reconciler.errors import UsageError
from reconciler.ledger.changes import Filter
from reconciler.ledger.subscriptions import subscriber
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Replay:
    """Changes of a window of recording that a subscription is told again, or after all."""

    subscription: str
    since: datetime
    until: datetime
    only: Filter = Filter()  # noqa: RUF009 - frozen, so sharing it is safe
    """Narrows what the subscription wants; fields are looked at when it is sent."""

    def __post_init__(self) -> None:
        """Raises UsageError for a window in which nothing can lie: it would look done."""
        if self.since >= self.until:
            raise UsageError(f"the window ends ({self.until:%Y-%m-%d %H:%M:%S}Z) before it begins; since, then until")


_REVIVE = """
  UPDATE outbox SET due_at = :now, outcome = NULL, ended_at = NULL, attempts = 0, first_tried_at = NULL
  WHERE subscription = :name AND outcome = 'dead' {more}
"""
_REPLAYED = """
  FROM version v JOIN resource r ON r.id = v.resource_id
  WHERE v.recorded_at >= :since AND v.recorded_at < :until {more}
"""
_REPLAY_COUNT = "SELECT count(*) AS changes, count(DISTINCT v.resource_id) AS resources" + _REPLAYED
_REPLAY = (
    "INSERT INTO outbox (subscription, resource_id, version, created_at, due_at)"
    " SELECT :name, v.resource_id, v.version, :now, :now"
    + _REPLAYED
    + """
  ON CONFLICT (subscription, resource_id, version) DO UPDATE SET
    due_at = excluded.due_at, outcome = NULL, ended_at = NULL, attempts = 0, first_tried_at = NULL, lease_until = NULL
  WHERE outbox.due_at IS NULL
"""
)


def revive(tx: Transaction, name: str, resource_id: int | None, now: datetime) -> int:
    """Send dead letters after all, of one resource or all; how many."""
    more = "" if resource_id is None else "AND resource_id = :resource_id"
    given: dict[str, Any] = {"name": name, "now": to_micros(now)}
    return tx.run(text(_REVIVE.format(more=more)), given | _if_given(resource_id)).rowcount


def _if_given(resource_id: int | None) -> dict[str, Any]:
    return {} if resource_id is None else {"resource_id": resource_id}


def preview_replay(tx: Transaction, asked: Replay) -> tuple[int, int]:
    """(changes, resources) that `replay` would make pending, those that are pending anyway included."""
    more, given = _narrowed(tx, asked)
    row = tx.run(_with_sets(_REPLAY_COUNT.format(more=more), given), _window(asked) | given).one()
    return int(row.changes), int(row.resources)


def replay(tx: Transaction, asked: Replay, now: datetime) -> int:
    """Make them pending; how many were not already. Each keeps the message id that it had."""
    more, given = _narrowed(tx, asked)
    window = _window(asked) | {"name": asked.subscription, "now": to_micros(now)}
    return tx.run(_with_sets(_REPLAY.format(more=more), given), window | given).rowcount


def _window(asked: Replay) -> dict[str, Any]:
    return {"since": to_micros(asked.since), "until": to_micros(asked.until)}


def _narrowed(tx: Transaction, asked: Replay) -> tuple[str, dict[str, list[str]]]:
    there = subscriber(tx, asked.subscription)
    wanted = Filter() if there is None else there.subscription.wanted
    conditions: list[str] = []
    given: dict[str, list[str]] = {}
    for name, column in (("accounts", "r.account"), ("kinds", "r.kind"), ("causes", "v.cause")):
        for label, narrowing in (("own", wanted), ("only", asked.only)):
            values: frozenset[str] = getattr(narrowing, name)
            if values:
                conditions.append(f"AND {column} IN :{label}_{name}")
                given[f"{label}_{name}"] = sorted(values)
    return " ".join(conditions), given


def _with_sets(statement: str, given: Mapping[str, Any]) -> Any:
    return text(statement).bindparams(*(bindparam(name, expanding=True) for name in given))
