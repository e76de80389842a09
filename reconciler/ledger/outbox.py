"""The outbox: what each subscription is still to be told, in the transaction of the change itself.

The same law as for resources: a claim lends a row under a fresh token from the ledger clock, an ending names the
token, and a worker whose lease is over changes nothing. Claims of one subscription take the lock on its row, so that
its concurrency, its pace and its circuit breaker hold for all nodes together. Of one resource only the oldest pending
version can be claimed: the order holds however many nodes there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, text

from reconciler.clock import from_micros, span_micros, to_micros
from reconciler.ledger.bulk import WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.changes import Filter
from reconciler.ledger.codec import pack
from reconciler.ledger.store import Transaction
from reconciler.ledger.subscriptions import Ordering, Origin, Standing, Subscriber, all_wanted, stand, subscriber

PROBE_AFTER = 5
"""Failures in a row after which one request at a time asks whether the subscriber is back."""

_BURST = timedelta(seconds=1)
"""How much of its pace a subscription may use at once after a rest."""


class Outcome(StrEnum):
    """How a row ended."""

    DELIVERED = "delivered"
    FILTERED = "filtered"
    """None of the fields that the subscription wants had changed."""
    SKIPPED = "skipped"
    """A newer version was sent instead."""
    DEAD = "dead"
    """Given up on; `retry` sends it after all."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A version that is being stored, as far as subscriptions choose by it."""

    resource_id: int
    version: int
    account: str
    kind: str
    cause: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """A claimed row: to be sent, and ended under its token."""

    subscription: str
    resource_id: int
    version: int
    token: int
    attempts: int
    """This one included."""
    first_tried_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Door:
    """A subscription with something pending, and when the first of it may be sent."""

    name: str
    origin: Origin
    ready_at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was sent and what came back."""

    subscription: str
    resource_id: int
    version: int
    message_id: str
    at: datetime
    duration: timedelta
    status: int | None
    error: str = ""
    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a claim: with an outcome, or due again at `again_at`."""

    parcel: Parcel
    outcome: Outcome | None
    again_at: datetime | None = None
    error: str = ""
    attempt: Attempt | None = None
    """None: nothing was sent."""
    healthy: bool | None = None
    """What the answer says of the subscriber; None: nothing."""
    shut_until: datetime | None = None
    """Asked for by the subscriber itself (Retry-After)."""
    disable: str = ""
    """Why it must not be sent anything any more; empty: it may."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of an ending."""

    lost: bool
    """The lease was over: only the log heard of it."""
    failures: int = 0
    """Of the subscription in a row, this one included."""
    recovered_since: datetime | None = None
    """It had been failing since then, and has answered now."""


# --- writing it -------------------------------------------------------------------------------------

_ENQUEUE = insert_into(
    "outbox",
    {"subscription": WORDS, "resource_id": WHOLE, "version": WHOLE, "created_at": WHOLE, "due_at": WHOLE},
    "ON CONFLICT (subscription, resource_id, version) DO NOTHING",
)


def announce(tx: Transaction, announced: Sequence[Announced], now: datetime) -> None:
    """In the transaction that stores the versions: one row for each subscription that wants it."""
    subscriptions = all_wanted(tx)
    if not subscriptions:
        return
    at = to_micros(now)
    _ENQUEUE.run(
        tx,
        [
            {"subscription": name, "resource_id": each.resource_id, "version": each.version, "created_at": at,
             "due_at": at}
            for each in announced
            for name, wanted in subscriptions
            if wanted.wants(each.account, each.kind, each.cause)
        ],
    )  # fmt: skip


# --- claiming ---------------------------------------------------------------------------------------

_DOORS = text(
    """
    SELECT s.name, s.origin, s.shut_until, s.paced_at,
      (SELECT min(o.due_at) FROM outbox o WHERE o.subscription = s.name AND o.due_at IS NOT NULL) AS due_at
    FROM subscription s WHERE s.state = 'active'
    """
)
_ROOM = """
  SELECT ordering, concurrency, spacing, failures, paced_at FROM subscription
  WHERE name = :name AND state = 'active' AND shut_until <= :now {lock}
"""
_UNDER_WAY = text("SELECT count(*) FROM outbox WHERE subscription = :name AND lease_until > :now")
_HEADS = text(
    """
    SELECT o.resource_id, o.version FROM outbox o
    WHERE o.subscription = :name AND o.due_at <= :now AND NOT EXISTS (
      SELECT 1 FROM outbox e WHERE e.subscription = :name AND e.resource_id = o.resource_id AND e.version < o.version
        AND e.due_at IS NOT NULL)
    ORDER BY o.due_at, o.resource_id, o.version LIMIT :count
    """
)
_NEWEST = text(
    """
    SELECT max(version) FROM outbox
    WHERE subscription = :name AND resource_id = :resource_id AND due_at IS NOT NULL
    """
)
_SKIP = text(
    """
    UPDATE outbox SET due_at = NULL, lease_until = NULL, lease_owner = NULL, outcome = 'skipped', ended_at = :now
    WHERE subscription = :name AND resource_id = :resource_id AND version < :version AND due_at IS NOT NULL
    """
)
_LEASE = text(
    """
    UPDATE outbox SET lease_token = :token, lease_until = :until, lease_owner = :owner, due_at = :until,
      attempts = attempts + 1, first_tried_at = COALESCE(first_tried_at, :now)
    WHERE subscription = :name AND resource_id = :resource_id AND version = :version AND due_at IS NOT NULL
    RETURNING attempts, first_tried_at, created_at
    """
)
_PACE = text("UPDATE subscription SET paced_at = :at WHERE name = :name")


