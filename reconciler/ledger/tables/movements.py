"""What a version says about money by itself, and which of it is settled: projections that spare reports the bodies."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Column, Index, Integer
from sqlmodel import Field, SQLModel

from reconciler.ledger.tables.columns import identity, whole, words


class UnreadRow(SQLModel, table=True):
    """A version whose money movements are not kept as rows yet: reports read its body, until somebody has read it."""

    __tablename__: ClassVar[Any] = "unread"
    __table_args__ = ({"sqlite_with_rowid": False},)

    resource_id: int = whole(key=True)
    version: int = whole(key=True)


class MovementRow(SQLModel, table=True):
    """What a version says about money, as `FinanceReader.read` said it: a projection that spares reports its body."""

    __tablename__: ClassVar[Any] = "movement"
    __table_args__ = (
        Index("ix_movement_kind", "account", "kind", "group_id"),
        Index("ix_movement_group", "group_id"),
    )

    resource_id: int = whole(key=True)
    version: int = whole(key=True)
    ordinal: int = Field(default=0, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    provider: str = words()
    account: str = words()
    kind: str = words()
    remote_id: str = words()
    reading: str = words()
    """JSON, as `reconciler.ledger.movements` writes it."""
    recorded_at: int = whole()
    superseded_at: int | None = whole(optional=True)
    """When a later version took its place; NULL while it is current."""
    group_id: int | None = whole(optional=True)
    """The group it is set aside with; NULL: nobody looked since it came; 0: open; -1: of a role that has no groups."""


class MovementNameRow(SQLModel, table=True):
    """Under which names a thing can be met by others, as 64-bit hashes: two that share none have nothing to do with
    each other. A collision only makes a report read more than it needs."""

    __tablename__: ClassVar[Any] = "movement_name"
    __table_args__ = ({"sqlite_with_rowid": False},)

    name: int = whole(key=True)
    resource_id: int = whole(key=True)


class AsideGroupRow(SQLModel, table=True):
    """Movements that are settled among themselves: a report reads them only where its period or instant cuts them."""

    __tablename__: ClassVar[Any] = "aside_group"
    __table_args__ = (
        Index("ix_aside_group_last", "plain", "last_at", "first_at"),
        Index("ix_aside_group_changed", "changed_at", "first_at"),
    )

    id: int | None = identity()
    first_at: int = whole()
    last_at: int = whole()
    """Everything that it did lies between these instants, both included."""
    changed_at: int = whole()
    """When the last of it became known: as of any earlier instant it looked different."""
    plain: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """1: its flows say everything that a period around them has to know."""


class AsideFlowRow(SQLModel, table=True):
    """A flow of a plain group, complete: what its two legs say in a report."""

    __tablename__: ClassVar[Any] = "aside_flow"
    __table_args__ = (Index("ix_aside_flow_later", "later", "earlier"),)

    group_id: int = whole(key=True)
    ordinal: int = Field(default=0, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    code: str = words()
    """The line of the match; empty: a charge that nothing is matched with, kept for its country."""
    key: str = words(default="")
    currency: str = words()
    minor: int = whole()
    left_ref: str = words(default="")
    right_ref: str = words(default="")
    country: str | None = words(optional=True)
    earlier: int = whole()
    later: int = whole()
    changed_at: int = whole()


class AsideStateRow(SQLModel, table=True):
    """One row: under which terms movements were read and set aside, and the turn of whoever does it."""

    __tablename__: ClassVar[Any] = "aside_state"

    id: int = Field(default=1, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    readings: str = words()
    terms: str = words()
    turn: int = whole(default=0)
