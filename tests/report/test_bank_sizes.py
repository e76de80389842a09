"""Many payouts and many lines of a bank: what it takes to bring them together follows their number, not its square."""

from __future__ import annotations

import sys
from datetime import date
from types import FrameType
from typing import Any

import pytest

from reconciler.ledger.bank import BankLine, record_statement
from reconciler.report.bank import BankMatch
from reconciler.report.facts import Facts
from reconciler.report.scope import Scope
from tests.report.books import BEGINNING, END, Books, break_types, on


def steps(monkeypatch: pytest.MonkeyPatch, books: Books) -> int:
    """Calls that are made from the matching while a report is made."""
    made, counted = BankMatch, 0
    where = sys.modules["reconciler.report.bank"].__file__

    def hear(frame: FrameType, what: str, _found: Any) -> None:
        nonlocal counted
        counted += what in ("call", "c_call") and frame.f_code.co_filename == where

    def matched(scope: Scope, facts: Facts) -> BankMatch:
        sys.setprofile(hear)
        try:
            found = made(scope, facts)
            found.breaks()
        finally:
            sys.setprofile(None)
        return found

    monkeypatch.setattr("reconciler.report.engine.BankMatch", matched)
    books.report()
    return counted


@pytest.mark.parametrize("missing", [False, True])
def test_ten_times_as_many_payouts_and_lines_take_ten_times_as_many_steps(
    books: Books, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    books.states(0, at=BEGINNING)
    counts, there = [], 0
    for many in (8, 80):
        for number in range(there, many):
            entry = books.entry("charge", 10000 + number, at=on(5))
            books.payout(10000 + number, at=on(6), members=[entry], arrives=on(8), trace_id={"value": f"T R{number}"})
        lines = [
            BankLine("giro", str(many), at + 1, "USD", 9999 + there + at, 2, date(2026, 1, day), None,
                     "T" if missing or day != 9 else f"STRIPE T R{there + at - 1}")
            for at, day in enumerate((2, *[9] * (many - there), 30))
        ]  # fmt: skip
        with books.ledger.together() as tx:
            record_statement(tx, lines, on(31))
        there = many
        books.states(0, at=END)
        books.covers()
        counts.append(steps(monkeypatch, books))
    assert break_types(books.report()) == (["BANK_MISSING"] * 80 if missing else [])
    assert counts[1] < 15 * counts[0]
