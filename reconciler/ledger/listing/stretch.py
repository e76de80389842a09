"""What every list has in common: a page of rows, where the next one begins, and instants as the ledger keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from reconciler.clock import from_micros, to_micros

FOREVER: Final = to_micros(datetime.fromisoformat("9999-12-31T00:00:00+00:00"))
NEVER: Final = 0


@dataclass(frozen=True, slots=True)
class Stretch:
    """A page of a list: its rows, and where the next page begins."""

    rows: tuple[Any, ...]
    after: tuple[Any, ...] | None
    """The key to go on from; None: this was all."""
    cut: bool = False
    """Not the rows, but the rows that were looked at have reached their bound: there may be more."""


def micros(at: datetime | None, default: int) -> int:
    return default if at is None else to_micros(at)


def instant(at: int | None) -> datetime | None:
    return None if at is None else from_micros(at)
