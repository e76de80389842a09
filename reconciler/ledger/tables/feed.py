"""The change feed: in which order versions were committed."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Column, Index, Integer, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from reconciler.ledger.tables.columns import whole, words


class ChangeRow(SQLModel, table=True):
    """A version's place in the change feed: 1, 2, 3 and so on in the order of commits, given after the commit.

    NULL until then. A position is visible only together with every smaller one, so that no reader passes by a change
    that commits late (docs/decisions/0070).
    """

    __tablename__: ClassVar[Any] = "change"
    __table_args__ = (
        UniqueConstraint("position"),
        Index(
            "ix_change_unplaced",
            "resource_id",
            "version",
            sqlite_where=text("position IS NULL"),
            postgresql_where=text("position IS NULL"),
        ),
        {"sqlite_with_rowid": False},
    )

    resource_id: int = whole(key=True)
    version: int = whole(key=True)
    position: int | None = whole(optional=True)


class FeedRow(SQLModel, table=True):
    """The change feed's head, one row. Whoever gives positions holds its lock until they are committed."""

    __tablename__: ClassVar[Any] = "feed"

    id: int = Field(default=1, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    position: int = whole(default=0)
    epoch: str = words()
    """Which ledger counted: a cursor of another one means nothing here."""
