"""What was sent to a subscription and what it answered; and what was given up on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text

from reconciler.clock import from_micros
from reconciler.ledger.listing.stretch import FOREVER, Stretch
from reconciler.ledger.outbox import Attempt
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef


@dataclass(frozen=True, slots=True)
class LoggedAttempt:
    """One request of the delivery log. `ref` None: a test event."""

    ref: ResourceRef | None
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class DeadParcel:
    ref: ResourceRef
    resource_id: int
    version: int
    attempts: int
    error: str
    created_at: datetime
    ended_at: datetime


_ATTEMPTS: Final = """
  SELECT a.id, a.resource_id, a.version, a.message_id, a.at, a.duration, a.status, a.error, a.answer,
    r.provider, r.account, r.kind, r.remote_id
  FROM (SELECT * FROM outbox_attempt
        WHERE subscription = :name AND (at, id) < (:at, :id) {only} ORDER BY at DESC, id DESC LIMIT :limit) a
  LEFT JOIN resource r ON r.id = a.resource_id ORDER BY a.at DESC, a.id DESC
"""
_EVERY: Final = text(_ATTEMPTS.format(only=""))
_OF_VERSION: Final = text(_ATTEMPTS.format(only="AND resource_id = :resource_id AND version = :version"))
_DEAD: Final = text(
    """
    SELECT o.resource_id, o.version, o.attempts, o.last_error, o.created_at, o.ended_at,
      r.provider, r.account, r.kind, r.remote_id
    FROM outbox o JOIN resource r ON r.id = o.resource_id
    WHERE o.subscription = :name AND o.outcome = 'dead' ORDER BY o.ended_at LIMIT :limit
    """
)


def attempts(tx: Transaction, name: str, *, after: tuple[int, int] | None, limit: int) -> Stretch:
    """Requests, the last one first."""
    at, last = after or (FOREVER, 2**62)
    rows = tx.run(_EVERY, {"name": name, "at": at, "id": last, "limit": limit}).all()
    key = (rows[-1].at, rows[-1].id) if len(rows) == limit else None
    return Stretch(tuple(_attempt(tx, name, row) for row in rows), key)


def attempts_of(tx: Transaction, name: str, resource_id: int, version: int, *, limit: int) -> list[LoggedAttempt]:
    """Requests that told of one version, the last one first."""
    given = {"name": name, "at": FOREVER, "id": 2**62, "limit": limit, "resource_id": resource_id, "version": version}
    return [_attempt(tx, name, row) for row in tx.run(_OF_VERSION, given)]


def given_up(tx: Transaction, name: str, *, limit: int) -> list[DeadParcel]:
    """The first given up on first."""
    return [
        DeadParcel(
            ResourceRef(row.provider, row.account, row.kind, row.remote_id),
            row.resource_id,
            row.version,
            row.attempts,
            row.last_error or "",
            from_micros(row.created_at),
            from_micros(row.ended_at),
        )
        for row in tx.run(_DEAD, {"name": name, "limit": limit})
    ]


def _attempt(tx: Transaction, name: str, row: Any) -> LoggedAttempt:
    return LoggedAttempt(
        None if row.provider is None else ResourceRef(row.provider, row.account, row.kind, row.remote_id),
        Attempt(
            subscription=name,
            resource_id=row.resource_id,
            version=row.version,
            message_id=row.message_id,
            at=from_micros(row.at),
            duration=timedelta(microseconds=row.duration),
            status=row.status,
            error=row.error,
            answer=b"" if row.answer is None else tx.unpack(row.answer, Place.ANSWER),
        ),
    )
