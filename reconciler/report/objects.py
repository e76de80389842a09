"""P5: every charge, refund and dispute against the entries that it caused. FX: the rates those were booked at.

Sign rule of the plane: difference = actual (the entries) - expected (the object).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from reconciler.ledger.finance import EntryFact
from reconciler.movements import Condition, Movement, Role
from reconciler.report.facts import Facts
from reconciler.report.linking import REVERSAL, right_time
from reconciler.report.model import Amount, BreakType, FxException, FxResult, FxSection, OpenItem, Plane
from reconciler.report.scope import Scope, half_up
from reconciler.report.work import item

_OF_CHARGE = frozenset({"charge", "charge_failure", REVERSAL})
_OF_REFUND = frozenset({"refund", "refund_failure", REVERSAL})
_OF_DISPUTE = frozenset({"dispute", "dispute_reversal"})
_ROUNDING = 1
"""A settlement amount may be off by one minor unit: the rate has more digits than the provider prints."""


@dataclass(frozen=True, slots=True)
class ObjectFindings:
    breaks: tuple[OpenItem, ...]
    timing: tuple[OpenItem, ...]
    fx: FxSection


class _Books:
    """The entries of each thing, reversals of a partial capture counted with their charge."""

    def __init__(self, scope: Scope, facts: Facts) -> None:
        self._facts = facts
        self._end = scope.end
        self._reversals: dict[str, list[EntryFact]] = defaultdict(list)
        for movement in facts.movements:
            if movement.role is Role.REFUND and movement.parent:
                self._reversals[movement.parent] += self._own(movement, frozenset({REVERSAL}))

    def _own(self, movement: Movement, categories: frozenset[str]) -> list[EntryFact]:
        return [entry for entry in self.all_of(movement) if entry.category in categories]

    def of(self, movement: Movement) -> list[EntryFact]:
        """Those before the end."""
        return [entry for entry in self._ever(movement) if entry.effective_at < self._end]

    def closes(self, movement: Movement, gap: Amount) -> datetime | None:
        """When entries from after the end, which are known, have made good for a gap; None where they do not.

        Abroad each comes at the rate of its day, so that what comes the other way is all that can be asked of it.
        """
        later = [entry for entry in self._ever(movement) if entry.effective_at >= self._end]
        if {entry.key.currency for entry in later} != {gap.currency}:
            return None
        made_good = sum(entry.gross for entry in later)
        whole = made_good == -gap.minor if gap.currency == movement.amount.currency else made_good * gap.minor < 0
        return later[-1].effective_at if whole else None

    def _ever(self, movement: Movement) -> list[EntryFact]:
        match movement.role:
            case Role.CHARGE:
                found = self._own(movement, _OF_CHARGE) + self._reversals[movement.ref.id]
            case Role.REFUND:
                found = self._own(movement, _OF_REFUND)
            case Role.DISPUTE:
                found = self._own(movement, _OF_DISPUTE)
            case _:
                found = []
        return sorted(found, key=lambda entry: (entry.effective_at, entry.id))

    def all_of(self, movement: Movement) -> tuple[EntryFact, ...]:
        return self._facts.entries.get((movement.ref.account, movement.ref.id), ())


def examine(scope: Scope, facts: Facts) -> ObjectFindings:
    books = _Books(scope, facts)
    breaks: list[OpenItem] = []
    timing: list[OpenItem] = []
    exceptions: list[tuple[Movement, FxException, datetime]] = []
    for movement, expected, since in _expectations(scope, facts, books):
        entries = books.of(movement)
        currencies = {entry.key.currency for entry in entries} or {movement.amount.currency}
        if currencies == {movement.amount.currency} or _is_one_way(entries, expected):
            (currency,) = currencies
            found = _difference(scope, movement, entries, expected, since, currency)
            if found.difference.minor:
                closes = books.closes(movement, found.difference)
                if closes is not None:
                    found = replace(found, clears_on=scope.day_of(closes), suggestion=None)
                young = not entries and found.age_days <= scope.params.rules.grace_days
                (timing if young or closes is not None else breaks).append(found)
            continue
        exceptions += [
            (movement, each, since)
            for each in _rate_faults(scope, facts, movement, entries)
            if _in_period(scope, entries)
        ]
    breaks += [_fx_break(scope, movement, each, since) for movement, each, since in exceptions]
    return ObjectFindings(
        breaks=tuple(breaks),
        timing=tuple(timing),
        fx=FxSection(
            results=tuple(sorted(_results(scope, facts, books), key=lambda each: (each.refund, each.amount.currency))),
            exceptions=tuple(sorted((each for _, each, _ in exceptions), key=lambda each: each.id)),
        ),
    )


def _expectations(scope: Scope, facts: Facts, books: _Books) -> Iterator[tuple[Movement, int, datetime]]:
    """(thing, what its entries should add up to, since when). Pending things promise nothing yet."""
    for movement in facts.movements:
        if movement.role not in (Role.CHARGE, Role.REFUND) or movement.gateway is not None:
            continue
        entries = books.all_of(movement)
        since = right_time(movement, entries)
        if since >= scope.end:
            continue
        if movement.condition is Condition.SETTLED:
            reversal = movement.role is Role.REFUND and any(
                entry.id == movement.entry_id and entry.category == REVERSAL for entry in entries
            )
            if not reversal:
                yield movement, movement.amount.minor, since
        elif movement.condition is Condition.FAILED:
            booked = [entry.effective_at for entry in entries if entry.effective_at < scope.end]
            yield movement, 0, max(booked, default=since)
    for dispute in facts.disputes:
        movement = dispute.movement
        if movement.condition is Condition.WON:
            yield movement, 0, max(movement.occurred_at, dispute.since)
        elif movement.condition is Condition.LOST:
            yield movement, movement.amount.minor, max(movement.occurred_at, dispute.since)


def _is_one_way(entries: Sequence[EntryFact], expected: int) -> bool:
    """Money abroad that should come to nothing, and of which nothing came back: at no rate is that nothing."""
    one_currency = len({entry.key.currency for entry in entries}) == 1
    return expected == 0 and one_currency and len({entry.gross > 0 for entry in entries}) == 1


def _difference(
    scope: Scope, movement: Movement, entries: Sequence[EntryFact], expected: int, since: datetime, currency: str
) -> OpenItem:
    account = movement.ref.account
    actual = sum(entry.gross for entry in entries)
    return item(
        scope,
        type_=BreakType.OBJECT_DIFF,
        plane=Plane.OBJECT,
        account=account,
        left=str(movement.ref),
        right="",
        left_amount=scope.own(expected, account, currency),
        right_amount=scope.own(actual, account, currency),
        since=since,
        cut=scope.end,
        difference=scope.own(actual - expected, account, currency),
        suggestion=None if entries else "The provider has not booked it yet.",
    )


def _in_period(scope: Scope, entries: Sequence[EntryFact]) -> bool:
    return any(entry.effective_at in scope.period for entry in entries)


# --- exchange rates -------------------------------------------------------------------------------


def _rate_faults(scope: Scope, facts: Facts, movement: Movement, entries: Sequence[EntryFact]) -> Iterator[FxException]:
    """|actual - round(presentment x rate)| <= 1. The rate is between amounts in major units."""
    own = [entry for entry in entries if entry.id == movement.entry_id]
    if not own:
        return
    conversion = facts.conversions.get((movement.ref.account, own[0].id))
    if conversion is None or conversion.rate is None:
        return
    account, settled = movement.ref.account, own[0].key.currency
    exponents = scope.terms[account].exponents
    shift = exponents.of(settled) - exponents.of(movement.amount.currency)
    expected = half_up((Decimal(movement.amount.minor) * conversion.rate).scaleb(shift))
    actual = sum(entry.gross for entry in entries if entry.category in (own[0].category, REVERSAL))
    if abs(actual - expected) <= _ROUNDING:
        return
    yield FxException(
        id=own[0].id,
        expected=scope.own(expected, account, settled),
        actual=scope.own(actual, account, settled),
        difference=scope.own(actual - expected, account, settled),
        presentment=scope.own(movement.amount.minor, account, movement.amount.currency),
        rate=f"{conversion.rate:f}",
    )


def _fx_break(scope: Scope, movement: Movement, each: FxException, since: datetime) -> OpenItem:
    return item(
        scope,
        type_=BreakType.FX_DIFF,
        plane=Plane.OBJECT,
        account=movement.ref.account,
        left=str(movement.ref),
        right=each.id,
        left_amount=each.expected,
        right_amount=each.actual,
        since=since,
        cut=scope.end,
        difference=each.difference,
    )


def _results(scope: Scope, facts: Facts, books: _Books) -> Iterator[FxResult]:
    """What a refund abroad cost or brought: its settlement + that of the part of the charge that it gave back."""
    charges = {each.ref.id: each for each in facts.movements if each.role is Role.CHARGE}
    for refund in facts.movements:
        if refund.role is not Role.REFUND or refund.condition is not Condition.SETTLED:
            continue
        entries = [entry for entry in books.of(refund) if entry.key.currency != refund.amount.currency]
        charge = charges.get(refund.parent or "")
        if charge is None or not entries or not _in_period(scope, entries) or charge.amount.minor == 0:
            continue
        if charge.amount.currency != refund.amount.currency:
            continue
        settled = entries[0].key.currency
        taken = sum(entry.gross for entry in books.of(charge) if entry.key.currency == settled)
        part = half_up(Decimal(taken) * -refund.amount.minor / charge.amount.minor)
        result = sum(entry.gross for entry in entries) + part
        yield FxResult(refund.ref.id, charge.ref.id, scope.own(result, refund.ref.account, settled))
