"""Claims held ahead of their reads: what one account's reads are doing, and which of them is next.

A turn is a transaction whose cost hardly depends on how much it claims, and a read whose place is free should not wait
for one. So a turn claims more than can be read at once, and the end of one read is the beginning of the next, without
the ledger (decision 0103). What is held was paid for, and is leased: it is never held for long.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reconciler.ledger import Claim
from reconciler.planner import Door
from reconciler.provider import Limit

_SHARE_FREE: Final = 0.25
"""Of an account's reads at once: so many must have ended before a backlog is claimed from again."""

_SHARE_LEFT: Final = 0.25
"""Of what may be held: at so much the next turn comes, which takes as long as these are read in."""

_ENOUGH_FREE: Final = 32
"""A turn comes at the latest: one for more costs hardly less for each, and the reads would wait for it."""

_QUICK_SECONDS: Final = 0.5
"""Only where the provider answers within that: what is held waits about as long as one read takes."""

_LATE_SECONDS: Final = 0.02
"""Requests are paid for when they are claimed, so that a limit may be exceeded by what is held. So no more is held than
is refilled in this time: nothing where Stripe's or Shopify's limits pace the reads."""


@dataclass(slots=True)
class Read:
    """One request: whose, what it answers, which gates it asks about."""

    account: str
    claims: Sequence[Claim]
    doors: frozenset[Door]
    priority: int
    endpoint: str
    taken_at: float
    """By the monotonic clock, as below."""
    start: Callable[[Read], Coroutine[None, None, None]]
    lists: bool = False
    """A list is walked, which answers page by page."""
    started_at: float = 0.0
    answered: bool = False
    """The provider has answered, and what it said is being stored."""


class Hands:
    """The reads of one account."""

    def __init__(self, concurrency: int, limits: Callable[[], Mapping[str, Limit]], longest_seconds: float) -> None:
        """`limits` may become larger while the account is read; `longest_seconds` a claim may be held."""
        self._concurrency = concurrency
        self._limits = limits
        self._paced_by: Mapping[str, Limit] | None = None
        """Those that `_pace` was made of: whoever learns of others replaces them whole."""
        self._pace = 0
        self._longest = longest_seconds
        self._quick = False
        self._in_doubt = False
        """What is held goes back: a read has failed, and the account may be throttled, or shut."""
        self._taken = 0
        self._held: list[tuple[int, int, Read]] = []
        self._busy = 0
        """Reads that the provider has still to answer."""
        self._unstored = 0
        """Those that it has answered."""
        self.had_no_room = False
        """After the last turn: there may be a backlog."""

    @property
    def holds(self) -> bool:
        return bool(self._held)

    @property
    def held(self) -> Iterable[Read]:
        return [read for _, _, read in self._held]

    @property
    def room(self) -> int:
        """Requests that may be claimed for. None while as many answers wait to be stored: reading on would only pile
        them up."""
        piled = max(0, self._unstored - self._concurrency)
        return self._concurrency + self._ahead - self._busy - len(self._held) - piled

    @property
    def is_worth_a_turn(self) -> bool:
        """Whether a good share of what was all taken has been read."""
        least = max(self._concurrency * _SHARE_FREE, min(self._ahead * (1 - _SHARE_LEFT), _ENOUGH_FREE))
        return self.had_no_room and self.room >= math.ceil(least)

    @property
    def _ahead(self) -> int:
        """How many claims may be held."""
        if not self._quick:
            return 0
        limits = self._limits()
        if limits is not self._paced_by:
            rate = min((limit.rate for limit in limits.values()), default=math.inf)
            self._paced_by, self._pace = limits, int(min(self._concurrency, rate * _LATE_SECONDS))
        return self._pace

    def goes_back_in(self, now: float) -> float:
        """How many seconds all that is held may still wait for its read; infinity where nothing is held."""
        return min((read.taken_at for read in self.held), default=math.inf) + self._longest - now

    def has_to_let_go(self, now: float) -> bool:
        """What is held is not read: a failure closed it for that as well, or it has been held for too long."""
        return self.holds and (self._in_doubt or self._is_late(self._held[0][2], now))

    def hold(self, read: Read) -> None:
        self._taken += 1
        heapq.heappush(self._held, (read.priority, self._taken, read))

    def next(self, now: float) -> Read | None:
        """The most urgent one, where one more may be under way; it is from now on."""
        if not self._held or self.has_to_let_go(now):
            return None
        if self._busy >= self._concurrency or self._unstored > self._concurrency:
            return None
        read = heapq.heappop(self._held)[2]
        read.started_at = now
        self._busy += 1
        return read

    def answered(self, read: Read, now: float) -> None:
        read.answered = True
        self._quick = now - read.started_at <= _QUICK_SECONDS
        self._busy -= 1
        self._unstored += 1

    def ended(self, read: Read) -> None:
        if read.answered:
            self._unstored -= 1
            return
        self._busy -= 1
        if not read.lists:
            self._quick, self._in_doubt = False, self.holds

    def let_go(self, now: float, *, everything: bool) -> list[Read]:
        """What has been held for too long, or all of it where a read has failed; nothing more is held until the
        provider is quick again."""
        everything = everything or self._in_doubt
        late = [each for each in self._held if everything or self._is_late(each[2], now)]
        self._in_doubt = False
        if late:
            self._quick = False
            left = {id(each) for each in late}
            self._held = [each for each in self._held if id(each) not in left]
            heapq.heapify(self._held)
        return [read for _, _, read in late]

    def keep(self, reads: Iterable[Read]) -> None:
        """They could not be given back: they are held until they can be, and nobody reads them."""
        for read in reads:
            self.hold(read)
        self._in_doubt = self.holds

    def _is_late(self, read: Read, now: float) -> bool:
        return read.taken_at + self._longest - now <= 0
