"""Deliveries that were not simply stored, found without looking through all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    odd = sa.text("verdict <> 'stored'")
    op.create_index(
        "ix_delivery_odd", "delivery", ["verdict", "received_at", "id"], sqlite_where=odd, postgresql_where=odd
    )
