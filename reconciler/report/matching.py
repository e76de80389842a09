"""P3, second half: in which state every leg stands at a cut-off. Exclusive and exhaustive, each leg in exactly one.

Flows (matched, invoice, auto-resolved, out of scope) belong to the period of their later leg; what is open is a stock.
Sign rule: difference = shop - processor; money in to the merchant is positive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from reconciler.ledger import aside
from reconciler.money import Money
from reconciler.movements import Condition, Key, Movement, Role
from reconciler.report.facts import Facts
from reconciler.report.linking import Leg, Link, Linked, legs, link, right_time
from reconciler.report.model import BreakType, OpenItem, Pair, Plane
from reconciler.report.scope import Scope
from reconciler.report.suggesting import Suggestions
from reconciler.report.work import item

_Matched = set[tuple[tuple[Key, str], int, str]]
"""(order link, amount, currency) of everything that is matched."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Legs that are settled with each other, or need no counterpart, at `at`."""

    code: str
    currency: str
    left: int
    right: int
    at: datetime
    pairs: tuple[Pair, ...] = ()
    gap_days: int | None = None
    """Business days between the two legs of a match."""


@dataclass(slots=True)
class Standing:
    """Everything at one cut-off."""

    since: datetime
    flows: list[Flow] = field(default_factory=list)
    """Those whose later leg is not before `since`."""
    breaks: list[OpenItem] = field(default_factory=list)
    timing: list[OpenItem] = field(default_factory=list)
    pending: list[Leg] = field(default_factory=list)


