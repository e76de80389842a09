"""H and V: what was looked at through when, and what may be said of each currency. No evidence is never "balanced"."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from statistics import median_high, median_low

from reconciler.ledger.coverage import Coverage
from reconciler.ledger.uncaused import UnreadCause
from reconciler.model import ResourceRef
from reconciler.report.facts import STREAM, Facts
from reconciler.report.matching import Flow
from reconciler.report.model import (
    Amount,
    BalanceBlock,
    CoverageLine,
    Kpis,
    OpenItem,
    Plane,
    Standing,
    Verdict,
)
from reconciler.report.scope import Scope, scaled

NAMED = 5
"""Resources that one gap names."""
_TENTH = Decimal("0.1")
_NOTHING = Decimal("0.0")
_NOT_ALL = Decimal("99.9")
"""What is shown at most while anything is left over."""
_MATCHED = frozenset({"matched", "matched_tol"})


# --- coverage -------------------------------------------------------------------------------------


def coverage(scope: Scope, facts: Facts) -> tuple[CoverageLine, ...]:
    """Every stream that an account's proof needs, and every other one that was looked at."""
    required = {(term.name, stream) for term in facts.terms for stream in term.finance.streams}
    required |= {(each.account, each.kind) for each in facts.unreadable}
    moved = {term.name for term in facts.terms if STREAM in term.finance.kinds}
    required |= {(each.key.account, STREAM) for each in facts.balances if each.key.account in moved}
    seen = {(each.account, each.kind) for each in facts.coverage} | set(facts.covered_since)
    return tuple(
        _line(scope, facts, account, stream, required=(account, stream) in required)
        for account, stream in sorted(required | {each for each in seen if each[0] in scope.terms})
    )


def _line(scope: Scope, facts: Facts, account: str, stream: str, *, required: bool) -> CoverageLine:
    windows = [each for each in facts.coverage if (each.account, each.kind) == (account, stream)]
    through, holes = _through(scope, windows)
    gaps = [f"{_shown(since)} to {_shown(until)}" for since, until in holes]
    if through is None:
        ever = (account, stream) in facts.covered_since
        gaps.append("not looked at since the period began" if ever else "never looked at")
    elif through < scope.end:
        gaps.append(f"after {_shown(through)}")
    reasons = sorted({each.reason for each in windows if not each.complete and each.reason})
    complete = through is not None and through >= scope.end and not holes
    broken = [str(each) for each in facts.unreadable if (each.account, each.kind) == (account, stream)]
    if broken:
        complete = False
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        gaps.append(f"cannot be read: {', '.join(broken[:NAMED])}{more}")
    return CoverageLine(account, stream, required, through, complete, (*gaps, *(() if complete else reasons)))


def _through(scope: Scope, windows: Sequence[Coverage]) -> tuple[datetime | None, list[tuple[datetime, datetime]]]:
    """How far complete windows reach, and the holes inside the period: before the first of them, and between them."""
    complete = sorted((each.window for each in windows if each.complete), key=lambda window: window.since)
    reached, holes = scope.start, []
    for window in complete:
        holes.append((reached, min(window.since, scope.end)))
        reached = max(reached, window.until)
    through = max((window.until for window in complete), default=None)
    return through, [(since, until) for since, until in holes if since < until]


def uncaused(scope: Scope, facts: Facts) -> dict[str, list[str]]:
    """By currency: money of the period of which nobody ever read what moved it. Lists that were read to their end do
    not answer for it: it exists, and they did not show it."""
    said: dict[str, list[str]] = defaultdict(list)
    for each in _causes(facts, gone=False):
        said[each.currency].append(
            f"{each.account}: {each.count} {each.kind}(s) that entries name were never read: {_sources(scope, each)};"
            " `reconcile mark` them, or read them with `reconcile --since`"
        )
    return said


def disowned(scope: Scope, facts: Facts) -> list[str]:
    """Money of the period that a provider booked for what it says does not exist. It was looked at, so that this is no
    gap in the proof; but nobody else would say so where nothing else is matched with it."""
    return [
        f"{each.account}: {each.count} {each.kind}(s) that {each.currency} entries name do not exist (any more), as the"
        f" provider says: {_sources(scope, each)}; ask it what that money was"
        for each in _causes(facts, gone=True)
        if scope.holds(each.currency)
    ]


def _causes(facts: Facts, *, gone: bool) -> list[UnreadCause]:
    return sorted((each for each in facts.unread if each.gone is gone), key=lambda each: (each.account, each.kind))


def _sources(scope: Scope, cause: UnreadCause) -> str:
    provider = scope.terms[cause.account].provider
    named = [str(ResourceRef(provider, cause.account, cause.kind, source)) for source in cause.sources[:NAMED]]
    more = f" and {cause.count - len(named)} more" if cause.count > len(named) else ""
    return ", ".join(named) + more


