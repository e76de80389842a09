"""What people decided on a period, and the proof that nobody rewrote it."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, Index
from sqlmodel import SQLModel

from reconciler.ledger.tables.columns import identity, packed, whole, words


class BreakEventRow(SQLModel, table=True):
    """One act of a person on a break. Never changed: what stands is what the events add up to."""

    __tablename__: ClassVar[Any] = "break_event"
    __table_args__ = (
        Index("ix_break_event_break", "break_id", "at"),
        CheckConstraint("action IN ('note', 'assign', 'resolve', 'reopen', 'attach')", name="action_known"),
        CheckConstraint("action <> 'resolve' OR (reason IS NOT NULL AND difference IS NOT NULL)", name="resolved_why"),
    )

    id: int | None = identity()
    break_id: str = words()
    at: int = whole()
    actor: str = words()
    action: str = words()
    reason: str | None = words(optional=True)
    text: str = words(default="")
    difference: int | None = whole(optional=True)
    """Minor units that a resolution accepted."""
    evidence_sha256: str | None = words(optional=True)


class PeriodLockRow(SQLModel, table=True):
    """One step of the sign-off of an account's period; the last one says how the period stands."""

    __tablename__: ClassVar[Any] = "period_lock"
    __table_args__ = (
        Index("ix_period_lock_account", "account", "ends_at"),
        CheckConstraint("state IN ('prepared', 'locked', 'reopened')", name="state_known"),
        CheckConstraint("policy IN ('roll_forward', 'restate')", name="policy_known"),
        CheckConstraint("starts_at < ends_at", name="has_length"),
    )

    id: int | None = identity()
    account: str = words()
    from_day: str = words()
    to_day: str = words()
    starts_at: int = whole()
    ends_at: int = whole()
    timezone: str = words()
    as_of: int = whole()
    report_id: str = words()
    digest: str = words()
    state: str = words()
    actor: str = words()
    policy: str = words()
    at: int = whole()
    override_reason: str = words(default="")


class ReportSnapshotRow(SQLModel, table=True):
    """A report as it was shown, kept whole, under the hash of its content."""

    __tablename__: ClassVar[Any] = "report_snapshot"

    report_id: str = words(key=True)
    digest: str = words()
    as_of: int = whole()
    params: str = words()
    config_hash: str = words()
    code_version: str = words()
    body: bytes = packed()
    stored_at: int = whole()


class AuditLogRow(SQLModel, table=True):
    """Who did what, in a chain: each hash covers the row before it."""

    __tablename__: ClassVar[Any] = "audit_log"

    seq: int = whole(key=True)
    prev_hash: str = words()
    hash: str = words()
    actor: str = words()
    action: str = words()
    subject: str = words()
    detail: str = words()
    at: int = whole()
