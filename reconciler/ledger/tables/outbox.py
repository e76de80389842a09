"""Who is told of changes, of which, and how that went."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import SQLModel

from reconciler.ledger.tables.columns import identity, packed, whole, words


class SubscriptionRow(SQLModel, table=True):
    """Somebody who is told of changes, and how that goes."""

    __tablename__: ClassVar[Any] = "subscription"
    __table_args__ = (
        CheckConstraint("origin IN ('configuration', 'api')", name="origin_known"),
        CheckConstraint("form IN ('thin', 'full')", name="form_known"),
        CheckConstraint("ordering IN ('every', 'newest')", name="ordering_known"),
        CheckConstraint("state IN ('active', 'paused', 'disabled', 'removed')", name="state_known"),
    )

    name: str = words(key=True)
    origin: str = words()
    url: str = words()
    wanted: str = words(default="{}")
    """JSON: which accounts, kinds, causes and fields; what is left out is not narrowed."""
    form: str = words(default="thin")
    ordering: str = words(default="every")
    concurrency: int = whole(default=4)
    spacing: int = whole(default=0)
    """Least microseconds between two requests on average; 0: no limit."""
    state: str = words(default="active")
    note: str = words(default="")
    """Why it does not get anything now."""
    failures: int = whole(default=0)
    """Requests in a row that failed."""
    failing_since: int | None = whole(optional=True)
    shut_until: int = whole(default=0)
    """The circuit breaker, or a Retry-After: nothing is sent before this instant."""
    paced_at: int = whole(default=0)
    """When the next request is in its time, by `spacing`."""
    created_at: int = whole()
    changed_at: int = whole()


class SubscriptionSecretRow(SQLModel, table=True):
    """A signing secret of a subscription that was made by command or API, sealed with a key outside the ledger."""

    __tablename__: ClassVar[Any] = "subscription_secret"
    __table_args__ = (Index("ix_subscription_secret_of", "subscription"),)

    id: int | None = identity()
    subscription: str = words()
    sealed: bytes = packed()
    created_at: int = whole()
    retires_at: int | None = whole(optional=True)
    """NULL: it signs until it is replaced."""


class OutboxRow(SQLModel, table=True):
    """A change that a subscription is told of, or was. What it is told is read from the version when it is sent."""

    __tablename__: ClassVar[Any] = "outbox"
    __table_args__ = (
        CheckConstraint("(due_at IS NULL) = (outcome IS NOT NULL)", name="pending_has_wake_up"),
        CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="ended_says_when"),
        CheckConstraint(
            "outcome IS NULL OR outcome IN ('delivered', 'filtered', 'skipped', 'dead')", name="outcome_known"
        ),
        Index("ix_outbox_due", "subscription", "due_at", sqlite_where=text("due_at IS NOT NULL"),
              postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_outbox_pending", "subscription", "resource_id", "version", sqlite_where=text("due_at IS NOT NULL"),
              postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_outbox_leased", "subscription", "lease_until", sqlite_where=text("lease_until IS NOT NULL"),
              postgresql_where=text("lease_until IS NOT NULL")),
        Index("ix_outbox_dead", "subscription", "ended_at", sqlite_where=text("outcome = 'dead'"),
              postgresql_where=text("outcome = 'dead'")),
        Index("ix_outbox_ended", "ended_at", sqlite_where=text("ended_at IS NOT NULL"),
              postgresql_where=text("ended_at IS NOT NULL")),
        {"sqlite_with_rowid": False},
    )  # fmt: skip

    subscription: str = words(key=True)
    resource_id: int = whole(key=True)
    version: int = whole(key=True)
    created_at: int = whole()
    due_at: int | None = whole(optional=True)
    attempts: int = whole(default=0)
    first_tried_at: int | None = whole(optional=True)
    lease_token: int = whole(default=0)
    lease_until: int | None = whole(optional=True)
    lease_owner: str | None = words(optional=True)
    last_error: str | None = words(optional=True)
    outcome: str | None = words(optional=True)
    ended_at: int | None = whole(optional=True)


class OutboxAttemptRow(SQLModel, table=True):
    """One request to a subscriber, with what came back: the log that both sides can compare."""

    __tablename__: ClassVar[Any] = "outbox_attempt"
    __table_args__ = (
        Index("ix_outbox_attempt_of", "subscription", "at"),
        Index("ix_outbox_attempt_at", "at"),
        Index("ix_outbox_attempt_resource", "resource_id"),
    )

    id: int | None = identity()
    subscription: str = words()
    resource_id: int = whole()
    """0: a test event, which is about no resource."""
    version: int = whole()
    message_id: str = words()
    at: int = whole()
    duration: int = whole()
    """Microseconds."""
    status: int | None = whole(optional=True)
    error: str = words(default="")
    answer: bytes | None = packed(optional=True)
    """The beginning of what the subscriber answered."""
