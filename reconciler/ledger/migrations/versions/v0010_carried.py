"""What the entries of days long past add up to, carried forward."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def _whole(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)


def _words(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "carried_span",
        _words("account"),
        _whole("since"),
        _whole("until"),
        _whole("known_at"),
        sa.PrimaryKeyConstraint("account", "since", name="pk_carried_span"),
    )
    op.create_table(
        "carried_balance",
        _words("account"),
        _whole("since"),
        _words("balance_type"),
        _words("currency"),
        _whole("first_at"),
        _whole("net"),
        sa.PrimaryKeyConstraint("account", "since", "balance_type", "currency", name="pk_carried_balance"),
    )
    op.create_table(
        "carried_paid",
        _words("account"),
        _whole("since"),
        _words("balance_type"),
        _words("currency"),
        _words("category"),
        _words("paid_by"),
        _words("pays"),
        _whole("entries"),
        _whole("net"),
        sa.PrimaryKeyConstraint(
            "account", "since", "balance_type", "currency", "category", "paid_by", "pays", name="pk_carried_paid"
        ),
    )
