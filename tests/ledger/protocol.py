"""The ledger protocol as a small model, explored to its last state: every order in which its steps can happen.

One resource, two workers, a sweep that reads one page, and a provider that changes it. Each step that commits is
one atomic action; between any two of them anything else may happen, a crash or the end of a lease too. What the real
statements do is in `reconciler.ledger` (marks, claims, apply); a guard here has the name of what it guards there, and
`explore` without one of them says in which shortest order of steps a promise breaks.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple


class Guard(StrEnum):
    """What the protocol does that a simpler one would not."""

    MARK_COUNTS_UNDER_LEASE = "a mark counts also while the resource is being read"
    CLAIM_LEAVES_IT_DIRTY = "a claim settles nothing"
    FRESH_TOKEN = "each claim takes a token that was never used"
    RECLAIM = "a lease that ended can be claimed"
    FENCE = "an answer needs the token of the lease that holds the row"
    ORDER = "an answer is refused if a read that began later was accepted"
    SETTLES_WHAT_IT_SAW = "an answer settles the generation that its claim saw"
    SETTLE_WINDOW = "a read that began inside the settle window settles nothing"
    WAKES_AFTER_WINDOW = "a provisional read leaves a wake-up for the end of the window"
    NO_OP_MOVES_CLOCK = "a read that found nothing new counts as accepted all the same"
    PAGE_ORDER = "a page row is refused if a read that began later was accepted"
    PAGE_WINDOW = "a page that began inside a settle window, or before a mark, is not applied"
    PAGE_LEAVES_LEASED = "a page row is not applied while the resource is claimed"
    PAGE_SETTLES_NOTHING = "a page row settles no generation"
    PAGE_MARKS = "a page row that differs and is not applied makes a mark"
    PAGE_MARKS_LEASED = "so does one that looks like what is stored, while an answer is under way that may differ"


ALL = frozenset(Guard)

FREE, HELD, ENDED = range(3)
"""Of a lease."""

IDLE, SENT, READ = range(3)
"""Of a worker, and of the sweep."""


class Worker(NamedTuple):
    step: int = IDLE
    token: int = 0
    generation: int = 0
    outside: bool = False
    """Its request was sent outside the settle window."""
    value: int = 0


class Page(NamedTuple):
    step: int = IDLE
    start: int = 0
    outside: bool = False
    value: int = 0


class State(NamedTuple):
    truth: int = 0
    """Number of the provider's newest state."""
    replica: int = 0
    """What a lagging replica may still answer with."""
    hooks: tuple[int, ...] = ()
    """Announcements on their way."""
    told: int = 0
    """The newest state whose announcement was acknowledged."""
    shown: int = 0
    """The newest state that a page of the sweep showed."""
    window: bool = False
    """Inside the settle window of the last mark."""
    just_read: bool = False
    """Less than a settle window ago."""
    generation: int = 0
    settled: int = 0
    due: bool = False
    """It has a wake-up time."""
    waits: bool = False
    """The wake-up is at the end of the settle window."""
    lease: int = FREE
    token: int = 0
    applied: int = 0
    stored: int = 0
    workers: tuple[Worker, Worker] = (Worker(), Worker())
    page: Page = Page()
    crashes: int = 1
    expiries: int = 1
    stale_reads: int = 1
    losses: int = 0
    pages: int = 1
    stale_was_read: bool = False

    @property
    def dirty(self) -> bool:
        return self.generation > self.settled


class Found(NamedTuple):
    """What an exploration came to."""

    broken: str | None
    states: int
    path: tuple[str, ...]
    """The steps to the broken promise, the fewest that there are."""


Step = tuple[str, State]


