"""Who paid out what: the members of each payout, and what nobody has paid out yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from reconciler.ledger import finance
from reconciler.ledger.finance import BalanceKey, EntryFact
from reconciler.ledger.openings import Openings
from reconciler.ledger.transaction import Transaction
from reconciler.movements import Movement
from reconciler.report.facts import Composition, UnsettledSum

PAYOUT = "payout"


class PaidOut:
    """Who paid out what: what each payout's members add up to, and what is left."""

    def __init__(
        self,
        tx: Transaction,
        openings: Openings,
        accounts: Sequence[str],
        payouts: Sequence[Movement],
        end: datetime,
        as_of: datetime,
    ) -> None:
        self._tx, self._openings, self._end, self._as_of = tx, openings, end, as_of
        self.compositions: dict[tuple[str, str], tuple[Composition, ...]] = {}
        self.unsettled: list[UnsettledSum] = []
        self._counted: dict[str, frozenset[str]] = {}
        for account in accounts:
            made = {each.ref.id for each in payouts if each.ref.account == account and each.occurred_at < end}
            self._take(account, made)

    def _take(self, account: str, made: set[str]) -> None:
        sums = self._openings.paid_out(account, self._end, self._as_of)
        listed = finance.listed_payouts(self._tx, account, self._as_of)
        named = {each.paid_by for each in sums if each.paid_by is not None}
        counted = frozenset(payout for payout in made & (named | set(listed)) if listed.get(payout, True))
        self._counted[account] = counted
        members: dict[str, dict[str, Composition]] = defaultdict(dict)
        left: dict[tuple[BalanceKey, str], UnsettledSum] = {}
        for each in sums:
            if each.paid_by in counted and each.paid_by is not None:
                if each.pays != each.paid_by:
                    before = members[each.paid_by].get(each.key.currency, Composition(each.key.currency, 0, 0))
                    members[each.paid_by][each.key.currency] = replace(
                        before, found=before.found + each.count, net=before.net + each.net
                    )
            elif each.pays not in counted:
                place = (each.key, each.category)
                rest = left.get(place, UnsettledSum(each.key, each.category, 0, 0))
                left[place] = replace(rest, count=rest.count + each.count, net=rest.net + each.net)
        self.compositions |= {(account, payout): tuple(some.values()) for payout, some in members.items()}
        self.unsettled += [left[place] for place in sorted(left)]

    def items(self, limit: int) -> Iterator[EntryFact]:
        """The newest items of each balance."""
        counts: dict[BalanceKey, int] = defaultdict(int)
        for each in self.unsettled:
            if each.category != PAYOUT:
                counts[each.key] += each.count
        for key, count in sorted(counts.items()):
            yield from finance.unsettled(
                self._tx, key, self._counted[key.account], self._end, self._as_of, count=count, limit=limit
            )
