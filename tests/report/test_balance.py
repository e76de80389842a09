"""One balance's page from plain values, every line by hand: no ledger, so that each figure shows on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from reconciler.ledger.control import TotalFact
from reconciler.ledger.finance import BalanceKey, DaySum, EntryChange
from reconciler.model import ResourceRef
from reconciler.money import Money
from reconciler.movements import Condition, Movement, Role
from reconciler.report import balance
from reconciler.report.facts import BalanceFacts, Facts
from reconciler.report.model import Amount, BalanceBlock, Params
from reconciler.report.scope import Scope
from tests.report.books import LATER, TERMS, on

KEY = BalanceKey("main", "payments", "USD")
PARAMS = Params(date(2026, 1, 1), date(2026, 1, 3), LATER, accounts=("main", "shop"))
END = on(4, 0)
SCOPE = Scope.of(PARAMS, Facts(TERMS))
PLAIN = BalanceFacts(
    key=KEY,
    has_entries=True,
    base=700,
    basis="control_total",
    basis_at=on(1, 0, month=12, year=2025),
    basis_quiet=True,
    before_start=300,
    provider=TotalFact(KEY, 10_000, END),
    rolled_back=0,
    day_totals=(),
)


def day_sum(category: str, day: int, gross: int, fee: int = 0, count: int = 1, key: BalanceKey = KEY) -> DaySum:
    return DaySum(key, category, day, count, gross, fee, gross - fee)


SUMS = (
    day_sum("zoo", 0, 11),
    day_sum("payout", 2, -20_000, 25),
    day_sum("fee", 1, -700, count=3),
    day_sum("dispute", 1, -2000, 1500),
    day_sum("dispute_reversal", 2, 2100),
    day_sum("charge", 0, 30_000, 930, count=2),
    day_sum("charge", 2, 5000, 170),
    day_sum("charge_failure", 1, -40),
    day_sum("partial_capture_reversal", 1, -5),
    day_sum("refund", 1, -4000, -100),
    day_sum("refund_failure", 2, 60),
    day_sum("network_cost", 1, -8),
    day_sum("payout_reversal", 2, 300),
)
NET = 17 + 11 - 700 - 3500 + 2100 + 29_070 + 4830 - 40 - 5 - 3900 + 60 - 8 - 17
ENDS = 1000 + NET - 20_025 + 300


def block(facts: BalanceFacts = PLAIN, sums: Sequence[DaySum] = SUMS, explained: int = 0, **more: Any) -> BalanceBlock:
    return balance.block(SCOPE, replace(Facts(TERMS), **more), facts, sums, explained)


def minor(amount: Amount | None) -> int | None:
    return None if amount is None else amount.minor


def lines(of: BalanceBlock) -> list[tuple[str, int | None, int | None, int | None, int | None]]:
    return [(each.code, each.count, minor(each.gross), minor(each.fee), minor(each.net)) for each in of.lines]


def test_every_line_in_its_order_and_payouts_apart_from_the_activity() -> None:
    assert lines(block(explained=4000)) == [
        ("opening", None, None, None, 1000),
        ("charge", 3, 35_000, 1100, 33_900),
        ("refund", 1, -4000, -100, -3900),
        ("dispute", 1, -2000, 1500, -3500),
        ("dispute_reversal", 1, 2100, 0, 2100),
        ("fee", 3, -700, 0, -700),
        ("charge_failure", 1, -40, 0, -40),
        ("network_cost", 1, -8, 0, -8),
        ("partial_capture_reversal", 1, -5, 0, -5),
        ("refund_failure", 1, 60, 0, 60),
        ("zoo", 1, 11, 0, 11),
        ("net_activity", None, None, None, NET),
        ("payout", 1, -20_000, 25, -20_025),
        ("payout_reversal", 1, 300, 0, 300),
        ("payouts_total", None, None, None, -19_725),
        ("closing", None, None, None, ENDS),
        ("provider", None, None, None, 10_000),
        ("difference", None, None, None, 10_000 - ENDS),
        ("explained", None, None, None, 4000),
        ("unexplained", None, None, None, 6000 - ENDS),
        ("bridge", None, None, None, ENDS),
    ]
    assert (ENDS, balance.difference(PLAIN, SUMS)) == (9193, 807)


def test_each_bar_of_the_waterfall_begins_where_the_one_before_it_ended() -> None:
    bars = [(each.code, each.amount.minor, each.start.minor, each.end.minor) for each in block().waterfall]
    assert bars == [
        ("charges", 34_955, 1000, 35_955),
        ("refunds", -3940, 35_955, 32_015),
        ("disputes", 100, 32_015, 32_115),
        ("fees", -3233, 32_115, 28_882),
        ("other", 11, 28_882, 28_893),
        ("payouts", -19_700, 28_893, 9193),
    ]


def test_each_day_ends_with_what_it_moved_beside_the_providers_word() -> None:
    days = block(replace(PLAIN, day_totals=((0, 31_000), (2, 9193)))).days
    assert [(each.day.day, each.closing.minor, minor(each.provider), minor(each.unexplained)) for each in days] == [
        (1, 30_081, 31_000, 919),
        (2, 22_028 - 100, None, None),
        (3, 9193, 9193, 0),
    ]


# --- a period that rests on a lock ----------------------------------------------------------------


def test_what_became_known_after_the_lock_is_a_step_of_its_own() -> None:
    def change(name: str, gross: int, fee: int, *, gone: bool = False) -> EntryChange:
        return EntryChange(KEY, name, on(1), LATER, "txn", gross - fee, gross, fee, gone)

    late = (change("txn_1", 500, 20), change("txn_1", 400, 10, gone=True), change("txn_2", 7, 1))
    locked = block(replace(PLAIN, signed=850), late={KEY: late})
    assert lines(locked)[:2] == [("opening", None, None, None, 850), ("prior_period_adjustment", 2, 107, 11, 150)]
    assert locked.opening_basis == "locked"
    assert locked.line("closing") == block().line("closing"), "nothing is counted twice"
    bars = [(each.code, each.amount.minor, each.start.minor, each.end.minor) for each in locked.waterfall]
    assert bars[:2] == [("prior_period_adjustment", 150, 850, 1000), ("charges", 34_955, 1000, 35_955)]


def test_a_lock_that_nothing_late_touched_has_a_line_without_entries_and_no_bar() -> None:
    locked = block(replace(PLAIN, signed=1000))
    assert lines(locked)[1] == ("prior_period_adjustment", 0, 0, 0, 0)
    assert locked.waterfall == block().waterfall


# --- the provider's word --------------------------------------------------------------------------

READ_LATER = TotalFact(KEY, 10_000, END + timedelta(hours=6))


def test_a_word_from_after_the_cut_off_is_rolled_back() -> None:
    facts = replace(PLAIN, provider=READ_LATER, rolled_back=450)
    later = block(facts)
    assert (later.line("provider").net, later.provider_basis) == (SCOPE.balance(9550, KEY), "rolled_back")
    assert later.provider_as_at == END + timedelta(hours=6)
    assert later.notes == (
        "The provider's balance was read at 2026-01-04 06:00:00Z, after the cut-off, and rolled back by the entries in"
        " between.",
    )
    assert balance.difference(facts, SUMS) == 9550 - ENDS


def test_a_word_at_the_cut_off_needs_no_note() -> None:
    assert (block().provider_basis, block().provider_as_at, block().notes) == ("at_cut_off", END, ())
    assert block().opening_basis == "control_total"


def test_without_a_word_nothing_is_proved_and_nothing_compared() -> None:
    facts = replace(PLAIN, provider=None)
    unproved = block(facts)
    assert [unproved.line(code).net for code in ("provider", "difference", "explained", "unexplained")] == [None] * 4
    assert (unproved.provider_basis, unproved.provider_as_at) == ("missing", None)
    assert unproved.notes == (
        "The provider's balance was not read at or after the cut-off: the closing is not proved.",
    )
    assert balance.difference(facts, SUMS) is None


def test_a_balance_that_nothing_ever_moved_needs_no_word() -> None:
    facts = replace(PLAIN, provider=None, has_entries=False, base=0, before_start=0)
    still = block(facts, sums=())
    assert (still.provider_basis, still.notes) == ("no_entries", ())
    assert [minor(still.line(code).net) for code in ("closing", "provider", "difference")] == [0, 0, 0]
    assert balance.difference(facts, ()) == 0


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        (
            {"basis": "anchored"},
            "The opening is anchored: the ledger begins inside this account's history, so what it held before was"
            " taken from the provider's balance of 2025-12-01 00:00:00Z, less the entries until then.",
        ),
        (
            {"basis_quiet": False},
            "The opening is uncertain: entries are dated in the second of the provider's balance of 2025-12-01"
            " 00:00:00Z, which may or may not have held them, and it was not read in a quieter one close by.",
        ),
        (
            {"provider": TotalFact(KEY, 10_000, END, quiet=False)},
            "The provider's balance is uncertain: entries are dated in the second of the provider's balance of"
            " 2026-01-04 00:00:00Z, which may or may not have held them, and it was not read in a quieter one close"
            " by.",
        ),
        (
            {"basis": "none"},
            "No balance was ever stated by the provider, so the opening counts known entries only.",
        ),
    ],
    ids=["anchored", "a busy opening", "a busy word", "none"],
)
def test_what_the_reader_must_know_is_said(changed: dict[str, Any], note: str) -> None:
    assert block(replace(PLAIN, **changed)).notes == (note,)


# --- on the way to the bank -----------------------------------------------------------------------


PAID_OUT = on(3)


def payout(
    amount: int = 5000,
    currency: str = "USD",
    *,
    at: datetime = PAID_OUT,
    arrives: datetime | None = END,
    **more: Any,
) -> Movement:
    account = str(more.pop("account", "main"))
    given: dict[str, Any] = {"role": Role.PAYOUT, "automatic": True, "condition": Condition.SETTLED}
    return Movement(
        ref=ResourceRef("stripe", account, "payout", "po_1"),
        status="paid", amount=Money(amount, currency), occurred_at=at, arrives_at=arrives, **given | more,
    )  # fmt: skip


def test_the_bridge_holds_automatic_payouts_that_arrive_after_the_end() -> None:
    instant = timedelta(microseconds=1)
    on_the_way = (payout(5000), payout(70, at=END - instant, arrives=on(9)), payout(-800))
    others = (
        payout(automatic=False), payout(role=Role.CHARGE), payout(account="other"), payout(currency="EUR"),
        payout(at=END), payout(arrives=END - instant), payout(arrives=None),
    )  # fmt: skip
    bridged = block(movements=(*on_the_way, *others))
    assert bridged.line("bridge").net == SCOPE.balance(ENDS + 4270, KEY), "a bank debit is on its way here"


def test_only_the_balance_of_payments_is_paid_out_of() -> None:
    key = BalanceKey("main", "issuing", "USD")
    bridged = block(replace(PLAIN, key=key), movements=(payout(),))
    assert bridged.line("bridge").net == SCOPE.balance(ENDS, key)
    assert (bridged.account, bridged.balance_type, bridged.currency) == ("main", "issuing", "USD")


def test_sums_are_told_apart_by_their_balance() -> None:
    other = BalanceKey("main", "payments", "EUR")
    sums = (day_sum("charge", 0, 1), day_sum("charge", 0, 2, key=other), day_sum("fee", 1, 3))
    assert balance.sums_by_balance(Facts(TERMS, day_sums=sums)) == {KEY: [sums[0], sums[2]], other: [sums[1]]}
