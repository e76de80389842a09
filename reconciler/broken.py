"""Rows of a list that the ledger cannot hold: kept with the place in the list, and left out of what was looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from reconciler.model import BrokenRow, Window

MOST: Final = 20
"""How many of one walk are named. What more there are may lie anywhere in its window."""
_MORE: Final = BrokenRow("further rows cannot be read")
_SECOND: Final = timedelta(seconds=1)


def together(known: Sequence[BrokenRow], more: Iterable[BrokenRow]) -> tuple[BrokenRow, ...]:
    """Each once: a page that is asked for again shows the same ones."""
    found = tuple(dict.fromkeys((*known, *more)))
    return found if len(found) <= MOST else (*found[: MOST - 1], _MORE)


def as_stored(rows: Iterable[BrokenRow]) -> list[list[str | None]]:
    return [[each.said, None if each.created_at is None else each.created_at.isoformat()] for each in rows]


def stored(progress: Mapping[str, Any]) -> tuple[BrokenRow, ...]:
    """Of a walk that is gone on with."""
    return tuple(
        BrokenRow(said, None if at is None else datetime.fromisoformat(at)) for said, at in progress.get("broken", ())
    )


def holes(window: Window, rows: Iterable[BrokenRow]) -> list[tuple[Window, str]]:
    """What each leaves out of a look over the window: the second of its creation where that lies inside, else all."""
    found = []
    for each in rows:
        at = each.created_at
        inside = at is not None and at in window
        hole = Window(at, min(at + _SECOND, window.until)) if at is not None and inside else window
        found.append((hole, each.said))
    return found


def around(window: Window, left_out: Iterable[Window]) -> list[Window]:
    """What is left of the window."""
    rest, since = [], window.since
    for hole in sorted(left_out, key=lambda each: each.since):
        if since < hole.since:
            rest.append(Window(since, hole.since))
        since = max(since, hole.until)
    return [*rest, Window(since, window.until)] if since < window.until else rest
