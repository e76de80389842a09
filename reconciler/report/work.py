"""Breaks, and what people did about them: one name for life, an owner, a note, and whether a resolution still holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.ledger.breaks import BreakAction, BreakEvent
from reconciler.report.model import Amount, BreakType, OpenItem, Plane, ResolvedItem
from reconciler.report.periods import bucket
from reconciler.report.scope import Scope


def break_id(account: str, plane: Plane, left: str, right: str, currency: str) -> str:
    """Leaves the type out, so that notes survive when more becomes known and a break changes its sort."""
    text = "|".join((account, plane.value, left, right, currency))
    return f"brk_{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def item(
    scope: Scope,
    *,
    type_: BreakType,
    plane: Plane,
    account: str,
    left: str,
    right: str,
    left_amount: Amount,
    right_amount: Amount,
    since: datetime,
    cut: datetime,
    difference: Amount | None = None,
    suggestion: str | None = None,
) -> OpenItem:
    """`difference` defaults to left - right; P1, P2 and P5 have signs of their own and pass it."""
    currency = left_amount.currency
    age = scope.age(since, cut)
    return OpenItem(
        break_id=break_id(account, plane, left, right, currency),
        type=type_,
        plane=plane,
        account=account,
        left=left,
        right=right,
        currency=currency,
        left_amount=left_amount,
        right_amount=right_amount,
        difference=difference or replace(left_amount, minor=left_amount.minor - right_amount.minor),
        age_days=age,
        bucket=bucket(age),
        opened_at=since,
        owner=None,
        note=None,
        suggestion=suggestion,
    )


@dataclass(slots=True)
class _Standing:
    owner: str | None = None
    note: str | None = None
    resolution: BreakEvent | None = None


class Worklist:
    """What the events on each break add up to."""

    def __init__(self, events: Iterable[BreakEvent]) -> None:
        self._standing: dict[str, _Standing] = {}
        for event in events:
            self._take(event)

    def _take(self, event: BreakEvent) -> None:
        standing = self._standing.setdefault(event.break_id, _Standing())
        match event.action:
            case BreakAction.ASSIGN:
                standing.owner = event.text or None
            case BreakAction.NOTE:
                standing.note = event.text
            case BreakAction.RESOLVE:
                standing.resolution = event
                standing.note = event.text or standing.note
            case BreakAction.REOPEN:
                standing.resolution = None
                standing.note = event.text or standing.note
            case BreakAction.ATTACH:
                pass

    def accepted(self, break_id: str) -> int:
        """Minor units that the resolution in force accepted; 0 without one."""
        standing = self._standing.get(break_id)
        if standing is None or standing.resolution is None:
            return 0
        return standing.resolution.difference or 0

    def resolution(self, item: OpenItem) -> BreakEvent | None:
        """The one that holds for this difference."""
        standing = self._standing.get(item.break_id)
        found = None if standing is None else standing.resolution
        return found if found is not None and found.difference == item.difference.minor else None

    def sort(self, items: Sequence[OpenItem]) -> tuple[list[OpenItem], list[ResolvedItem]]:
        """Open and resolved ones. A resolution that was given for another difference holds no longer."""
        still_open, resolved = [], []
        for each in items:
            standing = self._standing.get(each.break_id, _Standing())
            worked = replace(each, owner=standing.owner, note=standing.note)
            resolution, former = self.resolution(each), standing.resolution
            if resolution is not None:
                resolved.append(ResolvedItem(worked, resolution.reason or "", resolution.actor, resolution.at))
            elif former is not None:
                still_open.append(replace(worked, suggestion=_reopened(each, former)))
            else:
                still_open.append(worked)
        return still_open, resolved


def _reopened(each: OpenItem, resolution: BreakEvent) -> str:
    before = replace(each.difference, minor=resolution.difference or 0)
    return (
        f"Reopened by itself: it was resolved as {resolution.reason} for {before.text} {each.currency},"
        f" and the difference is now {each.difference.text}."
    )
