"""Which lane to claim from next, and how to read what was claimed: pure choices on values from the ledger."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from reconciler.ledger import GATE_STORM, Density, Gate, Lane
from reconciler.model import Priority
from reconciler.provider import Kind

TURN_FOR_THE_OLDEST = 8
"""Every so many claims the lane that waited longest goes first, whatever its priority, so that none starves."""

TURN_FOR_THE_NEWEST = 2
"""Every so many claims are made of what fell due last, so that a fresh payment does not wait for a whole backlog."""

_WORTH_INTERRUPTING = 0.25
"""A walk that answers less than this share of a page is over so soon that nobody waits for it."""

LIST_PATIENCE = timedelta(seconds=1)
"""A list whose budget is closed for longer than this is not waited for: single reads have a budget of their own.

A walk waits as long for each further page: ended after the pages that a small budget had at once, it would begin at
its first page again, and a window denser than those would never be read to its end."""

WITNESSES_GO: Final = Priority.MANUAL
"""How urgently what may end a storm is marked: first while the storm's gate stands, whatever else waits there. One read
at a time goes on then, and a day's webhooks would keep a gate closed for hours that one read opens."""

WALK_PAGES = 10
"""The longest walk over a list that one plan makes; the lease has to cover it."""


Door = tuple[str, str]
"""What a gate closes: an account and one of its kinds, or all of them (empty)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The lane to claim from now, or when to look again."""

    lane: Lane | None
    look_again: timedelta | None
    """None: nothing is pending that only time keeps back."""
    doors: frozenset[Door] = frozenset()
    """Gates whose time is up that the lane lies behind: ask one question before believing that they are open."""

    @property
    def probe(self) -> bool:
        return bool(self.doors)


def choose(
    lanes: Sequence[Lane],
    gates: Sequence[Gate],
    room: Mapping[str, int],
    paused: Mapping[tuple[str, str, int], datetime],
    *,
    batched: Collection[tuple[str, str]] = (),
    probing: Collection[Door],
    turn: int,
    now: datetime,
) -> Choice:
    """The most urgent lane that is due, not gated, within budget, and whose account has room for another read.

    `room` holds free slots by account, and names the accounts that are configured; `paused` the lanes that the
    budget refused, until when; `batched` the kinds (by account) of which one request reads many: of two that are as
    urgent such a one goes first, for it is over with a few requests, where the other may need the budget of minutes;
    `probing` the gates that a read under way is asking about.

    In an account behind a storm's gate whatever was marked by hand goes before all else, and not only its witnesses,
    which are marked so: one read at a time goes on there, and what somebody asks for is the next.
    """
    closed = {(gate.account, gate.kind): gate.until for gate in gates}
    raging = {gate.account for gate in gates if gate.reason == GATE_STORM}
    ready: list[Lane] = []
    later: list[datetime] = []
    for lane in lanes:
        if lane.account not in room:
            continue
        opens = max(
            lane.due_at,
            paused.get((lane.account, lane.kind, lane.priority), lane.due_at),
            *(closed.get(door, lane.due_at) for door in _doors(lane)),
        )
        if opens > now:
            later.append(opens)
        elif room[lane.account] > 0 and not any(door in probing for door in _doors(lane)):
            ready.append(lane)
    if not ready:
        return Choice(None, min(later) - now if later else None)
    by_age = turn % TURN_FOR_THE_OLDEST == TURN_FOR_THE_OLDEST - 1

    def urgency(each: Lane) -> tuple[object, ...]:
        if by_age:
            return (each.due_at,)
        waits = each.account not in raging or each.priority != WITNESSES_GO
        return waits, each.priority, (each.account, each.kind) not in batched, each.due_at

    lane = min(ready, key=urgency)
    return Choice(lane, None, frozenset(door for door in _doors(lane) if door in closed))


def _doors(lane: Lane) -> tuple[Door, Door]:
    return (lane.account, ""), (lane.account, lane.kind)


@dataclass(frozen=True, slots=True)
class Singly:
    """Read what is claimed by its ids, `batch` ids a request."""

    batch: int


@dataclass(frozen=True, slots=True)
class Walk:
    """List the window instead: every row of it is a read, and most of them answer a claim."""

    density: Density
    pages: int


Plan = Singly | Walk


def plan(kind: Kind, density: Density | None) -> Plan:
    """The cheaper way to read what is due in a lane, in requests.

    Ids cost `due / id_batch` requests, the list `objects / page_size`, with the count from our own ledger; a walk
    must at least halve the cost, because the provider may hold more objects there than we know of.
    """
    by_ids = Singly(kind.id_batch)
    by_creation = kind.windowed and not kind.window_of_changes
    if density is None or kind.list_endpoint is None or not by_creation or density.due < 2:
        return by_ids
    pages = max(1, math.ceil(density.objects / kind.page_size))
    if pages > WALK_PAGES or 2 * pages > math.ceil(density.due / kind.id_batch):
        return by_ids
    return Walk(density, pages)


def in_turn(kind: Kind, best: Plan, room: int, *, newest: bool) -> tuple[Plan, int]:
    """The plan for this turn, and how many requests it wants.

    While pages answer a backlog, a turn of the newest is one single read: it costs one request for each page at most.
    """
    if isinstance(best, Singly):
        return best, room
    if newest and best.density.due >= kind.page_size * _WORTH_INTERRUPTING:
        return Singly(kind.id_batch), 1
    return best, 1
