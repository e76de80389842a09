"""What one process remembers of an account between reads: is the provider away, or is it one resource's own fault?

Pure, bounded by what is failing, and forgotten with the process: what must survive (gates, attempts) is in the ledger.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from reconciler.model import ResourceRef

GATE_OUTAGE = "unavailable"

OUTAGE_AFTER = 5
"""Different things in a row that could not be read, and nothing that could, before the account waits as a whole."""

STORM_PERIOD = timedelta(minutes=10)
STORM_LEAST = 20
STORM_SHARE = 0.02
"""More than max(20, 2 %) of the resources last known as present, answered "missing" within ten minutes, are no
deletions: a key of the wrong mode or account answers so for everything."""

_WALKS_REST = timedelta(seconds=5)
_WALKS_REST_LONGEST = timedelta(minutes=10)
_REMEMBERED = 10_000


class Health:
    """Of one account."""

    def __init__(self, wholes: Mapping[str, str] | None = None) -> None:
        """`wholes` names for each kind of parts the kind of what they are parts of."""
        self._wholes = wholes or {}
        self._away: set[str] = set()
        self._answers: Counter[str] = Counter()
        self._failing: dict[str, Counter[str]] = {}
        self._missing: deque[tuple[datetime, tuple[str, str]]] = deque()
        self._walks_rest_until: dict[str, datetime] = {}
        self._walk_rests: dict[str, timedelta] = {}
        """How long the next one is, by kind, where the last walk was not worth its requests."""

    # --- whose fault is it? ---

    def answered(self, kind: str, subjects: Iterable[str] = ()) -> None:
        """The provider answered a read of `kind`, about `subjects` if by their ids."""
        self._answers[kind] += 1
        self._away.clear()
        for subject in subjects:
            self._failing.pop(subject, None)

    def failed(self, subjects: Iterable[str]) -> None:
        """None of these could be read."""
        for subject in subjects:
            if len(self._failing) < _REMEMBERED:
                self._failing.setdefault(subject, Counter(self._answers))

    def away(self, subjects: Iterable[str]) -> bool:
        """The provider itself did not answer about `subjects`. Whether that is an outage by now."""
        self._away.update(subjects)
        return len(self._away) >= OUTAGE_AFTER

    def is_its_own_fault(self, subject: str, kind: str | None = None) -> bool:
        """Whether something else (of `kind`) was read since this one began to fail. Without that nobody can say."""
        before = self._failing.get(subject, self._answers)
        return self._answers[kind] > before[kind] if kind is not None else self._answers.total() > before.total()

    # --- is what it says believable? ---

    def missing(self, refs: Iterable[ResourceRef], now: datetime) -> int:
        """Present resources that a read called missing; how many that makes within the period.

        Parts count with their whole, whose id theirs begin with: a dozen orders that somebody deletes are a dozen.
        """
        seen = {whole for _, whole in self._missing}
        named = {self._whole(ref) for ref in refs}
        self._missing.extend((now, whole) for whole in named - seen)
        while self._missing and self._missing[0][0] < now - STORM_PERIOD:
            self._missing.popleft()
        return len(self._missing)

    def counts(self, kind: str) -> bool:
        """Whether resources of this kind are counted by themselves."""
        return kind not in self._wholes

    def _whole(self, ref: ResourceRef) -> tuple[str, str]:
        whole = self._wholes.get(ref.kind)
        # Of other kinds an id may begin alike too: with the connected account that the resource is of.
        return (ref.kind, ref.id) if whole is None else (whole, ref.id.partition("/")[0])

    # --- do lists pay? ---

    def rest_walks(self, kind: str, now: datetime) -> None:
        """A list failed, or showed too little of what it was walked for: read singly for a while, and for twice as
        long each time that follows. One failure alone may be a passing one, and single reads cost a hundred times as
        many requests."""
        rest = self._walk_rests.get(kind, _WALKS_REST)
        self._walks_rest_until[kind] = now + rest
        self._walk_rests[kind] = min(2 * rest, _WALKS_REST_LONGEST)

    def walked(self, kind: str) -> None:
        """A list showed what it was walked for."""
        self._walk_rests.pop(kind, None)

    def may_walk(self, kind: str, now: datetime) -> bool:
        return self._walks_rest_until.get(kind, now) <= now


def storm_limit(present: int) -> int:
    """How many of `present` resources may turn out missing within the period and be believed."""
    return max(STORM_LEAST, int(present * STORM_SHARE))
