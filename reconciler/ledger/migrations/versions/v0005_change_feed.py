"""The change feed: a position for every version, those of the past included."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _whole(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=nullable, server_default=default)


# In the order of recording, and never a resource's version before the one before it: a clock may have been set back.
_PAST = """
  INSERT INTO change (resource_id, version, position)
  SELECT resource_id, version, row_number() OVER (ORDER BY reached, resource_id, version) FROM (
    SELECT resource_id, version,
      max(recorded_at) OVER (PARTITION BY resource_id ORDER BY version) AS reached
    FROM version) AS past
"""


def upgrade() -> None:
    op.create_table(
        "change",
        _whole("resource_id"),
        _whole("version"),
        _whole("position", nullable=True),
        sa.PrimaryKeyConstraint("resource_id", "version", name="pk_change"),
        sa.UniqueConstraint("position", name="uq_change_position"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_change_unplaced",
        "change",
        ["resource_id", "version"],
        unique=False,
        sqlite_where=sa.text("position IS NULL"),
        postgresql_where=sa.text("position IS NULL"),
    )
    op.create_table(
        "feed",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        _whole("position", default="0"),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feed"),
    )
    op.execute(_PAST)
    op.get_bind().execute(
        sa.text("INSERT INTO feed (id, position, epoch) SELECT 1, count(*), :epoch FROM change"),
        {"epoch": secrets.token_hex(4)},
    )
