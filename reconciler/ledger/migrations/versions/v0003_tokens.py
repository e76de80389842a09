"""Tokens that end, sealed; and what people asked to be forgotten."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _whole(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=nullable, server_default=default)


def _words(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "token",
        _words("account"),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        _whole("version", default="0"),
        _whole("lease_token", default="0"),
        _whole("lease_until", nullable=True),
        _whole("kept_at", nullable=True),
        sa.PrimaryKeyConstraint("account", name="pk_token"),
    )
    op.create_table(
        "redaction",
        _words("account"),
        _words("kind"),
        _words("remote_id"),
        _words("event_id"),
        _whole("asked_at"),
        _whole("done_at", nullable=True),
        sa.PrimaryKeyConstraint("account", "kind", "remote_id", "event_id", name="pk_redaction"),
    )
