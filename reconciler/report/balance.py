"""BAL: the roll-forward of each balance, proved against what the provider stated by another path. WAT: its steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from reconciler.ledger.finance import BalanceKey, DaySum, EntryChange
from reconciler.movements import Role
from reconciler.report.facts import BalanceFacts, Facts
from reconciler.report.model import BalanceBlock, BalanceLine, Bar, DayPoint
from reconciler.report.payouts import came_back, own_fee
from reconciler.report.scope import Scope

PAYOUTS = ("payout", "payout_reversal")
_PAYMENTS = "payments"
_STEPS: Mapping[str, str] = {
    "charge": "charges",
    "charge_failure": "charges",
    "partial_capture_reversal": "charges",
    "refund": "refunds",
    "refund_failure": "refunds",
    "dispute": "disputes",
    "dispute_reversal": "disputes",
    "fee": "fees",
    "network_cost": "fees",
}
"""Which bar of the waterfall a category belongs to; every other one is `other`, in sight and never dropped."""
_BARS = ("charges", "refunds", "disputes", "fees", "other", "payouts")


def closing(facts: BalanceFacts, sums: Sequence[DaySum]) -> int:
    """What the balance holds at the end, by our entries: the same under either policy."""
    return facts.base + facts.before_start + sum(each.net for each in sums)


def sums_by_balance(facts: Facts) -> dict[BalanceKey, list[DaySum]]:
    grouped: dict[BalanceKey, list[DaySum]] = defaultdict(list)
    for each in facts.day_sums:
        grouped[each.key].append(each)
    return grouped


def difference(facts: BalanceFacts, sums: Sequence[DaySum]) -> int | None:
    """Provider minus computed; None where the provider's word is missing."""
    stated = provider_minor(facts, sums)
    return None if stated is None else stated - closing(facts, sums)


def provider_minor(facts: BalanceFacts, sums: Sequence[DaySum]) -> int | None:
    if facts.provider is not None:
        return facts.provider.minor - facts.rolled_back
    if not facts.has_entries:
        return closing(facts, sums)
    return None


def block(scope: Scope, facts: Facts, balance: BalanceFacts, sums: Sequence[DaySum], explained: int) -> BalanceBlock:
    """`explained` is what people accepted of this balance's difference, in its own minor units."""
    key = balance.key

    def net(code: str, minor: int | None) -> BalanceLine:
        return BalanceLine(code, None, None, None, None if minor is None else scope.balance(minor, key))

    restated = balance.base + balance.before_start
    opening = restated if balance.signed is None else balance.signed
    lines = [net("opening", opening)]
    if balance.signed is not None:
        lines.append(_adjustment(scope, key, facts.late.get(key, ()), restated - balance.signed))
    by_category = _by_category(sums)
    activity: list[BalanceLine] = []
    payouts: list[BalanceLine] = []
    for category, (count, gross, fee, total) in sorted(by_category.items(), key=lambda item: _place(item[0])):
        (payouts if category in PAYOUTS else activity).append(
            BalanceLine(category, count, scope.balance(gross, key), scope.balance(fee, key), scope.balance(total, key))
        )
    paid_out = sum(each.net for each in sums if each.category in PAYOUTS)
    ends = closing(balance, sums)
    stated = provider_minor(balance, sums)
    gap = None if stated is None else stated - ends
    lines += [
        *activity,
        net("net_activity", sum(each.net for each in sums) - paid_out),
        *payouts,
        net("payouts_total", paid_out),
        net("closing", ends),
        net("provider", stated),
        net("difference", gap),
        net("explained", None if gap is None else explained),
        net("unexplained", None if gap is None else gap - explained),
        net("bridge", ends + _on_the_way(scope, facts, key)),
    ]
    return BalanceBlock(
        account=key.account,
        balance_type=key.balance_type,
        currency=key.currency,
        lines=tuple(lines),
        opening_basis="locked" if balance.signed is not None else balance.basis,
        provider_basis=_provider_basis(scope, balance),
        provider_as_at=None if balance.provider is None else balance.provider.as_at,
        waterfall=_waterfall(scope, key, opening, restated - opening, sums),
        days=_days(scope, balance, sums),
        notes=tuple(_notes(scope, balance)),
    )


def _adjustment(scope: Scope, key: BalanceKey, late: Sequence[EntryChange], net: int) -> BalanceLine:
    """Entries that became known after the lock; the net also holds what a changed anchor moved."""
    sign = [(-1 if each.gone else 1, each) for each in late]
    return BalanceLine(
        "prior_period_adjustment",
        len({each.id for each in late}),
        scope.balance(sum(factor * each.gross for factor, each in sign), key),
        scope.balance(sum(factor * each.fee for factor, each in sign), key),
        scope.balance(net, key),
    )


