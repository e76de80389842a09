"""What versions say about money, as rows; groups of them that are settled and set aside; what nobody has read yet."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _whole(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=nullable, server_default=default)


def _small(name: str, *, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), autoincrement=False, nullable=False, server_default=default)


def _words(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable, server_default=default)


def upgrade() -> None:
    op.create_table(
        "unread",
        _whole("resource_id"),
        _whole("version"),
        sa.PrimaryKeyConstraint("resource_id", "version", name="pk_unread"),
        sqlite_with_rowid=False,
    )
    # Reports read these from their bodies, as before, until they are kept as rows.
    op.execute("INSERT INTO unread (resource_id, version) SELECT resource_id, version FROM version")
    op.create_table(
        "movement",
        _whole("resource_id"),
        _whole("version"),
        _small("ordinal"),
        _words("provider"),
        _words("account"),
        _words("kind"),
        _words("remote_id"),
        _words("reading"),
        _whole("recorded_at"),
        _whole("superseded_at", nullable=True),
        _whole("group_id", nullable=True),
        sa.PrimaryKeyConstraint("resource_id", "version", "ordinal", name="pk_movement"),
    )
    op.create_index("ix_movement_kind", "movement", ["account", "kind", "group_id"], unique=False)
    op.create_index("ix_movement_group", "movement", ["group_id"], unique=False)
    op.create_table(
        "movement_name",
        _whole("name"),
        _whole("resource_id"),
        sa.PrimaryKeyConstraint("name", "resource_id", name="pk_movement_name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "aside_group",
        sa.Column("id", _ROW_ID, autoincrement=False, nullable=False),
        _whole("first_at"),
        _whole("last_at"),
        _whole("changed_at"),
        _small("plain", default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_aside_group"),
    )
    op.create_index("ix_aside_group_last", "aside_group", ["plain", "last_at", "first_at"], unique=False)
    op.create_index("ix_aside_group_changed", "aside_group", ["changed_at", "first_at"], unique=False)
    op.create_table(
        "aside_flow",
        _whole("group_id"),
        _small("ordinal"),
        _words("code"),
        _words("key", default=""),
        _words("currency"),
        _whole("minor"),
        _words("left_ref", default=""),
        _words("right_ref", default=""),
        _words("country", nullable=True),
        _whole("earlier"),
        _whole("later"),
        _whole("changed_at"),
        sa.PrimaryKeyConstraint("group_id", "ordinal", name="pk_aside_flow"),
    )
    op.create_index("ix_aside_flow_later", "aside_flow", ["later", "earlier"], unique=False)
    op.create_table(
        "aside_state",
        _small("id"),
        _words("readings"),
        _words("terms"),
        _whole("turn", default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_aside_state"),
    )
