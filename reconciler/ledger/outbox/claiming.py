"""Lending what is due, under a subscription's own bounds, and taking back what a claim did not end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import text

from reconciler.clock import from_micros, span_micros, to_micros
from reconciler.ledger.bulk import WHOLE, WORDS, Bulk
from reconciler.ledger.outbox.values import Door, Parcel
from reconciler.ledger.subscriptions import Ordering, Origin
from reconciler.ledger.transaction import Transaction

PROBE_AFTER = 5
"""Failures in a row after which one request at a time asks whether the subscriber is back."""

_BURST = timedelta(seconds=1)
"""How much of its pace a subscription may use at once after a rest."""

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
    """Of every active subscription; what is leased may be sent when its lease is over."""
    return [
        Door(
            row.name,
            Origin(row.origin),
            None if row.due_at is None else from_micros(max(row.shut_until, row.paced_at, row.due_at)),
        )
        for row in tx.run(_DOORS)
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
        ).one_or_none()
        if leased is None:
            continue  # it was chosen for a lease that is over, and has just ended after all
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


# --- giving back ---

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
