"""Setting aside what is settled, so that a report's cost follows its period and what is open, not the ledger's age.

Three steps, each in small transactions of its own: what unread versions say is kept as rows; then everything new is
looked at together with all that could have to do with it; then the entries of days that have become still are summed
up and carried forward. Whether it is settled is asked of the very code that makes
the report, at a cut-off after everything: nothing in a group may then be open, pending or different. Such a group can
never show in a later period, and inside a period shows as the flows that are kept of it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial

import orjson

from reconciler.clock import to_micros
from reconciler.errors import BadReply, TooLargeToSum
from reconciler.ledger import Ledger, anew, aside, carried
from reconciler.ledger.anew import Forgetting
from reconciler.ledger.aside import Group, Kept, Unread
from reconciler.ledger.finance import EntryFact, entries_by_source
from reconciler.ledger.jobs import watermark_of
from reconciler.ledger.movements import OPEN, name_of, names_of, snapshot_of
from reconciler.ledger.transaction import Transaction
from reconciler.movements import Condition, Movement, Role
from reconciler.report.facts import AccountTerms, Facts
from reconciler.report.linking import right_time
from reconciler.report.matching import Flow, Matching, Standing
from reconciler.report.model import Params, Rules
from reconciler.report.objects import examine
from reconciler.report.scope import Scope

BATCH = 500
"""Versions that one transaction keeps, and resources that one looks at: some ten milliseconds of the ledger's turn."""
JOB = "aside"
"""Its watermark says when whoever keeps the ledger ready was last at work."""
HELD = timedelta(minutes=5)
"""For so long a node with other accounts leaves that alone. A run comes every minute."""
STILL = timedelta(days=10)
"""Entries so much older than the newest version are carried forward: by then they are available and paid out, and
hardly ever change, so that the same days are not summed up again and again."""
_SPANS = 7
"""That one step carries forward."""
_MOST = 20_000
"""Resources that are looked at together; a name that more of them share says nothing about who belongs to whom."""
_RIGHTS = (Role.CHARGE, Role.REFUND)
_FORGOTTEN = "rows of earlier readings forgotten"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVER = datetime(1970, 1, 2, tzinfo=UTC)
_LAST_DAY = date(2200, 1, 1)
_FAR = datetime(2200, 1, 2, tzinfo=UTC)
"""After everything that any ledger knows."""


def readings_stated(terms: Sequence[AccountTerms]) -> str:
    """By what the rows of each account were read: under another one they may say something else than the bodies."""
    return anew.stated({term.name: (term.provider, term.finance.revision) for term in terms})


def terms_hash(terms: Sequence[AccountTerms], gateways: Sequence[str]) -> str:
    """Groups that were set aside under another one are of no use to a report."""
    return _hash([readings_stated(terms), [term.finance.sells for term in terms], sorted(gateways)])


def _hash(content: object) -> str:
    return hashlib.sha256(orjson.dumps(content)).hexdigest()[:32]


Place = tuple[int, int]
"""(resource, version): how far a run has read."""
BEGINNING: Place = (-(2**63), 0)


@dataclass(frozen=True, slots=True)
class Step:
    """Something worked out from one view of the ledger, to be written only if nobody else wrote meanwhile."""

    turn: int
    write: Callable[[Transaction], None]
    place: Place
    """Where the next step goes on reading."""
    count: int
    what: str
    """What there are so many of, and what becomes of them."""

    def carry_out(self, ledger: Ledger) -> bool:
        """False: another process was faster, and nothing was written."""
        with ledger.store.write() as tx:
            if not anew.take_turn(tx, self.turn):
                return False
            self.write(tx)
            return True


