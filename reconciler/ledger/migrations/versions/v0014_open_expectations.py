"""What is still expected is found without what was: it is asked for every five seconds, and a year of it is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    due, still = sa.text("looked_at IS NULL AND confirmed_at IS NULL"), sa.text("confirmed_at IS NULL")
    op.create_index("ix_expectation_due", "expectation", ["account", "due_at"], sqlite_where=due, postgresql_where=due)
    op.create_index(
        "ix_expectation_open", "expectation", ["account", "kind", "due_at"], sqlite_where=still, postgresql_where=still
    )
