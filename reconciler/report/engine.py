"""`report(facts, params)`: the whole report from plain values. Pure: the same facts give the same bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import chain

from reconciler.ledger.finance import BalanceKey, DaySum
from reconciler.movements import is_published
from reconciler.report import balance, changes, commercial, disputes, fees, objects, payouts, proof, sales
from reconciler.report.bank import BankMatch
from reconciler.report.canonical import identified
from reconciler.report.facts import BalanceFacts, Facts
from reconciler.report.matching import Matching
from reconciler.report.model import (
    BUCKETS,
    AgeLine,
    BalanceBlock,
    BreakType,
    FxSection,
    Header,
    LineDelta,
    OpenItem,
    Params,
    Plane,
    Report,
)
from reconciler.report.scope import Scope
from reconciler.report.work import Worklist, break_id, item


def report(facts: Facts, params: Params) -> Report:
    """Raises UsageError for a time zone or a period that does not exist."""
    scope = Scope.of(params, facts)
    worklist = Worklist(facts.events)
    sums = balance.sums_by_balance(facts)
    balances = [each for each in facts.balances if scope.holds(each.key.currency)]
    blocks, balance_breaks = _balances(scope, facts, balances, sums, worklist)

    matching = Matching(scope, facts)
    now = matching.at(scope.end, since=scope.start)
    before = matching.at(scope.start, since=scope.start)
    flows = commercial.flows_of_period(scope, now)
    bank = BankMatch(scope, facts)
    paid = [line for line in payouts.payouts(scope, facts, bank) if scope.holds(line.amount.currency)]
    examined = objects.examine(scope, facts)

    found = [
        *balance_breaks,
        *payouts.payout_breaks(scope, paid),
        *now.breaks,
        *examined.breaks,
        *fees.fee_breaks(scope, facts),
        *bank.breaks(),
    ]
    breaks, resolved = worklist.sort(_in_scope(scope, found))
    timing, timing_resolved = worklist.sort(_in_scope(scope, [*now.timing, *examined.timing]))
    resolved += timing_resolved
    opened, _ = worklist.sort(_in_scope(scope, [*before.breaks, *before.timing]))
    closings = [
        (each.key, balance.closing(each, sums.get(each.key, [])), each.base) for each in balances if each.has_entries
    ]
    unsettled, unsettled_totals = payouts.unsettled(scope, facts, closings)
    covered = proof.coverage(scope, facts)
    sold = sales.blocks(scope, facts)
    unseen = _unseen(scope, bank.unseen(), proof.uncaused(scope, facts))
    return identified(
        Report(
            report_id="",
            params=params,
            header=_header(
                scope,
                facts,
                proof.watermark(covered),
                [
                    *payouts.unlisted(paid),
                    *proof.notes(covered, blocks),
                    *chain.from_iterable(unseen.values()),
                    *proof.disowned(scope, facts),
                    *sales.uncounted(sold),
                ],
            ),
            verdicts=proof.verdicts(
                scope, covered, blocks, flows, breaks, timing, [line.amount.currency for line in paid], unseen
            ),
            coverage=covered,
            balance=tuple(blocks),
            unsettled=tuple(unsettled),
            unsettled_totals=tuple(unsettled_totals),
            payouts=tuple(paid),
            bank=tuple(each for each in bank.rows() if scope.holds(each.amount.currency)),
            match_lines=commercial.lines(scope, flows, breaks, timing, resolved, now),
            pairs=commercial.pairs(flows),
            breaks=_ordered(breaks),
            timing=_ordered(timing),
            resolved=tuple(sorted(resolved, key=lambda each: _order(each.item))),
            open_items=commercial.open_totals(scope, [*breaks, *timing]),
            roll_forward=commercial.roll_forward(scope, opened, [*breaks, *timing]),
            ages=_ages(scope, breaks),
            fees=fees.sections(scope, facts),
            fx=_fx(scope, examined),
            disputes=disputes.sections(scope, facts),
            changes=changes.changes(scope, facts),
            line_deltas=_deltas(scope, facts, blocks, worklist),
            exceptions=changes.exceptions(scope, facts),
            sales=sold,
        )
    )


def _unseen(scope: Scope, *said: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """By currency what was not looked at, besides streams."""
    currencies = sorted({currency for each in said for currency in each if scope.holds(currency)})
    return {currency: [*chain.from_iterable(each.get(currency, ()) for each in said)] for currency in currencies}


def _balances(
    scope: Scope,
    facts: Facts,
    balances: Sequence[BalanceFacts],
    sums: dict[BalanceKey, list[DaySum]],
    worklist: Worklist,
) -> tuple[list[BalanceBlock], list[OpenItem]]:
    """P1: difference = provider - computed; what people accepted of it is explained.

    An acceptance holds as a whole: of a difference that has become smaller nobody said what is left.
    """
    blocks, breaks = [], []
    for each in balances:
        key, own = each.key, sums.get(each.key, [])
        gap = balance.difference(each, own)
        explained = 0
        if gap:
            accepted = worklist.accepted(break_id(key.account, Plane.BALANCE, key.balance_type, "", key.currency))
            explained = accepted if 0 < accepted <= gap or gap <= accepted < 0 else 0
            breaks.append(_unexplained(scope, each, own, gap))
        blocks.append(balance.block(scope, facts, each, own, explained))
    kept = [each for each in breaks if abs(each.difference.minor) > scope.params.rules.tolerance_minor]
    return blocks, kept + [found for each in balances for found in _unclassified(scope, each.key, sums)]


def _unclassified(scope: Scope, key: BalanceKey, sums: dict[BalanceKey, list[DaySum]]) -> Iterator[OpenItem]:
    """The period's money of each category that the provider does not publish. It explains nothing and hides nothing."""
    published = scope.terms[key.account].finance.categories
    days: dict[str, list[DaySum]] = defaultdict(list)
    for each in sums.get(key, ()):
        if not is_published(each.category, published):
            days[each.category].append(each)
    for category, some in sorted(days.items()):
        net = scope.balance(sum(each.net for each in some), key)
        yield item(
            scope,
            type_=BreakType.UNCLASSIFIED_CATEGORY,
            plane=Plane.BALANCE,
            account=key.account,
            left=key.balance_type,
            right=category,
            left_amount=scope.balance(0, key),
            right_amount=net,
            since=scope.period.calendar.begins(scope.period.days[min(each.day for each in some)]),
            cut=scope.end,
            difference=net,
            suggestion="The provider publishes no such category: find out what it is and where it is booked.",
        )


