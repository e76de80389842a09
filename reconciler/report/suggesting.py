"""K5: likenesses that prove nothing. They are words for a person; nothing here is ever confirmed by the report."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

from reconciler.movements import Role
from reconciler.report.linking import Leg, Linked
from reconciler.report.scope import Scope

WINDOW = timedelta(days=3)
_SHOWN = 3


class Suggestions:
    """Legs without a counterpart that have the same amount in the same currency, close in time."""

    def __init__(self, scope: Scope, linked: Linked) -> None:
        self._scope = scope
        self._alike: dict[tuple[bool, int, str], list[Leg]] = defaultdict(list)
        for leg in (*linked.lefts, *linked.rights):
            self._alike[leg.movement.role is Role.SALE, leg.minor, leg.currency].append(leg)

    def of(self, leg: Leg) -> str | None:
        others = [
            other
            for other in self._alike.get((leg.movement.role is not Role.SALE, leg.minor, leg.currency), ())
            if abs(other.at - leg.at) <= WINDOW
        ]
        if not others:
            return None
        others.sort(key=lambda other: (-len(_shared(leg, other)), abs(other.at - leg.at), other.ref))
        return "Perhaps: " + "; ".join(_words(leg, other) for other in others[:_SHOWN])


def _shared(leg: Leg, other: Leg) -> list[str]:
    return sorted(set(leg.movement.traits) & set(other.movement.traits))


def _words(leg: Leg, other: Leg) -> str:
    same = ["amount", *(trait.partition(":")[0] for trait in _shared(leg, other))]
    return f"{other.ref} (same {', '.join(same)})"
