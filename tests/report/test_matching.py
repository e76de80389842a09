"""In which state each leg stands at a cut-off, from plain values: the edges of every rule, without a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from reconciler.ledger import aside
from reconciler.model import ResourceRef
from reconciler.money import Money
from reconciler.movements import Clue, Condition, Key, Movement, Role
from reconciler.report.facts import Facts
from reconciler.report.matching import Flow, Matching, Standing
from reconciler.report.model import OpenItem, Params, Rules
from reconciler.report.scope import Scope
from tests.report.books import END, LATER, START, STRIPE_TERMS, TERMS, on

INSTANT = timedelta(microseconds=1)
RULES = Rules(tolerance_minor=3)
NOON = on(5)


def sale(
    number: int, minor: int = 5000, at: datetime = NOON, *clues: tuple[Key, str], currency: str = "USD", **more: Any
) -> Movement:
    given: dict[str, Any] = {"condition": Condition.SETTLED, "gateway": "stripe"}
    return Movement(
        ref=ResourceRef("shopify", "shop", "transaction", str(number)),
        role=Role.SALE,
        status="success",
        amount=Money(minor, currency),
        occurred_at=at,
        clues=tuple(Clue(key, value) for key, value in clues),
        **given | more,
    )


def moved(
    name: str, minor: int = 5000, at: datetime = NOON, *clues: tuple[Key, str], currency: str = "USD", **more: Any
) -> Movement:
    """A charge or, below zero, a refund; it answers to its own id."""
    given: dict[str, Any] = {"condition": Condition.SETTLED, "role": Role.CHARGE if minor >= 0 else Role.REFUND}
    own = ((Key.PROCESSOR, name), *clues)
    return Movement(
        ref=ResourceRef("stripe", "main", "charge" if minor >= 0 else "refund", name),
        status="succeeded",
        amount=Money(minor, currency),
        occurred_at=at,
        clues=tuple(Clue(key, value) for key, value in own),
        **given | more,
    )


def invoice(payments: Sequence[tuple[str, int]]) -> Movement:
    return Movement(
        ref=ResourceRef("stripe", "main", "invoice", "in_1"),
        role=Role.INVOICE,
        condition=Condition.SETTLED,
        status="paid",
        amount=Money(9900, "USD"),
        occurred_at=NOON,
        payments=tuple(payments),
    )


def stands(
    *movements: Movement, cut: datetime = END, since: datetime = START, rules: Rules = RULES, **more: Any
) -> Standing:
    facts = Facts(more.pop("terms", TERMS), movements=movements, **more)
    params = Params(date(2026, 1, 1), date(2026, 1, 31), LATER, accounts=("main", "shop"), rules=rules)
    return Matching(Scope.of(params, facts), facts).at(cut, since=since)


def names(items: Sequence[OpenItem]) -> list[tuple[str, str, str, int, int, int]]:
    return [
        (each.type.value, short(each.left), short(each.right), each.left_amount.minor, each.right_amount.minor,
         each.difference.minor)
        for each in items
    ]  # fmt: skip


def short(ref: str) -> str:
    return ref.rpartition("/")[2]


def pairs(flow: Flow) -> list[tuple[str, str, str, str, str, int, int]]:
    return [
        (each.plane.value, each.state, each.key, short(each.left), short(each.right), each.amount.minor,
         each.residual.minor)
        for each in flow.pairs
    ]  # fmt: skip


def empty(standing: Standing, *but: str) -> bool:
    return not any(getattr(standing, name) for name in {"flows", "breaks", "timing", "pending"} - set(but))


# --- linked legs ----------------------------------------------------------------------------------

SOLD = sale(1, 5003, on(5), (Key.PROCESSOR, "ch_1"))
PAID = moved("ch_1", 5000, on(7))


def test_a_match_says_both_sides_its_key_and_the_days_between_them() -> None:
    standing = stands(SOLD, PAID)
    (flow,) = standing.flows
    assert (flow.code, flow.currency, flow.left, flow.right, flow.at) == ("matched_tol", "USD", 5003, 5000, on(7))
    assert flow.gap_days == 2
    assert pairs(flow) == [("P3", "MATCHED_TOL", "K1", "1", "ch_1", 5000, 3)]
    assert empty(standing, "flows")
    (exact,) = stands(replace(SOLD, amount=Money(5000, "USD")), PAID).flows
    assert (exact.code, pairs(exact)) == ("matched", [("P3", "MATCHED", "K1", "1", "ch_1", 5000, 0)])


def test_beyond_the_tolerance_it_is_a_mismatch_of_either_sign() -> None:
    for minor, difference in ((5004, 4), (4996, -4)):
        standing = stands(replace(SOLD, amount=Money(minor, "USD")), PAID)
        assert names(standing.breaks) == [("AMOUNT_MISMATCH", "1", "ch_1", minor, 5000, difference)]
        assert (standing.breaks[0].account, standing.breaks[0].opened_at) == ("main", on(7))
        assert empty(standing, "breaks")
    assert stands(replace(SOLD, amount=Money(4997, "USD")), PAID).flows


def test_across_currencies_the_whole_left_amount_is_the_difference() -> None:
    standing = stands(SOLD, replace(PAID, amount=Money(5003, "EUR")))
    assert names(standing.breaks) == [("CURRENCY_MISMATCH", "1", "ch_1", 5003, 5003, 5003)]
    assert empty(standing, "breaks")


def test_several_legs_that_are_as_much_together_are_one_match_with_a_pair_for_each() -> None:
    payments = (sale(1, 2000, on(4), (Key.PROCESSOR, "ch_1")), sale(2, 3000, on(5), (Key.PROCESSOR, "ch_1")))
    (flow,) = stands(*payments, PAID).flows
    assert (flow.left, flow.right, flow.gap_days) == (5000, 5000, 3)
    assert [each[3:6] for each in pairs(flow)] == [("1", "ch_1", 2000), ("2", "ch_1", 3000)]
    charges = (moved("ch_1", 2000, on(5)), moved("ch_2", 3000, on(6)))
    one = sale(1, 5000, on(5), (Key.PROCESSOR, "ch_1"), (Key.PROCESSOR, "ch_2"))
    (flow,) = stands(one, *charges).flows
    assert [each[3:6] for each in pairs(flow)] == [("1", "ch_1", 2000), ("1", "ch_2", 3000)]


def test_a_flow_belongs_to_the_period_of_its_later_leg() -> None:
    assert stands(SOLD, PAID, since=on(7)).flows, "the very first instant is inside"
    assert empty(stands(SOLD, PAID, since=on(7) + INSTANT)), "and before it, it is settled and over"


def test_what_the_cut_parts_waits_for_the_day_on_which_its_other_side_comes() -> None:
    waiting = stands(SOLD, PAID, cut=on(7))
    assert names(waiting.timing) == [("MISSING_IN_STRIPE", "1", "", 5003, 0, 5003)]
    assert (waiting.timing[0].clears_on, waiting.timing[0].suggestion) == (date(2026, 1, 7), None)
    assert empty(waiting, "timing")
    early = stands(replace(SOLD, occurred_at=on(9)), PAID, cut=on(9))
    assert names(early.timing) == [("MISSING_IN_SHOPIFY", "", "ch_1", 0, 5000, -5000)]
    assert early.timing[0].clears_on == date(2026, 1, 9)
    assert empty(stands(SOLD, PAID, cut=on(5))), "nothing of it was known to be before the cut-off"
    assert empty(stands(replace(SOLD, occurred_at=on(9)), PAID, cut=on(7)))


# --- legs alone -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "state"), [(2, "timing"), (3, "breaks")])
def test_alone_is_timing_within_the_grace_and_a_break_after_it(days: int, state: str) -> None:
    at = END - timedelta(days=days) - INSTANT
    for leg, name in ((sale(1, 700, at), "MISSING_IN_STRIPE"), (moved("ch_1", 700, at), "MISSING_IN_SHOPIFY")):
        standing = stands(leg)
        (found,) = getattr(standing, state)
        assert (found.type.value, found.age_days, found.clears_on) == (name, days, None)
        assert empty(standing, state)
    assert empty(stands(sale(1, at=END), moved("ch_1", at=END))), "what happens at the cut-off is after it"


def test_what_looks_like_the_other_side_is_a_word_and_no_match() -> None:
    found = stands(sale(1), moved("ch_1", at=on(6))).breaks
    assert [each.suggestion for each in found] == [
        "Perhaps: stripe/main/charge/ch_1 (same amount)",
        "Perhaps: shopify/shop/transaction/1 (same amount)",
    ]


def test_candidates_are_all_named_and_none_is_picked() -> None:
    order = (Key.ORDER, "77")
    standing = stands(
        sale(1, 5000, END - INSTANT, order), moved("ch_1", 5000, on(5), order), moved("ch_2", 5000, on(6), order)
    )
    assert [(each.type.value, short(each.left or each.right), each.suggestion) for each in standing.breaks] == [
        ("AMBIGUOUS", "1", "Several candidates, none picked: stripe/main/charge/ch_1, stripe/main/charge/ch_2"),
        ("AMBIGUOUS", "ch_1", "Several candidates, none picked: shopify/shop/transaction/1"),
        ("AMBIGUOUS", "ch_2", "Several candidates, none picked: shopify/shop/transaction/1"),
    ]
    assert empty(standing, "breaks"), "also what is young is for a person"


# --- invoices -------------------------------------------------------------------------------------


def test_what_pays_an_invoice_and_gives_it_back_needs_no_order() -> None:
    charge = moved("ch_1", 9900, on(7), parent="pi_1")
    refund = moved("re_1", -900, on(8), parent="ch_1")
    standing = stands(invoice([("pi_1", 9950)]), charge, refund)
    paid, returned = standing.flows
    assert (paid.code, paid.left, paid.right, paid.at) == ("invoice", 9950, 9900, on(7))
    assert pairs(paid) == [("P4", "INVOICE", "invoice", "in_1", "ch_1", 9900, 50)]
    assert (returned.left, returned.right, returned.at) == (-900, -900, on(8))
    assert pairs(returned) == [("P4", "INVOICE", "invoice", "in_1", "re_1", -900, 0)]
    assert empty(standing, "flows")
    (by_charge,) = stands(invoice([("ch_9", 100)]), moved("ch_9", 100, parent="pi_9")).flows
    assert by_charge.left == 100


def test_the_payment_intents_word_goes_before_the_charges_and_nothing_said_is_what_was_charged() -> None:
    charge = moved("ch_1", 9900, on(7), parent="pi_1")
    (both,) = stands(invoice([("ch_1", 1), ("pi_1", 9800)]), charge).flows
    assert (both.left, both.right) == (9800, 9900)
    (unsaid,) = stands(invoice([("pi_1", 0)]), charge).flows
    assert (unsaid.left, unsaid.right, unsaid.pairs[0].residual.minor) == (9900, 9900, 0)


def test_an_invoices_payment_counts_in_its_period_and_is_alone_in_none() -> None:
    charge = moved("ch_1", 9900, on(7), parent="pi_1")
    assert stands(invoice([("pi_1", 9900)]), charge, since=on(7)).flows
    assert empty(stands(invoice([("pi_1", 9900)]), charge, since=on(7) + INSTANT))


def test_a_charge_and_a_refund_that_no_invoice_names_are_alone() -> None:
    found = stands(
        invoice([("pi_9", 1)]), moved("ch_1", 100), moved("re_1", -30, parent="ch_1"), moved("re_2", -40, parent=None)
    ).breaks
    assert [short(each.right) for each in found] == ["ch_1", "re_1", "re_2"]
    assert [each.difference.minor for each in found] == [-100, 30, 40]


# --- a second payment of the same thing -----------------------------------------------------------

ORDER = (Key.ORDER, "77")
FIRST = (sale(1, 5000, on(4), (Key.PROCESSOR, "ch_1"), ORDER), moved("ch_1", 5000, on(5), ORDER))
SECOND = moved("ch_2", 5000, on(6), ORDER)


def test_a_duplicate_is_what_of_it_was_not_given_back_by_the_cut_off() -> None:
    refunds = (moved("re_1", -2000, on(8), parent="ch_2"), moved("re_2", -3000, on(10), parent="ch_2"))
    for cut, left in ((on(8), 5000), (on(8) + INSTANT, 3000), (on(10), 3000)):
        standing = stands(*FIRST, SECOND, *refunds, cut=cut)
        assert names(standing.breaks) == [("DUPLICATE", "", "ch_2", 0, left, -left)]
        assert [each.code for each in standing.flows] == ["matched"]
    gone = stands(*FIRST, SECOND, *refunds, cut=on(10) + INSTANT)
    assert empty(gone, "flows")
    flow = gone.flows[1]
    assert (flow.code, flow.left, flow.right, flow.at, flow.gap_days) == ("auto_resolved", 0, 0, on(10), None)
    assert pairs(flow) == [("P3", "AUTO_RESOLVED", "refunds", "", "ch_2", 5000, 0)]


def test_a_refund_in_another_currency_makes_good_for_nothing() -> None:
    standing = stands(*FIRST, SECOND, moved("re_1", -5000, on(8), parent="ch_2", currency="EUR"))
    assert [each[:3] for each in names(standing.breaks)] == [
        ("DUPLICATE", "", "ch_2"),
        ("MISSING_IN_SHOPIFY", "", "re_1"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        replace(SECOND, amount=Money(4999, "USD")),
        replace(SECOND, amount=Money(5000, "EUR")),
        replace(SECOND, clues=(Clue(Key.ORDER, "78"),)),
        replace(SECOND, clues=(Clue(Key.SHOP, "77"),)),
    ],
    ids=["amount", "currency", "order", "key"],
)
def test_only_the_same_amount_for_the_same_order_is_a_duplicate(other: Movement) -> None:
    assert [each[0] for each in names(stands(*FIRST, other).breaks)] == ["MISSING_IN_SHOPIFY"]


def test_a_second_payment_of_what_did_not_match_is_no_duplicate() -> None:
    sold, paid = FIRST
    found = names(stands(replace(sold, amount=Money(9, "USD")), paid, SECOND).breaks)
    assert [each[0] for each in found] == ["AMOUNT_MISMATCH", "MISSING_IN_SHOPIFY"]


def test_a_duplicate_of_what_was_matched_in_an_earlier_period_is_one_as_well() -> None:
    standing = stands(*FIRST, SECOND, since=on(6))
    assert [each[0] for each in names(standing.breaks)] == ["DUPLICATE"]


def test_a_refund_that_is_matched_itself_is_no_second_payment() -> None:
    back = (sale(2, -5000, on(8), (Key.PROCESSOR, "re_1"), ORDER), moved("re_1", -5000, on(8), ORDER, parent="ch_1"))
    again = moved("re_2", -5000, on(9), ORDER, parent="ch_1")
    standing = stands(*FIRST, *back, again)
    assert [each[:3] for each in names(standing.breaks)] == [("MISSING_IN_SHOPIFY", "", "re_2")]


# --- what is no leg -------------------------------------------------------------------------------


def test_money_over_other_gateways_is_out_of_scope_on_the_gateways_line() -> None:
    cash = sale(1, 1500, NOON, gateway="cash")
    (flow,) = stands(cash, sale(2, 1, NOON, gateway="cash", condition=Condition.PENDING)).flows
    assert (flow.code, flow.currency, flow.left, flow.right, flow.at) == ("out_of_scope.cash", "USD", 1500, 0, NOON)
    assert stands(cash, since=NOON).flows
    assert empty(stands(cash, since=NOON + INSTANT))
    assert empty(stands(cash, cut=NOON))


WAITING = sale(1, 5000, on(5), (Key.SHOP, "pi_1"), (Key.INTENT, "pi_1"), condition=Condition.PENDING)
FAILED = moved("pi_1", 5000, on(6), role=Role.INTENT, condition=Condition.FAILED)


def test_a_sale_that_waits_for_what_has_failed_is_a_status_mismatch() -> None:
    standing = stands(WAITING, replace(FAILED, status="canceled"))
    assert names(standing.breaks) == [("STATUS_MISMATCH", "1", "pi_1", 5000, 0, 5000)]
    (found,) = standing.breaks
    assert (found.opened_at, found.account) == (on(6), "main")
    assert found.suggestion == "The shop still waits; the processor says canceled."
    assert empty(standing, "breaks")
    by_id = replace(WAITING, clues=(Clue(Key.PROCESSOR, "pi_1"),))
    assert stands(by_id, replace(FAILED, occurred_at=on(4))).breaks[0].opened_at == on(5)


def test_a_sale_that_waits_for_something_else_is_pending_and_nothing_more() -> None:
    for others in (
        (replace(FAILED, condition=Condition.PENDING),),
        (replace(FAILED, ref=replace(FAILED.ref, id="pi_2")),),
        (replace(FAILED, role=Role.DISPUTE),),
        (),
    ):
        standing = stands(WAITING, *others)
        assert [leg.ref for leg in standing.pending] == [str(WAITING.ref)]
        assert empty(standing, "pending")
    unnamed = replace(WAITING, clues=(Clue(Key.TRANSACTION, "pi_1"),))
    assert stands(unnamed, FAILED).pending


def test_what_fails_at_the_cut_off_has_not_failed_before_it() -> None:
    assert stands(WAITING, FAILED, cut=on(6)).pending
    assert not stands(WAITING, FAILED, cut=on(6)).breaks
    assert stands(WAITING, FAILED, cut=on(6) + INSTANT).breaks
    assert empty(stands(WAITING, FAILED, cut=on(5)))


def test_a_payment_that_failed_itself_is_neither_open_nor_pending() -> None:
    assert empty(stands(replace(WAITING, condition=Condition.FAILED), replace(FAILED, role=Role.CHARGE)))


# --- without a shop, and what was set aside -------------------------------------------------------


def test_without_a_shop_nothing_is_missing_anywhere() -> None:
    assert empty(stands(moved("ch_1"), invoice([("ch_1", 5000)]), terms=(STRIPE_TERMS,)))


def settled(code: str, **more: Any) -> aside.Flow:
    given: dict[str, Any] = {
        "key": "K1", "currency": "USD", "minor": 5000, "left_ref": "shopify/shop/transaction/1",
        "right_ref": "stripe/main/charge/ch_1", "country": None, "earlier": on(5), "later": on(7),
    }  # fmt: skip
    return aside.Flow(code=code, **given | more)


def test_what_was_set_aside_says_what_its_movements_said() -> None:
    sold = replace(SOLD, amount=Money(5000, "USD"))
    assert stands(sold, PAID).flows == stands(aside=(settled("matched"),)).flows
    lone = settled("out_of_scope.cash", key="", right_ref="", minor=1500, earlier=NOON, later=NOON)
    assert stands(sale(1, 1500, NOON, gateway="cash")).flows == stands(aside=(lone,)).flows


def test_what_was_set_aside_belongs_to_the_period_of_its_later_leg() -> None:
    for since, cut, counts in (
        (on(7), END, True),
        (on(7) + INSTANT, END, False),
        (START, on(7) + INSTANT, True),
        (START, on(7), False),
    ):
        assert bool(stands(aside=(settled("matched"),), since=since, cut=cut).flows) is counts
