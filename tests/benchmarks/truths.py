"""What the ledger says of a benchmark's deliveries and marks: when each was verified, and what is still waiting."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import text

from reconciler.clock import SystemClock
from reconciler.ledger import Ledger, Mark
from reconciler.model import Cause, ResourceRef

PATIENCE_SECONDS = 180.0
_POLL_SECONDS = 0.2
_MARKED_AT_ONCE = 500

# Each resource was named once, and is settled by the read that its first version came from.
_TRUTHS = text(
    """
    SELECT CASE WHEN resource.generation = resource.settled_generation
                THEN version.recorded_at - delivery.received_at END AS settled
    FROM delivery
    JOIN delivery_link ON delivery_link.delivery_id = delivery.id
    JOIN resource ON resource.account = delivery_link.account AND resource.kind = delivery_link.kind
                     AND resource.remote_id = delivery_link.remote_id
    LEFT JOIN version ON version.resource_id = resource.id AND version.version = 1
    WHERE delivery.id > :after
    """
)
_FIRST_VERSIONS = text(
    """
    SELECT COUNT(*) AS known, MIN(version.recorded_at) AS first, MAX(version.recorded_at) AS last
    FROM version JOIN resource ON resource.id = version.resource_id
    WHERE version.version = 1 AND resource.remote_id >= :first AND resource.remote_id <= :last
    """
)


def last_delivery(ledger: Ledger) -> int:
    """The newest one's id; 0 without any."""
    with ledger.store.read() as tx:
        return int(tx.run(text("SELECT COALESCE(MAX(id), 0) FROM delivery")).scalar_one())


def truths(ledger: Ledger, after: int) -> tuple[list[float], int]:
    """Milliseconds from each resource's delivery to its first version, ascending, and how many have none.

    Of the deliveries after that one, which must all name different resources.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        with ledger.store.read() as tx:
            rows = tx.run(_TRUTHS, {"after": after}).all()
        unsettled = sum(row.settled is None for row in rows)
        if not unsettled or time.monotonic() > give_up_at:
            return sorted([row.settled / 1000 for row in rows if row.settled is not None]), unsettled
        time.sleep(_POLL_SECONDS)


def versions(ledger: Ledger) -> int:
    with ledger.store.read() as tx:
        return int(tx.run(text("SELECT COUNT(*) FROM version")).scalar_one())


def mark(ledger: Ledger, refs: Sequence[ResourceRef], *, delay: timedelta = timedelta(0)) -> None:
    now = SystemClock().now()
    for at in range(0, len(refs), _MARKED_AT_ONCE):
        ledger.mark([Mark(ref, Cause.BACKFILL, delay=delay) for ref in refs[at : at + _MARKED_AT_ONCE]], now)


def seconds_of_first_versions(ledger: Ledger, refs: Sequence[ResourceRef]) -> float:
    """From the first to the last of them, once all have one. Raises RuntimeError when they have none in time."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    given = {"first": min(ref.id for ref in refs), "last": max(ref.id for ref in refs)}
    while True:
        with ledger.store.read() as tx:
            row = tx.run(_FIRST_VERSIONS, given).one()
        if row.known == len(refs):
            return float(row.last - row.first) / 1e6
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"only {row.known} of {len(refs)} resources were read in {PATIENCE_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