def _by_category(sums: Sequence[DaySum]) -> dict[str, tuple[int, int, int, int]]:
    totals: dict[str, tuple[int, int, int, int]] = {}
    for each in sums:
        count, gross, fee, net = totals.get(each.category, (0, 0, 0, 0))
        totals[each.category] = (count + each.count, gross + each.gross, fee + each.fee, net + each.net)
    return totals


def _place(category: str) -> tuple[int, str]:
    """Charges first, the rest by name."""
    order = ("charge", "refund", "dispute", "dispute_reversal", "fee")
    return (order.index(category) if category in order else len(order)), category


def _on_the_way(scope: Scope, facts: Facts, key: BalanceKey) -> int:
    """Automatic payouts that left our books before the end and the provider's balance report only after it.

    A bank debit is one with a negative amount. What failed and came back before the end is not on its way.
    """
    if key.balance_type != _PAYMENTS:
        return 0
    return sum(
        each.amount.minor + own_fee(scope, facts, each)
        for each in facts.movements
        if each.role is Role.PAYOUT
        and each.automatic
        and each.ref.account == key.account
        and each.amount.currency == key.currency
        and each.occurred_at < scope.end
        and each.arrives_at is not None
        and each.arrives_at >= scope.end
        and not came_back(scope, facts, each)
    )


def _provider_basis(scope: Scope, balance: BalanceFacts) -> str:
    if balance.provider is None:
        return "missing" if balance.has_entries else "no_entries"
    return "at_cut_off" if balance.provider.as_at == scope.end else "rolled_back"


def _notes(scope: Scope, balance: BalanceFacts) -> list[str]:
    notes = []
    if balance.basis == "anchored":
        notes.append(
            f"The opening is anchored: the ledger begins inside this account's history, so what it held before was"
            f" taken from the provider's balance of {_shown(balance.basis_at)}, less the entries until then."
        )
    if not balance.basis_quiet:
        notes.append(f"The opening is uncertain: {_busy(balance.basis_at)}")
    if balance.provider is not None and not balance.provider.quiet:
        notes.append(f"The provider's balance is uncertain: {_busy(balance.provider.as_at)}")
    if balance.basis == "none":
        notes.append("No balance was ever stated by the provider, so the opening counts known entries only.")
    if balance.provider is not None and balance.provider.as_at != scope.end:
        notes.append(
            f"The provider's balance was read at {_shown(balance.provider.as_at)}, after the cut-off, and rolled back"
            f" by the entries in between."
        )
    if balance.provider is None and balance.has_entries:
        notes.append("The provider's balance was not read at or after the cut-off: the closing is not proved.")
    return notes


def _busy(instant: datetime | None) -> str:
    return (
        f"entries are dated in the second of the provider's balance of {_shown(instant)}, which may or may not have"
        " held them, and it was not read in a quieter one close by."
    )


def _shown(instant: datetime | None) -> str:
    return str(instant).replace("+00:00", "Z")


def _waterfall(scope: Scope, key: BalanceKey, opening: int, adjustment: int, sums: Sequence[DaySum]) -> tuple[Bar, ...]:
    steps = dict.fromkeys(_BARS, 0)
    for each in sums:
        step = "payouts" if each.category in PAYOUTS else _STEPS.get(each.category, "other")
        steps[step] += each.gross
        steps["fees"] -= each.fee
    if adjustment:
        steps = {"prior_period_adjustment": adjustment, **steps}
    bars = []
    level = opening
    for code, minor in steps.items():
        bars.append(Bar(code, scope.balance(minor, key), scope.balance(level, key), scope.balance(level + minor, key)))
        level += minor
    return tuple(bars)


def _days(scope: Scope, balance: BalanceFacts, sums: Sequence[DaySum]) -> tuple[DayPoint, ...]:
    moved = [0] * len(scope.period.days)
    for each in sums:
        moved[each.day] += each.net
    stated = dict(balance.day_totals)
    points = []
    level = balance.base + balance.before_start
    for number, day in enumerate(scope.period.days):
        level += moved[number]
        word = stated.get(number)
        points.append(
            DayPoint(
                day,
                scope.balance(level, balance.key),
                None if word is None else scope.balance(word, balance.key),
                None if word is None else scope.balance(word - level, balance.key),
            )
        )
    return tuple(points)