class Matching:
    """The commercial match. Links are made once; states are asked for at any cut-off."""

    def __init__(self, scope: Scope, facts: Facts) -> None:
        self._scope = scope
        self._facts = facts
        self._sells = any(term.finance.sells for term in facts.terms)
        lefts, rights = legs(scope, facts)
        self._linked = link(lefts, rights, facts.movements) if self._sells else Linked((), (), tuple(rights))
        self._invoices = _Invoices(facts.movements)
        self._refunds: dict[str, list[Leg]] = defaultdict(list)
        for leg in self._linked.rights:
            if leg.movement.role is Role.REFUND and leg.movement.parent:
                self._refunds[leg.movement.parent].append(leg)
        self._charges = {each.ref.id: each for each in facts.movements if each.role is Role.CHARGE}
        self._suggestions = Suggestions(scope, self._linked)
        self._nothing = {currency: scope.amount(0, currency) for currency in {each.currency for each in facts.aside}}

    def at(self, cut: datetime, *, since: datetime) -> Standing:
        """What is open just before `cut`, whatever its age, and what was settled from `since` on."""
        standing = Standing(since)
        matched: _Matched = set()
        for each in self._linked.links:
            self._link(standing, each, cut, matched)
        for leg in self._linked.lefts:
            if leg.at < cut:
                self._alone(standing, leg, cut, BreakType.MISSING_IN_STRIPE)
        self._rights(standing, cut, matched)
        self._outside(standing, cut)
        standing.flows += [self._aside(each) for each in self._facts.aside if standing.since <= each.later < cut]
        return standing

    def _aside(self, each: aside.Flow) -> Flow:
        """Settled long ago, and kept as what it comes to."""
        if each.code != "matched":
            return Flow(each.code, each.currency, each.minor, 0, each.later)
        pair = Pair(
            plane=Plane.ORDER,
            state="MATCHED",
            key=each.key,
            left=each.left_ref,
            right=each.right_ref,
            currency=each.currency,
            amount=self._scope.amount(each.minor, each.currency),
            residual=self._nothing[each.currency],
        )
        gap = (self._scope.day_of(each.later) - self._scope.day_of(each.earlier)).days
        return Flow("matched", each.currency, each.minor, each.minor, each.later, (pair,), gap)

    # --- linked legs ---

    def _link(self, standing: Standing, each: Link, cut: datetime, matched: _Matched) -> None:
        if each.later >= cut:
            self._half(standing, each, cut)
            return
        left, right = each.lefts[0], each.rights[0]
        if left.currency != right.currency:
            standing.breaks.append(self._mismatch(each, cut, BreakType.CURRENCY_MISMATCH))
            return
        residual = sum(leg.minor for leg in each.lefts) - sum(leg.minor for leg in each.rights)
        if abs(residual) > self._scope.params.rules.tolerance_minor:
            standing.breaks.append(self._mismatch(each, cut, BreakType.AMOUNT_MISMATCH))
            return
        matched.update(
            (name, leg.minor, leg.currency) for leg in (*each.lefts, *each.rights) for name in _order_links(leg)
        )
        if each.later >= standing.since:
            standing.flows.append(self._match(each, residual))

    def _half(self, standing: Standing, each: Link, cut: datetime) -> None:
        """Some legs are before the cut-off and some after: what is before waits for a counterpart that is known."""
        clears_on = self._scope.day_of(each.later)
        for leg in each.lefts:
            if leg.at < cut:
                standing.timing.append(self._single(leg, cut, BreakType.MISSING_IN_STRIPE, clears_on=clears_on))
        for leg in each.rights:
            if leg.at < cut:
                standing.timing.append(self._single(leg, cut, BreakType.MISSING_IN_SHOPIFY, clears_on=clears_on))

    def _match(self, each: Link, residual: int) -> Flow:
        state = "MATCHED_TOL" if residual else "MATCHED"
        currency = each.rights[0].currency
        more = each.lefts if len(each.lefts) > 1 else each.rights
        pairs = tuple(
            Pair(
                plane=Plane.ORDER,
                state=state,
                key=each.key.value,
                left=(leg if more is each.lefts else each.lefts[0]).ref,
                right=(leg if more is each.rights else each.rights[0]).ref,
                currency=currency,
                amount=self._scope.amount(leg.minor, currency),
                residual=self._scope.amount(residual, currency),
            )
            for leg in more
        )
        return Flow(
            code=state.lower(),
            currency=currency,
            left=sum(leg.minor for leg in each.lefts),
            right=sum(leg.minor for leg in each.rights),
            at=each.later,
            pairs=pairs,
            gap_days=(self._scope.day_of(each.later) - self._scope.day_of(each.earlier)).days,
        )

    def _mismatch(self, each: Link, cut: datetime, type_: BreakType) -> OpenItem:
        """Across currencies no difference exists; it stands as the whole left amount, so that it is never zero."""
        left, right = each.lefts[0], each.rights[0]
        left_amount = self._scope.amount(sum(leg.minor for leg in each.lefts), left.currency)
        return item(
            self._scope,
            type_=type_,
            plane=Plane.ORDER,
            account=right.account,
            left=left.ref,
            right=right.ref,
            left_amount=left_amount,
            right_amount=self._scope.amount(sum(leg.minor for leg in each.rights), right.currency),
            since=each.later,
            cut=cut,
            difference=left_amount if left.currency != right.currency else None,
        )

    # --- legs alone ---

    def _alone(self, standing: Standing, leg: Leg, cut: datetime, type_: BreakType) -> None:
        candidates = self._linked.ambiguous.get(leg.ref)
        if candidates:
            found = self._single(leg, cut, type_)
            among = "Several candidates, none picked: " + ", ".join(candidates)
            standing.breaks.append(replace(found, type=BreakType.AMBIGUOUS, suggestion=among))
            return
        found = self._single(leg, cut, type_)
        within = found.age_days <= self._scope.params.rules.grace_days
        (standing.timing if within else standing.breaks).append(found)

    def _single(
        self, leg: Leg, cut: datetime, type_: BreakType, *, minor: int | None = None, clears_on: date | None = None
    ) -> OpenItem:
        nothing = self._scope.amount(0, leg.currency)
        amount = self._scope.amount(leg.minor if minor is None else minor, leg.currency)
        is_left = leg.movement.role is Role.SALE
        found = item(
            self._scope,
            type_=type_,
            plane=Plane.ORDER,
            account=leg.account,
            left=leg.ref if is_left else "",
            right="" if is_left else leg.ref,
            left_amount=amount if is_left else nothing,
            right_amount=nothing if is_left else amount,
            since=leg.at,
            cut=cut,
            suggestion=None if clears_on else self._suggestions.of(leg),
        )
        return replace(found, clears_on=clears_on)

    # --- the processor's legs that no sale names ---

    def _rights(self, standing: Standing, cut: datetime, matched: _Matched) -> None:
        if not self._sells:
            return
        rights = [leg for leg in self._linked.rights if leg.at < cut]
        taken: set[str] = set()
        for leg in rights:
            if self._invoices.paid_by(self._source(leg)):
                taken.add(leg.ref)
                if leg.at >= standing.since:
                    standing.flows.append(self._invoice(leg))
        for leg in rights:
            if leg.ref not in taken and self._is_duplicate(leg, matched):
                taken.add(leg.ref)
                taken.update(self._duplicate(standing, leg, cut))
        for leg in rights:
            if leg.ref not in taken:
                self._alone(standing, leg, cut, BreakType.MISSING_IN_SHOPIFY)

    def _source(self, leg: Leg) -> Movement | None:
        """The charge that a leg is, or gives back."""
        if leg.movement.role is Role.CHARGE:
            return leg.movement
        return self._charges.get(leg.movement.parent or "")

    def _invoice(self, leg: Leg) -> Flow:
        invoice, paid = self._invoices.of(self._source(leg))
        is_charge = leg.movement.role is Role.CHARGE and paid
        left = self._scope.shared(leg.account, Money(paid, leg.currency)) if is_charge else leg.minor
        pair = Pair(
            plane=Plane.INVOICE,
            state="INVOICE",
            key="invoice",
            left=invoice,
            right=leg.ref,
            currency=leg.currency,
            amount=self._scope.amount(leg.minor, leg.currency),
            residual=self._scope.amount(left - leg.minor, leg.currency),
        )
        return Flow("invoice", leg.currency, left, leg.minor, leg.at, (pair,))

    def _is_duplicate(self, leg: Leg, matched: _Matched) -> bool:
        return leg.movement.role is Role.CHARGE and any(
            (name, leg.minor, leg.currency) in matched for name in _order_links(leg)
        )

    def _duplicate(self, standing: Standing, leg: Leg, cut: datetime) -> Iterator[str]:
        """A second charge for something that is matched already; its refunds make good for it."""
        refunds = [
            each for each in self._refunds[leg.movement.ref.id] if each.at < cut and each.currency == leg.currency
        ]
        left_over = leg.minor + sum(each.minor for each in refunds)
        if left_over:
            standing.breaks.append(self._single(leg, cut, BreakType.DUPLICATE, minor=left_over))
        else:
            gone_at = max(each.at for each in (leg, *refunds))
            pair = Pair(
                plane=Plane.ORDER,
                state="AUTO_RESOLVED",
                key="refunds",
                left="",
                right=leg.ref,
                currency=leg.currency,
                amount=self._scope.amount(leg.minor, leg.currency),
                residual=self._scope.amount(0, leg.currency),
            )
            standing.flows.append(Flow("auto_resolved", leg.currency, 0, 0, gone_at, (pair,)))
        return (each.ref for each in refunds)

    # --- what is no leg ---

    def _outside(self, standing: Standing, cut: datetime) -> None:
        named = _Named(self._facts, self._scope)
        for movement in self._facts.movements:
            if movement.role is not Role.SALE or movement.occurred_at >= cut:
                continue
            minor = self._scope.shared(movement.ref.account, movement.amount)
            leg = Leg.of(movement, movement.occurred_at, minor)
            if movement.gateway not in self._scope.params.rules.gateways:
                if movement.condition is Condition.SETTLED and leg.at >= standing.since:
                    code = f"out_of_scope.{movement.gateway}"
                    standing.flows.append(Flow(code, leg.currency, minor, 0, leg.at))
                continue
            if movement.condition is not Condition.PENDING:
                continue
            failed = named.failed(movement)
            if failed is None or failed.at >= cut:
                standing.pending.append(leg)
                continue
            standing.breaks.append(
                item(
                    self._scope,
                    type_=BreakType.STATUS_MISMATCH,
                    plane=Plane.ORDER,
                    account=failed.account,
                    left=leg.ref,
                    right=failed.ref,
                    left_amount=self._scope.amount(minor, leg.currency),
                    right_amount=self._scope.amount(0, leg.currency),
                    since=max(leg.at, failed.at),
                    cut=cut,
                    suggestion=f"The shop still waits; the processor says {failed.movement.status}.",
                )
            )