class Protocol:
    def __init__(
        self,
        guards: frozenset[Guard] = ALL,
        *,
        changes: int = 3,
        first: State = State(),  # noqa: B008 - a tuple, so that sharing it is safe
        content: Callable[[int], int] = int,
    ) -> None:
        """`first` says how often what may happen; `content` what a state looks like: two may look alike (A, B, A)."""
        self._guards = guards
        self._first = first
        self._changes = changes
        self._content = content

    def explore(self) -> Found:
        """Breadth first, to the end or to the first broken promise."""
        first = self._first
        came_from: dict[State, tuple[State, str] | None] = {first: None}
        waiting = deque([first])
        while waiting:
            state = waiting.popleft()
            steps = [(name, _ranked(after)) for name, after in self._steps(state)]
            broken = None if steps else self._broken_at_rest(state)
            if broken is not None:
                return Found(broken, len(came_from), _path(came_from, state))
            for name, after in steps:
                broken = self._broken(state, after) or _broken_by_step(name, state, after)
                if broken is not None:
                    return Found(broken, len(came_from), (*_path(came_from, state), name))
                if after not in came_from:
                    came_from[after] = (state, name)
                    waiting.append(after)
        return Found(None, len(came_from), ())

    # --- promises ---

    def _broken(self, before: State, after: State) -> str | None:
        older = after.stored < before.stored and self._content(after.stored) != self._content(before.stored)
        if older and not after.stale_was_read:
            return "the stored state went back"
        if not after.dirty and self._older(after.stored, after.told):
            return "LOST UPDATE: clean, and older than what was acknowledged"
        if after.dirty and not after.due:
            return "dirty, and never woken"
        return None

    def _broken_at_rest(self, state: State) -> str | None:
        """Nothing can happen any more: all is said and read."""
        if state.dirty:
            return "dirty for ever"
        # A page of a replica that keeps up may be followed by a read of one that lags: the next sweep finds that.
        shown = 0 if state.stale_was_read else state.shown
        if self._older(state.stored, max(state.told, shown)):
            return "at rest, and older than what a delivery or a page has shown"
        return None

    def _older(self, stored: int, than: int) -> bool:
        return stored < than and all(
            self._content(stored) != self._content(each) for each in range(than, self._changes + 1)
        )

    # --- steps ---

    def _steps(self, state: State) -> Iterator[Step]:
        yield from self._of_the_provider(state)
        yield from self._of_time(state)
        for number in (0, 1):
            yield from self._of_a_worker(state, number)
        yield from self._of_the_sweep(state)

    def _of_the_provider(self, state: State) -> Iterator[Step]:
        if state.truth < self._changes:
            number = state.truth + 1
            yield f"state {number}", state._replace(truth=number, hooks=(*state.hooks, number))
        for at, number in enumerate(state.hooks):
            rest = state.hooks[:at] + state.hooks[at + 1 :]
            arrived = self._marked(state)._replace(hooks=rest, told=max(state.told, number))
            yield f"delivery of {number}, acknowledged", arrived
            if state.losses:
                yield f"delivery of {number} is lost", state._replace(hooks=rest, losses=state.losses - 1)

    def _marked(self, state: State) -> State:
        """A mark of a delivery: inside its settle window the provider's reads may lag behind it."""
        if state.lease == HELD and Guard.MARK_COUNTS_UNDER_LEASE not in self._guards:
            return state._replace(window=True)
        return state._replace(
            generation=state.generation + 1,
            due=True,
            window=True,
            waits=state.waits and state.dirty,
            page=state.page._replace(outside=False),
        )

    def _of_time(self, state: State) -> Iterator[Step]:
        if state.window or state.just_read:
            replica = max(state.replica, state.told, state.stored)
            yield "the window ends", state._replace(window=False, just_read=False, replica=replica)
        if state.lease == HELD:
            alone = all(each.step == IDLE or each.token != state.token for each in state.workers)
            if alone or state.expiries:
                left = state.expiries if alone else state.expiries - 1
                yield "the lease ends", state._replace(lease=ENDED, expiries=left)

    def _of_a_worker(self, state: State, number: int) -> Iterator[Step]:
        worker = state.workers[number]
        if worker.step != IDLE and state.crashes:
            yield f"worker {number} dies", _with(state, number, Worker())._replace(crashes=state.crashes - 1)
        match worker.step:
            case 0 if self._claimable(state):
                yield f"worker {number} claims, and asks", self._claimed(state, number)
            case 1:
                for value, after in self._answers(state):
                    read = worker._replace(step=READ, value=value)
                    yield f"worker {number} is told {value}", _with(after, number, read)
            case 2:
                yield f"worker {number} applies {worker.value}", self._applied(state, number)
            case _:
                pass

    def _claimable(self, state: State) -> bool:
        free = state.lease == FREE or (state.lease == ENDED and Guard.RECLAIM in self._guards)
        return state.due and free and not (state.waits and state.window)

    def _claimed(self, state: State, number: int) -> State:
        token = _newest(state) + 1
        kept = Guard.CLAIM_LEAVES_IT_DIRTY in self._guards
        claimed = state._replace(
            lease=HELD, token=token, waits=False, settled=state.settled if kept else state.generation
        )
        return _with(claimed, number, Worker(SENT, token, state.generation, not state.window))

    def _answers(self, state: State) -> Iterator[tuple[int, State]]:
        """What a request may be told now: the truth, or what a replica that lags still holds."""
        yield state.truth, state
        if state.replica < state.truth and state.stale_reads:
            yield state.replica, state._replace(stale_reads=state.stale_reads - 1, stale_was_read=True)

    def _applied(self, state: State, number: int) -> State:
        worker = state.workers[number]
        done = _with(state, number, Worker())
        fresh = Guard.FRESH_TOKEN in self._guards
        late = state.lease == FREE or (fresh and state.token != worker.token)
        if Guard.FENCE in self._guards and late:
            return done
        if Guard.ORDER in self._guards and state.applied >= worker.token:
            return done._replace(lease=FREE, due=True, waits=False)
        # Inside the window a read settles that visibly shows all that was announced.
        settles = worker.outside or worker.value >= state.told or Guard.SETTLE_WINDOW not in self._guards
        generation = worker.generation if Guard.SETTLES_WHAT_IT_SAW in self._guards else state.generation
        settled = max(state.settled, generation) if settles else state.settled
        dirty = state.generation > settled
        after = self._accepted(done, worker.value)._replace(settled=settled, lease=FREE, due=dirty, waits=False)
        if dirty and not settles:
            after = after._replace(waits=True, due=Guard.WAKES_AFTER_WINDOW in self._guards)
        return after

    def _accepted(self, state: State, value: int) -> State:
        alike = self._content(value) == self._content(state.stored)
        if alike and Guard.NO_OP_MOVES_CLOCK not in self._guards:
            return state._replace(stored=value)
        return state._replace(stored=value, applied=_newest(state) + 1, just_read=True)

    def _of_the_sweep(self, state: State) -> Iterator[Step]:
        page = state.page
        match page.step:
            case 0 if state.pages:
                outside = not (state.window or state.just_read)
                sent = Page(SENT, _newest(state) + 1, outside)
                yield "the sweep asks", state._replace(page=sent, pages=state.pages - 1)
            case 1:
                for value, after in self._answers(state):
                    read = page._replace(step=READ, value=value)
                    yield f"the sweep is told {value}", after._replace(page=read, shown=max(after.shown, value))
            case 2:
                yield f"the sweep applies {page.value}", self._swept(state._replace(page=Page()), page)
            case _:
                pass

    def _swept(self, state: State, page: Page) -> State:
        refused = (
            (Guard.PAGE_ORDER in self._guards and state.applied >= page.start)
            or (Guard.PAGE_WINDOW in self._guards and not page.outside)
            or (Guard.PAGE_LEAVES_LEASED in self._guards and state.lease != FREE)
        )
        if not refused:
            after = self._accepted(state, page.value)
            return (
                after
                if Guard.PAGE_SETTLES_NOTHING in self._guards
                else after._replace(settled=after.generation, due=after.lease != FREE)
            )
        differs = self._content(page.value) != self._content(state.stored)
        answered_later = state.dirty and state.lease == FREE
        under_way = state.lease != FREE and Guard.PAGE_MARKS_LEASED in self._guards
        if Guard.PAGE_MARKS not in self._guards or not (under_way or (differs and not answered_later)):
            return state
        return state._replace(generation=state.generation + 1, due=True)


