"""PAY: what each payout paid out, whether that adds up, and where the money is. UNS: what no payout paid out yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from reconciler.ledger.finance import BalanceKey, EntryFact
from reconciler.movements import Condition, Movement, Role
from reconciler.report.bank import BankMatch
from reconciler.report.facts import Composition, Facts
from reconciler.report.model import (
    Amount,
    BreakType,
    OpenItem,
    PayoutLine,
    PayoutState,
    Plane,
    UnsettledLine,
    UnsettledTotal,
)
from reconciler.report.scope import Scope
from reconciler.report.work import item

_OPEN_STATES = frozenset({PayoutState.IN_TRANSIT, PayoutState.DIFF, PayoutState.FAILED_UNRETURNED})
_PAYOUT = "payout"
_RETURN = "payout_reversal"


def payouts(scope: Scope, facts: Facts, bank: BankMatch) -> list[PayoutLine]:
    """Those created in the period, and older ones that were not done with at its end."""
    lines = []
    for movement in facts.movements:
        if movement.role is not Role.PAYOUT or movement.occurred_at >= scope.end:
            continue
        line = _line(scope, facts, bank, movement)
        if movement.occurred_at >= scope.start or line.state in _OPEN_STATES:
            lines.append(line)
    return sorted(lines, key=lambda line: (line.created_at, line.account, line.id))


def _line(scope: Scope, facts: Facts, bank: BankMatch, movement: Movement) -> PayoutLine:
    account, payout_id = movement.ref.account, movement.ref.id
    composition = _composition(facts, movement)
    components = None if composition is None else scope.own(composition.net, account, movement.amount.currency)
    fee = own_fee(scope, facts, movement)
    gap = None if composition is None else movement.amount.minor + fee - composition.net
    line = bank.of(movement.ref)
    return PayoutLine(
        account=account,
        id=payout_id,
        ref=str(movement.ref),
        status=movement.status,
        state=_state(scope, facts, movement, gap),
        amount=scope.own(movement.amount.minor, account, movement.amount.currency),
        fee=scope.own(fee, account, movement.amount.currency),
        components=components,
        difference=None if gap is None else scope.own(gap, account, movement.amount.currency),
        count=None if composition is None else composition.found,
        created_at=movement.occurred_at,
        arrival_on=None if movement.arrives_at is None else movement.arrives_at.date(),
        automatic=movement.automatic,
        direction="bank debit" if movement.amount.minor < 0 else _PAYOUT,
        trace_id=movement.trace,
        bank_line=None if line is None else line.reference,
        bank_difference=None if line is None else line.difference,
        implied_rate=None if line is None else line.implied_rate,
    )


def own_fee(scope: Scope, facts: Facts, movement: Movement) -> int:
    """What the payout's own entry cost: its members come to that and its amount, and the bank sees the amount alone."""
    return sum(
        entry.fee
        for entry in facts.entries.get((movement.ref.account, movement.ref.id), ())
        if (entry.category, entry.key.currency) == (_PAYOUT, movement.amount.currency)
        and entry.effective_at < scope.end
    )


def _composition(facts: Facts, movement: Movement) -> Composition | None:
    """The members in the payout's own currency, if the provider listed them all."""
    for each in facts.compositions.get((movement.ref.account, movement.ref.id), ()):
        if each.currency == movement.amount.currency:
            return each
    return None


def _state(scope: Scope, facts: Facts, movement: Movement, gap: int | None) -> PayoutState:
    if movement.condition is Condition.FAILED:
        returns = _returns(facts, movement)
        if any(at < scope.end for at in returns):
            return PayoutState.FAILED_RETURNED
        if not returns:
            return PayoutState.FAILED_UNRETURNED
        # What brought it back is dated after the end: at the end it was on its way, as far as the books go.
    if gap:
        return PayoutState.DIFF
    if movement.condition is not Condition.SETTLED:
        return PayoutState.IN_TRANSIT
    return PayoutState.NO_COMPOSITION if gap is None else PayoutState.FOOTED


def came_back(scope: Scope, facts: Facts, movement: Movement) -> bool:
    """Whether a payout failed, and its money is back in the balance before the end."""
    return movement.condition is Condition.FAILED and any(at < scope.end for at in _returns(facts, movement))


