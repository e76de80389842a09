"""DIS: what is contested, what it may cost, and what the disputes that closed did cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from reconciler.movements import Condition
from reconciler.report.facts import Facts
from reconciler.report.model import DisputeSection
from reconciler.report.scope import Scope


@dataclass(slots=True)
class _Sum:
    open: int = 0
    won: int = 0
    lost: int = 0
    at_risk: int = 0
    cost: int = 0


def sections(scope: Scope, facts: Facts) -> dict[str, DisputeSection]:
    """By the dispute's currency; costs by the currency that they were booked in. An inquiry moves nothing."""
    sums: dict[str, _Sum] = defaultdict(_Sum)
    for dispute in facts.disputes:
        movement = dispute.movement
        total = sums[movement.amount.currency]
        if movement.condition is Condition.OPEN:
            total.open += 1
            total.at_risk -= scope.shared(movement.ref.account, movement.amount)
            continue
        if movement.condition not in (Condition.WON, Condition.LOST) or dispute.since not in scope.period:
            continue
        if movement.condition is Condition.WON:
            total.won += 1
        else:
            total.lost += 1
        for entry in facts.entries.get((movement.ref.account, movement.ref.id), ()):
            if entry.effective_at < scope.end:
                cost = scope.own(entry.net, movement.ref.account, entry.key.currency)
                finer = scope.exponent(cost.currency) - cost.exponent
                sums[cost.currency].cost += cost.minor * 10**finer
    return {
        currency: DisputeSection(
            currency,
            total.open,
            total.won,
            total.lost,
            at_risk=scope.amount(total.at_risk, currency),
            net_cost=scope.amount(total.cost, currency),
        )
        for currency, total in sorted(sums.items())
        if scope.holds(currency) and (total.open or total.won or total.lost or total.cost)
    }


def unseen(scope: Scope, facts: Facts) -> list[str]:
    """What the reader of the section must know that its figures do not say."""
    counts = Counter(each.ref.account for each in facts.unseen_disputes if scope.holds(each.amount.currency))
    return [
        f"{account}: {count} dispute(s) that began before the end were first read after it. How they stood then was"
        " never recorded, so the disputes section leaves them out."
        for account, count in sorted(counts.items())
    ]
