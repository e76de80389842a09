"""Subscriptions, what each of them is told, and the log of telling them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _whole(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=nullable, server_default=default)


def _words(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable, server_default=default)


def _id() -> sa.Column[int]:
    return sa.Column("id", _ROW_ID, autoincrement=False, nullable=False)


def _index(name: str, table: str, columns: list[str], where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, table, columns, unique=False, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    op.create_table(
        "subscription",
        _words("name"),
        _words("origin"),
        _words("url"),
        _words("wanted", default="{}"),
        _words("form", default="thin"),
        _words("ordering", default="every"),
        _whole("concurrency", default="4"),
        _whole("spacing", default="0"),
        _words("state", default="active"),
        _words("note", default=""),
        _whole("failures", default="0"),
        _whole("failing_since", nullable=True),
        _whole("shut_until", default="0"),
        _whole("paced_at", default="0"),
        _whole("created_at"),
        _whole("changed_at"),
        sa.PrimaryKeyConstraint("name", name="pk_subscription"),
        sa.CheckConstraint("origin IN ('configuration', 'api')", name=op.f("ck_subscription_origin_known")),
        sa.CheckConstraint("form IN ('thin', 'full')", name=op.f("ck_subscription_form_known")),
        sa.CheckConstraint("ordering IN ('every', 'newest')", name=op.f("ck_subscription_ordering_known")),
        sa.CheckConstraint(
            "state IN ('active', 'paused', 'disabled', 'removed')", name=op.f("ck_subscription_state_known")
        ),
    )
    op.create_table(
        "subscription_secret",
        _id(),
        _words("subscription"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        _whole("created_at"),
        _whole("retires_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_subscription_secret"),
    )
    _index("ix_subscription_secret_of", "subscription_secret", ["subscription"])
    op.create_table(
        "outbox",
        _words("subscription"),
        _whole("resource_id"),
        _whole("version"),
        _whole("created_at"),
        _whole("due_at", nullable=True),
        _whole("attempts", default="0"),
        _whole("first_tried_at", nullable=True),
        _whole("lease_token", default="0"),
        _whole("lease_until", nullable=True),
        _words("lease_owner", nullable=True),
        _words("last_error", nullable=True),
        _words("outcome", nullable=True),
        _whole("ended_at", nullable=True),
        sa.PrimaryKeyConstraint("subscription", "resource_id", "version", name="pk_outbox"),
        sa.CheckConstraint("(due_at IS NULL) = (outcome IS NOT NULL)", name=op.f("ck_outbox_pending_has_wake_up")),
        sa.CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name=op.f("ck_outbox_ended_says_when")),
        sa.CheckConstraint(
            "outcome IS NULL OR outcome IN ('delivered', 'filtered', 'skipped', 'dead')",
            name=op.f("ck_outbox_outcome_known"),
        ),
        sqlite_with_rowid=False,
    )
    _index("ix_outbox_due", "outbox", ["subscription", "due_at"], "due_at IS NOT NULL")
    _index("ix_outbox_pending", "outbox", ["subscription", "resource_id", "version"], "due_at IS NOT NULL")
    _index("ix_outbox_leased", "outbox", ["subscription", "lease_until"], "lease_until IS NOT NULL")
    _index("ix_outbox_dead", "outbox", ["subscription", "ended_at"], "outcome = 'dead'")
    _index("ix_outbox_ended", "outbox", ["ended_at"], "ended_at IS NOT NULL")
    op.create_table(
        "outbox_attempt",
        _id(),
        _words("subscription"),
        _whole("resource_id"),
        _whole("version"),
        _words("message_id"),
        _whole("at"),
        _whole("duration"),
        _whole("status", nullable=True),
        _words("error", default=""),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_attempt"),
    )
    _index("ix_outbox_attempt_of", "outbox_attempt", ["subscription", "at"])
    _index("ix_outbox_attempt_at", "outbox_attempt", ["at"])
    _index("ix_outbox_attempt_resource", "outbox_attempt", ["resource_id"])
