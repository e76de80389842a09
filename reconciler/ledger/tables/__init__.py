"""The ledger's tables, declared with SQLModel, a module for each subject. Statements on them are SQLAlchemy Core, never
the ORM.

Every instant is a BIGINT of microseconds since 1970-01-01 UTC, the same on both databases (docs/decisions/0002).
`resource` is the hot table: one narrow row per remote thing and no bodies. Everything else only grows.
"""

from __future__ import annotations

from sqlmodel import SQLModel

from reconciler.ledger.tables import (
    accounts,
    carried,
    deliveries,
    feed,
    money,
    movements,
    outbox,
    people,
    resources,
    signoff,
    work,
)

SUBJECTS = (accounts, carried, deliveries, feed, money, movements, outbox, people, resources, signoff, work)
"""Importing a module declares its tables: one that is left out here is missing from the schema."""

metadata = SQLModel.metadata
