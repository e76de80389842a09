"""What was looked at, and what may be said of a currency, from plain values: the edges of every rule, no ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from reconciler.ledger.coverage import Coverage
from reconciler.ledger.finance import BalanceKey
from reconciler.model import ResourceRef, Window
from reconciler.movements import FinanceReader
from reconciler.report import proof
from reconciler.report.facts import AccountTerms, BalanceFacts, Facts
from reconciler.report.matching import Flow
from reconciler.report.model import (
    Amount,
    BalanceBlock,
    BalanceLine,
    BreakType,
    CoverageLine,
    OpenItem,
    Params,
    Plane,
    Rules,
    Standing,
    Verdict,
)
from reconciler.report.scope import Scope
from reconciler.report.work import item
from tests.report.books import BEGINNING, END, LATER, SHOPIFY_TERMS, START, STRIPE_TERMS, TERMS, on

INSTANT = timedelta(microseconds=1)
STREAM = "balance_transaction"


def scope_of(rules: Rules | None = None, currency: str | None = None) -> Scope:
    params = Params(date(2026, 1, 1), date(2026, 1, 31), LATER, currency=currency, rules=rules or Rules())
    return Scope.of(params, Facts(TERMS))


SCOPE = scope_of()


# --- what was looked at ---------------------------------------------------------------------------


def looked(since: datetime, until: datetime, reason: str = "", *, complete: bool = True) -> Coverage:
    return Coverage("main", STREAM, Window(since, until), complete, reason)


def line(*windows: Coverage, ever: bool = True) -> tuple[datetime | None, bool, tuple[str, ...]]:
    """Of the stream that the windows are of: through when, whether complete, and what is missing."""
    since = {("main", STREAM): BEGINNING} if ever else {}
    lines = proof.coverage(SCOPE, Facts(TERMS, coverage=windows, covered_since=since))
    (found,) = [each for each in lines if (each.account, each.stream) == ("main", STREAM)]
    return found.through, found.complete, found.gaps


def test_every_required_stream_has_its_line_and_each_that_was_looked_at_beside_it() -> None:
    other = replace(looked(BEGINNING, LATER), kind="customer")
    elsewhere = replace(other, account="gone")
    lines = proof.coverage(
        SCOPE, Facts(TERMS, coverage=(other, elsewhere), covered_since={("shop", "product"): BEGINNING})
    )
    needed = [("main", each) for each in STRIPE_TERMS.finance.streams]
    needed += [("shop", each) for each in SHOPIFY_TERMS.finance.streams]
    assert [(each.account, each.stream) for each in lines if each.required] == sorted(needed)
    assert [(each.account, each.stream, each.gaps) for each in lines if not each.required] == [
        ("main", "customer", ()),
        ("shop", "product", ("not looked at since the period began",)),
    ]


def test_a_look_over_the_whole_period_proves_it_to_its_last_instant() -> None:
    assert line(looked(START, END)) == (END, True, ())
    short = END - INSTANT
    assert line(looked(START, short)) == (short, False, ("after 2026-01-31T23:59:59.999999Z",))
    assert line(looked(BEGINNING, LATER)) == (LATER, True, ())


def test_what_was_never_looked_at_is_told_from_what_was_not_since_the_period_began() -> None:
    assert line() == (None, False, ("not looked at since the period began",))
    assert line(ever=False) == (None, False, ("never looked at",))


def test_a_hole_inside_the_period_is_named_from_edge_to_edge() -> None:
    hole = "2026-01-10T12:00:00Z to 2026-01-12T12:00:00Z"
    first, last = looked(BEGINNING, on(10)), looked(on(12), LATER)
    for windows in ((first, last), (last, first)):
        assert line(*windows) == (LATER, False, (hole,))
    inside = looked(on(2), on(3))
    assert line(first, inside, last) == (LATER, False, (hole,)), "a look inside another one takes nothing back"
    assert line(first, replace(last, window=Window(on(10), LATER))) == (LATER, True, ()), "they touch"


def test_a_hole_outside_of_the_period_does_not_matter_to_it() -> None:
    before = looked(BEGINNING, START - 2 * INSTANT)
    assert line(before, looked(START, LATER)) == (LATER, True, ())
    after = looked(LATER - INSTANT, LATER)
    assert line(looked(START, END), after) == (LATER, True, ())
    across = line(looked(START, on(31, 0)), after)
    assert across == (LATER, False, ("2026-01-31T00:00:00Z to 2026-02-01T00:00:00Z",)), "only what lies inside"


def test_a_look_that_begins_after_the_period_leaves_a_hole_before_it() -> None:
    assert line(looked(START + INSTANT, LATER)) == (
        LATER,
        False,
        ("2026-01-01T00:00:00Z to 2026-01-01T00:00:00.000001Z",),
    )
    assert line(looked(LATER - INSTANT, LATER)) == (
        LATER,
        False,
        ("2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z",),
    )


def test_why_a_look_failed_is_said_once_and_only_while_something_is_missing() -> None:
    refused = [looked(on(day), on(day + 1), "403", complete=False) for day in (3, 5)]
    silent = looked(on(7), on(8), complete=False)
    whole = looked(START, END, "scope")
    assert line(*refused, silent) == (None, False, ("not looked at since the period began", "403"))
    assert line(*refused, silent, whole) == (END, True, ())
    most = looked(START, on(31), "scope")
    assert line(*refused, silent, most) == (on(31), False, ("after 2026-01-31T12:00:00Z", "403"))


def test_a_body_that_cannot_be_read_leaves_its_stream_unproved_and_is_named() -> None:
    def lines(count: int, kind: str) -> dict[str, CoverageLine]:
        broken = tuple(ResourceRef("stripe", "main", kind, f"x_{number}") for number in range(count))
        given = (looked(START, END), replace(looked(START, END), kind=kind))
        found = proof.coverage(SCOPE, Facts(TERMS, coverage=given, unreadable=broken))
        return {each.stream: each for each in found if each.account == "main"}

    five = ", ".join(f"stripe/main/customer/x_{number}" for number in range(5))
    some = lines(5, "customer")
    assert (some["customer"].complete, some["customer"].required) == (False, True)
    assert some["customer"].gaps == (f"cannot be read: {five}",)
    assert (some[STREAM].complete, some[STREAM].gaps) == (True, ())
    assert lines(7, "customer")["customer"].gaps == (f"cannot be read: {five} and 2 more",)


def test_the_entries_behind_any_balance_are_required_also_of_a_shop() -> None:
    """A shop's proof needs its orders; where it has a balance of its own, also what moved that, known or not.

    A provider that has no such kind is not asked for it.
    """

    def required(balances: tuple[BalanceFacts, ...], terms: AccountTerms = SHOPIFY_TERMS) -> set[str]:
        lines = proof.coverage(SCOPE, Facts((terms,), balances=balances))
        return {each.stream for each in lines if each.account == "shop" and each.required}

    own = BalanceFacts(BalanceKey("shop", "payments", "USD"), True, 0, "control_total", None, True, 0, None, 0, ())
    assert required(()) == {"order", "transaction"}
    assert required((own,)) == required((replace(own, has_entries=False),)) == {"order", "transaction", STREAM}
    till = FinanceReader(kinds=frozenset({"sale"}), streams=frozenset({"sale"}), read=lambda _: ())
    assert required((own,), replace(SHOPIFY_TERMS, finance=till)) == {"sale"}


def test_the_watermark_is_the_least_of_what_is_required() -> None:
    def of(through: datetime | None, *, required: bool = True) -> CoverageLine:
        return CoverageLine("main", STREAM, required, through, True, ())

    assert proof.watermark([of(on(5)), of(on(3)), of(on(1), required=False)]) == on(3)
    assert proof.watermark([of(on(5)), of(None)]) is None
    assert proof.watermark([of(on(5)), of(None, required=False)]) == on(5)
    assert proof.watermark([of(on(5), required=False)]) is None


# --- what may be said of it -----------------------------------------------------------------------

COVERED = (CoverageLine("main", STREAM, True, END, True, ()),)


def usd(minor: int) -> Amount:
    return Amount(minor, "USD", 2)


def moved(code: str, minor: int, count: int | None = 1) -> BalanceLine:
    return BalanceLine(code, count, None, None, Amount(minor, "USD", 2))


def block(
    *lines: BalanceLine, unexplained: int | None = 0, basis: str = "at_cut_off", currency: str = "USD"
) -> BalanceBlock:
    net = None if unexplained is None else Amount(unexplained, currency, 2)
    ends = BalanceLine("unexplained", None, None, None, net)
    return BalanceBlock("main", "payments", currency, (*lines, ends), "control_total", basis, END, (), (), ())


def broken(
    left: int, right: int = 0, *, plane: Plane = Plane.ORDER, currency: str = "USD", since: datetime = END - INSTANT
) -> OpenItem:
    exponent = SCOPE.exponent(currency)
    return item(
        SCOPE, type_=BreakType.AMOUNT_MISMATCH, plane=plane, account="main", left=f"left/{left}", right="right/1",
        left_amount=Amount(left, currency, exponent), right_amount=Amount(right, currency, exponent), since=since,
        cut=END,
    )  # fmt: skip


def match(right: int, gap_days: int | None = None, code: str = "matched", currency: str = "USD") -> Flow:
    return Flow(code, currency, right, right, on(5), gap_days=gap_days)


def verdicts(
    covered: Sequence[CoverageLine] = COVERED,
    blocks: Sequence[BalanceBlock] = (),
    flows: Sequence[Flow] = (),
    breaks: Sequence[OpenItem] = (),
    timing: Sequence[OpenItem] = (),
    others: Sequence[str] = (),
    scope: Scope = SCOPE,
) -> tuple[Verdict, ...]:
    return proof.verdicts(scope, covered, blocks, flows, breaks, timing, others, {})


def verdict(rules: Rules | None = None, **given: Any) -> Verdict:
    (found,) = verdicts(others=("USD",), scope=scope_of(rules), **given)
    return found


def said(of: Verdict) -> tuple[Standing, tuple[str, ...]]:
    return of.standing, of.reasons


def test_each_currency_is_judged_by_its_own_facts_alone() -> None:
    found = verdicts(
        blocks=(block(unexplained=7), block(currency="EUR")),
        flows=(match(500, currency="GBP"),),
        breaks=(broken(300, currency="CHF"),),
        timing=(broken(200, currency="SEK"),),
        others=("NOK",),
    )
    assert [(each.currency, each.standing.value, each.kpis.matched_count) for each in found] == [
        ("CHF", "BREAKS", 0),
        ("EUR", "BALANCED", 0),
        ("GBP", "BALANCED", 1),
        ("NOK", "BALANCED", 0),
        ("SEK", "BALANCED_WITH_TIMING", 0),
        ("USD", "BREAKS", 0),
    ]
    only = verdicts(others=("EUR", "USD"), scope=scope_of(currency="EUR"))
    assert [each.currency for each in only] == ["EUR"]


def test_what_is_missing_outranks_what_is_broken_and_both_are_said() -> None:
    hole = CoverageLine("main", STREAM, True, None, False, ("never looked at", "403"))
    gap = f"main: {STREAM} was not looked at completely (never looked at; 403)"
    assert said(verdict(covered=(hole,))) == (Standing.UNPROVEN, (gap,))
    assert said(verdict(covered=(hole,), breaks=(broken(300),))) == (
        Standing.UNPROVEN,
        (gap, "1 open break(s) of at least the item materiality"),
    )
    needless = replace(hole, required=False)
    assert said(verdict(covered=(*COVERED, needless))) == (Standing.BALANCED, ())
    stated = block(unexplained=None, basis="missing")
    no_word = "main: the provider's payments balance at the cut-off is missing"
    assert said(verdict(blocks=(block(), stated))) == (Standing.UNPROVEN, (no_word,))


def test_what_only_waits_leaves_it_balanced_with_timing() -> None:
    assert said(verdict()) == (Standing.BALANCED, ())
    waiting = (broken(200), broken(100))
    assert said(verdict(timing=waiting)) == (
        Standing.BALANCED_WITH_TIMING,
        ("2 item(s) wait for a counterpart",),
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_difference_of_a_balance_is_a_break_beyond_the_tolerance(sign: int) -> None:
    rules = Rules(tolerance_minor=5)
    assert said(verdict(rules, blocks=(block(unexplained=5 * sign),))) == (Standing.BALANCED, ())
    amount = "0.06" if sign > 0 else "-0.06"
    assert said(verdict(rules, blocks=(block(unexplained=6 * sign),))) == (
        Standing.BREAKS,
        (f"main: {amount} USD of the payments balance are unexplained",),
    )


def test_breaks_count_one_by_one_or_together_by_their_materiality() -> None:
    rules = Rules(item_materiality_minor=300, aggregate_materiality_minor=500)
    small, large = broken(0, 250), broken(300)
    assert said(verdict(rules, breaks=(small,))) == (Standing.BALANCED, ())
    assert said(verdict(rules, breaks=(broken(0, 249), small))) == (Standing.BALANCED, ())
    assert said(verdict(rules, breaks=(small, small))) == (
        Standing.BREAKS,
        ("2 open break(s) together reach the aggregate materiality",),
    )
    assert said(verdict(rules, breaks=(small, large, large))) == (
        Standing.BREAKS,
        ("2 open break(s) of at least the item materiality",),
    )
    negative = verdict(rules, breaks=(broken(0, 300),))
    assert said(negative) == (Standing.BREAKS, ("1 open break(s) of at least the item materiality",))


def test_a_payment_against_a_sale_in_another_currency_speaks_in_both_by_its_own_side() -> None:
    """A sale of 3.00 USD, paid in yen: the yen's verdict goes by the yen, the dollars' by the dollars."""
    scope = scope_of(Rules(item_materiality_minor=400, aggregate_materiality_minor=1000))
    for yen, standing in ((399, Standing.BALANCED), (400, Standing.BREAKS), (-400, Standing.BREAKS)):
        paid = replace(broken(300), right_amount=Amount(yen, "JPY", 0))
        assert [(each.currency, each.standing) for each in verdicts(breaks=(paid,), scope=scope)] == [
            ("JPY", standing),
            ("USD", Standing.BALANCED),
        ]


def test_a_break_of_the_balance_speaks_by_the_balance_alone() -> None:
    rules = Rules(aggregate_materiality_minor=500)
    assert said(verdict(rules, breaks=(broken(900, plane=Plane.BALANCE),))) == (Standing.BALANCED, ())


@pytest.mark.parametrize(
    ("unexplained", "through", "stands"),
    [
        (5, on(6, month=2), Standing.UNPROVEN),
        (0, on(6, month=2), Standing.BALANCED),
        (5, on(10, month=2), Standing.BREAKS),
    ],
)
def test_a_balance_is_rolled_back_through_what_was_looked_at(
    unexplained: int, through: datetime, stands: Standing
) -> None:
    """It was read ten days after the end. Of days whose entries nobody looked at no difference can be believed; that
    there is none is noted, because it takes two mistakes of the same size to be wrong."""
    rolled_back = replace(block(basis="rolled_back", unexplained=unexplained), provider_as_at=on(10, month=2))
    covered = (replace(COVERED[0], through=through), replace(COVERED[0], account="shop"))
    found = verdict(covered=covered, blocks=(rolled_back,))
    assert found.standing is stands
    reason = (
        "main: the provider's USD payments balance was read at 2026-02-10T12:00:00Z, and the entries until then were"
        " not all looked at"
    )
    assert (reason in found.reasons) is (stands is Standing.UNPROVEN)
    assert proof.notes(covered, (rolled_back,)) == ([reason] if through < on(10, month=2) else [])


# --- figures --------------------------------------------------------------------------------------


def test_the_share_that_is_matched_by_count_and_by_value() -> None:
    kpis = verdict(
        flows=(match(600), match(-300, code="matched_tol"), match(5000, code="invoice")),
        breaks=(broken(100, -250), broken(7000, plane=Plane.PAYOUT)),
        timing=(broken(50),),
    ).kpis
    assert (kpis.matched_count, kpis.population_count, kpis.matched_percent) == (2, 4, Decimal("50.0"))
    assert (kpis.matched_value, kpis.population_value) == (usd(900), usd(1200))
    assert kpis.matched_value_percent == Decimal("75.0")
    assert (kpis.open_breaks, kpis.open_value) == (2, usd(350 + 7000))


def test_of_nothing_all_is_matched_and_of_one_open_item_nothing() -> None:
    empty = verdict().kpis
    assert (empty.matched_percent, empty.matched_value_percent) == (Decimal("100.0"), Decimal("100.0"))
    assert empty.verified_value_percent == Decimal("100.0")
    assert (empty.oldest_age_days, empty.median_days_to_clear) == (None, None)
    one = verdict(breaks=(broken(1),)).kpis
    assert (one.matched_percent, one.matched_value_percent) == (Decimal("0.0"), Decimal("0.0"))


def test_a_share_is_rounded_half_up_to_a_tenth() -> None:
    kpis = verdict(flows=(match(1), match(2)), timing=(broken(1997),)).kpis
    assert (kpis.matched_percent, kpis.matched_value_percent) == (Decimal("66.7"), Decimal("0.2"))


def test_all_of_it_is_said_of_nothing_less() -> None:
    """3,999 of 4,000 are 99.975 %, which rounds to 100.0 %."""
    kpis = verdict(flows=[match(1000)] * 3999, breaks=(broken(1000),)).kpis
    assert (kpis.matched_percent, kpis.matched_value_percent) == (Decimal("99.9"), Decimal("99.9"))


def test_the_other_side_of_a_currency_mismatch_is_no_value_of_this_currency() -> None:
    """10.00 USD sold stand against 1,500 JPY: one of two items, half of the dollars."""
    yen = replace(broken(1000), right_amount=Amount(1500, "JPY", 0))
    there, here = verdicts(flows=(match(1000),), breaks=(yen,))
    assert (here.kpis.population_value, here.kpis.matched_value_percent) == (usd(2000), Decimal("50.0"))
    assert said(there) == (Standing.BREAKS, ("1 payment(s) stand against a sale in another currency",))
    assert (there.currency, there.kpis.open_breaks, there.kpis.population_count) == ("JPY", 0, 0)
    rules = Rules(item_materiality_minor=1501)
    assert verdicts(breaks=(yen,), scope=scope_of(rules))[0].standing is Standing.BALANCED


def test_the_oldest_break_and_the_days_that_a_match_takes() -> None:
    kpis = verdict(
        flows=(match(1, 9), match(2), match(3, 4), match(4, 1), match(5, 0)),
        breaks=(broken(1, since=on(31)), broken(2, since=on(11))),
        timing=(broken(3, since=on(1)),),
    ).kpis
    assert kpis.oldest_age_days == 20
    assert kpis.median_days_to_clear == Decimal("2.5")
    assert verdict(flows=(match(1, 3),)).kpis.median_days_to_clear == 3


def test_what_is_unexplained_adds_up_unless_one_balance_has_no_word() -> None:
    assert verdict(blocks=(block(unexplained=7), block(unexplained=-2))).kpis.unexplained == usd(5)
    assert verdict(blocks=(block(unexplained=7), block(unexplained=None))).kpis.unexplained is None
    assert verdict().kpis.unexplained == usd(0)


@pytest.mark.parametrize(
    ("unexplained", "percent"), [(0, "100.0"), (1, "50.0"), (-1, "50.0"), (2, "0.0"), (9, "0.0"), (None, "0.0")]
)
def test_what_a_difference_leaves_of_the_moved_money_is_verified(unexplained: int | None, percent: str) -> None:
    """Opening, closing and what became known after a lock moved nothing in this period."""
    others = (moved("opening", 500, None), moved("prior_period_adjustment", 40), moved("closing", 502, None))
    one = block(*others, moved("charge", 1), moved("refund", -1), unexplained=unexplained)
    assert verdict(blocks=(one,)).kpis.verified_value_percent == Decimal(percent)


def test_a_balance_that_nobody_confirms_takes_its_part_of_the_verified_money() -> None:
    found = verdict(blocks=(block(moved("charge", 3)), block(moved("fee", -1), unexplained=None)))
    assert found.kpis.verified_value_percent == Decimal("75.0")


@pytest.mark.parametrize(("unexplained", "percent"), [(0, "100.0"), (5, "0.0"), (-5, "0.0"), (None, "0.0")])
def test_where_nothing_moved_all_or_nothing_is_verified(unexplained: int | None, percent: str) -> None:
    found = verdict(blocks=(block(), block(unexplained=unexplained)))
    assert found.kpis.verified_value_percent == Decimal(percent)
    moving = verdict(blocks=(block(moved("charge", 1)), block(unexplained=unexplained)))
    assert moving.kpis.verified_value_percent == Decimal("100.0"), "of all that moved"


def test_ages_count_breaks_and_add_up_how_far_off_they_are() -> None:
    fresh, old = END - INSTANT, on(20)
    breaks = (broken(5, since=fresh), broken(0, 7, since=fresh), broken(1, since=old), broken(2, currency="EUR"))
    assert proof.ages(SCOPE, breaks) == {
        ("USD", "AMOUNT_MISMATCH", "0-1"): (2, 12),
        ("USD", "AMOUNT_MISMATCH", "8-30"): (1, 1),
        ("EUR", "AMOUNT_MISMATCH", "0-1"): (1, 2),
    }
