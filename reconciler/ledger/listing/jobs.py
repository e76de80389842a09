"""What runs by itself, and the backfills that were asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import text

from reconciler.clock import from_micros
from reconciler.ledger.listing.stretch import instant
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class JobDetail:
    name: str
    due_at: datetime
    running_since: datetime | None
    """None: nobody runs it now."""
    owner: str | None
    watermark: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    last_error: str | None
    tries: int
    progress: dict[str, Any]


_JOB_COLUMNS: Final = (
    "name, due_at, lease_until, lease_owner, watermark, started_at, finished_at, last_error, tries, progress"
)
_PERIODIC = text(
    f"SELECT {_JOB_COLUMNS} FROM job WHERE name < 'backfill/' OR name >= 'backfill0' ORDER BY name LIMIT 1000"
)
_BACKFILLS = text(
    f"""
    SELECT {_JOB_COLUMNS} FROM job WHERE name >= 'backfill/' AND name < 'backfill0'
    ORDER BY COALESCE(started_at, 0) DESC, name LIMIT :limit
    """
)


def periodic_jobs(tx: Transaction, now: datetime) -> list[JobDetail]:
    return [_job(row, now) for row in tx.run(_PERIODIC)]


def backfill_jobs(tx: Transaction, now: datetime, *, limit: int) -> list[JobDetail]:
    """The last started first."""
    return [_job(row, now) for row in tx.run(_BACKFILLS, {"limit": limit})]


def _job(row: Any, now: datetime) -> JobDetail:
    running = row.lease_until is not None and from_micros(row.lease_until) > now
    return JobDetail(
        row.name,
        from_micros(row.due_at),
        instant(row.started_at) if running else None,
        row.lease_owner if running else None,
        instant(row.watermark),
        instant(row.started_at),
        instant(row.finished_at),
        row.last_error,
        row.tries,
        orjson.loads(row.progress),
    )
