"""FEE: what the provider charged against what the contract says, entry by entry, for category `charge` only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import orjson

from reconciler.ledger.finance import EntryFact
from reconciler.report.facts import ChargedFee, Facts, FeeFacts
from reconciler.report.model import BreakType, FeeDetail, FeeException, FeeRule, FeeSection, OpenItem, Plane
from reconciler.report.scope import Scope, half_up
from reconciler.report.work import item

CATEGORY = "charge"
_HUNDREDTH = Decimal("0.01")


@dataclass(slots=True)
class _Sum:
    expected: int = 0
    actual: int = 0
    gross: int = 0
    exceptions: list[ChargedFee] = field(default_factory=list)
    details: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))


def expected_fee(rule: FeeRule, gross: int, country: str | None) -> int:
    """round_half_up(gross x bps / 10000) + fixed; with the surcharge where the card is known to be foreign."""
    abroad = bool(rule.home_country) and country is not None and country != rule.home_country
    bps = rule.bps + (rule.international_bps if abroad else 0)
    return half_up(Decimal(gross * bps) / 10000) + rule.fixed_minor


def fold(
    entries: Iterable[EntryFact], rules: Sequence[FeeRule], country_of: Callable[[str, str | None], str | None]
) -> tuple[FeeFacts, ...]:
    """One pass over a period's charges, however many: only what disagrees is kept.

    `country_of` takes an account and a charge's id.
    """
    by_scope = {(rule.account, rule.currency): rule for rule in rules if rule.category == CATEGORY}
    sums: dict[tuple[str, str], _Sum] = defaultdict(_Sum)
    for entry in entries:
        account, currency = entry.key.account, entry.key.currency
        total = sums[account, currency]
        for detail in orjson.loads(entry.fee_details):
            counted = total.details[str(detail.get("type"))]
            counted[0] += 1
            counted[1] += int(detail.get("amount") or 0)
        rule = by_scope.get((account, currency))
        total.actual += entry.fee
        total.gross += entry.gross
        if rule is None:
            continue
        due = expected_fee(rule, entry.gross, country_of(account, entry.source_id))
        total.expected += due
        if due != entry.fee:
            total.exceptions.append(
                ChargedFee(account, entry.id, entry.source_id, currency, entry.effective_at, due, entry.fee)
            )
    return tuple(
        FeeFacts(
            account,
            currency,
            (account, currency) in by_scope,
            total.expected,
            total.actual,
            total.gross,
            tuple(total.exceptions),
            tuple((name, count, minor) for name, (count, minor) in sorted(total.details.items())),
        )
        for (account, currency), total in sorted(sums.items())
    )


def sections(scope: Scope, facts: Facts) -> dict[str, FeeSection]:
    by_currency: dict[str, list[FeeFacts]] = defaultdict(list)
    for each in facts.fees:
        if scope.holds(each.currency):
            by_currency[each.currency].append(each)
    return {currency: _section(scope, currency, some) for currency, some in sorted(by_currency.items())}


def _section(scope: Scope, currency: str, some: Sequence[FeeFacts]) -> FeeSection:
    """Accounts without a rule stay out where another account has one: expected and actual speak of the same entries."""
    ruled = [each for each in some if each.ruled]
    spoken = ruled or list(some)
    expected, actual = sum(each.expected for each in spoken), sum(each.actual for each in spoken)
    gross = sum(each.gross for each in spoken)
    details: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for each in spoken:
        for name, count, minor in each.details:
            details[name][0] += count
            details[name][1] += minor
    rate = (Decimal(actual) * 10000 / gross).quantize(_HUNDREDTH) if gross else None
    return FeeSection(
        currency=currency,
        expected=scope.amount(expected, currency) if ruled else None,
        actual=scope.amount(actual, currency),
        variance=scope.amount(actual - expected, currency) if ruled else None,
        gross=scope.amount(gross, currency),
        effective_bps=rate,
        exceptions=tuple(
            FeeException(
                fee.id,
                scope.own(fee.expected, fee.account, currency),
                scope.own(fee.actual, fee.account, currency),
                scope.own(fee.actual - fee.expected, fee.account, currency),
            )
            for each in spoken
            for fee in sorted(each.exceptions, key=lambda fee: fee.id)
        ),
        details=tuple(
            FeeDetail(name, count, scope.amount(minor, currency)) for name, (count, minor) in sorted(details.items())
        ),
    )


def fee_breaks(scope: Scope, facts: Facts) -> list[OpenItem]:
    return [
        item(
            scope,
            type_=BreakType.FEE_DIFF,
            plane=Plane.OBJECT,
            account=fee.account,
            left=fee.source_id or "",
            right=fee.id,
            left_amount=scope.own(fee.expected, fee.account, fee.currency),
            right_amount=scope.own(fee.actual, fee.account, fee.currency),
            since=fee.effective_at,
            cut=scope.end,
            difference=scope.own(fee.actual - fee.expected, fee.account, fee.currency),
        )
        for each in facts.fees
        if each.ruled and scope.holds(each.currency)
        for fee in each.exceptions
    ]
