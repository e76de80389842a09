"""Who asked for what: the requests that arrived, so that a test can count the reads of one object."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from reconciler.clock import Clock, to_micros

_KEEP = 200_000


@dataclass(frozen=True, slots=True)
class Entry:
    at_micros: int
    account: str
    operation: str
    """With the id left out, as in `GET /v1/charges/{id}`: what Stripe's limits count."""
    target: str
    """The id that was asked for; empty for a list."""
    query: str
    status: int
    """0: the client got no answer."""
    faults: tuple[str, ...]


class Journal:
    """The last 200,000 requests, and the counts of all of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: deque[Entry] = deque(maxlen=_KEEP)
        self._by_operation: Counter[tuple[str, int]] = Counter()
        self._by_target: Counter[str] = Counter()

    def note(
        self, account: str, operation: str, target: str, query: str, status: int, faults: tuple[str, ...] = ()
    ) -> None:
        now = to_micros(self._clock.now())
        self._entries.append(Entry(now, account, operation, target, query, status, faults))
        self._by_operation[operation, status] += 1
        if target:
            self._by_target[target] += 1

    def clear(self) -> None:
        self._entries.clear()
        self._by_operation.clear()
        self._by_target.clear()

    def entries(self) -> list[Entry]:
        return list(self._entries)

    def reads_of(self, target: str) -> int:
        """How often one object was retrieved by its id."""
        return self._by_target[target]

    def count(self, operation: str | None = None, status: int | None = None) -> int:
        return sum(
            number
            for (name, answered), number in self._by_operation.items()
            if (operation is None or name == operation) and (status is None or answered == status)
        )

    def summary(self) -> dict[str, Any]:
        operations: dict[str, dict[str, int]] = {}
        for (name, status), number in sorted(self._by_operation.items()):
            operations.setdefault(name, {})[str(status)] = number
        return {"total": self.count(), "operations": operations, "objects": dict(self._by_target)}