def _unexplained(scope: Scope, facts: BalanceFacts, sums: Sequence[DaySum], gap: int) -> OpenItem:
    key = facts.key
    computed = balance.closing(facts, sums)
    return item(
        scope,
        type_=BreakType.BALANCE_UNEXPLAINED,
        plane=Plane.BALANCE,
        account=key.account,
        left=key.balance_type,
        right="",
        left_amount=scope.balance(computed + gap, key),
        right_amount=scope.balance(computed, key),
        since=scope.period.calendar.begins(_last_day(scope)),
        cut=scope.end,
        difference=scope.balance(gap, key),
    )


def _last_day(scope: Scope) -> date:
    return scope.period.days[-1]


def _in_scope(scope: Scope, items: Sequence[OpenItem]) -> list[OpenItem]:
    """With those of which only the processor's side is in the currency that was asked about."""
    return [each for each in items if scope.holds(each.currency) or scope.holds(each.right_amount.currency)]


def _order(each: OpenItem) -> tuple[str, str, str, str, str]:
    return each.plane.value, each.type.value, each.currency, each.left, each.right


def _ordered(items: Sequence[OpenItem]) -> tuple[OpenItem, ...]:
    return tuple(sorted(items, key=_order))


def _ages(scope: Scope, breaks: Sequence[OpenItem]) -> tuple[AgeLine, ...]:
    found = proof.ages(scope, breaks)
    order = sorted(found, key=lambda each: (each[0], each[1], BUCKETS.index(each[2])))
    return tuple(
        AgeLine(currency, BreakType(type_), bucket, count, scope.amount(total, currency))
        for currency, type_, bucket in order
        if scope.holds(currency)
        for count, total in (found[currency, type_, bucket],)
    )


def _fx(scope: Scope, examined: objects.ObjectFindings) -> FxSection:
    return FxSection(
        tuple(each for each in examined.fx.results if scope.holds(each.amount.currency)),
        tuple(each for each in examined.fx.exceptions if scope.holds(each.actual.currency)),
    )


def _deltas(scope: Scope, facts: Facts, blocks: Sequence[BalanceBlock], worklist: Worklist) -> tuple[LineDelta, ...]:
    if facts.compared is None:
        return ()
    earlier = [each for each in facts.compared.balances if scope.holds(each.key.currency)]
    before, _ = _balances(scope, facts.compared, earlier, balance.sums_by_balance(facts.compared), worklist)
    return changes.line_deltas(before, blocks)


def _header(scope: Scope, facts: Facts, watermark: datetime | None, noted: Sequence[str]) -> Header:
    notes = [*noted]
    if not any(term.finance.sells for term in facts.terms):
        notes.append("No shop is in this report, so the processor's movements are not matched with orders.")
    notes += disputes.unseen(scope, facts)
    calendar = scope.period.calendar
    return Header(
        start=scope.start,
        end=scope.end,
        start_offset=calendar.offset(scope.start),
        end_offset=calendar.offset(scope.end),
        watermark=watermark,
        notes=tuple(notes),
    )
