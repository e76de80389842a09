"""The columns that every table is made of, and how constraints are named."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Text
from sqlmodel import Field, SQLModel

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "pk": "pk_%(table_name)s",
}
"""Set before the first table is declared: each of their modules imports this one."""

_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")
"""In SQLite a primary key typed INTEGER *is* the row's place in the table."""


def identity() -> Any:
    """A row's id, given by the ledger clock, so that it is known before the row is written."""
    return Field(default=None, sa_column=Column(_ROW_ID, primary_key=True, autoincrement=False))


def whole(*, key: bool = False, optional: bool = False, default: int | None = None) -> Any:
    """A 64-bit integer: counters, instants in microseconds, minor units of money."""
    server_default = None if default is None else str(default)
    column: Column[int] = Column(
        BigInteger, primary_key=key, autoincrement=False, nullable=optional, server_default=server_default
    )
    return Field(default=default, sa_column=column)


def words(*, key: bool = False, optional: bool = False, default: str | None = None) -> Any:
    return Field(default=default, sa_column=Column(Text, primary_key=key, nullable=optional, server_default=default))


def packed(*, optional: bool = False) -> Any:
    """Bytes as `reconciler.ledger.codec` packs them."""
    return Field(default=None, sa_column=Column(LargeBinary, nullable=optional))
