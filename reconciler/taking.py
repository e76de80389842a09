"""What a turn of the worker takes from the ledger: on the ledger's thread, in one transaction, lane after lane.

A turn of its own for each lane, or for each read that has ended, would be a commit each: a third of what a drain cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from reconciler.fetcher import Fetcher
from reconciler.ledger import Claim, Density, Gate, Lane, Ledger, Offer, Release
from reconciler.model import Priority
from reconciler.planner import LIST_PATIENCE, TURN_FOR_THE_NEWEST, Choice, Door, Singly, Walk, choose, in_turn, plan
from reconciler.provider import Kind

IDLE_POLL = timedelta(seconds=5)
LEAST_WAIT = timedelta(milliseconds=1)

_LANES_AT_ONCE = 32
"""The intake's commits wait for a turn on SQLite: what more there is to take, the next one takes."""

_CONTENDED = timedelta(milliseconds=10)
"""How long a lane rests whose due rows somebody else has locked."""

LaneKey = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Taken:
    """Claims of one lane, whose first requests are drawn."""

    lane: Lane
    batches: Sequence[Sequence[Claim]]
    """One request each; with a walk, all its claims together."""
    doors: frozenset[Door]
    """Gates that these reads ask about."""
    walk: Density | None


@dataclass(slots=True)
class Turn:
    """What is known at its start, and what it leads to."""

    now: datetime
    room: dict[str, int]
    """Free slots by account."""
    paused: dict[LaneKey, datetime]
    """Lanes that the budget refused, and until when."""
    probing: set[Door]
    """Gates that a read under way asks about."""
    choices: int = 0
    """Lanes chosen so far, in all turns."""
    served: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Claims made of each kind. Choices would not do: those that the budget refused fall into step with it."""
    gates: list[Gate] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    wait: timedelta = IDLE_POLL
    """How long nothing more can be taken, if nothing happens; zero: look again at once."""

    def copy(self) -> Turn:
        """For a transaction that may be tried again from its beginning."""
        return replace(self, room={**self.room}, paused={**self.paused}, probing={*self.probing}, served=+self.served)


class Taker:
    """Belongs to one worker."""

    def __init__(self, fetchers: Mapping[str, Fetcher], *, owner: str, lease: timedelta) -> None:
        self._fetchers = fetchers
        self._batched = frozenset(
            (account, kind.name)
            for account, fetcher in fetchers.items()
            for kind in fetcher.provider.kinds.values()
            if kind.id_batch > 1
        )
        self._owner = owner
        self._lease = lease

    def take(self, ledger: Ledger, turn: Turn) -> Turn:
        """Choose a lane, claim what its budget can pay for, draw that; and again, while there is room."""
        for _ in range(_LANES_AT_ONCE):
            lanes, turn.gates = ledger.lanes()
            known = [lane for lane in lanes if self._kind(lane) is not None]
            choice = choose(
                known, turn.gates, turn.room, turn.paused, batched=self._batched, probing=turn.probing,
                turn=turn.choices, now=turn.now,
            )  # fmt: skip
            if choice.lane is None:
                turn.wait = IDLE_POLL if choice.look_again is None else choice.look_again
                return turn
            turn.choices += 1
            pause = self._take_from(ledger, turn, choice, choice.lane)
            if pause:
                turn.paused[_key(choice.lane)] = turn.now + pause
            if not any(room > 0 for room in turn.room.values()):
                return turn
        turn.wait = timedelta(0)
        return turn

    def _take_from(self, ledger: Ledger, turn: Turn, choice: Choice, lane: Lane) -> timedelta:
        """How long the lane is to be left alone; zero where something was claimed."""
        fetcher, now = self._fetchers[lane.account], turn.now
        kind = fetcher.provider.kinds[lane.kind]
        gathered_at = lane.due_at + kind.gather
        if gathered_at > now and not choice.probe:
            return gathered_at - now
        dense = (
            ledger.density(lane.account, lane.kind, lane.priority, page_size=kind.page_size, now=now)
            if kind.list_endpoint is not None and not choice.probe and fetcher.may_walk(kind, now)
            else None
        )
        limits, priority = fetcher.budget.limits, Priority(lane.priority)

        def ask(endpoint: str, want: int) -> Offer:
            return ledger.requests.offer(lane.account, endpoint, limits, want=want, priority=priority, now=now)

        room, served = turn.room[lane.account], turn.served[lane.account, lane.kind]
        newest = served % TURN_FOR_THE_NEWEST == 1 and not choice.probe
        chosen, want = in_turn(kind, plan(kind, dense), 1 if choice.probe else room, newest=newest)
        offer = ask(kind.endpoint if isinstance(chosen, Singly) else str(kind.list_endpoint), want)
        if not offer.granted and isinstance(chosen, Walk) and offer.wait > LIST_PATIENCE:
            chosen = Singly(kind.id_batch)
            offer = ask(kind.endpoint, room)
        granted = offer.granted
        if not granted:
            # The budget may become larger meanwhile, so that the wait is only a guess.
            return min(max(offer.wait, LEAST_WAIT), IDLE_POLL)
        if choice.probe:
            count = 1
        else:
            count = granted * chosen.batch if isinstance(chosen, Singly) else chosen.pages * kind.page_size
        walk = chosen.density if isinstance(chosen, Walk) else None
        claims = self._claim(ledger, lane, walk, count, now, newest=newest)
        if not claims:
            return _CONTENDED
        batches = [claims] if walk is not None else _batches(claims, kind.id_batch)
        if len(batches) > granted:
            surplus = [claim for batch in batches[granted:] for claim in batch]
            ledger.release([Release(claim, now, counted=False) for claim in surplus], now)
            batches = batches[:granted]
        ledger.requests.take(offer, len(batches))
        turn.served[lane.account, lane.kind] += 1
        turn.room[lane.account] -= len(batches)
        turn.probing |= choice.doors
        turn.taken.append(Taken(lane, batches, choice.doors, walk))
        return timedelta(0)

    def _claim(
        self, ledger: Ledger, lane: Lane, walk: Density | None, count: int, now: datetime, *, newest: bool
    ) -> list[Claim]:
        def claim(*, newest: bool) -> list[Claim]:
            return ledger.claim(
                lane.account,
                lane.kind,
                lane.priority,
                owner=self._owner,
                count=count,
                lease=self._lease,
                now=now,
                window=None if walk is None else walk.window,
                newest=newest,
            )

        return (claim(newest=True) if newest and walk is None else []) or claim(newest=False)

    def _kind(self, lane: Lane) -> Kind | None:
        fetcher = self._fetchers.get(lane.account)
        return None if fetcher is None else fetcher.provider.kinds.get(lane.kind)


def _key(lane: Lane) -> LaneKey:
    return lane.account, lane.kind, lane.priority


def _batches(claims: Sequence[Claim], size: int) -> list[Sequence[Claim]]:
    """One request each. A resource whose last read failed is read alone, so that it cannot spoil a batch again."""
    fresh = [claim for claim in claims if claim.attempts <= 1]
    alone = [[claim] for claim in claims if claim.attempts > 1]
    return [*(fresh[at : at + size] for at in range(0, len(fresh), size)), *alone]
