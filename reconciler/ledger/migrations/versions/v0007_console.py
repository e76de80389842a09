"""Who may use the console and the HTTP API: users, sessions, the signing key, machine tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ROLES = "role IN ('viewer', 'finance', 'operator')"


def _whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=nullable)


def _words(name: str, *, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default=default)


def upgrade() -> None:
    op.create_table(
        "console_user",
        _words("name"),
        _words("role"),
        _words("password_hash"),
        _whole("created_at"),
        _whole("changed_at"),
        sa.PrimaryKeyConstraint("name", name="pk_console_user"),
        sa.CheckConstraint(_ROLES, name=op.f("ck_console_user_role_known")),
    )
    op.create_table(
        "console_session",
        _words("token_hash"),
        _words("user_name"),
        _words("role"),
        _words("method"),
        _whole("created_at"),
        _whole("expires_at"),
        _whole("seen_at"),
        _words("address", default=""),
        sa.PrimaryKeyConstraint("token_hash", name="pk_console_session"),
        sa.CheckConstraint(_ROLES, name=op.f("ck_console_session_role_known")),
    )
    op.create_index("ix_console_session_user", "console_session", ["user_name"])
    op.create_table(
        "console_key",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        _whole("made_at"),
        sa.PrimaryKeyConstraint("id", name="pk_console_key"),
    )
    op.create_table(
        "machine_token",
        _words("id"),
        _words("name"),
        _words("secret_hash"),
        _words("scopes"),
        _words("created_by"),
        _whole("created_at"),
        _whole("expires_at", nullable=True),
        _whole("revoked_at", nullable=True),
        _whole("used_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_machine_token"),
    )
