"""What the daemon does by itself: periodic jobs, what they looked at, and what a person should know of it."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Column, Index, Integer, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from reconciler.ledger.tables.columns import identity, whole, words


class JobRow(SQLModel, table=True):
    """A periodic job: who runs it now, how far it got, and when it is due. APScheduler only ticks."""

    __tablename__: ClassVar[Any] = "job"

    name: str = words(key=True)
    due_at: int = whole(default=0)
    lease_token: int = whole(default=0)
    lease_until: int | None = whole(optional=True)
    lease_owner: str | None = words(optional=True)
    watermark: int | None = whole(optional=True)
    """The instant up to which the job's windows are complete."""
    progress: str = words(default="{}")
    """JSON that only the job itself reads: cursors, page counts."""
    started_at: int | None = whole(optional=True)
    finished_at: int | None = whole(optional=True)
    last_error: str | None = words(optional=True)
    tries: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """Runs in a row that did not complete."""


class CoverageRow(SQLModel, table=True):
    """A window of a kind that was looked at completely, or could not be, and why."""

    __tablename__: ClassVar[Any] = "coverage"
    __table_args__ = (
        UniqueConstraint("account", "kind", "since", "until", "complete", "recorded_at", name="uq_coverage_once"),
        Index("ix_coverage_standing", "superseded_at", "account", "kind"),
    )

    id: int | None = identity()
    account: str = words()
    kind: str = words()
    since: int = whole()
    until: int = whole()
    complete: bool = Field(default=True)
    reason: str = words(default="")
    recorded_at: int = whole()
    superseded_at: int | None = whole(optional=True)
    """When a later fact that contains it was recorded; nothing: it stands."""


class FindingRow(SQLModel, table=True):
    """Something a person should know. Kept after it cleared, so that the history stays readable."""

    __tablename__: ClassVar[Any] = "finding"

    account: str = words(key=True)
    code: str = words(key=True)
    subject: str = words(key=True, default="")
    severity: str = words()
    text: str = words()
    remedy: str = words()
    first_seen_at: int = whole()
    last_seen_at: int = whole()
    cleared_at: int | None = whole(optional=True)


class ExpectationRow(SQLModel, table=True):
    """An application said that this resource will come to be: confirmed by then, or named as unconfirmed."""

    __tablename__: ClassVar[Any] = "expectation"
    __table_args__ = (
        UniqueConstraint("account", "kind", "remote_id"),
        Index("ix_expectation_due", "account", "due_at",
              sqlite_where=text("looked_at IS NULL AND confirmed_at IS NULL"),
              postgresql_where=text("looked_at IS NULL AND confirmed_at IS NULL")),
        Index("ix_expectation_open", "account", "kind", "due_at", sqlite_where=text("confirmed_at IS NULL"),
              postgresql_where=text("confirmed_at IS NULL")),
    )  # fmt: skip

    id: int | None = identity()
    provider: str = words()
    account: str = words()
    kind: str = words()
    remote_id: str = words()
    registered_at: int = whole()
    due_at: int = whole()
    note: str = words(default="")
    looked_at: int | None = whole(optional=True)
    """When its deadline had it read; NULL until then."""
    confirmed_at: int | None = whole(optional=True)


class AlertRow(SQLModel, table=True):
    """A condition that somebody was or will be told of; kept until its end has been told too."""

    __tablename__: ClassVar[Any] = "alert"

    code: str = words(key=True)
    subject: str = words(key=True, default="")
    severity: str = words()
    text: str = words()
    remedy: str = words()
    opened_at: int = whole()
    told_at: int | None = whole(optional=True)
    """When it was last told; NULL while nobody knows."""
    ended_at: int | None = whole(optional=True)
