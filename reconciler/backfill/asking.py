"""What an operator asks of a backfill, what it will cost, and how it went, as values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from reconciler.model import BrokenRow, ResourceRef


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator asked for. `until` None: everything up to now."""

    since: datetime
    until: datetime | None
    accounts: frozenset[str]
    """Empty: all of them."""
    kinds: frozenset[str]
    """Empty: all of them."""

    def job(self, account: str, kind: str) -> str:
        """The same question has the same name, so that asking it again goes on where it was left."""
        until = "" if self.until is None else self.until.isoformat()
        asked = "|".join((self.since.isoformat(), until, *sorted(self.accounts), "", *sorted(self.kinds)))
        return f"backfill/{hashlib.sha256(asked.encode()).hexdigest()[:12]}/{account}/{kind}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a backfill of one kind will cost, from what the ledger knows."""

    account: str
    kind: str
    objects: int
    requests: int
    time: timedelta
    """At the rate that the budget leaves for backfills, if nothing else is read."""


@dataclass(slots=True)
class Result:
    """How the backfill of one kind went."""

    account: str
    kind: str
    pages: int = 0
    objects: int = 0
    changed: int = 0
    """Versions that it stored: by its pages until it is settled, by its single reads as well from then on."""
    drift: int = 0
    """Of those: changes of resources that the ledger knew already, otherwise."""
    drifted: list[ResourceRef] = field(default_factory=list)
    """Which resources these were; the first thousand."""
    singly: int = 0
    missed: int = 0
    began: datetime | None = None
    """When the question was first asked, in this life or in one that was killed. None: it was not."""
    reach: datetime | None = None
    """How far back these credentials let the list go; None: to the beginning."""
    broken: tuple[BrokenRow, ...] = ()
    """Rows of the list that the ledger cannot hold."""
    reasons: list[str] = field(default_factory=list)
    """Why something of this kind could not be verified; empty when everything was."""

    @property
    def verified(self) -> bool:
        return not self.reasons


_COUNTERS = ("pages", "objects", "changed", "singly")


def kept(result: Result) -> dict[str, Any]:
    """What the next life of the same question should know of a kind that is done."""
    return {name: getattr(result, name) for name in _COUNTERS} | {"reasons": result.reasons}


def restore(result: Result, values: Mapping[str, Any]) -> None:
    for name in _COUNTERS:
        setattr(result, name, values[name])
    result.reasons.extend(values["reasons"])
