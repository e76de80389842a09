"""P3, first half: which leg of the shop and which movement of the processor are one thing, whatever their amounts.

Identity keys first, strongest first. A link is made only where nothing else could be meant; several candidates are
remembered as ambiguous and left to a person. Times play no part here, so the same links hold at every cut-off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from reconciler.ledger.finance import EntryFact
from reconciler.movements import Condition, Key, Movement, Role
from reconciler.report.facts import Facts
from reconciler.report.prices import Prices
from reconciler.report.scope import Scope

REVERSAL = "partial_capture_reversal"


@dataclass(frozen=True, slots=True)
class Leg:
    """One side's movement, in the unit that both sides share, at the time that counts for it."""

    movement: Movement
    at: datetime
    minor: int
    ref: str
    counted: tuple[Leg, ...] = ()
    """A sale as the shop counts it in other currencies than the one it was paid in."""

    @classmethod
    def of(cls, movement: Movement, at: datetime, minor: int, counted: tuple[Leg, ...] = ()) -> Leg:
        return cls(movement, at, minor, str(movement.ref), counted)

    def beside(self, others: Iterable[Leg]) -> Leg:
        """As it can be held against these, which are of one currency; itself where nobody says what it counts as."""
        currencies = {other.currency for other in others}
        return next((each for each in self.counted if {each.currency} == currencies), self)

    @property
    def currency(self) -> str:
        return self.movement.amount.currency

    @property
    def account(self) -> str:
        return self.movement.ref.account


@dataclass(frozen=True, slots=True)
class Link:
    """Legs that are one thing: one to one, or several to one where together they are exactly as much."""

    key: Key
    lefts: tuple[Leg, ...]
    rights: tuple[Leg, ...]

    @property
    def later(self) -> datetime:
        return max(leg.at for leg in (*self.lefts, *self.rights))

    @property
    def earlier(self) -> datetime:
        return min(leg.at for leg in (*self.lefts, *self.rights))


@dataclass(frozen=True, slots=True)
class Linked:
    links: tuple[Link, ...]
    lefts: tuple[Leg, ...]
    """Without a counterpart."""
    rights: tuple[Leg, ...]
    ambiguous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Leg -> the candidates that it could not be told apart from."""


def right_time(movement: Movement, entries: Iterable[EntryFact]) -> datetime:
    """The `created` of the entry that the thing names as its own; never of a failure's or a reversal's entry."""
    for entry in entries:
        if entry.id == movement.entry_id:
            return entry.effective_at
    return movement.occurred_at


def legs(scope: Scope, facts: Facts) -> tuple[list[Leg], list[Leg]]:
    """Both sides' population, as known: settled, on a gateway that runs over an account of ours."""
    gateways = scope.params.rules.gateways
    prices = Prices(facts.movements)
    lefts, rights = [], []
    for movement in facts.movements:
        if movement.condition is not Condition.SETTLED:
            continue
        minor = scope.shared(movement.ref.account, movement.amount)
        if movement.role is Role.SALE and movement.gateway in gateways:
            counted = tuple(
                Leg.of(replace(movement, amount=each), movement.occurred_at, scope.shared(movement.ref.account, each))
                for each in prices.of(movement)
            )
            lefts.append(Leg.of(movement, movement.occurred_at, minor, counted))
        elif movement.role in (Role.CHARGE, Role.REFUND) and movement.gateway in (None, *gateways):
            entries = facts.entries.get((movement.ref.account, movement.ref.id), ())
            if any(entry.id == movement.entry_id and entry.category == REVERSAL for entry in entries):
                continue  # the rest of an authorisation that was never taken: nobody was paid back
            rights.append(Leg.of(movement, right_time(movement, entries), minor))
    return sorted(lefts, key=_order), sorted(rights, key=_order)


def _order(leg: Leg) -> tuple[datetime, str]:
    return leg.at, leg.ref


def link(lefts: Sequence[Leg], rights: Sequence[Leg], movements: Sequence[Movement]) -> Linked:
    chain = _Chain(movements)
    open_lefts = {leg.ref: leg for leg in lefts}
    open_rights = {leg.ref: leg for leg in rights}
    links: list[Link] = []
    ambiguous: dict[str, tuple[str, ...]] = {}
    for key, names in _ranks(chain):
        for met_lefts, some_rights in _components(open_lefts.values(), open_rights.values(), names):
            some_lefts = tuple(leg.beside(some_rights) for leg in met_lefts)
            if _certain(some_lefts, some_rights):
                links.append(Link(key, some_lefts, some_rights))
                for leg in some_lefts:
                    del open_lefts[leg.ref]
                for leg in some_rights:
                    del open_rights[leg.ref]
                continue
            for leg, others in [
                *((leg, some_rights) for leg in some_lefts),
                *((leg, some_lefts) for leg in some_rights),
            ]:
                ambiguous.setdefault(leg.ref, tuple(other.ref for other in others))
    return Linked(
        links=tuple(links),
        lefts=tuple(open_lefts.values()),
        rights=tuple(open_rights.values()),
        ambiguous={ref: others for ref, others in ambiguous.items() if ref in open_lefts or ref in open_rights},
    )


