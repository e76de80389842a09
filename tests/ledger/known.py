"""What a world knows: the provider's states, what is on its way, and what the oracle remembers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reconciler.ledger import Claim
from reconciler.model import Entry, Reading, ResourceRef, Snapshot, Tombstone
from tests.ledger.factories import entry


class Violation(AssertionError):
    """The ledger broke a promise."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The n-th state of a resource at the provider; `value` None: it does not exist."""

    n: int
    value: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Hook:
    ref: ResourceRef
    truth: Truth
    event_id: str
    expected: str | None


@dataclass(slots=True)
class Read:
    """A worker's claim on its way to an answer."""

    claim: Claim
    claimed_at_step: int
    started_at: datetime | None = None
    seen: Truth | None = None


@dataclass(slots=True)
class PageRead:
    start: int
    started_at: datetime
    seen: dict[ResourceRef, Truth] = field(default_factory=dict)


@dataclass(slots=True)
class Known:
    """What the oracle remembers of one resource."""

    history: list[Truth]
    acknowledged: int = 0
    """The newest provider state whose announcement the ledger has acknowledged."""
    stored: Truth | None = None
    """The provider state that the last accepted read saw."""
    marked_at_step: int = 0
    settled_claim_step: int = 0
    token: int = 0
    """Of the claim that holds or last held the row."""
    lease_until: datetime | None = None
    row: dict[str, Any] = field(default_factory=dict)
    versions: list[tuple[Any, ...]] = field(default_factory=list)


def reading_of(of: ResourceRef, truth: Truth) -> Reading:
    return Tombstone(of) if truth.value is None else Snapshot(of, {"id": of.id, "value": truth.value})


def entries_of(reading: Reading) -> Sequence[Entry]:
    """One line per snapshot, a pure function of it."""
    if isinstance(reading, Tombstone):
        return ()
    return (entry(reading.ref, gross=100 * reading.body["value"], fee=0),)
