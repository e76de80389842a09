"""What was looked at, out of single coverage facts: through when without a hole, and where the holes are. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from reconciler.ledger import Coverage
from reconciler.ledger.coverage import merge
from reconciler.model import Window

NO_LOOK = "no sweep looked here"


@dataclass(frozen=True, slots=True)
class Gap:
    window: Window
    reason: str


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the looks at one kind reach."""

    since: datetime
    """Where the first complete look began; before it nothing is claimed."""
    through: datetime
    """The end of the last complete look. What lies before it was looked at, but for the gaps."""
    gaps: tuple[Gap, ...]


def reaches(facts: Iterable[Coverage]) -> Mapping[tuple[str, str], Reach | None]:
    """By account and kind. None: every look at the kind failed, so that nothing was looked at."""
    by_kind: dict[tuple[str, str], list[Coverage]] = defaultdict(list)
    for fact in facts:
        by_kind[fact.account, fact.kind].append(fact)
    return {key: _reach(kind_facts) for key, kind_facts in by_kind.items()}


def last_reason(facts: Sequence[Coverage], account: str, kind: str) -> str:
    """Why the latest look at a kind failed; empty if it did not."""
    own = [fact for fact in facts if (fact.account, fact.kind) == (account, kind)]
    return "" if not own or own[-1].complete else own[-1].reason


def _reach(facts: Sequence[Coverage]) -> Reach | None:
    seen = merge(fact.window for fact in facts if fact.complete)
    if not seen:
        return None
    failed = [(window, fact.reason) for fact in facts if not fact.complete for window in subtract([fact.window], seen)]
    named = merge(window for window, _ in failed)
    holes = [Window(one.until, other.since) for one, other in pairwise(seen)]
    gaps = _distinct(failed) + [Gap(window, NO_LOOK) for window in subtract(holes, named)]
    return Reach(seen[0].since, seen[-1].until, tuple(sorted(gaps, key=lambda gap: (gap.window.since, gap.reason))))


def _distinct(failed: Sequence[tuple[Window, str]]) -> list[Gap]:
    """One gap for each reason and stretch of time, however often it was tried."""
    by_reason: dict[str, list[Window]] = defaultdict(list)
    for window, reason in failed:
        by_reason[reason].append(window)
    return [Gap(window, reason) for reason, windows in by_reason.items() for window in merge(windows)]


def subtract(windows: Iterable[Window], without: Sequence[Window]) -> list[Window]:
    """The instants of `windows` that are in none of `without`."""
    left: list[Window] = []
    holes = merge(without)
    for window in merge(windows):
        since = window.since
        for hole in holes:
            if hole.until <= since or hole.since >= window.until:
                continue
            if hole.since > since:
                left.append(Window(since, hole.since))
            since = hole.until
        if since < window.until:
            left.append(Window(since, window.until))
    return left