class _Named:
    """Things at the processor by id, for a pending sale that names one."""

    def __init__(self, facts: Facts, scope: Scope) -> None:
        self._facts = facts
        self._scope = scope
        self._by_id = {
            each.ref.id: each for each in facts.movements if each.role in (Role.CHARGE, Role.REFUND, Role.INTENT)
        }

    def failed(self, sale: Movement) -> Leg | None:
        for clue in sale.clues:
            if clue.key not in (Key.PROCESSOR, Key.INTENT):
                continue
            other = self._by_id.get(clue.value)
            if other is not None and other.condition is Condition.FAILED:
                entries = self._facts.entries.get((other.ref.account, other.ref.id), ())
                return Leg.of(other, right_time(other, entries), 0)
        return None


class _Invoices:
    """Which payments an invoice says were its own."""

    def __init__(self, movements: Sequence[Movement]) -> None:
        self._by_payment = {
            payment: (str(each.ref), paid)
            for each in movements
            if each.role is Role.INVOICE
            for payment, paid in each.payments
        }

    def paid_by(self, charge: Movement | None) -> bool:
        return charge is not None and any(name in self._by_payment for name in (charge.ref.id, charge.parent))

    def of(self, charge: Movement | None) -> tuple[str, int]:
        """(the invoice, how much of it that payment paid)."""
        names = () if charge is None else (charge.parent, charge.ref.id)
        for name in names:
            if name is not None and name in self._by_payment:
                return self._by_payment[name]
        raise KeyError(f"{charge} pays no invoice")


def _order_links(leg: Leg) -> Iterator[tuple[Key, str]]:
    """Under which names another charge would be a second payment of the same thing."""
    for clue in leg.movement.clues:
        if clue.key in (Key.TRANSACTION, Key.ORDER):
            yield clue.key, clue.value
