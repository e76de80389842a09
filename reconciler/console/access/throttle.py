"""Slowing down whoever guesses passwords. In memory: a stranger's failures must never cause a write to the ledger."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from reconciler.clock import Clock

_KEYS: Final = 10_000
"""Names and addresses remembered at most; the one that failed longest ago is forgotten first."""
_FORGOTTEN_AFTER: Final = timedelta(hours=1)
_FIRST_WAIT: Final = timedelta(seconds=2)
_LONGEST_WAIT: Final = timedelta(minutes=15)
_FREE: Final = {"pair": 5, "address": 30, "name": 100}
"""Failures without a wait. A name's are many, because anybody could lock somebody out with fewer."""


@dataclass(slots=True)
class _Failures:
    count: int
    last_at: datetime
    until: datetime


class Throttle:
    """Counts failed logins by name and address together, and by each alone. Belongs to one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, ...], _Failures] = OrderedDict()

    def wait(self, name: str, address: str) -> timedelta:
        """How long this login has to wait; zero: try it."""
        now = self._clock.now()
        longest = timedelta(0)
        for key in _keys(name, address):
            found = self._failures.get(key)
            if found is not None:
                longest = max(longest, found.until - now)
        return longest

    def failed(self, name: str, address: str) -> None:
        now = self._clock.now()
        for key in _keys(name, address):
            found = self._failures.pop(key, None)
            count = 1 if found is None or now - found.last_at > _FORGOTTEN_AFTER else found.count + 1
            over = count - _FREE[key[0]]
            wait = timedelta(0) if over < 0 else min(_FIRST_WAIT * 2 ** min(over, 20), _LONGEST_WAIT)
            self._failures[key] = _Failures(count, now, now + wait)
        while len(self._failures) > _KEYS:
            self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """Forgets the pair, and the name: its owner is in. The address may still be guessing at others."""
        for key in _keys(name, address):
            if key[0] != "address":
                self._failures.pop(key, None)


def _keys(name: str, address: str) -> tuple[tuple[str, ...], ...]:
    return ("pair", name, address), ("address", address), ("name", name)
