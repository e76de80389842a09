"""The rest of what must hold for every ledger; docs/finance.md says which test holds which invariant."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.ledger import Ledger
from reconciler.movements import Movement, Role
from reconciler.report.facts import Facts
from reconciler.report.formats import csv_files
from reconciler.report.formats.columns import Kind
from reconciler.report.formats.sheets import sheets
from reconciler.report.gathering import gather
from reconciler.report.linking import legs
from reconciler.report.matching import Matching, Standing
from reconciler.report.model import Amount, BreakType, FeeRule, Params, Rules
from reconciler.report.scope import Scope, half_up
from tests.report.books import BEGINNING, TERMS, Books, break_types, on
from tests.report.formats.months import dossier
from tests.report.histories import KNOWN, Story, Teller, stories
from tests.report.test_invariants import BOTH, JANUARY, PROPERTY, ask, fill

pytestmark = pytest.mark.long
MIRRORED = {
    BreakType.MISSING_IN_STRIPE: BreakType.MISSING_IN_SHOPIFY,
    BreakType.MISSING_IN_SHOPIFY: BreakType.MISSING_IN_STRIPE,
}


# --- 1: fees ----------------------------------------------------------------------------------------


@PROPERTY
@given(story=stories, bps=st.integers(0, 400))
def test_fees_are_what_they_are_made_of(ledger: Ledger, story: Story, bps: int) -> None:
    """Sum of the details = actual; actual - expected = variance = sum of the exceptions."""
    fill(ledger, Teller().tell(story))
    shown = ask(ledger, rules=Rules(fee_rules=(FeeRule("main", "charge", bps, 30, "USD"),)))
    lines = {(block.currency, line.code): line for block in shown.balance for line in block.lines}
    for currency, section in shown.fees.items():
        fee = lines[currency, "charge"].fee
        assert fee is not None
        assert section.actual.minor == fee.minor == sum(each.amount.minor for each in section.details)
        if section.expected is not None and section.variance is not None:
            assert section.variance.minor == section.actual.minor - section.expected.minor
            assert section.variance.minor == sum(each.difference.minor for each in section.exceptions)


# --- 13: mirror -------------------------------------------------------------------------------------


def mirrored(scope: Scope, facts: Facts) -> Facts:
    """The shop's legs become the processor's, and the other way round, each at the time that counts for it."""
    lefts, rights = legs(scope, facts)
    moved: list[Movement] = [
        replace(
            leg.movement,
            role=Role.CHARGE if leg.minor >= 0 else Role.REFUND,
            gateway=None,
            occurred_at=leg.at,
            parent=None,
        )
        for leg in lefts
    ]
    moved += [
        replace(leg.movement, role=Role.SALE, gateway="stripe", occurred_at=leg.at, entry_id=None, parent=None)
        for leg in rights
    ]
    return Facts(facts.terms, movements=tuple(sorted(moved, key=lambda each: each.ref)))


def said(standing: Standing) -> set[tuple[str, str, str, int, int, int]]:
    return {
        (each.type.value, each.left, each.right, each.left_amount.minor, each.right_amount.minor, each.difference.minor)
        for each in (*standing.breaks, *standing.timing)
    }


@PROPERTY
@given(story=stories)
def test_the_mirrored_ledger_has_the_mirrored_differences(ledger: Ledger, story: Story) -> None:
    """Without second charges, which are a matter of one side only."""
    once = replace(story, orders=tuple(replace(order, twice=False) for order in story.orders))
    fill(ledger, Teller().tell(once))
    params = Params(*BOTH, as_of=KNOWN, accounts=("main", "shop"))
    with ledger.store.read() as tx:
        facts = gather(tx, TERMS, params)
    scope = Scope.of(params, facts)
    for cut in (scope.start + timedelta(days=9), scope.start + timedelta(days=31), scope.end):
        here = said(Matching(scope, facts).at(cut, since=scope.start))
        there = said(Matching(scope, mirrored(scope, facts)).at(cut, since=scope.start))
        turned = {
            (MIRRORED.get(BreakType(sort), BreakType(sort)).value, right, left, right_minor, left_minor, -difference)
            for sort, left, right, left_minor, right_minor, difference in there
        }
        assert here == turned


# --- 15: what is exported is what was computed -------------------------------------------------------


@PROPERTY
@given(story=stories)
def test_every_section_of_any_ledger_reads_back_to_the_same_integers(ledger: Ledger, story: Story) -> None:
    fill(ledger, Teller().tell(story))
    with dossier(Books(ledger), as_of=KNOWN) as found:
        for sheet in sheets(found):
            text = "".join(csv_files.text(sheet)).removeprefix("\ufeff")
            head, *read = list(csv.reader(io.StringIO(text, newline="")))
            rows = list(sheet.rows())
            assert (len(head), len(read)) == (len(sheet.columns), len(rows))
            for row, cells in zip(rows, read, strict=True):
                for column, value, cell in zip(sheet.columns, row, cells, strict=True):
                    if column.kind is Kind.AMOUNT and isinstance(value, Amount):
                        assert Decimal(cell).scaleb(value.exponent) == value.minor


# --- 17: allocations --------------------------------------------------------------------------------


@PROPERTY
@given(story=stories)
def test_no_leg_gives_more_than_it_has(ledger: Ledger, story: Story) -> None:
    fill(ledger, Teller().tell(story))
    params = Params(*BOTH, as_of=KNOWN, accounts=("main", "shop"))
    with ledger.store.read() as tx:
        facts = gather(tx, TERMS, params)
    held = {leg.ref: leg.minor for some in legs(Scope.of(params, facts), facts) for leg in some}
    allocated: dict[str, int] = defaultdict(int)
    partners: dict[str, set[str]] = defaultdict(set)
    for pair in ask(ledger, BOTH).pairs:
        for ref, other in ((pair.left, pair.right), (pair.right, pair.left)):
            if ref:
                allocated[ref] += pair.amount.minor
                partners[ref].add(other)
    for ref, minor in allocated.items():
        assert abs(minor) <= abs(held[ref])
        assert len(partners[ref]) == 1 or minor == held[ref], "several to one only where they are exactly as much"


# --- 19: exchange -----------------------------------------------------------------------------------


@PROPERTY
@given(
    minor=st.integers(100, 5_000_000),
    rate=st.decimals("0.0050", "180", places=4),
    off=st.integers(-4, 4),
    into=st.sampled_from((("jpy", 0), ("eur", 2), ("kwd", 3))),
)
def test_a_rate_holds_to_one_minor_unit_or_is_a_break(
    ledger: Ledger, minor: int, rate: Decimal, off: int, into: tuple[str, int]
) -> None:
    fill(ledger, [])
    currency, decimals = into
    books = Books(ledger, with_shop=False)
    settled = half_up((Decimal(minor) * rate).scaleb(decimals - 2)) + off
    books.charge(minor, at=on(5), settled=(settled, currency, float(rate)))
    found = books.report()
    assert break_types(found) == (["FX_DIFF"] if abs(off) > 1 else [])
    assert [each.difference.minor for each in found.fx.exceptions] == ([off] if abs(off) > 1 else [])


# --- 20: as soon as the tail of any stream is missing -------------------------------------------------


@PROPERTY
@given(story=stories, hours=st.integers(1, 700), stream=st.integers(0, 6))
def test_a_stream_that_ends_too_early_proves_nothing(ledger: Ledger, story: Story, hours: int, stream: int) -> None:
    facts = Teller().tell(story)
    kept = [fact for fact in facts if "Coverage" not in fact.about]
    fill(ledger, kept)
    books = Books(ledger)
    streams = [(term.name, each) for term in TERMS for each in sorted(term.finance.streams)]
    account, short = streams[stream % len(streams)]
    end = ask(ledger).header.end
    books.covers(until=KNOWN, since=BEGINNING, but=f"{account}/{short}")
    assert {verdict.standing.value for verdict in ask(ledger).verdicts} <= {"UNPROVEN"}
    books.covers(until=end - timedelta(hours=hours), since=BEGINNING)
    shown = ask(ledger)
    assert {verdict.standing.value for verdict in shown.verdicts} <= {"UNPROVEN"}
    assert shown.exit_code == 3
    books.covers(until=KNOWN, since=BEGINNING)
    assert "UNPROVEN" not in {verdict.standing.value for verdict in ask(ledger, JANUARY).verdicts}