def _broken_by_step(name: str, before: State, after: State) -> str | None:
    """Promises about a single step of somebody."""
    if name.startswith("the sweep applies") and before.dirty and not after.dirty:
        return "a page row settled a generation"
    if not (name.startswith("worker") and "applies" in name):
        return None
    worker = before.workers[int(name.split()[1])]
    late = before.lease == FREE or before.token != worker.token
    if late and after._replace(workers=before.workers) != before:
        # A token that nobody holds any more may have dropped out of the ranking: compare what matters.
        kept = ("generation", "due", "waits", "lease", "stored")
        if any(getattr(after, each) != getattr(before, each) for each in kept):
            return "a late worker changed something"
    return None


def _with(state: State, number: int, worker: Worker) -> State:
    first, second = state.workers
    return state._replace(workers=(worker, second) if number == 0 else (first, worker))


def _newest(state: State) -> int:
    """The ledger clock: beyond everything that was ever read from it and is still remembered."""
    return max(state.token, state.applied, state.page.start, *(each.token for each in state.workers))


def _ranked(state: State) -> State:
    """The same state in the one form that all states like it share: of the ledger clock's readings and of generations
    only the order means anything, which worker is called the first means nothing, and settle windows do not matter
    once no replica lags any more."""
    readings = {0, state.token, state.applied, state.page.start, *(each.token for each in state.workers)}
    rank = {reading: number for number, reading in enumerate(sorted(readings))}
    behind = state.settled
    first, second = sorted(state.workers)
    lags = state.stale_reads > 0
    return state._replace(
        window=state.window and lags,
        just_read=state.just_read and lags,
        replica=state.replica if lags else state.truth,
        shown=max(state.shown, state.told),
        token=rank[state.token],
        applied=rank[state.applied],
        generation=state.generation - behind,
        settled=0,
        page=state.page._replace(start=rank[state.page.start]),
        workers=(
            first._replace(token=rank[first.token], generation=max(first.generation - behind, 0)),
            second._replace(token=rank[second.token], generation=max(second.generation - behind, 0)),
        ),
    )


def _path(came_from: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    names: list[str] = []
    before = came_from[state]
    while before is not None:
        names.append(before[1])
        before = came_from[before[0]]
    return tuple(reversed(names))


CORNERS: tuple[tuple[int, State, Callable[[int], int]], ...] = (
    (3, State(stale_reads=0, pages=0), int),
    (2, State(stale_reads=0, losses=1), int),
    (2, State(crashes=0, expiries=0), int),
    (3, State(stale_reads=0, pages=0), lambda number: 1 if number == 3 else number),
    (3, State(stale_reads=0, crashes=0, expiries=0, losses=1), lambda number: 1 if number == 3 else number),
    (3, State(stale_reads=0), int),
    (2, State(), int),
)
"""Changes, what may happen how often, and what states look like: each explored to its last state within seconds."""


if __name__ == "__main__":
    found = Protocol().explore()  # three changes and everything at once: minutes
    sys.stdout.write(f"{found.states} states explored to the last: {found.broken or 'no promise broken'}\n")
    sys.exit(0 if found.broken is None else 1)