def doors(tx: Transaction) -> list[Door]:
    """Every active subscription with something pending or leased."""
    return [
        Door(row.name, Origin(row.origin), from_micros(max(row.shut_until, row.paced_at, row.due_at)))
        for row in tx.run(_DOORS)
        if row.due_at is not None
    ]


def claim(tx: Transaction, name: str, *, room: int, owner: str, lease: timedelta, now: datetime) -> list[Parcel]:
    """Up to `room` of what a subscription may be sent now. Nothing where another node is claiming for it."""
    at = to_micros(now)
    row = tx.run(text(_ROOM.format(lock=tx.dialect.skip_locked)), {"name": name, "now": at}).one_or_none()
    if row is None:
        return []
    under_way = int(tx.run(_UNDER_WAY, {"name": name, "now": at}).scalar_one())
    most = 1 if row.failures >= PROBE_AFTER else row.concurrency
    paced_at = max(row.paced_at, at - span_micros(_BURST))
    room = min(room, most - under_way, (at - paced_at) // row.spacing + 1 if row.spacing else room)
    if room <= 0:
        return []
    heads = tx.run(_HEADS, {"name": name, "now": at, "count": room}).all()
    if not heads:
        return []
    token = tx.tick()
    parcels = []
    for head in heads:
        version = head.version
        if row.ordering == Ordering.NEWEST:
            version = tx.run(_NEWEST, {"name": name, "resource_id": head.resource_id}).scalar_one()
            tx.run(_SKIP, {"name": name, "resource_id": head.resource_id, "version": version, "now": at})
        leased = tx.run(
            _LEASE,
            {
                "name": name,
                "resource_id": head.resource_id,
                "version": version,
                "token": token,
                "until": to_micros(now + lease),
                "owner": owner,
                "now": at,
            },
        ).one()
        parcels.append(
            Parcel(
                name,
                head.resource_id,
                version,
                token,
                leased.attempts,
                from_micros(leased.first_tried_at),
                from_micros(leased.created_at),
            )
        )
    if row.spacing:
        tx.run(_PACE, {"name": name, "at": paced_at + row.spacing * len(parcels)})
    return parcels


# --- ending -----------------------------------------------------------------------------------------

_END = text(
    """
    UPDATE outbox SET due_at = :due_at, outcome = :outcome, ended_at = :ended_at, lease_until = NULL,
      lease_owner = NULL, last_error = :error, attempts = attempts - :unsent
    WHERE subscription = :name AND resource_id = :resource_id AND version = :version
      AND lease_token = :token AND lease_until IS NOT NULL
    """
)
_LOG = insert_into(
    "outbox_attempt",
    {
        "id": WHOLE,
        "subscription": WORDS,
        "resource_id": WHOLE,
        "version": WHOLE,
        "message_id": WORDS,
        "at": WHOLE,
        "duration": WHOLE,
        "status": WHOLE,
        "error": WORDS,
        "answer": "bytea",
    },
)
_FAILING_SINCE = text("SELECT failing_since FROM subscription WHERE name = :name AND failures > 0")
_WELL = text(
    "UPDATE subscription SET failures = 0, failing_since = NULL, shut_until = 0 WHERE name = :name AND failures > 0"
)
_ILL = text(
    "UPDATE subscription SET failures = failures + 1, failing_since = COALESCE(failing_since, :now)"
    " WHERE name = :name RETURNING failures"
)
_SHUT_DOOR = {
    "sqlite": text("UPDATE subscription SET shut_until = max(shut_until, :until) WHERE name = :name"),
    "postgresql": text("UPDATE subscription SET shut_until = GREATEST(shut_until, :until) WHERE name = :name"),
}


def log_attempt(tx: Transaction, attempt: Attempt) -> None:
    _LOG.run(
        tx,
        [
            {
                "id": tx.tick(),
                "subscription": attempt.subscription,
                "resource_id": attempt.resource_id,
                "version": attempt.version,
                "message_id": attempt.message_id,
                "at": to_micros(attempt.at),
                "duration": span_micros(attempt.duration),
                "status": attempt.status,
                "error": attempt.error,
                "answer": pack(attempt.answer) if attempt.answer else None,
            }
        ],
    )


def end(tx: Transaction, ending: Ending, now: datetime) -> Ended:
    """End a claim, log what was sent, and remember how the subscriber is. A lost claim only logs."""
    parcel, at = ending.parcel, to_micros(now)
    if ending.attempt is not None:
        log_attempt(tx, ending.attempt)
    touched = tx.run(
        _END,
        {
            "name": parcel.subscription,
            "resource_id": parcel.resource_id,
            "version": parcel.version,
            "token": parcel.token,
            "due_at": None if ending.outcome is not None else to_micros(ending.again_at or now),
            "outcome": None if ending.outcome is None else ending.outcome.value,
            "ended_at": None if ending.outcome is None else at,
            "error": ending.error or None,
            "unsent": 1 if ending.attempt is None else 0,
        },
    )
    if touched.rowcount != 1:
        return Ended(lost=True)
    return _health(tx, ending, at, now)


def _health(tx: Transaction, ending: Ending, at: int, now: datetime) -> Ended:
    name = ending.parcel.subscription
    if ending.shut_until is not None:
        shut(tx, name, ending.shut_until)
    if ending.disable:
        stand(tx, name, Standing.DISABLED, ending.disable, now)
    if ending.healthy is None:
        return Ended(lost=False)
    if not ending.healthy:
        failures = tx.run(_ILL, {"name": name, "now": at}).scalar_one_or_none()
        return Ended(lost=False, failures=failures or 0)
    since = tx.run(_FAILING_SINCE, {"name": name}).scalar_one_or_none()
    if since is None:
        return Ended(lost=False)
    tx.run(_WELL, {"name": name})
    return Ended(lost=False, recovered_since=from_micros(since))


def shut(tx: Transaction, name: str, until: datetime) -> None:
    """Send it nothing before then."""
    tx.run(_SHUT_DOOR[tx.dialect.name], {"name": name, "until": to_micros(until)})


_RELEASE = Bulk(
    """
    UPDATE outbox SET due_at = {due_at}, lease_until = NULL, lease_owner = NULL, attempts = outbox.attempts - 1 {_rows}
    WHERE outbox.subscription = {subscription} AND outbox.resource_id = {resource_id} AND outbox.version = {version}
      AND outbox.lease_token = {token} AND outbox.lease_until IS NOT NULL
    """,
    {"subscription": WORDS, "resource_id": WHOLE, "version": WHOLE, "token": WHOLE, "due_at": WHOLE},
)
_OWNERS = text("SELECT DISTINCT lease_owner FROM outbox WHERE lease_until IS NOT NULL")
_VOID = text(
    "UPDATE outbox SET due_at = :now, lease_until = NULL, lease_owner = NULL, lease_token = :token"
    " WHERE lease_until IS NOT NULL AND lease_owner = :owner"
)


def release(tx: Transaction, parcels: Iterable[Parcel], now: datetime) -> None:
    """Give back what was not sent."""
    _RELEASE.run(
        tx,
        [
            {
                "subscription": each.subscription,
                "resource_id": each.resource_id,
                "version": each.version,
                "token": each.token,
                "due_at": to_micros(now),
            }
            for each in parcels
        ],
    )


def lease_owners(tx: Transaction) -> list[str]:
    return [row.lease_owner for row in tx.run(_OWNERS) if row.lease_owner is not None]


def void_leases(tx: Transaction, owner: str, now: datetime) -> int:
    """End every claim of an owner that is known to be gone."""
    return tx.run(_VOID, {"owner": owner, "now": to_micros(now), "token": tx.tick()}).rowcount


# --- dead letters and replay ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replay:
    """Changes of a window of recording that a subscription is told again, or after all."""

    subscription: str
    since: datetime
    until: datetime
    only: Filter = Filter()  # noqa: RUF009 - frozen, so sharing it is safe
    """Narrows what the subscription wants; fields are looked at when it is sent."""


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


# --- forgetting -------------------------------------------------------------------------------------

_EXPIRE = text(
    """
    UPDATE outbox SET due_at = NULL, lease_until = NULL, lease_owner = NULL, outcome = 'dead', ended_at = :now,
      last_error = 'waited too long for a subscription that gets nothing; replay it when it does'
    WHERE due_at IS NOT NULL AND created_at < :before AND subscription IN (
      SELECT name FROM subscription WHERE state IN ('paused', 'disabled'))
    """
)
_PRUNE = text(
    """
    DELETE FROM outbox WHERE (subscription, resource_id, version) IN (
      SELECT subscription, resource_id, version FROM outbox WHERE ended_at < :before ORDER BY ended_at LIMIT :limit)
    """
)
_PRUNE_LOG = text(
    "DELETE FROM outbox_attempt WHERE id IN (SELECT id FROM outbox_attempt WHERE at < :before ORDER BY at LIMIT :limit)"
)


def prune(tx: Transaction, *, before: datetime, now: datetime, limit: int) -> int:
    """Forget what ended before then, and its log; how much it was, at most `limit` of each. `replay` finds it again."""
    bounds = {"before": to_micros(before), "limit": limit}
    tx.run(_EXPIRE, {"before": to_micros(before), "now": to_micros(now)})
    return max(tx.run(_PRUNE, bounds).rowcount, tx.run(_PRUNE_LOG, bounds).rowcount)


def resume(tx: Transaction, name: str, now: datetime) -> Subscriber | None:
    """Active again, with a clean record; what gathered meanwhile is due."""
    stand(tx, name, Standing.ACTIVE, "", now)
    return subscriber(tx, name)
