"""From the ledger to `Facts`: which questions the report asks, in one consistent view, and nothing else."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from reconciler.ledger import aside, bank, breaks, control, cuts, finance, movements
from reconciler.ledger.aside import Flow, Unread
from reconciler.ledger.breaks import PeriodLock
from reconciler.ledger.finance import BalanceKey, EntryChange, EntryFact
from reconciler.ledger.movements import Known
from reconciler.ledger.openings import Openings
from reconciler.ledger.transaction import Transaction
from reconciler.ledger.uncaused import UnreadCause, unread_causes
from reconciler.model import ResourceRef
from reconciler.movements import Condition, Movement, Role
from reconciler.report import fees, sales
from reconciler.report.aside import names_met
from reconciler.report.facts import STREAM, AccountTerms, DisputeFact, Facts, FeeFacts, SalesFacts
from reconciler.report.held import Held
from reconciler.report.model import Params
from reconciler.report.paid_out import PAYOUT, PaidOut
from reconciler.report.periods import Calendar, Period
from reconciler.report.proof import NAMED
from reconciler.report.reading import Kept, Unreadable

LISTED = 2000
"""How many unsettled items are shown one by one; older ones stand in one line."""
_PAGE = 500
_UNREAD_PAGES = 40
"""With more than so many pages unread, everything is read: there is little to save."""


def gather(tx: Transaction, terms: Sequence[AccountTerms], params: Params) -> Facts:
    """Everything that was known at `params.as_of`, of these accounts. `tx` only reads."""
    tx.take_time()
    chosen = tuple(sorted((term for term in terms if term.name in params.accounts), key=lambda term: term.name))
    period = Period(params.from_day, params.to_day, Calendar.of(params.timezone, params.day_start))
    return _Gathering(tx, chosen, period, params, Kept.of(tx, terms, params)).facts()


class _Gathering:
    def __init__(
        self, tx: Transaction, terms: tuple[AccountTerms, ...], period: Period, params: Params, kept: Kept
    ) -> None:
        self._tx = tx
        self._openings = Openings(tx)
        self._held = Held(tx, self._openings, [term.name for term in terms], period)
        self._terms = terms
        self._period = period
        self._params = params
        self._accounts = [term.name for term in terms]
        self._by_name = {term.name: term for term in terms}
        self._unreadable = Unreadable()
        self._reads = {term.name: self._unreadable.or_else((), term.finance.read) for term in terms}
        self._sells = any(term.finance.sells for term in terms)
        self._rows_hold = kept.rows
        self._is_whole = kept.whole
        self._cut: set[int] = set()
        self._groups_hold = kept.groups and self._meet_unread()
        if not self._groups_hold:
            self._cut = set()
        self._aside_flows: tuple[Flow, ...] = ()

    def facts(self) -> Facts:
        tx, as_of, period = self._tx, self._params.as_of, self._period
        if not self._accounts:
            return Facts(())
        locks = breaks.locked_periods(breaks.period_locks(tx, self._accounts), as_of)
        things = self._movements()
        disputes, unseen_disputes = self._disputes()
        entries = self._entries([*things, *(each.movement for each in disputes)])
        payouts = [each for each in things if each.role is Role.PAYOUT]
        paid = PaidOut(tx, self._openings, self._accounts, payouts, period.end, as_of)
        balances = self._held.balances(as_of, locks)
        return Facts(
            terms=self._terms,
            balances=balances,
            day_sums=tuple(finance.day_sums(tx, [each.key for each in balances], period.bounds, as_of)),
            coverage=tuple(control.covered(tx, self._accounts, period.start, period.end, as_of)),
            covered_since=control.covered_since(tx, self._accounts, as_of),
            movements=things,
            aside=tuple(each for each in self._aside_flows if each.code),
            disputes=disputes,
            unseen_disputes=unseen_disputes,
            entries=entries,
            conversions=self._conversions(things, entries),
            compositions=paid.compositions,
            unread=tuple(self._unread([each.key for each in balances])),
            unsettled_sums=tuple(paid.unsettled),
            unsettled=tuple(paid.items(LISTED)),
            fees=self._fees(things),
            events=tuple(breaks.break_events(tx, as_of)),
            locks=tuple(locks),
            late=self._late(locks),
            exceptions=self._exceptions(locks),
            changed=self._changed(),
            bank=tuple(bank.bank_lines(tx, as_of)),
            bank_openings=bank.bank_openings(tx, as_of),
            sales=tuple(self._sales()) if self._params.sales else (),
            unreadable=self._unreadable.refs,  # before the compared instant is asked, at which others may have been
            compared=self._compared(locks),
        )

    def _unread(self, keys: Sequence[BalanceKey]) -> Iterator[UnreadCause]:
        for term in self._terms:
            yield from unread_causes(
                self._tx,
                [key for key in keys if key.account == term.name],
                term.finance.causes,
                term.finance.also_cause,
                self._period.start,
                self._period.end,
                self._params.as_of,
                named=NAMED,
            )

    # --- things ---

    def _movements(self) -> tuple[Movement, ...]:
        """What the report has to look at itself: all of it, or what is not set aside."""
        self._aside_flows = self._set_aside()
        found = [
            each
            for term in self._terms
            for kind in sorted(term.finance.kinds - {STREAM, "dispute", _orders_of(term)})
            for each in self._known(term, kind, self._params.as_of)
        ]
        for term in self._terms:
            if _orders_of(term) in term.finance.kinds:
                found += [
                    known.movement
                    for known in self._history(term, _orders_of(term), self._cut if self._groups_hold else None)
                ]
        if self._sells:
            found += self._own_payments()
        members = movements.of_groups(self._tx, self._cut, self._params.as_of)
        found += [each.movement for each in members if each.movement.ref.account in self._by_name]
        return tuple(sorted(self._in_match(found), key=lambda each: each.ref))

    def _own_payments(self) -> list[Movement]:
        """Movements that are entries themselves (a shop's own payments)."""
        return [
            each
            for term in self._terms
            if term.finance.sells and STREAM in term.finance.kinds
            for each in self._known(term, STREAM, self._params.as_of)
        ]

    def _in_match(self, found: Iterable[Movement]) -> Iterator[Movement]:
        """A shop's own payments are in it only where their gateway is."""
        gateways = self._params.rules.gateways
        for each in found:
            if each.ref.kind != STREAM or each.gateway in gateways:
                yield each

    def _known(self, term: AccountTerms, kind: str, as_of: datetime) -> Iterator[Movement]:
        tx, read = self._tx, self._reads[term.name]
        if self._rows_hold:
            for known in movements.from_rows(tx, term.name, kind, as_of, only_open=self._groups_hold):
                yield known.movement
        for known in movements.from_bodies(tx, term.name, kind, as_of, read, unread=self._rows_hold):
            yield known.movement

    def _set_aside(self) -> tuple[Flow, ...]:
        """The flows of what need not be looked at; what the period or something unread cuts through must be."""
        if not self._groups_hold:
            return ()
        start, end, as_of = self._period.start, self._period.end, self._params.as_of
        self._cut |= cuts.cut(self._tx, start, end, as_of)
        if self._sells and not self._is_whole:
            self._cut |= cuts.mixed(self._tx, self._accounts)
        found = cuts.flows(self._tx, start, end, as_of, self._cut)
        return tuple(found if self._is_whole else self._of_accounts(found))

    def _of_accounts(self, flows: Iterable[Flow]) -> Iterator[Flow]:
        """Of a report about some of the accounts. Without a shop nothing is matched: what is left of a pair is a charge
        or refund whose country the fees ask for."""
        for each in flows:
            right = bool(each.right_ref) and ResourceRef.parse(each.right_ref).account in self._by_name
            if right and not self._sells:
                yield replace(each, code="", key="", left_ref="")
            elif right or (each.left_ref and ResourceRef.parse(each.left_ref).account in self._by_name):
                yield each

    def _meet_unread(self) -> bool:
        """Collect the groups that unread versions have to do with. False: too much is unread to be worth it."""
        after, pages = (-(2**63), 0), 0
        while some := aside.unread(self._tx, after=after, limit=_PAGE):
            pages += 1
            if pages > _UNREAD_PAGES:
                return False
            after = (some[-1].resource_id, some[-1].version)
            sources = aside.sources(self._tx, {each.resource_id for each in some})
            met: set[int] = set()
            for each in some:
                met |= names_met(each, self._read(each), sources.get(each.resource_id, ()))
            self._cut |= aside.met_groups(self._tx, met)
        return True

    def _read(self, each: Unread) -> tuple[Movement, ...]:
        term = self._by_name.get(each.row.account)
        if term is None or each.row.body is None or each.row.kind not in term.finance.kinds:
            return ()
        # Whether it was known by the report's instant is not asked here: what it cannot be read of is not missed.
        return Unreadable().or_else((), term.finance.read)(movements.snapshot_of(self._tx, each.row))

    def _disputes(self) -> tuple[tuple[DisputeFact, ...], tuple[Movement, ...]]:
        """The last version recorded before the cut-off, and since when it has been in that state; and those that had
        begun by then and were first read after it, as they are known now."""
        found: dict[ResourceRef, DisputeFact] = {}
        after: dict[ResourceRef, Movement] = {}
        for term in self._terms:
            if "dispute" not in term.finance.kinds:
                continue
            for known in self._history(term, "dispute"):
                movement = known.movement
                if known.recorded_at >= self._period.end:
                    if movement.occurred_at < self._period.end:
                        after[movement.ref] = movement
                    continue
                before = found.get(movement.ref)
                same = before is not None and before.movement.condition is movement.condition
                since = before.since if same and before is not None else known.recorded_at
                found[movement.ref] = DisputeFact(movement, since)
        unseen = [each for ref, each in after.items() if ref not in found and each.condition is not Condition.VOID]
        return (
            tuple(sorted(found.values(), key=lambda each: each.movement.ref)),
            tuple(sorted(unseen, key=lambda each: each.ref)),
        )

    def _history(self, term: AccountTerms, kind: str, groups: set[int] | None = None) -> Iterator[Known]:
        """What every version said, in order; with `groups` not of what is set aside in others."""
        tx, as_of = self._tx, self._params.as_of
        if self._rows_hold:
            yield from movements.history_from_rows(tx, term.name, kind, as_of, groups=groups)
        ever = Unreadable()
        read = ever.or_else((), term.finance.read)
        yield from movements.history_from_bodies(tx, term.name, kind, as_of, read, unread=self._rows_hold)
        if ever.refs:  # perhaps only in a version that another one has replaced by now
            deque(self._known(term, kind, as_of), maxlen=0)

    def _entries(self, things: Iterable[Movement]) -> dict[tuple[str, str], tuple[EntryFact, ...]]:
        caused = (Role.CHARGE, Role.REFUND, Role.DISPUTE, Role.PAYOUT)
        ids: dict[str, set[str]] = defaultdict(set)
        for movement in things:
            if movement.role in caused:
                ids[movement.ref.account].add(movement.ref.id)
        found: dict[tuple[str, str], list[EntryFact]] = defaultdict(list)
        for account, named in sorted(ids.items()):
            for entry in finance.entries_by_source(self._tx, account, named, self._params.as_of):
                found[account, str(entry.source_id)].append(entry)
        self._add_returns(things, found)
        return {key: tuple(some) for key, some in found.items()}

    def _add_returns(self, things: Iterable[Movement], found: dict[tuple[str, str], list[EntryFact]]) -> None:
        """What took a failed payment's money back names what caused it in more than one way; the payment names it."""
        named: dict[tuple[str, str], tuple[str, str]] = {}
        for each in things:
            if each.condition is Condition.FAILED and each.return_entry_id is not None:
                there = found.get((each.ref.account, each.ref.id), ())
                if all(entry.id != each.return_entry_id for entry in there):
                    named[each.ref.account, each.return_entry_id] = (each.ref.account, each.ref.id)
        for account in sorted({account for account, _ in named}):
            ids = [name for owner, name in named if owner == account]
            for entry in finance.entries_by_id(self._tx, account, STREAM, ids, self._params.as_of):
                found[named[account, entry.id]].append(entry)

    def _conversions(
        self, things: Sequence[Movement], entries: dict[tuple[str, str], tuple[EntryFact, ...]]
    ) -> dict[tuple[str, str], Movement]:
        """Rates are read only where an entry is in another currency than the thing that caused it."""
        abroad: dict[str, set[str]] = defaultdict(set)
        for movement in things:
            for entry in entries.get((movement.ref.account, movement.ref.id), ()):
                if entry.key.currency != movement.amount.currency:
                    abroad[movement.ref.account].add(entry.id)
        reads = self._reads
        return {
            (account, known.movement.ref.id): known.movement
            for account, ids in sorted(abroad.items())
            for known in movements.from_bodies_by_id(self._tx, account, STREAM, ids, self._params.as_of, reads[account])
            if known.movement.role is Role.CONVERSION
        }

    def _sales(self) -> Iterator[SalesFacts]:
        for term in self._terms:
            found = sales.gather(
                self._tx, term, self._period, self._params, rows_hold=self._rows_hold, unreadable=self._unreadable
            )
            if found is not None:
                yield found

    # --- fees ---

    def _fees(self, things: Sequence[Movement]) -> tuple[FeeFacts, ...]:
        rules = [rule for rule in self._params.rules.fee_rules if rule.account in self._accounts]
        if not rules:
            return ()
        countries = {(each.ref.account, each.ref.id): each.country for each in things if each.role is Role.CHARGE}
        for flow in self._aside_flows:
            if flow.right_ref:
                ref = ResourceRef.parse(flow.right_ref)
                countries[ref.account, ref.id] = flow.country

        def country_of(account: str, charge: str | None) -> str | None:
            return countries.get((account, charge or ""))

        charged = finance.entries_of_category(
            self._tx,
            sorted({rule.account for rule in rules}),
            fees.CATEGORY,
            self._period.start,
            self._period.end,
            self._params.as_of,
        )
        return fees.fold(charged, rules, country_of)

    # --- what became known when ---

    def _late(self, locks: Sequence[PeriodLock]) -> dict[BalanceKey, tuple[EntryChange, ...]]:
        found: dict[BalanceKey, list[EntryChange]] = defaultdict(list)
        for account in self._accounts:
            lock = self._held.lock_of(account, locks)
            if lock is None:
                continue
            for each in finance.changed_entries(
                self._tx, [account], self._period.start, lock.as_of, self._params.as_of
            ):
                found[each.key].append(each)
        return {key: tuple(some) for key, some in found.items()}

    def _exceptions(self, locks: Sequence[PeriodLock]) -> tuple[tuple[PeriodLock, EntryChange], ...]:
        """Every late fact, named with the earliest locked period that it belongs to."""
        found = []
        for lock in sorted(locks, key=lambda lock: (lock.account, lock.end)):
            for each in finance.changed_entries(self._tx, [lock.account], lock.end, lock.as_of, self._params.as_of):
                if each.effective_at >= lock.start:
                    found.append((lock, each))
        return tuple(found)

    def _changed(self) -> tuple[EntryChange, ...]:
        if self._params.compare is None:
            return ()
        return tuple(
            finance.changed_entries(
                self._tx, self._accounts, self._period.end, self._params.compare, self._params.as_of
            )
        )

    def _compared(self, locks: Sequence[PeriodLock]) -> Facts | None:
        compare = self._params.compare
        if compare is None:
            return None
        balances = self._held.balances(compare, [lock for lock in locks if lock.as_of <= compare])
        sums = finance.day_sums(self._tx, [each.key for each in balances], self._period.bounds, compare)
        earlier = Facts(self._terms, balances, tuple(sums))
        return replace(earlier, movements=self._payouts_known(compare))

    def _payouts_known(self, as_of: datetime) -> tuple[Movement, ...]:
        return tuple(
            each for term in self._terms if PAYOUT in term.finance.kinds for each in self._known(term, PAYOUT, as_of)
        )


def _orders_of(term: AccountTerms) -> str:
    """The kind of a shop's orders; empty where the provider has none."""
    return term.finance.orders[0] if term.finance.orders else ""