class SettingAside:
    """The work of one configuration. Interrupted at any point, the next run goes on from there."""

    def __init__(
        self, terms: Sequence[AccountTerms], gateways: Sequence[str], *, batch: int = BATCH, still: timedelta = STILL
    ) -> None:
        self._terms = tuple(sorted(terms, key=lambda term: term.name))
        self._by_name = {term.name: term for term in self._terms}
        self._gateways = tuple(gateways)
        self._batch = batch
        self._still = to_micros(_EPOCH + still)

    def run(
        self,
        ledger: Ledger,
        *,
        steps: int | None = None,
        told: Callable[[Step], None] | None = None,
        now: datetime | None = None,
    ) -> int:
        """Everything there is to do, or so many steps of it; how many were done. `told` hears of each."""
        self.begin(ledger, now)
        place, done = BEGINNING, 0
        while done != steps and (step := self.next_step(ledger, place)) is not None:
            if not step.carry_out(ledger):
                break
            place, done = step.place, done + 1
            if told is not None:
                told(step)
        return done

    def begin(self, ledger: Ledger, now: datetime | None = None) -> bool:
        """Once before the steps: from now on what is kept is of this configuration, unless a newer version keeps it,
        or a node with other accounts that was at work lately (`now` None: that is not asked). Whether it is."""
        if not self._terms:
            return False
        with ledger.store.write() as tx:
            at = None if now is None else watermark_of(tx, JOB)
            held = at is not None and now is not None and abs(now - at) < HELD
            return anew.begin(tx, readings_stated(self._terms), terms_hash(self._terms, self._gateways), is_held=held)

    def is_left_to_newer(self, ledger: Ledger) -> bool:
        """Whether a newer version keeps this ledger's readings, so that none are kept for this one."""
        with ledger.store.read() as tx:
            state = anew.state(tx)
        return state is not None and anew.is_newer(state.readings, readings_stated(self._terms))

    def is_left_to_others(self, ledger: Ledger) -> bool:
        """Whether what is kept, or will be, is of another configuration."""
        with ledger.store.read() as tx:
            state = anew.state(tx)
        aimed = None if state is None else state.terms if state.forgetting is None else state.forgetting.terms
        return aimed is not None and bool(self._terms) and aimed != terms_hash(self._terms, self._gateways)

    def next_step(self, ledger: Ledger, place: Place) -> Step | None:
        """Reads only. None: nothing is left to do, or the ledger speaks of another configuration by now."""
        with ledger.store.read() as tx:
            state, own = anew.state(tx), terms_hash(self._terms, self._gateways)
            if state is not None and state.forgetting is not None and state.forgetting.terms == own:
                return self._forgetting(tx, state.turn, state.forgetting, place)
            if state is None or state.terms != own:
                return None
            return (
                self._reading(tx, state.turn, place)
                or self._looking(tx, state.turn, place)
                or self._carrying(tx, state.turn, place)
            )

    # --- forgetting ---

    def _forgetting(self, tx: Transaction, turn: int, at: Forgetting, place: Place) -> Step:
        found = anew.to_forget(tx, at, self._batch)
        if found is None:
            return Step(turn, partial(anew.conclude, at=at), place, 0, _FORGOTTEN)
        return Step(turn, partial(anew.forget, found=found), place, len(found.rows), _FORGOTTEN)

    # --- reading ---

    def _reading(self, tx: Transaction, turn: int, place: Place) -> Step | None:
        found = aside.unread(tx, after=place, limit=self._batch)
        if not found:
            return None
        sources = aside.sources(tx, {each.resource_id for each in found})
        read = [(each, movements) for each in found if (movements := self._movements(tx, each)) is not None]
        met: set[int] = set()
        for each, movements in read:
            met |= names_met(each, movements, sources.get(each.resource_id, ()))
        last = (found[-1].resource_id, found[-1].version)
        return Step(turn, lambda tx: aside.keep(tx, read, met), last, len(found), "versions read")

    def _movements(self, tx: Transaction, each: Unread) -> tuple[Movement, ...] | None:
        """None: it cannot be read. It stays unread, so that the report names it."""
        term = self._by_name.get(each.row.account)
        if term is None or each.row.body is None or each.row.kind not in term.finance.kinds:
            return ()
        try:
            return term.finance.read(snapshot_of(tx, each.row))
        except BadReply:
            return None

    # --- looking ---

    def _looking(self, tx: Transaction, turn: int, place: Place) -> Step | None:
        new = aside.unlooked(tx, self._batch)
        if not new:
            return None
        crowd = _Crowd(tx, new)
        whole = [group for group, is_whole in crowd.groups() if is_whole and self._is_configured(group)]
        groups = list(_Settled(tx, self._terms, self._gateways, whole).groups())
        still_open = crowd.ids - {resource_id for group in groups for resource_id in group.resource_ids}

        def write(tx: Transaction) -> None:
            aside.release_groups(tx, crowd.released)
            aside.set_aside(tx, groups, still_open)

        return Step(turn, write, place, len(crowd.ids), "resources looked at")

    def _is_configured(self, group: Mapping[int, list[Kept]]) -> bool:
        """Whether every account in it is: what one that was taken out had said stays open until it is put back."""
        return all(each.known.movement.ref.account in self._by_name for some in group.values() for each in some)

    # --- carrying forward ---

    def _carrying(self, tx: Transaction, turn: int, place: Place) -> Step | None:
        newest = carried.newest(tx)
        if newest is None:
            return None
        for term in self._terms:
            try:
                found = carried.next_days(tx, term.name, before=newest - self._still, limit=_SPANS)
            except TooLargeToSum:
                continue  # a report that has to do with it names the amount
            if found:
                return Step(turn, partial(carried.keep, some=found), place, len(found), "days carried forward")
        return None


