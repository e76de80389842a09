"""CHG: what moved since an earlier instant, and which facts moved it. EXC: what became known of a locked period."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.ledger.finance import BalanceKey, EntryChange
from reconciler.report.facts import Facts
from reconciler.report.model import BalanceBlock, Change, LateFact, LineDelta
from reconciler.report.scope import Scope


def changes(scope: Scope, facts: Facts) -> tuple[Change, ...]:
    """One row per entry that is new or has another value; sums up to what the closing moved by."""
    old: dict[tuple[BalanceKey, str], EntryChange] = {}
    new: dict[tuple[BalanceKey, str], EntryChange] = {}
    for each in facts.changed:
        (old if each.gone else new)[each.key, each.id] = each
    found = []
    for identity in sorted({*old, *new}):
        before, after = old.get(identity), new.get(identity)
        shown = after or before
        if shown is None or not scope.holds(identity[0].currency):
            continue
        key = identity[0]
        moved = (after.net if after else 0) - (before.net if before else 0)
        found.append(
            Change(
                account=key.account,
                balance_type=key.balance_type,
                currency=key.currency,
                id=shown.id,
                effective_at=shown.effective_at,
                recorded_at=shown.recorded_at,
                source=shown.source,
                old=None if before is None else scope.balance(before.net, key),
                new=None if after is None else scope.balance(after.net, key),
                net=scope.balance(moved, key),
            )
        )
    return tuple(found)


def line_deltas(before: Sequence[BalanceBlock], after: Sequence[BalanceBlock]) -> tuple[LineDelta, ...]:
    """Lines of the balance proof whose net is another one than at the compared instant."""
    old = {(block.account, block.balance_type, block.currency, line.code): line.net
           for block in before for line in block.lines}  # fmt: skip
    new = {(block.account, block.balance_type, block.currency, line.code): line.net
           for block in after for line in block.lines}  # fmt: skip
    return tuple(
        LineDelta(*identity, before=old.get(identity), after=new.get(identity))
        for identity in sorted({*old, *new})
        if old.get(identity) != new.get(identity)
    )


def exceptions(scope: Scope, facts: Facts) -> tuple[LateFact, ...]:
    return tuple(
        LateFact(
            account=lock.account,
            period_from=lock.from_day,
            period_to=lock.to_day,
            locked_as_of=lock.as_of,
            id=each.id,
            effective_at=each.effective_at,
            recorded_at=each.recorded_at,
            source=each.source,
            net=scope.balance(-each.net if each.gone else each.net, each.key),
        )
        for lock, each in facts.exceptions
        if scope.holds(each.key.currency)
    )