def _returns(facts: Facts, movement: Movement) -> list[datetime]:
    """When entries brought the money of a payout back."""
    return [
        entry.effective_at
        for entry in facts.entries.get((movement.ref.account, movement.ref.id), ())
        if entry.category == _RETURN or entry.id == movement.return_entry_id
    ]


def unlisted(lines: Sequence[PayoutLine]) -> list[str]:
    """A provider lists what an automatic payout paid out; where nobody read the list, it may foot or not."""
    counts = Counter(line.account for line in lines if line.automatic and line.state is PayoutState.NO_COMPOSITION)
    return [
        f"{account}: of {count} automatic payout(s) it was never read what they paid out, so nobody knows whether they"
        " add up."
        for account, count in sorted(counts.items())
    ]


def payout_breaks(scope: Scope, lines: Sequence[PayoutLine]) -> list[OpenItem]:
    """P2: left is the payout, right its components less what it cost; difference = payout - components."""
    found = []
    for line in lines:
        if line.state is PayoutState.DIFF and line.components is not None:
            paid = replace(line.components, minor=line.components.minor - line.fee.minor)
            found.append(_break(scope, line, BreakType.PAYOUT_DIFF, paid))
        elif line.state is PayoutState.FAILED_UNRETURNED:
            nothing = Amount(0, line.amount.currency, line.amount.exponent)
            found.append(_break(scope, line, BreakType.PAYOUT_FAILED_UNRETURNED, nothing))
    return found


def _break(scope: Scope, line: PayoutLine, type_: BreakType, right: Amount) -> OpenItem:
    return item(
        scope,
        type_=type_,
        plane=Plane.PAYOUT,
        account=line.account,
        left=line.ref,
        right="",
        left_amount=line.amount,
        right_amount=right,
        since=line.created_at,
        cut=scope.end,
    )


# --- not paid out yet -----------------------------------------------------------------------------


def unsettled(
    scope: Scope, facts: Facts, closings: Sequence[tuple[BalanceKey, int, int]]
) -> tuple[list[UnsettledLine], list[UnsettledTotal]]:
    """The second proof. `closings` has, per balance, its closing and what it held before the first known entry.

    The newest items are listed one by one, the rest as one line, so that the list always adds up to the closing.
    """
    lines: list[UnsettledLine] = []
    totals: list[UnsettledTotal] = []
    for key, closing, brought_in in closings:
        listed = [entry for entry in facts.unsettled if entry.key == key]
        sums = [each for each in facts.unsettled_sums if each.key == key]
        manual = [each for each in sums if each.category == _PAYOUT]
        items = [each for each in sums if each.category != _PAYOUT]
        net, count = sum(each.net for each in items), sum(each.count for each in items)
        manual_net = sum(each.net for each in manual)
        lines += [_unsettled(scope, entry) for entry in listed]
        rest = (net - sum(entry.net for entry in listed), count - len(listed))
        for category, minor, number in (
            ("earlier_items", *rest),
            ("manual_payouts", manual_net, sum(each.count for each in manual)),
            ("brought_in", brought_in, 1 if brought_in else 0),
        ):
            if number:
                lines.append(_remainder(scope, key, category, minor, number))
        totals.append(
            UnsettledTotal(
                key.account,
                key.balance_type,
                key.currency,
                items=scope.balance(net, key),
                manual_payouts=scope.balance(manual_net, key),
                brought_in=scope.balance(brought_in, key),
                closing=scope.balance(closing, key),
                difference=scope.balance(closing - net - manual_net - brought_in, key),
            )
        )
    return lines, totals


def _unsettled(scope: Scope, entry: EntryFact) -> UnsettledLine:
    return UnsettledLine(
        account=entry.key.account,
        balance_type=entry.key.balance_type,
        currency=entry.key.currency,
        id=entry.id,
        category=entry.category,
        effective_at=entry.effective_at,
        available_on=entry.available_on,
        count=1,
        net=scope.balance(entry.net, entry.key),
    )


def _remainder(scope: Scope, key: BalanceKey, category: str, minor: int, count: int) -> UnsettledLine:
    return UnsettledLine(
        key.account, key.balance_type, key.currency, "", category, None, None, count, scope.balance(minor, key)
    )