def names_met(each: Unread, movements: Iterable[Movement], sources: Iterable[str]) -> set[int]:
    """Under which names an unread version may mean something that was kept earlier."""
    met = {name_of(each.ref.id), *(name_of(source) for source in sources)}
    for movement in movements:
        met |= names_of(movement)
    return met


def _stands(each: Kept) -> bool:
    """Whether a report still reads it: the last word about everything, and every word of an order about its price."""
    return each.superseded_at is None or each.known.movement.role is Role.PRICE


class _Crowd:
    """Some resources and all that share names with them, directly or through one another."""

    def __init__(self, tx: Transaction, start: set[int]) -> None:
        self.ids: set[int] = set()
        self.released: set[int] = set()
        """Groups that turn out to have something to do with the new ones."""
        self._kept: dict[int, list[Kept]] = defaultdict(list)
        self._names: dict[int, set[int]] = defaultdict(set)
        met: set[int] = set()
        fresh = set(start)
        while fresh:
            self.ids |= fresh
            for each in aside.kept(tx, fresh):
                self._kept[each.resource_id].append(each)
                self._names[each.resource_id] |= names_of(each.known.movement)
                if each.group_id is not None and each.group_id > OPEN:
                    self.released.add(each.group_id)
            names = set().union(*(self._names[resource_id] for resource_id in fresh)) - met
            met |= names
            fresh = aside.meeting(tx, names) - self.ids
            if len(self.ids) + len(fresh) > _MOST:
                break
        self._beyond = fresh
        self._tx = tx

    def groups(self) -> Iterator[tuple[dict[int, list[Kept]], bool]]:
        """Those that belong together, and whether that is all of them."""
        parent: dict[int, int] = {}

        def root(key: int) -> int:
            while parent.setdefault(key, key) != key:
                parent[key] = parent[parent[key]]
                key = parent[key]
            return key

        first: dict[int, int] = {}
        for resource_id in sorted(self._kept):
            for name in self._names[resource_id]:
                other = first.setdefault(name, resource_id)
                parent[root(resource_id)] = root(other)
        found: dict[int, dict[int, list[Kept]]] = defaultdict(dict)
        for resource_id in sorted(self._kept):
            found[root(resource_id)][resource_id] = self._kept[resource_id]
        for group in found.values():
            yield group, not self._beyond or self._is_whole(group)

    def _is_whole(self, group: Mapping[int, list[Kept]]) -> bool:
        """Whether nobody outside shares a name with it: asked where the crowd grew too large to follow."""
        if len(group) > _MOST // 2:
            return False
        names = set().union(*(self._names[resource_id] for resource_id in group))
        return aside.meeting(self._tx, names) <= group.keys()


@dataclass(slots=True)
class _Members:
    """One group: its readings, and what stands in them now."""

    kept: list[Kept]
    movements: list[Movement] = field(default_factory=list)


