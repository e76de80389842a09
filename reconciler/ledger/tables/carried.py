"""Entries of whole days summed up: projections that spare reports to read them."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlmodel import SQLModel

from reconciler.ledger.tables.columns import whole, words


class CarriedSpanRow(SQLModel, table=True):
    """Whole UTC days of an account whose entries are summed up: a projection that spares reports to read them."""

    __tablename__: ClassVar[Any] = "carried_span"

    account: str = words(key=True)
    since: int = whole(key=True)
    until: int = whole()
    known_at: int = whole()
    """When the last of what it holds became known: as of any earlier instant it looked different."""


class CarriedBalanceRow(SQLModel, table=True):
    """What the entries of a span add up to, by balance."""

    __tablename__: ClassVar[Any] = "carried_balance"

    account: str = words(key=True)
    since: int = whole(key=True)
    balance_type: str = words(key=True)
    currency: str = words(key=True)
    first_at: int = whole()
    net: int = whole()


class CarriedPaidRow(SQLModel, table=True):
    """What the entries of a span add up to, by category and by who paid them out; an empty name is nobody."""

    __tablename__: ClassVar[Any] = "carried_paid"

    account: str = words(key=True)
    since: int = whole(key=True)
    balance_type: str = words(key=True)
    currency: str = words(key=True)
    category: str = words(key=True)
    paid_by: str = words(key=True)
    pays: str = words(key=True)
    entries: int = whole()
    net: int = whole()