_Names = tuple[Callable[[Leg], set[Hashable]], Callable[[Leg], set[Hashable]]]


def _ranks(chain: _Chain) -> list[tuple[Key, _Names]]:
    """For each key, strongest first: the names under which a left and a right leg can meet."""
    return [
        (Key.PROCESSOR, (_values(Key.PROCESSOR), _values(Key.PROCESSOR))),
        (Key.SHOP, (_values(Key.SHOP), _values(Key.SHOP))),
        (Key.TRANSACTION, (_values(Key.TRANSACTION), _values(Key.TRANSACTION))),
        (Key.ORDER, (_order_names, _order_names)),
        (Key.INTENT, (chain.from_sale, chain.of_charge)),
    ]


def _values(key: Key) -> Callable[[Leg], set[Hashable]]:
    def named(leg: Leg) -> set[Hashable]:
        return {clue.value for clue in leg.movement.clues if clue.key is key}

    return named


def _order_names(leg: Leg) -> set[Hashable]:
    """An order says who, not which payment: only with an equal amount in the same currency."""
    return {(clue.value, leg.minor, leg.currency) for clue in leg.movement.clues if clue.key is Key.ORDER}


class _Chain:
    """From what a sale names to the charge that counts: charge -> payment intent -> its latest charge."""

    def __init__(self, movements: Sequence[Movement]) -> None:
        self._intent_of = {each.ref.id: each.parent for each in movements if each.role is Role.CHARGE}
        self._latest = {each.ref.id: each.parent for each in movements if each.role is Role.INTENT and each.parent}

    def from_sale(self, leg: Leg) -> set[Hashable]:
        intents = {clue.value for clue in leg.movement.clues if clue.key is Key.INTENT}
        for clue in leg.movement.clues:
            if clue.key is Key.PROCESSOR and self._intent_of.get(clue.value):
                intents.add(str(self._intent_of[clue.value]))
        return {self._latest.get(intent, intent) for intent in intents}

    def of_charge(self, leg: Leg) -> set[Hashable]:
        """A charge answers to its own id where its intent names a latest charge, else to the intent's."""
        intent = leg.movement.parent if leg.movement.role is Role.CHARGE else None
        if intent is None:
            return set()
        return {leg.movement.ref.id if intent in self._latest else intent}


def _components(
    lefts: Iterable[Leg], rights: Iterable[Leg], names: _Names
) -> list[tuple[tuple[Leg, ...], tuple[Leg, ...]]]:
    """Groups of legs that share names, directly or through one another, with both sides present."""
    by_name: dict[Hashable, list[tuple[int, Leg]]] = defaultdict(list)
    for side, some, named in ((0, lefts, names[0]), (1, rights, names[1])):
        for leg in some:
            for name in named(leg):
                by_name[name].append((side, leg))
    meeting = {name: met for name, met in by_name.items() if len({side for side, _ in met}) == 2}
    parent: dict[str, str] = {}

    def root(ref: str) -> str:
        while parent.setdefault(ref, ref) != ref:
            ref = parent[ref]
        return ref

    for met in meeting.values():
        for _, leg in met[1:]:
            parent[root(leg.ref)] = root(met[0][1].ref)
    groups: dict[str, tuple[dict[str, Leg], dict[str, Leg]]] = defaultdict(lambda: ({}, {}))
    for met in meeting.values():
        for side, leg in met:
            groups[root(leg.ref)][side][leg.ref] = leg
    found = [
        (tuple(sorted(some.values(), key=_order)), tuple(sorted(others.values(), key=_order)))
        for some, others in groups.values()
    ]
    return sorted(found, key=lambda group: _order(group[0][0]))


def _certain(lefts: Sequence[Leg], rights: Sequence[Leg]) -> bool:
    """One to one whatever the amounts; several to one only where they are exactly as much together."""
    if len(lefts) == len(rights) == 1:
        return True
    if len(lefts) > 1 and len(rights) > 1:
        return False
    one_currency = len({leg.currency for leg in (*lefts, *rights)}) == 1
    return one_currency and sum(leg.minor for leg in lefts) == sum(leg.minor for leg in rights)
