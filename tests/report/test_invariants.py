"""What must hold for every ledger: the invariants of the report, on generated money histories, on both databases."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from reconciler.ledger import Ledger
from reconciler.ledger.tables import metadata
from reconciler.movements import Role
from reconciler.report import canonical
from reconciler.report.engine import report
from reconciler.report.facts import Facts
from reconciler.report.gathering import gather
from reconciler.report.linking import legs, link
from reconciler.report.model import Amount, Params, Report, Rules
from reconciler.report.scope import Scope
from tests.report.books import TERMS
from tests.report.histories import COMES_BACK, KNOWN, SECOND, THIRD, Fact, Story, Teller, rearranged, stories, write

PROPERTY = settings(
    max_examples=7,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
pytestmark = pytest.mark.long
JANUARY = (date(2026, 1, 1), date(2026, 1, 31))
FEBRUARY = (date(2026, 2, 1), date(2026, 2, 28))
BOTH = (date(2026, 1, 1), date(2026, 2, 28))


def fill(ledger: Ledger, facts: list[Fact]) -> None:
    """A ledger of exactly these facts."""
    with ledger.together() as tx:
        for table in metadata.tables:
            if table not in ("ledger_clock_row", "feed"):  # a ledger has one row of each from its beginning
                tx.run(text(f"DELETE FROM {table}"))
    write(ledger, facts)


def ask(
    ledger: Ledger,
    days: tuple[date, date] = JANUARY,
    as_of: datetime = KNOWN,
    rules: Rules | None = None,
    **more: Any,
) -> Report:
    params = Params(*days, as_of=as_of, accounts=("main", "shop"), rules=rules or Rules(), **more)
    with ledger.store.read() as tx:
        return report(gather(tx, TERMS, params), params)


class Told:
    """A ledger that was told a story, and what it answered: many checks ask the same."""

    def __init__(self, ledger: Ledger, story: Story) -> None:
        fill(ledger, Teller().tell(story))
        self.story = story
        self._ledger = ledger
        self._answers: dict[str, Report] = {}

    def ask(self, days: tuple[date, date] = JANUARY, **more: Any) -> Report:
        key = repr((days, sorted(more.items())))
        if key not in self._answers:
            self._answers[key] = ask(self._ledger, days, **more)
        return self._answers[key]

    def facts(self, params: Params) -> Facts:
        with self._ledger.store.read() as tx:
            return gather(tx, TERMS, params)


def nets(of: Report) -> dict[tuple[str, str], int]:
    """(currency, code) -> net, without what has no figure."""
    return {
        (block.currency, line.code): line.net.minor
        for block in of.balance
        for line in block.lines
        if line.net is not None
    }


FIXED = {
    "opening",
    "net_activity",
    "payouts_total",
    "closing",
    "provider",
    "difference",
    "explained",
    "unexplained",
    "bridge",
}


# --- 1, 2, 5, 6, 20: every figure foots --------------------------------------------------------------


def every_report_foots(told: Told) -> None:
    for days in (JANUARY, FEBRUARY, BOTH):
        shown = told.ask(days)
        for block in shown.balance:
            figures = {line.code: line.net.minor for line in block.lines if line.net is not None}
            categories = [line for line in block.lines if line.code not in FIXED]
            for line in categories:
                assert line.gross is not None
                assert line.fee is not None
                assert line.net is not None
                assert line.net.minor == line.gross.minor - line.fee.minor
            activity = sum(line.net.minor for line in categories if line.net and not line.code.startswith("payout"))
            assert figures["net_activity"] == activity
            assert figures["closing"] == figures["opening"] + figures["net_activity"] + figures["payouts_total"]
            assert figures["difference"] == figures["provider"] - figures["closing"]
            assert figures["unexplained"] == figures["difference"] - figures["explained"]
            expected = told.story.stolen if block.currency == "USD" else 0
            assert figures["difference"] == expected
            bars = block.waterfall
            assert bars[0].start.minor == figures["opening"]
            assert bars[-1].end.minor == figures["closing"]
            assert all(bar.start.minor + bar.amount.minor == bar.end.minor for bar in bars)
            assert block.days[-1].closing.minor == figures["closing"]
        for payout in shown.payouts:
            failed = payout.status == "failed"
            back = payout.created_at + COMES_BACK < shown.header.end
            assert payout.state.value == (("FAILED_RETURNED" if back else "IN_TRANSIT") if failed else "FOOTED")
            assert payout.difference is not None
            assert payout.difference.minor == 0
        for total in shown.unsettled_totals:
            assert total.difference.minor == 0
            own = [line.net.minor for line in shown.unsettled if line.currency == total.currency]
            assert sum(own) == total.closing.minor == nets(shown)[total.currency, "closing"]


# --- 3: continuity --------------------------------------------------------------------------------


def neighbouring_periods_join(told: Told) -> None:
    january, february, both = (nets(told.ask(days)) for days in (JANUARY, FEBRUARY, BOTH))
    currencies = {currency for currency, _ in both}
    for currency in currencies:
        end = january.get((currency, "closing"), 0)
        assert february[currency, "opening"] == end
        for code in {code for _, code in both} - FIXED:
            parts = january.get((currency, code), 0) + february.get((currency, code), 0)
            assert both.get((currency, code), 0) == parts


# --- 4, 17: every leg in exactly one state ----------------------------------------------------------


def every_leg_is_in_exactly_one_state(told: Told) -> None:
    """Over the whole time before the cut-off, the states add up to the population, on each side."""
    days = (date(2025, 12, 1), date(2026, 1, 31))
    params = Params(*days, as_of=KNOWN, accounts=("main", "shop"))
    facts = told.facts(params)
    shown = report(facts, params)
    lefts, rights = legs(Scope.of(params, facts), facts)
    for currency in {leg.currency for leg in (*lefts, *rights)}:
        lines = [
            line
            for line in shown.match_lines
            if line.currency == currency and not line.code.startswith(("out_of_scope", "pending"))
        ]
        assert sum(line.left.minor for line in lines) == sum(
            leg.minor for leg in lefts if leg.currency == currency and leg.at < SECOND
        )
        assert sum(line.right.minor for line in lines) == sum(
            leg.minor for leg in rights if leg.currency == currency and leg.at < SECOND
        )
    named = Counter(
        ref
        for ref in (
            *(pair.left for pair in shown.pairs),
            *(pair.right for pair in shown.pairs),
            *(ref for each in (*shown.breaks, *shown.timing) if each.plane == "P3" for ref in (each.left, each.right)),
        )
        if ref
    )
    assert all(count == 1 for count in named.values())
    assert set(named) <= {leg.ref for leg in (*lefts, *rights)}


def open_items_roll_forward(told: Told) -> None:
    for days in (JANUARY, FEBRUARY):
        shown = told.ask(days)
        for each in shown.roll_forward:
            for side in ("count", "left", "right"):
                opening, new, cleared, closing = (
                    _figure(getattr(total, side)) for total in (each.opening, each.new, each.cleared, each.closing)
                )
                assert opening + new - cleared == closing
        closing_by_currency = {each.currency: each.closing for each in shown.roll_forward if each.closing.count}
        assert closing_by_currency == {each.currency: each for each in shown.open_items}


def _figure(value: int | Amount) -> int:
    return value.minor if isinstance(value, Amount) else value


# --- 8: currencies do not touch -------------------------------------------------------------------


@PROPERTY
@given(story=stories)
def test_deleting_one_currency_leaves_the_others_unchanged(ledger: Ledger, story: Story) -> None:
    fill(ledger, Teller().tell(story))
    whole = ask(ledger)
    rest = ask(ledger, currency="EUR")
    fill(ledger, [fact for fact in Teller().tell(story) if _currency(fact) in (None, "EUR")])
    alone = ask(ledger, currency="EUR")

    for shown in (whole, rest):
        assert _of_currency(shown, "EUR") == _of_currency(alone, "EUR")


def _of_currency(of: Report, currency: str) -> dict[str, list[Any]]:
    sections: dict[str, tuple[Any, ...]] = {
        "balance": of.balance,
        "lines": of.match_lines,
        "breaks": of.breaks,
        "verdicts": of.verdicts,
    }
    return {name: [row for row in rows if row.currency == currency] for name, rows in sections.items()}


def _currency(fact: Fact) -> str | None:
    body = getattr(fact.what, "body", None)
    if body is not None:
        return str(body["currency"]).upper()
    amount = getattr(fact.what, "amount", None)
    return None if amount is None else str(amount.currency)


# --- 9, 10: knowledge -----------------------------------------------------------------------------


@PROPERTY
@given(story=stories, data=st.data())
def test_the_order_of_arrival_and_redelivery_change_nothing(ledger: Ledger, story: Story, data: st.DataObject) -> None:
    facts = Teller().tell(story)
    fill(ledger, facts)
    before = canonical.encode(ask(ledger))
    order = data.draw(st.permutations(range(len(facts))))
    fill(ledger, rearranged(facts, order))
    assert canonical.encode(ask(ledger)) == before


@PROPERTY
@given(story=stories)
def test_what_becomes_known_later_changes_no_earlier_answer(ledger: Ledger, story: Story) -> None:
    facts = Teller().tell(story)
    cut = SECOND + timedelta(days=3)
    fill(ledger, [fact for fact in facts if fact.known <= cut])
    before = canonical.encode(ask(ledger, as_of=cut))
    fill(ledger, facts)
    assert canonical.encode(ask(ledger, as_of=cut)) == before


# --- 11: what changed -----------------------------------------------------------------------------


def the_closing_moves_by_the_facts_that_are_listed(told: Told) -> None:
    earlier = SECOND + timedelta(days=1)
    before, after = nets(told.ask(as_of=earlier)), told.ask(compare=earlier)
    moved: Counter[str] = Counter()
    for change in after.changes:
        moved[change.currency] += change.net.minor
    for (currency, code), closing in nets(after).items():
        if code == "closing":
            assert closing - before.get((currency, "closing"), 0) == moved[currency]


# --- 12, 14, 16 -----------------------------------------------------------------------------------


@PROPERTY
@given(story=stories, scale=st.sampled_from((10, 100)))
def test_scaling_the_money_scales_every_money_line(ledger: Ledger, story: Story, scale: int) -> None:
    story = replace(story, orders=tuple(replace(order, refund=order.refund and 100) for order in story.orders))
    fill(ledger, Teller().tell(story))
    small = ask(ledger)
    fill(ledger, Teller(scale=scale).tell(story))
    large = ask(ledger)
    assert {key: minor * scale for key, minor in nets(small).items()} == nets(large)
    assert [
        (line.code, line.count, line.left.minor * scale, line.right.minor * scale) for line in small.match_lines
    ] == [(line.code, line.count, line.left.minor, line.right.minor) for line in large.match_lines]


def a_time_zone_only_moves_rows_between_days(told: Told) -> None:
    wide = (date(2025, 12, 20), date(2026, 3, 31))  # the last refund is of March 20, whatever the zone
    here = told.ask(wide)
    moved = {key: minor for key, minor in nets(here).items() if key[1] not in ("provider", "difference", "unexplained")}
    for timezone in ("Europe/Berlin", "America/New_York", "Pacific/Auckland"):
        there = told.ask(wide, timezone=timezone)
        assert moved.items() <= nets(there).items()
        assert [(line.code, line.count) for line in here.match_lines if line.code == "matched"] == [
            (line.code, line.count) for line in there.match_lines if line.code == "matched"
        ]


def a_larger_tolerance_never_adds_a_break(told: Told) -> None:
    counts = []
    for tolerance in (0, 1, 7, 10_000):
        shown = told.ask(rules=Rules(tolerance_minor=tolerance))
        counts.append(len(shown.breaks))
        kept = sum(line.difference.minor for line in shown.match_lines if line.code == "matched_tol")
        assert kept == sum(pair.residual.minor for pair in shown.pairs if pair.state == "MATCHED_TOL")
    assert counts == sorted(counts, reverse=True)


# --- 13: mirror -----------------------------------------------------------------------------------


def swapping_the_sides_negates_every_difference(told: Told) -> None:
    """Links do not depend on which side is called left."""
    params = Params(*BOTH, as_of=KNOWN, accounts=("main", "shop"))
    facts = told.facts(params)
    lefts, rights = legs(Scope.of(params, facts), facts)
    chainless = [movement for movement in facts.movements if movement.role is not Role.INTENT]
    one, other = link(lefts, rights, chainless), link(rights, lefts, chainless)
    assert {(each.lefts, each.rights) for each in one.links} == {(each.rights, each.lefts) for each in other.links}
    assert (set(one.lefts), set(one.rights)) == (set(other.rights), set(other.lefts))
    assert dict(one.ambiguous) == dict(other.ambiguous)


# --- 18, 20: names and proof ------------------------------------------------------------------------


def a_break_keeps_its_name_while_it_changes_its_sort(told: Told) -> None:
    earlier, later = told.ask(as_of=SECOND + timedelta(days=1)), told.ask()
    by_place = {(each.plane, each.left, each.right, each.currency): each.break_id for each in earlier.breaks}
    for each in later.breaks:
        place = (each.plane, each.left, each.right, each.currency)
        assert by_place.get(place, each.break_id) == each.break_id


@PROPERTY
@given(story=stories, missing=st.integers(0, 6))
def test_with_a_gap_nothing_is_ever_called_balanced(ledger: Ledger, story: Story, missing: int) -> None:
    facts = Teller().tell(story)
    streams = sorted({fact.about for fact in facts if "Coverage" in fact.about})
    fill(ledger, [fact for fact in facts if fact.about != streams[missing]])
    shown = ask(ledger)
    assert {verdict.standing.value for verdict in shown.verdicts} <= {"UNPROVEN"}
    assert shown.exit_code == 3


@pytest.mark.parametrize("cut", [SECOND, THIRD])
@PROPERTY
@given(story=stories)
def test_without_the_providers_word_nothing_is_proved(ledger: Ledger, story: Story, cut: datetime) -> None:
    facts = Teller().tell(story)
    fill(ledger, [fact for fact in facts if "ControlTotal" not in fact.about or fact.known < cut])
    days = JANUARY if cut == SECOND else FEBRUARY
    for verdict in ask(ledger, days).verdicts:
        if any(block.currency == verdict.currency for block in ask(ledger, days).balance):
            assert verdict.standing == "UNPROVEN"


# --- of one ledger, all of it -------------------------------------------------------------------------

CHECKS = (
    every_report_foots,
    neighbouring_periods_join,
    every_leg_is_in_exactly_one_state,
    open_items_roll_forward,
    the_closing_moves_by_the_facts_that_are_listed,
    a_time_zone_only_moves_rows_between_days,
    a_larger_tolerance_never_adds_a_break,
    swapping_the_sides_negates_every_difference,
    a_break_keeps_its_name_while_it_changes_its_sort,
)
"""They only ask, so one telling serves all of them: to tell is most of what such a test costs."""


@settings(PROPERTY, max_examples=12)
@given(story=stories)
def test_what_holds_of_every_ledger(ledger: Ledger, story: Story) -> None:
    told = Told(ledger, story)
    for check in CHECKS:
        check(told)