def watermark(lines: Sequence[CoverageLine]) -> datetime | None:
    """Through when everything required was looked at."""
    reached = [line.through for line in lines if line.required]
    if not reached or any(each is None for each in reached):
        return None
    return min(each for each in reached if each is not None)


def _shown(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


# --- verdicts -------------------------------------------------------------------------------------


def verdicts(
    scope: Scope,
    covered: Sequence[CoverageLine],
    blocks: Sequence[BalanceBlock],
    flows: Sequence[Flow],
    breaks: Sequence[OpenItem],
    timing: Sequence[OpenItem],
    others: Sequence[str],
    unseen: Mapping[str, Sequence[str]],
) -> tuple[Verdict, ...]:
    """One for each currency that anything in the report speaks of; `others` are currencies named elsewhere, and
    `unseen` says by currency what was not looked at besides streams."""
    currencies = (
        {block.currency for block in blocks}
        | {flow.currency for flow in flows}
        | {side for each in (*breaks, *timing) for side in (each.currency, each.right_amount.currency)}
        | set(others)
    )
    gaps = [
        f"{line.account}: {line.stream} was not looked at completely ({'; '.join(line.gaps)})"
        for line in covered
        if line.required and not line.complete
    ]
    known = _entries_known(covered)
    return tuple(
        _verdict(
            scope,
            currency,
            [*gaps, *unseen.get(currency, ())],
            [block for block in blocks if block.currency == currency],
            [flow for flow in flows if flow.currency == currency],
            [each for each in breaks if each.currency == currency],
            [each for each in timing if each.currency == currency],
            [each for each in breaks if each.currency != currency == each.right_amount.currency],
            known,
        )
        for currency in sorted(currencies)
        if scope.holds(currency)
    )


def notes(covered: Sequence[CoverageLine], blocks: Sequence[BalanceBlock]) -> list[str]:
    """Of balances that were rolled back through a time of which not all entries are known, whatever they come to."""
    known = _entries_known(covered)
    return [_unread_until(block) for block in blocks if _is_beyond(block, known)]


def _unread_until(block: BalanceBlock) -> str:
    assert block.provider_as_at is not None, "it was rolled back from there"
    return (
        f"{block.account}: the provider's {block.currency} {block.balance_type} balance was read at"
        f" {_shown(block.provider_as_at)}, and the entries until then were not all looked at"
    )


def _is_beyond(block: BalanceBlock, known: Mapping[str, datetime]) -> bool:
    """Where none is known at all, the coverage says so itself."""
    at = block.provider_as_at
    return at is not None and block.account in known and at > known[block.account]


def _entries_known(covered: Sequence[CoverageLine]) -> dict[str, datetime]:
    """Through when each account's entries were looked at."""
    return {line.account: line.through for line in covered if line.stream == STREAM and line.through is not None}


def _verdict(
    scope: Scope,
    currency: str,
    gaps: Sequence[str],
    blocks: Sequence[BalanceBlock],
    flows: Sequence[Flow],
    breaks: Sequence[OpenItem],
    timing: Sequence[OpenItem],
    abroad: Sequence[OpenItem],
    known: Mapping[str, datetime],
) -> Verdict:
    """`known`: through when each account's entries were looked at. `abroad`: breaks of another currency whose
    processor's side is in this one."""
    missing = [
        f"{block.account}: the provider's {block.balance_type} balance at the cut-off is missing"
        for block in blocks
        if block.provider_basis == "missing"
    ]
    missing += [
        _unread_until(block)
        for block in blocks
        if _is_beyond(block, known) and (unexplained := block.line("unexplained").net) and unexplained.minor
    ]
    kpis = _kpis(scope, currency, blocks, flows, breaks, timing)
    unproven = [*gaps, *missing]
    found = _break_reasons(scope, blocks, breaks, kpis)
    if any(abs(each.right_amount.minor) >= scope.params.rules.item_materiality_minor for each in abroad):
        found.append(f"{len(abroad)} payment(s) stand against a sale in another currency")
    if unproven:
        return Verdict(currency, Standing.UNPROVEN, (*unproven, *found), kpis)
    if found:
        return Verdict(currency, Standing.BREAKS, tuple(found), kpis)
    if timing:
        waiting = f"{len(timing)} item(s) wait for a counterpart"
        return Verdict(currency, Standing.BALANCED_WITH_TIMING, (waiting,), kpis)
    return Verdict(currency, Standing.BALANCED, (), kpis)


def _break_reasons(scope: Scope, blocks: Sequence[BalanceBlock], breaks: Sequence[OpenItem], kpis: Kpis) -> list[str]:
    rules = scope.params.rules
    reasons = []
    for block in blocks:
        unexplained = block.line("unexplained").net
        if unexplained is not None and abs(unexplained.minor) > rules.tolerance_minor:
            reasons.append(
                f"{block.account}: {unexplained.text} {block.currency} of the {block.balance_type} balance"
                " are unexplained"
            )
    others = [each for each in breaks if each.plane is not Plane.BALANCE]
    material = [each for each in others if abs(each.difference.minor) >= rules.item_materiality_minor]
    if material:
        reasons.append(f"{len(material)} open break(s) of at least the item materiality")
    elif others and kpis.open_value.minor >= rules.aggregate_materiality_minor:
        reasons.append(f"{len(others)} open break(s) together reach the aggregate materiality")
    return reasons


def _kpis(
    scope: Scope,
    currency: str,
    blocks: Sequence[BalanceBlock],
    flows: Sequence[Flow],
    breaks: Sequence[OpenItem],
    timing: Sequence[OpenItem],
) -> Kpis:
    matched = [flow for flow in flows if flow.code in _MATCHED]
    open_items = [each for each in (*breaks, *timing) if each.plane is Plane.ORDER]
    matched_value = sum(abs(flow.right) for flow in matched)
    open_value = sum(_size(each) for each in open_items)
    count = len(matched) + len(open_items)
    gaps = [flow.gap_days for flow in matched if flow.gap_days is not None]
    return Kpis(
        matched_count=len(matched),
        population_count=count,
        matched_value=scope.amount(matched_value, currency),
        population_value=scope.amount(matched_value + open_value, currency),
        matched_percent=_percent(len(matched), count),
        matched_value_percent=_percent(matched_value, matched_value + open_value),
        verified_value_percent=_verified_percent(scope, currency, blocks),
        open_breaks=len(breaks),
        open_value=scope.amount(sum(_shared(scope, each) for each in breaks), currency),
        oldest_age_days=max((each.age_days for each in breaks), default=None),
        unexplained=_unexplained(scope, currency, blocks),
        median_days_to_clear=(Decimal(median_low(gaps)) + median_high(gaps)) / 2 if gaps else None,
    )


def _size(each: OpenItem) -> int:
    """Of its larger side; a right side in another currency cannot be held against the left one."""
    sides = [side for side in (each.left_amount, each.right_amount) if side.currency == each.currency]
    return max(abs(side.minor) for side in sides)


def _shared(scope: Scope, each: OpenItem) -> int:
    return scaled(abs(each.difference.minor), each.difference.exponent, scope.exponent(each.currency))


def _unexplained(scope: Scope, currency: str, blocks: Sequence[BalanceBlock]) -> Amount | None:
    total = 0
    for block in blocks:
        net = block.line("unexplained").net
        if net is None:
            return None
        total += scaled(net.minor, net.exponent, scope.exponent(currency))
    return scope.amount(total, currency)


def _verified_percent(scope: Scope, currency: str, blocks: Sequence[BalanceBlock]) -> Decimal:
    """Where nothing moved, all of it is verified only if every balance is."""
    verified, moved = _verified(scope, currency, blocks)
    if moved == 0 and any(net is None or net.minor for net in (block.line("unexplained").net for block in blocks)):
        return _NOTHING
    return _percent(verified, moved)


def _verified(scope: Scope, currency: str, blocks: Sequence[BalanceBlock]) -> tuple[int, int]:
    """(verified, moved) over these balances, in the unit that all accounts share."""
    verified = moved = 0
    for block in blocks:
        lines = [line for line in block.lines if line.count is not None and line.code != "prior_period_adjustment"]
        value = sum(
            scaled(abs(line.net.minor), line.net.exponent, scope.exponent(currency)) for line in lines if line.net
        )
        moved += value
        unexplained = block.line("unexplained").net
        if unexplained is not None:
            verified += max(0, value - scaled(abs(unexplained.minor), unexplained.exponent, scope.exponent(currency)))
    return verified, moved


def _percent(part: int, whole: int) -> Decimal:
    if whole == 0:
        return Decimal("100.0")
    rounded = (Decimal(part) * 100 / whole).quantize(_TENTH, ROUND_HALF_UP)
    return min(rounded, _NOT_ALL) if part < whole else rounded


def ages(scope: Scope, breaks: Sequence[OpenItem]) -> Mapping[tuple[str, str, str], tuple[int, int]]:
    """(currency, type, bucket) -> how many, and the sum of their absolute differences."""
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for each in breaks:
        identity = (each.currency, each.type.value, each.bucket)
        count, total = found.get(identity, (0, 0))
        found[identity] = (count + 1, total + _shared(scope, each))
    return found
