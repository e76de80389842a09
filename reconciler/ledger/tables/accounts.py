"""An account at its provider: whether it may be read now, how fast, with which token, and how old its secrets are."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Column, Integer
from sqlmodel import Field, SQLModel

from reconciler.ledger.tables.columns import packed, whole, words


class GateRow(SQLModel, table=True):
    """An account, or one kind of it, that is not read for now; it is probed again at `until`."""

    __tablename__: ClassVar[Any] = "gate"

    account: str = words(key=True)
    kind: str = words(key=True, default="")
    """Empty: the whole account."""
    reason: str = words()
    """`permission`, `credentials`, `throttled`, `missing-storm`, `paused`."""
    text: str = words(default="")
    opened_at: int = whole()
    until: int = whole()
    times: int = Field(default=1, sa_column=Column(Integer, nullable=False, server_default="1"))
    """How often in a row it closed again, for the length of the next wait."""


class ReadTallyRow(SQLModel, table=True):
    """How many requests were sent to a provider, per day: what a read allocation is measured against."""

    __tablename__: ClassVar[Any] = "read_tally"

    account: str = words(key=True)
    day: int = whole(key=True)
    endpoint: str = words(key=True)
    priority: int = whole(key=True)
    requests: int = whole(default=0)


class BucketRow(SQLModel, table=True):
    """A token bucket that every process draws from, in millitokens."""

    __tablename__: ClassVar[Any] = "bucket"

    account: str = words(key=True)
    endpoint: str = words(key=True)
    """Empty: the account's own limit over all endpoints."""
    level: int = whole(default=0)
    at: int = whole(default=0)
    rate: int = whole(default=0)
    """Millitokens per second, as last adapted to the provider's answers."""
    closed_until: int = whole(default=0)
    """A Retry-After: nothing is drawn before this instant."""


class TokenRow(SQLModel, table=True):
    """An account's token where tokens end, sealed with a key that is not in the ledger; and who renews it now."""

    __tablename__: ClassVar[Any] = "token"

    account: str = words(key=True)
    sealed: bytes | None = packed(optional=True)
    version: int = whole(default=0)
    """How many tokens were kept: who renews says which one it saw."""
    lease_token: int = whole(default=0)
    lease_until: int | None = whole(optional=True)
    kept_at: int | None = whole(optional=True)


class SecretSeenRow(SQLModel, table=True):
    """Since when a webhook secret has been in use. A fingerprint: the secret itself is nowhere in the ledger."""

    __tablename__: ClassVar[Any] = "secret_seen"

    account: str = words(key=True)
    fingerprint: str = words(key=True)
    first_seen_at: int = whole()
    last_seen_at: int = whole()
