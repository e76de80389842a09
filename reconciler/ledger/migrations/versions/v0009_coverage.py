"""Coverage facts say since when a later one stands for them, so that few are read however many there are."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("coverage", sa.Column("superseded_at", sa.BigInteger(), autoincrement=False, nullable=True))
    op.drop_index("ix_coverage_kind", "coverage")
    op.create_index("ix_coverage_standing", "coverage", ["superseded_at", "account", "kind"])
