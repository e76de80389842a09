"""Periodic jobs as rows: who runs one now, how far it got, when it is due again. APScheduler only ticks.

The same rules as for resources: a fresh token per lease, and no effect without it. A job that dies comes back when
its lease ends; its watermark moves only in the transaction that proves the work behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text

from reconciler.clock import from_micros, to_micros
from reconciler.errors import LedgerError
from reconciler.ledger.question import Question
from reconciler.ledger.transaction import Transaction


class JobLost(LedgerError):
    """The job's lease ended and another node has it; whatever this one still does must not be recorded."""


@dataclass(frozen=True, slots=True)
class Job:
    """A leased run of a periodic job."""

    name: str
    token: int
    lease: timedelta
    """How long it is held from each renewal on."""
    lease_until: datetime
    watermark: datetime | None
    progress: Mapping[str, Any]
    """What the run before left behind; empty after a complete one."""
    due_at: datetime
    tries: int
    """Runs in a row before this one that did not complete."""
    last_error: str | None


_ENSURE = text("INSERT INTO job (name, due_at) VALUES (:name, :due_at) ON CONFLICT (name) DO NOTHING")
_AHEAD = timedelta(minutes=1)
"""A run that began so far in the future was begun by a clock that has been set back since: its times mean nothing."""

_HIDDEN = timedelta(days=1)
"""How far back a job begins anew whose watermark lies in the future: how long ago it was set, nobody can say."""

_TAKE = text(
    """
    UPDATE job SET lease_token = :token, lease_owner = :owner, lease_until = :lease_until, started_at = :now
    WHERE name = :name AND (started_at > :ahead
      OR due_at <= :now AND (lease_until IS NULL OR lease_until <= :now))
    RETURNING watermark, progress, due_at, tries, last_error
    """
)
_SET_BACK = text("UPDATE job SET watermark = :watermark, progress = '{}' WHERE name = :name")
_RENEW = Question(
    """
    UPDATE job SET lease_until = :lease_until, progress = :progress,
      watermark = CASE WHEN watermark IS NULL OR :watermark > watermark THEN COALESCE(:watermark, watermark)
                       ELSE watermark END
    WHERE name = :name AND lease_token = :token AND lease_until IS NOT NULL
    """
)
_FINISH = text(
    """
    UPDATE job SET lease_until = NULL, lease_owner = NULL,
      due_at = CASE WHEN due_at > started_at THEN due_at ELSE :due_at END,
      progress = CASE WHEN :complete = 1 THEN '{}' ELSE progress END,
      tries = CASE WHEN :complete = 1 THEN 0 ELSE tries + 1 END,
      finished_at = CASE WHEN :complete = 1 THEN :now ELSE finished_at END, last_error = :error,
      watermark = CASE WHEN watermark IS NULL OR :watermark > watermark THEN COALESCE(:watermark, watermark)
                       ELSE watermark END
    WHERE name = :name AND lease_token = :token AND lease_until IS NOT NULL
    """
)
# A run was due when it started, so a later due_at in it says that somebody hurried the job since: it runs again.
_HURRY = text(
    """
    UPDATE job SET due_at = CASE WHEN lease_until IS NULL OR :now > started_at THEN :now ELSE started_at + 1 END
    WHERE name = :name AND (due_at > :now OR lease_until IS NOT NULL)
    """
)


def take(tx: Transaction, name: str, *, owner: str, lease: timedelta, now: datetime) -> Job | None:
    """Lease a job that is due; None when it is not, or when another node runs it.

    A watermark in the future was set by a clock that was ahead: what happened before the clock comes to it again was
    not looked at, so the job begins a day back.
    """
    tx.run(_ENSURE, {"name": name, "due_at": to_micros(now)})
    token = tx.tick()
    lease_until = now + lease
    row = tx.run(
        _TAKE,
        {
            "name": name,
            "token": token,
            "owner": owner,
            "lease_until": to_micros(lease_until),
            "now": to_micros(now),
            "ahead": to_micros(now + _AHEAD),
        },
    ).one_or_none()
    if row is None:
        return None
    watermark = row.watermark
    if watermark is not None and watermark > to_micros(now):
        watermark = to_micros(now - _HIDDEN)
        tx.run(_SET_BACK, {"name": name, "watermark": watermark})
    return Job(
        name=name,
        token=token,
        lease=lease,
        lease_until=lease_until,
        watermark=None if watermark is None else from_micros(watermark),
        progress={} if watermark != row.watermark else orjson.loads(row.progress),
        due_at=from_micros(row.due_at),
        tries=row.tries,
        last_error=row.last_error,
    )