class _Settled:
    """Which of these groups are settled among themselves, asked of the report's own code."""

    def __init__(
        self,
        tx: Transaction,
        terms: tuple[AccountTerms, ...],
        gateways: tuple[str, ...],
        groups: Sequence[Mapping[int, list[Kept]]],
    ) -> None:
        self._gateways = gateways
        self._groups = [_Members([each for some in group.values() for each in some]) for group in groups]
        for members in self._groups:
            members.movements = [each.known.movement for each in members.kept if _stands(each)]
        movements = sorted((each for members in self._groups for each in members.movements), key=lambda each: each.ref)
        causes: dict[str, set[str]] = defaultdict(set)
        for members in self._groups:
            for each in members.kept:
                ref = each.known.movement.ref
                causes[ref.account].add(ref.id)
        self._entries: dict[tuple[str, str], tuple[EntryFact, ...]] = {}
        self._changed: dict[tuple[str, str], int] = {}
        for account, ids in sorted(causes.items()):
            by_source: dict[str, list[EntryFact]] = defaultdict(list)
            for entry in entries_by_source(tx, account, ids, _FAR):
                by_source[str(entry.source_id)].append(entry)
            self._entries |= {(account, source): tuple(some) for source, some in by_source.items()}
            for source, at in aside.entries_changed(tx, account, ids).items():
                self._changed[account, source] = at
        params = Params(
            _LAST_DAY,
            _LAST_DAY,
            _FAR,
            accounts=tuple(term.name for term in terms),
            rules=Rules(grace_days=0, gateways=gateways),
        )
        facts = Facts(terms, movements=tuple(movements), entries=self._entries)
        self._scope = Scope.of(params, facts)
        self._sells = any(term.finance.sells for term in terms)
        standing = Matching(self._scope, facts).at(_FAR, since=_EVER)
        examined = examine(self._scope, facts)
        self._unsettled = {leg.ref for leg in standing.pending}
        for item in (*standing.breaks, *standing.timing, *examined.breaks, *examined.timing):
            self._unsettled |= {item.left, item.right}
        self._flows = _flows_by_ref(standing)

    def groups(self) -> Iterator[Group]:
        for members in self._groups:
            if any(str(each.ref) in self._unsettled for each in members.movements):
                continue
            yield Group(
                resource_ids=tuple(sorted({each.resource_id for each in members.kept})),
                first_at=min(self._times(members)),
                last_at=max(self._times(members)),
                changed_at=max(self._changes(members)),
                flows=self._plain(members.movements),
            )

    def _times(self, members: _Members) -> Iterator[datetime]:
        for each in members.kept:
            yield each.known.movement.occurred_at
            for entry in self._of(each.known.movement):
                yield entry.effective_at

    def _changes(self, members: _Members) -> Iterator[int]:
        for each in members.kept:
            ref = each.known.movement.ref
            yield to_micros(each.known.recorded_at)
            yield each.superseded_at or 0
            yield self._changed.get((ref.account, ref.id), 0)

    def _of(self, movement: Movement) -> tuple[EntryFact, ...]:
        return self._entries.get((movement.ref.account, movement.ref.id), ())

    # --- plain ones: what they say fits into flows ---

    def _plain(self, movements: Sequence[Movement]) -> tuple[aside.Flow, ...] | None:
        flows: dict[tuple[str, str], aside.Flow] = {}
        by_ref = {str(each.ref): each for each in movements}
        for movement in movements:
            if not self._is_simple(movement):
                return None
            if movement.condition is not Condition.SETTLED or movement.role is Role.INTENT:
                continue
            if movement.role in _RIGHTS and movement.gateway not in (None, *self._gateways):
                continue  # the counterpart of sales that are out of scope
            flow = self._flow(movement, by_ref)
            if flow is None:
                return None
            flows[flow.left_ref, flow.right_ref] = flow
        return tuple(flows[key] for key in sorted(flows))

    def _is_simple(self, movement: Movement) -> bool:
        """Booked once, as it is, where it counts; not at all where it does not. Then no cut-off can fall between."""
        match movement.role:
            case Role.SALE:
                return movement.condition is not Condition.PENDING
            case Role.INTENT:
                return True
            case Role.CHARGE | Role.REFUND:
                entries = self._of(movement)
                if movement.condition is not Condition.SETTLED or movement.gateway is not None:
                    return movement.condition is not Condition.PENDING and not entries
                return [(entry.id, entry.key.currency) for entry in entries] == [
                    (movement.entry_id, movement.amount.currency)
                ]
        return False

    def _flow(self, movement: Movement, by_ref: Mapping[str, Movement]) -> aside.Flow | None:
        ref = str(movement.ref)
        minor = self._scope.shared(movement.ref.account, movement.amount)
        matched = self._flows.get(ref)
        if matched is not None:
            if matched.code != "matched" or len(matched.pairs) != 1:
                return None
            (pair,) = matched.pairs
            right = by_ref[pair.right]
            times = (by_ref[pair.left].occurred_at, right_time(right, self._of(right)))
            return aside.Flow(
                "matched", pair.key, pair.currency, minor, pair.left, pair.right, right.country, min(times), max(times)
            )
        if movement.role is Role.SALE and movement.gateway not in self._gateways:
            code, at = f"out_of_scope.{movement.gateway}", movement.occurred_at
            return aside.Flow(code, "", movement.amount.currency, minor, ref, "", None, at, at)
        if movement.role in _RIGHTS and not self._sells:
            at = right_time(movement, self._of(movement))
            return aside.Flow("", "", movement.amount.currency, minor, "", ref, movement.country, at, at)
        return None


def _flows_by_ref(standing: Standing) -> dict[str, Flow]:
    return {ref: flow for flow in standing.flows for pair in flow.pairs for ref in (pair.left, pair.right) if ref}
