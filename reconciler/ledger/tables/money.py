"""What versions, providers and banks say about money, as reports read it."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, Column, Index, Integer, UniqueConstraint
from sqlmodel import Field, SQLModel

from reconciler.ledger.tables.columns import identity, whole, words


class EntryRow(SQLModel, table=True):
    """One money line of a version: a projection, rebuilt from the version at any time without a difference."""

    __tablename__: ClassVar[Any] = "entry"
    __table_args__ = (
        # Holds every column that a proof sums, so that openings over years of entries never touch the table.
        Index(
            "ix_entry_proof",
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
        ),
        Index("ix_entry_source", "account", "source_id"),
        Index("ix_entry_payout", "account", "payout_id"),
        CheckConstraint("net = gross - fee", name="foots"),
    )

    resource_id: int = whole(key=True)
    version: int = whole(key=True)
    ordinal: int = Field(default=0, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    account: str = words()
    kind: str = words()
    remote_id: str = words()
    balance_type: str = words()
    category: str = words()
    currency: str = words()
    gross: int = whole()
    fee: int = whole()
    net: int = whole()
    effective_at: int = whole()
    available_on: int | None = whole(optional=True)
    source_id: str | None = words(optional=True)
    payout_id: str | None = words(optional=True)
    fee_details: str = words(default="[]")
    recorded_at: int = whole()
    superseded_at: int | None = whole(optional=True)
    """When a later version took its place; NULL while it is current."""


class ControlTotalRow(SQLModel, table=True):
    """A balance that the provider stated itself."""

    __tablename__: ClassVar[Any] = "control_total"
    __table_args__ = (
        UniqueConstraint("account", "balance_type", "currency", "as_at", "recorded_at", name="uq_control_total_once"),
    )

    id: int | None = identity()
    account: str = words()
    balance_type: str = words()
    currency: str = words()
    minor: int = whole()
    as_at: int = whole()
    recorded_at: int = whole()


class PayoutMembersRow(SQLModel, table=True):
    """Which balance transactions a payout paid out, as the provider listed them."""

    __tablename__: ClassVar[Any] = "payout_members"
    __table_args__ = (UniqueConstraint("account", "payout_id", "recorded_at", name="uq_payout_members_once"),)

    id: int | None = identity()
    provider: str = words()
    account: str = words()
    payout_id: str = words()
    members: str = words()
    """A JSON list of references, sorted."""
    complete: bool = Field(default=True)
    recorded_at: int = whole()


class PayoutMemberRow(SQLModel, table=True):
    """The lists of `payout_members` by member, with the time during which each was the latest: a projection of them."""

    __tablename__: ClassVar[Any] = "payout_member"
    __table_args__ = (Index("ix_payout_member_payout", "account", "payout_id"), {"sqlite_with_rowid": False})

    account: str = words(key=True)
    remote_id: str = words(key=True)
    """Of the balance transaction."""
    payout_id: str = words(key=True)
    recorded_at: int = whole(key=True)
    superseded_at: int | None = whole(optional=True)


class BankLineRow(SQLModel, table=True):
    """One line of a bank statement whose own totals footed; at ordinal 0 what the account held before its lines."""

    __tablename__: ClassVar[Any] = "bank_line"
    __table_args__ = (
        UniqueConstraint("bank_account", "statement_id", "ordinal"),
        Index("ix_bank_line_booked", "booked_on", "currency"),
    )

    id: int | None = identity()
    bank_account: str = words()
    statement_id: str = words()
    ordinal: int = whole()
    currency: str = words()
    minor: int = whole()
    exponent: int = whole()
    booked_on: str = words()
    value_on: str | None = words(optional=True)
    reference: str = words()
    recorded_at: int = whole()
