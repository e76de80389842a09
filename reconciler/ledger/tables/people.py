"""Who may look at the console, and which programs may ask."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, Column, Index, Integer
from sqlmodel import Field, SQLModel

from reconciler.ledger.tables.columns import packed, whole, words


class ConsoleUserRow(SQLModel, table=True):
    """A person who may look at the console, and what they may do there."""

    __tablename__: ClassVar[Any] = "console_user"
    __table_args__ = (CheckConstraint("role IN ('viewer', 'finance', 'operator')", name="role_known"),)

    name: str = words(key=True)
    role: str = words()
    password_hash: str = words()
    """Argon2id, with its own salt and costs in it."""
    created_at: int = whole()
    changed_at: int = whole()


class ConsoleSessionRow(SQLModel, table=True):
    """Somebody who is logged in. The cookie's token stands here only as its hash; without the row it is worthless."""

    __tablename__: ClassVar[Any] = "console_session"
    __table_args__ = (
        Index("ix_console_session_user", "user_name"),
        CheckConstraint("role IN ('viewer', 'finance', 'operator')", name="role_known"),
    )

    token_hash: str = words(key=True)
    user_name: str = words()
    role: str = words()
    """As it was given at the login. Somebody with a row in `console_user` has the role of that row."""
    method: str = words()
    """`password` or `oidc`: how they proved who they are."""
    created_at: int = whole()
    expires_at: int = whole()
    seen_at: int = whole()
    address: str = words(default="")


class ConsoleKeyRow(SQLModel, table=True):
    """What the console signs cookies and forms with: one row, made by the first process that needs it."""

    __tablename__: ClassVar[Any] = "console_key"

    id: int = Field(default=1, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    secret: bytes = packed()
    made_at: int = whole()


class MachineTokenRow(SQLModel, table=True):
    """A program that may use the HTTP API, within its scopes. Kept when it is revoked, so that its name stays known."""

    __tablename__: ClassVar[Any] = "machine_token"

    id: str = words(key=True)
    name: str = words()
    secret_hash: str = words()
    scopes: str = words()
    """Sorted, with spaces between."""
    created_by: str = words()
    created_at: int = whole()
    expires_at: int | None = whole(optional=True)
    revoked_at: int | None = whole(optional=True)
    used_at: int | None = whole(optional=True)
