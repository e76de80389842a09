"""Webhook requests as they came, what they named, and the events that never came."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, Column, Index, Integer
from sqlmodel import Field, SQLModel

from reconciler.ledger.tables.columns import identity, packed, whole, words


class DeliveryRow(SQLModel, table=True):
    """One webhook request as received, valid or not, with its verdict."""

    __tablename__: ClassVar[Any] = "delivery"
    __table_args__ = (
        Index("ix_delivery_event", "account", "event_id"),
        Index("ix_delivery_received", "received_at"),
        CheckConstraint("verdict IN ('stored', 'duplicate', 'rejected', 'ignored')", name="verdict_known"),
    )

    id: int | None = identity()
    provider: str = words()
    account: str = words()
    event_id: str | None = words(optional=True)
    type: str | None = words(optional=True)
    received_at: int = whole()
    occurred_at: int | None = whole(optional=True)
    verdict: str = words()
    reason: str | None = words(optional=True)
    source: str = words(default="")
    headers: str = words(default="{}")
    body: bytes | None = packed(optional=True)
    size: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))


class DeliveryLinkRow(SQLModel, table=True):
    """Which resources a delivery named, by eras of the ledger clock (`reconciler.ledger.links`)."""

    __tablename__: ClassVar[Any] = "delivery_link"
    __table_args__ = ({"sqlite_with_rowid": False},)

    era: int = whole(key=True)
    account: str = words(key=True)
    kind: str = words(key=True)
    remote_id: str = words(key=True)
    delivery_id: int = whole(key=True)


class DeliveryMarkRow(SQLModel, table=True):
    """The same of deliveries from before there were eras: read, and no more written."""

    __tablename__: ClassVar[Any] = "delivery_mark"
    __table_args__ = ({"sqlite_with_rowid": False},)

    account: str = words(key=True)
    kind: str = words(key=True)
    remote_id: str = words(key=True)
    delivery_id: int = whole(key=True)


class DeliveryTallyRow(SQLModel, table=True):
    """How many deliveries got which verdict, per day: exact even where a flood was not stored row by row."""

    __tablename__: ClassVar[Any] = "delivery_tally"

    account: str = words(key=True)
    day: int = whole(key=True)
    verdict: str = words(key=True)
    reason: str = words(key=True, default="")
    count: int = whole(default=0)


class MissedEventRow(SQLModel, table=True):
    """An event in the provider's own feed that had not reached us when we looked."""

    __tablename__: ClassVar[Any] = "missed_event"
    __table_args__ = (Index("ix_missed_event_noticed", "noticed_at"),)

    account: str = words(key=True)
    event_id: str = words(key=True)
    type: str = words()
    occurred_at: int | None = whole(optional=True)
    noticed_at: int = whole()
