"""MAT and the roll-forward of open items: the states of the match as lines that add up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from reconciler.report.matching import Flow, Standing
from reconciler.report.model import MatchLine, OpenItem, OpenTotal, Pair, Plane, ResolvedItem, RollForward
from reconciler.report.scope import Scope


def flows_of_period(scope: Scope, standing: Standing) -> list[Flow]:
    return [flow for flow in standing.flows if flow.at >= scope.start and scope.holds(flow.currency)]


def pairs(flows: Iterable[Flow]) -> tuple[Pair, ...]:
    found = [pair for flow in flows for pair in flow.pairs]
    return tuple(sorted(found, key=lambda pair: (pair.plane.value, pair.state, pair.left, pair.right)))


def lines(
    scope: Scope,
    flows: Sequence[Flow],
    breaks: Sequence[OpenItem],
    timing: Sequence[OpenItem],
    resolved: Sequence[ResolvedItem],
    standing: Standing,
) -> tuple[MatchLine, ...]:
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])

    def add(code: str, currency: str, count: int, left: int, right: int) -> None:
        total = totals[code, currency]
        total[0] += count
        total[1] += left
        total[2] += right

    for flow in flows:
        add(flow.code, flow.currency, 1, flow.left, flow.right)
    for code, items in (
        ("timing", timing),
        (None, breaks),
        ("resolved", [each.item for each in resolved]),
    ):
        for each in items:
            if each.plane is Plane.ORDER:
                _add_item(add, code or f"break.{each.type}", each)
    for leg in standing.pending:
        if scope.holds(leg.currency):
            add("pending_memo", leg.currency, 1, leg.minor, 0)
    return tuple(
        MatchLine(
            code,
            currency,
            count,
            scope.amount(left, currency),
            scope.amount(right, currency),
            scope.amount(left - right, currency),
        )
        for (code, currency), (count, left, right) in sorted(totals.items(), key=lambda each: _place(*each[0]))
        if scope.holds(currency)
    )


def _add_item(add: Callable[[str, str, int, int, int], None], code: str, each: OpenItem) -> None:
    if each.left_amount.currency == each.right_amount.currency:
        add(code, each.currency, 1, each.left_amount.minor, each.right_amount.minor)
        return
    add(code, each.left_amount.currency, 1, each.left_amount.minor, 0)
    add(code, each.right_amount.currency, 0, 0, each.right_amount.minor)


_ORDER = ("matched", "matched_tol", "invoice", "timing", "break", "resolved", "auto_resolved", "out_of_scope")


def _place(code: str, currency: str) -> tuple[str, int, str]:
    head = code.partition(".")[0]
    return currency, _ORDER.index(head) if head in _ORDER else len(_ORDER), code


# --- open items -----------------------------------------------------------------------------------


def open_totals(scope: Scope, items: Sequence[OpenItem]) -> tuple[OpenTotal, ...]:
    """TIMING items and breaks of the order match, each one an item, a mismatch too."""
    currencies = sorted({each.currency for each in items if each.plane is Plane.ORDER})
    return tuple(_total(scope, currency, items) for currency in currencies if scope.holds(currency))


def roll_forward(scope: Scope, before: Sequence[OpenItem], after: Sequence[OpenItem]) -> tuple[RollForward, ...]:
    """What was open at the start, came, went, and is open at the end. An item whose amounts changed went and came."""
    opening = {_identity(each): each for each in before if each.plane is Plane.ORDER}
    closing = {_identity(each): each for each in after if each.plane is Plane.ORDER}
    came = [each for identity, each in closing.items() if identity not in opening]
    went = [each for identity, each in opening.items() if identity not in closing]
    currencies = sorted({each.currency for each in (*opening.values(), *closing.values())})
    return tuple(
        RollForward(
            currency,
            opening=_total(scope, currency, list(opening.values())),
            new=_total(scope, currency, came),
            cleared=_total(scope, currency, went),
            closing=_total(scope, currency, list(closing.values())),
        )
        for currency in currencies
        if scope.holds(currency)
    )


def _identity(each: OpenItem) -> tuple[str, int, int]:
    return each.break_id, each.left_amount.minor, each.right_amount.minor


def _total(scope: Scope, currency: str, items: Sequence[OpenItem]) -> OpenTotal:
    """Across currencies only the left side is of this currency; the other side has no sum here."""
    own = [each for each in items if each.plane is Plane.ORDER and each.currency == currency]
    right = sum(each.right_amount.minor for each in own if each.right_amount.currency == currency)
    return OpenTotal(
        currency,
        len(own),
        scope.amount(sum(each.left_amount.minor for each in own), currency),
        scope.amount(right, currency),
    )