def renew(
    tx: Transaction,
    job: Job,
    *,
    progress: Mapping[str, Any],
    now: datetime,
    watermark: datetime | None = None,
) -> None:
    """Keep the lease and remember how far the run got. Raises JobLost."""
    touched = _RENEW.run(
        tx,
        {
            "name": job.name,
            "token": job.token,
            "lease_until": to_micros(now + job.lease),
            "progress": orjson.dumps(progress).decode(),
            "watermark": None if watermark is None else to_micros(watermark),
        },
    )
    if touched != 1:
        raise JobLost(f"the lease of job {job.name} has ended; nothing more of this run is recorded")


def finish(
    tx: Transaction,
    job: Job,
    *,
    due_at: datetime,
    now: datetime,
    complete: bool,
    watermark: datetime | None = None,
    error: str | None = None,
) -> None:
    """End the run. The watermark never moves back. Raises JobLost.

    `complete` False keeps the progress, so that the next run goes on from there, and leaves the finishing time alone.
    """
    touched = tx.run(
        _FINISH,
        {
            "name": job.name,
            "token": job.token,
            "due_at": to_micros(due_at),
            "now": to_micros(now),
            "complete": int(complete),
            "watermark": None if watermark is None else to_micros(watermark),
            "error": error,
        },
    )
    if touched.rowcount != 1:
        raise JobLost(f"the lease of job {job.name} has ended; nothing more of this run is recorded")


def hurry(tx: Transaction, name: str, now: datetime) -> None:
    """Make a job due now; one that is running becomes due again when it ends."""
    tx.run(_HURRY, {"name": name, "now": to_micros(now)})


_NOBODYS = frozenset({"retention", "outbox"})


def account_of(name: str) -> str | None:
    """Whose job it is, by its name: `WHAT/ACCOUNT/...`, or `backfill/QUESTION/ACCOUNT/...`; None: no account's."""
    what, *rest = name.split("/")
    place = 1 if what == "backfill" else 0
    return None if what in _NOBODYS or len(rest) <= place else rest[place]


@dataclass(frozen=True, slots=True)
class JobState:
    name: str
    due_at: datetime
    watermark: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    last_error: str | None
    lease_until: datetime | None = None
    """Until when a run of it is under way, or was when its node died."""

    @property
    def due(self) -> datetime:
        """When it may be taken next, by the clock that began its last run."""
        return self.due_at if self.lease_until is None else max(self.due_at, self.lease_until)

    def began_ahead_of(self, now: datetime) -> bool:
        """Whether its last run began in what is the future by now: then it may be taken whatever `due` says."""
        return self.started_at is not None and self.started_at > now + _AHEAD


_JOBS = text("SELECT name, due_at, watermark, started_at, finished_at, last_error, lease_until FROM job ORDER BY name")


def jobs(tx: Transaction) -> list[JobState]:
    def instant(micros: int | None) -> datetime | None:
        return None if micros is None else from_micros(micros)

    return [
        JobState(
            row.name,
            from_micros(row.due_at),
            instant(row.watermark),
            instant(row.started_at),
            instant(row.finished_at),
            row.last_error,
            instant(row.lease_until),
        )
        for row in tx.run(_JOBS)
    ]


_WATERMARK = Question("SELECT watermark FROM job WHERE name = :name")


def watermark_of(tx: Transaction, name: str) -> datetime | None:
    """None: the job never set one."""
    rows = _WATERMARK.ask(tx, {"name": name})
    return from_micros(rows[0][0]) if rows and rows[0][0] is not None else None


_PROGRESS = Question("SELECT progress FROM job WHERE name = :name")
_LOCK_PROGRESS = Question("SELECT progress FROM job WHERE name = :name FOR UPDATE")


def progress_of(tx: Transaction, name: str, *, lock: bool = False) -> Mapping[str, Any]:
    """How far a job got; empty for one that never ran. With `lock` nobody else moves it in this transaction."""
    asked = _LOCK_PROGRESS if lock and tx.dialect.is_postgres else _PROGRESS
    rows = asked.ask(tx, {"name": name})
    found: Mapping[str, Any] = orjson.loads(rows[0][0]) if rows else {}
    return found
