"""Which stretches of time of a list are still to be read, as values: one at first, and more where it is long.

A list that begins with what was created last is cut as it is read, when its pages have shown how dense it is. So a
short list costs no request more, and a long one is read in as many places at once as there are hands free. The walk
itself goes on where it is, over a shorter stretch: what a list shows out of its order is in one of the pieces all the
same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from reconciler.broken import as_stored, stored, together
from reconciler.budget import SAFETY
from reconciler.model import BrokenRow, Page, Window
from reconciler.provider import ACCOUNT_LIMIT, Kind, Provider

MOST_AT_ONCE = 8
"""Walks of one backfill that are under way at the same time, each with a page or two in memory."""

_LONGEST_ANSWER_SECONDS = 0.5
"""What a page takes at a slow provider: more walks than the budget lets ask within it would only wait."""

_LEAST_SEEN = 4
"""Pages of a stretch from which its density is believed."""

_LEAST_PIECE = 8
"""Pages that a piece shall have: each costs a request for a page that is not full."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """`since <= created < until`, from the cursor on; None: from its beginning."""

    since: datetime
    until: datetime
    cursor: str | None = None

    @property
    def window(self) -> Window:
        return Window(self.since, self.until)


def left(progress: Mapping[str, Any], window: Window) -> list[Stretch]:
    """What is still to be read of the list over a window, as a job's progress says."""
    stored = progress.get("stretches")
    if stored is not None:
        return [
            Stretch(datetime.fromisoformat(each["since"]), datetime.fromisoformat(each["until"]), each["cursor"])
            for each in stored
        ]
    # As it was kept before lists were cut.
    return [] if progress.get("ended") else [Stretch(window.since, window.until, progress.get("cursor"))]


def reach_of(progress: Mapping[str, Any]) -> datetime | None:
    """How far back these credentials let the list go, as far as its pages have said."""
    kept = progress.get("reach")
    return None if kept is None else datetime.fromisoformat(kept)


def moved(
    progress: Mapping[str, Any],
    window: Window,
    stretch: Stretch,
    by: Sequence[Stretch],
    reach: datetime | None,
    broken: Sequence[BrokenRow] = (),
) -> dict[str, Any]:
    """The progress with one stretch replaced by what is left of it. No two stretches end at the same instant."""
    others = [each for each in left(progress, window) if each.until != stretch.until]
    known = [each for each in (reach_of(progress), reach) if each is not None]
    return {
        "began": progress["began"],
        "reach": max(known).isoformat() if known else None,
        "broken": as_stored(together(stored(progress), broken)),
        "stretches": [
            {"since": each.since.isoformat(), "until": each.until.isoformat(), "cursor": each.cursor}
            for each in (*others, *by)
        ],
    }


def walks_at_once(provider: Provider, kind: Kind) -> int:
    """How many places of a kind's list may be read at once: one, where it cannot be cut."""
    if not kind.newest_first:
        return 1
    limits = [provider.limits[name] for name in (str(kind.list_endpoint), ACCOUNT_LIMIT) if name in provider.limits]
    rate = min([limit.rate for limit in limits], default=float(MOST_AT_ONCE) / _LONGEST_ANSWER_SECONDS / SAFETY)
    return max(1, min(MOST_AT_ONCE, int(rate * SAFETY * _LONGEST_ANSWER_SECONDS + 1e-9)))


class Density:
    """What the pages of one walk over a stretch have shown of it."""

    def __init__(self, stretch: Stretch) -> None:
        self._stretch = stretch
        self._newest = stretch.until if stretch.cursor is None else None
        self._oldest: datetime | None = None
        self._pages = 0
        self._in_order = True

    def see(self, page: Page) -> None:
        self._pages += 1
        for row in page.rows:
            at = row.created_at
            if at is None or (self._oldest is not None and at > self._oldest):
                self._in_order = False
                return
            self._newest, self._oldest = self._newest or at, at

    def pieces(self, cursor: str | None, hands: int) -> list[Stretch]:
        """What is left behind the cursor, cut for so many hands; nothing where it is too little, or in no order."""
        if not self._in_order or self._pages < _LEAST_SEEN or self._oldest is None or self._newest is None:
            return []
        since, until = self._stretch.since, self._oldest.replace(microsecond=0)
        if not since < until < self._newest:
            return []
        pages = self._pages * ((until - since) / (self._newest - until))
        count = min(hands, int(pages / _LEAST_PIECE))
        if count < 2:
            return []
        inner = [(since + (until - since) * n / count).replace(microsecond=0) for n in range(1, count)]
        edges = list(dict.fromkeys(each for each in inner if since < each < until))
        older = [Stretch(*each) for each in pairwise([since, *edges])]
        return [*older, Stretch(edges[-1], self._stretch.until, cursor)] if edges else []
