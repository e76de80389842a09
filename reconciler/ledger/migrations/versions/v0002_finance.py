"""What finance keeps: acts on breaks, sign-offs, reports, the audit log, bank lines; an index that proofs sum on."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=nullable)


def _words(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable, server_default=default)


def upgrade() -> None:
    op.create_table(
        "payout_member",
        _words("account"),
        _words("remote_id"),
        _words("payout_id"),
        _whole("recorded_at"),
        _whole("superseded_at", nullable=True),
        sa.PrimaryKeyConstraint("account", "remote_id", "payout_id", "recorded_at", name="pk_payout_member"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_payout_member_payout", "payout_member", ["account", "payout_id"], unique=False)
    _spread_payout_members()
    op.create_table(
        "break_event",
        sa.Column("id", _ROW_ID, autoincrement=False, nullable=False),
        _words("break_id"),
        _whole("at"),
        _words("actor"),
        _words("action"),
        _words("reason", nullable=True),
        _words("text", default=""),
        _whole("difference", nullable=True),
        _words("evidence_sha256", nullable=True),
        sa.CheckConstraint(
            "action IN ('note', 'assign', 'resolve', 'reopen', 'attach')", name=op.f("ck_break_event_action_known")
        ),
        sa.CheckConstraint(
            "action <> 'resolve' OR (reason IS NOT NULL AND difference IS NOT NULL)",
            name=op.f("ck_break_event_resolved_why"),
        ),
        sa.PrimaryKeyConstraint("id", name="pk_break_event"),
    )
    op.create_index("ix_break_event_break", "break_event", ["break_id", "at"], unique=False)
    op.create_table(
        "period_lock",
        sa.Column("id", _ROW_ID, autoincrement=False, nullable=False),
        _words("account"),
        _words("from_day"),
        _words("to_day"),
        _whole("starts_at"),
        _whole("ends_at"),
        _words("timezone"),
        _whole("as_of"),
        _words("report_id"),
        _words("digest"),
        _words("state"),
        _words("actor"),
        _words("policy"),
        _whole("at"),
        _words("override_reason", default=""),
        sa.CheckConstraint("state IN ('prepared', 'locked', 'reopened')", name=op.f("ck_period_lock_state_known")),
        sa.CheckConstraint("policy IN ('roll_forward', 'restate')", name=op.f("ck_period_lock_policy_known")),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck_period_lock_has_length")),
        sa.PrimaryKeyConstraint("id", name="pk_period_lock"),
    )
    op.create_index("ix_period_lock_account", "period_lock", ["account", "ends_at"], unique=False)
    op.create_table(
        "report_snapshot",
        _words("report_id"),
        _words("digest"),
        _whole("as_of"),
        _words("params"),
        _words("config_hash"),
        _words("code_version"),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        _whole("stored_at"),
        sa.PrimaryKeyConstraint("report_id", name="pk_report_snapshot"),
    )
    op.create_table(
        "audit_log",
        _whole("seq"),
        _words("prev_hash"),
        _words("hash"),
        _words("actor"),
        _words("action"),
        _words("subject"),
        _words("detail"),
        _whole("at"),
        sa.PrimaryKeyConstraint("seq", name="pk_audit_log"),
    )
    op.create_table(
        "bank_line",
        sa.Column("id", _ROW_ID, autoincrement=False, nullable=False),
        _words("bank_account"),
        _words("statement_id"),
        _whole("ordinal"),
        _words("currency"),
        _whole("minor"),
        _whole("exponent"),
        _words("booked_on"),
        _words("value_on", nullable=True),
        _words("reference"),
        _whole("recorded_at"),
        sa.PrimaryKeyConstraint("id", name="pk_bank_line"),
        sa.UniqueConstraint(
            "bank_account", "statement_id", "ordinal", name="uq_bank_line_bank_account_statement_id_ordinal"
        ),
    )
    op.create_index("ix_bank_line_booked", "bank_line", ["booked_on", "currency"], unique=False)
    op.create_index(
        "ix_entry_proof",
        "entry",
        [
            "account",
            "balance_type",
            "currency",
            "effective_at",
            "recorded_at",
            "superseded_at",
            "category",
            "gross",
            "fee",
            "net",
        ],
        unique=False,
    )
    op.drop_index("ix_entry_effective", table_name="entry")


def _spread_payout_members() -> None:
    """What `reconciler.ledger.facts` does for every list from now on, for the lists that are there already."""
    bind = op.get_bind()
    lists = bind.execute(
        sa.text("SELECT account, payout_id, members, recorded_at FROM payout_members ORDER BY account, payout_id, 4")
    ).all()
    insert = sa.text(
        "INSERT INTO payout_member (account, remote_id, payout_id, recorded_at, superseded_at)"
        " VALUES (:account, :remote_id, :payout_id, :recorded_at, :superseded_at)"
    )
    for number, row in enumerate(lists):
        after = lists[number + 1] if number + 1 < len(lists) else None
        same = after is not None and (after.account, after.payout_id) == (row.account, row.payout_id)
        rows = [
            {
                "account": row.account,
                "remote_id": member.split("/", 3)[3],
                "payout_id": row.payout_id,
                "recorded_at": row.recorded_at,
                "superseded_at": after.recorded_at if same and after is not None else None,
            }
            for member in json.loads(row.members)
        ]
        if rows:
            bind.execute(insert, rows)
