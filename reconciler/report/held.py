"""What each balance held: before its first known entry, by the provider's word, and as the last lock knew it."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from reconciler.ledger import control, finance
from reconciler.ledger.breaks import LockPolicy, PeriodLock
from reconciler.ledger.control import TotalFact
from reconciler.ledger.finance import BalanceKey
from reconciler.ledger.openings import Opened, Openings
from reconciler.ledger.transaction import Transaction
from reconciler.report.facts import STREAM, BalanceFacts
from reconciler.report.periods import Period


class Held:
    """Of these accounts, over one period."""

    def __init__(self, tx: Transaction, openings: Openings, accounts: Sequence[str], period: Period) -> None:
        self._tx = tx
        self._openings = openings
        self._accounts = accounts
        self._period = period

    def balances(self, as_of: datetime, locks: Sequence[PeriodLock]) -> tuple[BalanceFacts, ...]:
        tx, period = self._tx, self._period
        opened = {each.key: each for each in self._openings.opened(self._accounts, period.start, period.end, as_of)}
        since = control.covered_since(tx, self._accounts, as_of)
        keys = sorted({*opened, *control.total_keys(tx, self._accounts, as_of)})
        stated_days, last_day = self._stated_days(as_of), len(period.days) - 1
        found = []
        for key in keys:
            own = opened.get(key)
            base, basis, said = self._base(key, own, since.get((key.account, STREAM)), as_of)
            stated = control.first_total(tx, key, period.end, as_of)
            days = stated_days.get(key, []) + ([] if stated is None else [(last_day, stated)])
            if own is None and base == 0 and (stated is None or stated.minor == 0):
                continue
            found.append(
                BalanceFacts(
                    key=key,
                    has_entries=own is not None,
                    base=base,
                    basis=basis,
                    basis_at=None if said is None else said.as_at,
                    basis_quiet=said is None or said.quiet,
                    before_start=0 if own is None else own.before_start,
                    provider=stated,
                    rolled_back=0 if stated is None else finance.net_between(tx, key, period.end, stated.as_at, as_of),
                    day_totals=tuple(self._at_ends(key, days, as_of)),
                    signed=self._signed(key, locks),
                )
            )
        return tuple(found)

    def _base(
        self, key: BalanceKey, opened: Opened | None, covered: datetime | None, as_of: datetime
    ) -> tuple[int, str, TotalFact | None]:
        """What the balance held before the first known entry, how we know, and the total behind it.

        A total from at or before the start of coverage is the opening itself. Else the earliest one of all anchors
        it: never a later one, which would swallow a difference that should be seen.
        """
        tx = self._tx
        first = None if opened is None else opened.first_at
        begins = covered or first
        stated: TotalFact | None = None
        if begins is not None:
            stated = control.last_total(tx, key, begins, as_of)
        anchored = stated is None
        stated = stated or control.first_total(tx, key, control.BEGINNING, as_of)
        if stated is None:
            return 0, "none", None
        if first is not None and stated.as_at <= first:
            return stated.minor, "control_total", stated
        held = stated.minor - self._openings.net_before(key, stated.as_at, as_of)
        return held, "anchored" if anchored and first is not None else "control_total", stated

    def _stated_days(self, as_of: datetime) -> dict[BalanceKey, list[tuple[int, TotalFact]]]:
        """Per balance the total that speaks for each day's end: the first one until the next day's, a quiet one first.

        Without the last day, whose end is the cut-off.
        """
        ends = self._period.bounds[1:]
        by_day: dict[tuple[BalanceKey, int], TotalFact] = {}
        for each in control.totals(self._tx, self._accounts, ends[0], ends[-1], as_of):
            place = (each.key, bisect_right(ends, each.as_at) - 1)
            before = by_day.get(place)
            if before is None or (each.quiet and not before.quiet):
                by_day[place] = each
        found: dict[BalanceKey, list[tuple[int, TotalFact]]] = defaultdict(list)
        for (key, day), each in by_day.items():
            found[key].append((day, each))
        return found

    def _at_ends(
        self, key: BalanceKey, stated: Iterable[tuple[int, TotalFact]], as_of: datetime
    ) -> Iterator[tuple[int, int]]:
        """What the balance was at the days' ends, by totals stated then or later."""
        for day, each in stated:
            end = self._period.bounds[day + 1]
            later = finance.net_between(self._tx, key, end, each.as_at, as_of) if each.as_at > end else 0
            yield day, each.minor - later

    def lock_of(self, account: str, locks: Sequence[PeriodLock]) -> PeriodLock | None:
        """The lock of the period that ends where this one begins, if the next period builds on it.

        What lies between an older lock and this period was never signed: no opening rests on it.
        """
        before = [lock for lock in locks if lock.account == account and lock.end == self._period.start]
        last = max(before, key=lambda lock: lock.as_of, default=None)
        return last if last is not None and last.policy is LockPolicy.ROLL_FORWARD else None

    def _signed(self, key: BalanceKey, locks: Sequence[PeriodLock]) -> int | None:
        """The opening as it was known when the period before was locked."""
        lock = self.lock_of(key.account, locks)
        if lock is None:
            return None
        known = self._openings.opened([key.account], self._period.start, self._period.start, lock.as_of)
        own = next((each for each in known if each.key == key), None)
        covered = control.covered_since(self._tx, [key.account], lock.as_of).get((key.account, STREAM))
        base, _, _ = self._base(key, own, covered, lock.as_of)
        return base + (0 if own is None else own.before_start)
