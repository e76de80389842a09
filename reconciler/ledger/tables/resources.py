"""Resources, their versions, and the counter that orders everything that happens to them."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, Column, Index, Integer, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from reconciler.ledger.tables.columns import identity, packed, whole, words


class ResourceRow(SQLModel, table=True):
    """One remote thing. Dirty is `generation > settled_generation`: a comparison, never a stored boolean."""

    __tablename__: ClassVar[Any] = "resource"
    __table_args__ = (
        UniqueConstraint("account", "kind", "remote_id"),
        CheckConstraint("settled_generation <= generation", name="settled_is_seen"),
        CheckConstraint("generation = settled_generation OR due_at IS NOT NULL", name="dirty_has_wake_up"),
        CheckConstraint("lease_until IS NULL OR due_at IS NOT NULL", name="leased_has_reclaim"),
        CheckConstraint("state IN ('unknown', 'present', 'deleted')", name="state_known"),
        CheckConstraint("(version = 0) = (state = 'unknown')", name="known_has_version"),
        Index(
            "ix_resource_lane",
            "account",
            "kind",
            "priority",
            "due_at",
            sqlite_where=text("due_at IS NOT NULL"),
            postgresql_where=text("due_at IS NOT NULL"),
        ),
        Index("ix_resource_status", "account", "kind", "status", "created_at"),
        Index("ix_resource_created", "account", "kind", "created_at"),
        Index("ix_resource_fetched", "account", "kind", "fetched_at"),
        Index("ix_resource_dead", "dead_at", sqlite_where=text("dead_at IS NOT NULL"),
              postgresql_where=text("dead_at IS NOT NULL")),
        {"postgresql_with": {"fillfactor": "75", "autovacuum_vacuum_scale_factor": "0.01"}},
    )  # fmt: skip

    id: int | None = identity()
    provider: str = words()
    account: str = words()
    kind: str = words()
    remote_id: str = words()

    generation: int = whole(default=0)
    settled_generation: int = whole(default=0)
    priority: int = Field(default=3, sa_column=Column(Integer, nullable=False, server_default="3"))
    cause: str = words(default="webhook")
    due_at: int | None = whole(optional=True)
    not_before: int = whole(default=0)
    first_marked_at: int | None = whole(optional=True)
    last_marked_at: int | None = whole(optional=True)
    settle_at: int = whole(default=0)
    """A read that starts before this instant is provisional, unless it satisfies every pending hint."""
    hints: str | None = words(optional=True)
    """What the pending marks announced, one JSON line each; NULL when at least one of them announced nothing."""

    lease_token: int = whole(default=0)
    lease_until: int | None = whole(optional=True)
    lease_owner: str | None = words(optional=True)
    attempts: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    last_error: str | None = words(optional=True)
    dead_at: int | None = whole(optional=True)
    discarded_at: int | None = whole(optional=True)

    state: str = words(default="unknown")
    version: int = whole(default=0)
    content_hash: str | None = words(optional=True)
    applied_seq: int = whole(default=0)
    fetched_at: int | None = whole(optional=True)
    """When the last accepted read began: what we know is at least as new as this."""

    status: str | None = words(optional=True)
    created_at: int | None = whole(optional=True)
    provider_updated_at: int | None = whole(optional=True)


class VersionRow(SQLModel, table=True):
    """The n-th different state that was stored of a resource. Never rewritten."""

    __tablename__: ClassVar[Any] = "version"
    __table_args__ = (
        Index("ix_version_recorded", "recorded_at"),
        CheckConstraint("state IN ('present', 'deleted')", name="state_known"),
        CheckConstraint("(body IS NULL) = (state = 'deleted')", name="tombstone_has_no_body"),
    )

    resource_id: int = whole(key=True)
    version: int = whole(key=True)
    state: str = words()
    content_hash: str = words()
    body: bytes | None = packed(optional=True)
    status: str | None = words(optional=True)
    cause: str = words()
    recorded_at: int = whole()
    fetched_at: int = whole()
    applied_seq: int = whole()
    api_version: str = words(default="")


class LedgerClockRow(SQLModel, table=True):
    """SQLite's monotonic counter, one row. Postgres has a sequence of the same name instead."""

    __tablename__: ClassVar[Any] = "ledger_clock_row"

    id: int = Field(default=1, primary_key=True)
    value: int = whole(default=0)


class SealingKeyRow(SQLModel, table=True):
    """A key that bodies were sealed with; the key itself is in no ledger. Retired when no body needs it any more."""

    __tablename__: ClassVar[Any] = "sealing_key"

    id: str = words(key=True)
    retired_at: int | None = whole(optional=True)


class RedactionRow(SQLModel, table=True):
    """What a person asked to be forgotten, and when it was. The audit log says the same when it is done."""

    __tablename__: ClassVar[Any] = "redaction"

    account: str = words(key=True)
    kind: str = words(key=True)
    """Empty: everything of the account."""
    remote_id: str = words(key=True)
    event_id: str = words(key=True)
    """Of the delivery that asked: it names the person too, and is redacted last."""
    asked_at: int = whole()
    done_at: int | None = whole(optional=True)
