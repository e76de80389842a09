"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bucket",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("level", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("rate", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("closed_until", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account", "endpoint", name="pk_bucket"),
    )
    op.create_table(
        "control_total",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("balance_type", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("minor", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("as_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_control_total"),
        sa.UniqueConstraint(
            "account", "balance_type", "currency", "as_at", "recorded_at", name="uq_control_total_once"
        ),
    )
    op.create_table(
        "coverage",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("until", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_coverage"),
        sa.UniqueConstraint("account", "kind", "since", "until", "complete", "recorded_at", name="uq_coverage_once"),
    )
    op.create_index("ix_coverage_kind", "coverage", ["account", "kind", "recorded_at"], unique=False)
    op.create_table(
        "delivery",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("headers", sa.Text(), server_default="{}", nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("size", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "verdict IN ('stored', 'duplicate', 'rejected', 'ignored')", name=op.f("ck_delivery_verdict_known")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
    )
    op.create_index("ix_delivery_event", "delivery", ["account", "event_id"], unique=False)
    op.create_index("ix_delivery_received", "delivery", ["received_at"], unique=False)
    op.create_table(
        "delivery_mark",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("remote_id", sa.Text(), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account", "kind", "remote_id", "delivery_id", name="pk_delivery_mark"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "delivery_tally",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("count", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account", "day", "verdict", "reason", name="pk_delivery_tally"),
    )
    op.create_table(
        "entry",
        sa.Column("resource_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("remote_id", sa.Text(), nullable=False),
        sa.Column("balance_type", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("gross", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fee", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("net", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("effective_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("available_on", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("payout_id", sa.Text(), nullable=True),
        sa.Column("fee_details", sa.Text(), server_default="[]", nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("superseded_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.CheckConstraint("net = gross - fee", name=op.f("ck_entry_foots")),
        sa.PrimaryKeyConstraint("resource_id", "version", "ordinal", name="pk_entry"),
    )
    op.create_index(
        "ix_entry_effective", "entry", ["account", "balance_type", "currency", "effective_at"], unique=False
    )
    op.create_index("ix_entry_payout", "entry", ["account", "payout_id"], unique=False)
    op.create_index("ix_entry_source", "entry", ["account", "source_id"], unique=False)
    op.create_table(
        "expectation",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("remote_id", sa.Text(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("due_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("looked_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("confirmed_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_expectation"),
        sa.UniqueConstraint("account", "kind", "remote_id", name="uq_expectation_account_kind_remote_id"),
    )
    op.create_table(
        "finding",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("cleared_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.PrimaryKeyConstraint("account", "code", "subject", name="pk_finding"),
    )
    op.create_table(
        "gate",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("opened_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("until", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("times", sa.Integer(), server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("account", "kind", name="pk_gate"),
    )
    op.create_table(
        "job",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("lease_until", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("watermark", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("progress", sa.Text(), server_default="{}", nullable=False),
        sa.Column("started_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("finished_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_job"),
    )
    op.create_table(
        "ledger_clock_row",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_clock_row"),
    )
    op.create_table(
        "missed_event",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("noticed_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account", "event_id", name="pk_missed_event"),
    )
    op.create_index("ix_missed_event_noticed", "missed_event", ["noticed_at"], unique=False)
    op.create_table(
        "payout_members",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("payout_id", sa.Text(), nullable=False),
        sa.Column("members", sa.Text(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_payout_members"),
        sa.UniqueConstraint("account", "payout_id", "recorded_at", name="uq_payout_members_once"),
    )
    op.create_table(
        "read_tally",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("priority", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account", "day", "endpoint", "priority", name="pk_read_tally"),
    )
    op.create_table(
        "resource",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("remote_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("settled_generation", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("priority", sa.Integer(), server_default="3", nullable=False),
        sa.Column("cause", sa.Text(), server_default="webhook", nullable=False),
        sa.Column("due_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("not_before", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("first_marked_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("last_marked_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("settle_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("hints", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("lease_until", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("dead_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("discarded_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("state", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=True),
        sa.Column("applied_seq", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("fetched_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("provider_updated_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.CheckConstraint("(version = 0) = (state = 'unknown')", name=op.f("ck_resource_known_has_version")),
        sa.CheckConstraint("state IN ('unknown', 'present', 'deleted')", name=op.f("ck_resource_state_known")),
        sa.CheckConstraint(
            "generation = settled_generation OR due_at IS NOT NULL", name=op.f("ck_resource_dirty_has_wake_up")
        ),
        sa.CheckConstraint("lease_until IS NULL OR due_at IS NOT NULL", name=op.f("ck_resource_leased_has_reclaim")),
        sa.CheckConstraint("settled_generation <= generation", name=op.f("ck_resource_settled_is_seen")),
        sa.PrimaryKeyConstraint("id", name="pk_resource"),
        sa.UniqueConstraint("account", "kind", "remote_id", name="uq_resource_account_kind_remote_id"),
        postgresql_with={"fillfactor": "75", "autovacuum_vacuum_scale_factor": "0.01"},
    )
    op.create_index("ix_resource_created", "resource", ["account", "kind", "created_at"], unique=False)
    op.create_index(
        "ix_resource_dead",
        "resource",
        ["dead_at"],
        unique=False,
        sqlite_where=sa.text("dead_at IS NOT NULL"),
        postgresql_where=sa.text("dead_at IS NOT NULL"),
    )
    op.create_index("ix_resource_fetched", "resource", ["account", "kind", "fetched_at"], unique=False)
    op.create_index(
        "ix_resource_lane",
        "resource",
        ["account", "kind", "priority", "due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_resource_status", "resource", ["account", "kind", "status", "created_at"], unique=False)
    op.create_table(
        "version",
        sa.Column("resource_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fetched_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("applied_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("api_version", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("(body IS NULL) = (state = 'deleted')", name=op.f("ck_version_tombstone_has_no_body")),
        sa.CheckConstraint("state IN ('present', 'deleted')", name=op.f("ck_version_state_known")),
        sa.PrimaryKeyConstraint("resource_id", "version", name="pk_version"),
    )
    op.create_index("ix_version_recorded", "version", ["recorded_at"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE ledger_clock CACHE 1")
    else:
        op.execute("INSERT INTO ledger_clock_row (id, value) VALUES (1, 0)")
