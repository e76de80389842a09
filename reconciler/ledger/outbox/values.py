"""The values of the outbox: what is claimed, what was sent, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from reconciler.ledger.subscriptions import Origin


class Outcome(StrEnum):
    """How a row ended."""

    DELIVERED = "delivered"
    FILTERED = "filtered"
    """None of the fields that the subscription wants had changed."""
    SKIPPED = "skipped"
    """A newer version was sent instead."""
    DEAD = "dead"
    """Given up on; `retry` sends it after all."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A claimed row: to be sent, and ended under its token."""

    subscription: str
    resource_id: int
    version: int
    token: int
    attempts: int
    """This one included."""
    first_tried_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Door:
    """An active subscription."""

    name: str
    origin: Origin
    ready_at: datetime | None
    """When the first of what is pending may be sent; None: nothing is."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was sent and what came back."""

    subscription: str
    resource_id: int
    version: int
    message_id: str
    at: datetime
    duration: timedelta
    status: int | None
    error: str = ""
    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a claim: with an outcome, or due again at `again_at`."""

    parcel: Parcel
    outcome: Outcome | None
    again_at: datetime | None = None
    error: str = ""
    attempt: Attempt | None = None
    """None: nothing was sent."""
    healthy: bool | None = None
    """What the answer says of the subscriber; None: nothing."""
    shut_until: datetime | None = None
    """Asked for by the subscriber itself (Retry-After)."""
    disable: str = ""
    """Why it must not be sent anything any more; empty: it may."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of an ending."""

    lost: bool
    """The lease was over: only the log heard of it."""
    failures: int = 0
    """Of the subscription in a row, this one included."""
    recovered_since: datetime | None = None
    """It had been failing since then, and has answered now."""
