"""The journal: it adds up, its clearing accounts are the balances, and the real programs accept it."""

from __future__ import annotations

import csv
import io
import subprocess
from collections import defaultdict
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from beancount import loader
from hypothesis import given

from reconciler.errors import UsageError
from reconciler.ledger import Ledger
from reconciler.ledger.breaks import LockPolicy
from reconciler.report import signoff
from reconciler.report.formats import beancount, hledger, qbo, xero
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.journal import OPENING, journal
from reconciler.report.formats.sheets import sheets
from reconciler.report.model import Rules
from tests.report.books import BEGINNING, END, Books, net, on
from tests.report.formats.months import BOOK, answered, dossier, params
from tests.report.formats.tools import needed
from tests.report.histories import KNOWN, Story, Teller, stories
from tests.report.test_invariants import PROPERTY, fill

CLEARING = "Assets:Clearing:Main:Payments"


def beans(month: Dossier) -> str:
    return "".join(beancount.text(month, sheets(month)))


def errors_of(text: str) -> list[str]:
    _, errors, _ = loader.load_string(text)
    return [error.message for error in errors]


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline=""), strict=True))


def test_every_entry_adds_up_to_nothing_in_one_currency(month: Dossier) -> None:
    entries = journal(month).entries
    assert len(entries) > 30
    for entry in entries:
        assert {posting.amount.currency for posting in entry.postings} == {entry.currency}
        assert sum(posting.amount.minor for posting in entry.postings) == 0
    assert len({entry.narration for entry in entries}) == len(entries)


def test_the_clearing_account_holds_the_closing(month: Dossier) -> None:
    held: dict[str, int] = defaultdict(int)
    for entry in journal(month).entries:
        for posting in entry.postings:
            if posting.account == CLEARING:
                held[entry.currency] += posting.amount.minor
    assert held == {currency: net(month.report, "closing", currency) for currency in ("JPY", "KWD", "USD")}


def test_the_exchange_result_and_the_residual_have_accounts_of_their_own(month: Dossier) -> None:
    posted = {
        (posting.account, posting.amount.minor)
        for entry in journal(month).entries
        for posting in entry.postings
        if posting.account in (BOOK.fx, BOOK.rounding)
    }
    assert posted == {(BOOK.fx, -100), (BOOK.rounding, 1)}


# --- beancount ------------------------------------------------------------------------------------


def test_beancount_accepts_it_with_every_assertion(month: Dossier) -> None:
    text = beans(month)
    assert text.count(" balance ") > 30
    assert errors_of(text) == []


def test_beancount_would_see_one_cent(month: Dossier) -> None:
    """The assertions are exact: the same file with one cent more does not pass."""
    wrong = beans(month).replace(f"{CLEARING}  2500.00 USD", f"{CLEARING}  2500.01 USD")
    wrong = wrong.replace("Equity:Opening-Balances  -2500.00 USD", "Equity:Opening-Balances  -2500.01 USD")
    assert any("Balance failed" in message for message in errors_of(wrong))


def test_names_that_are_no_beancount_accounts_are_refused_with_the_key(busy: Books) -> None:
    with (
        dossier(busy, replace(BOOK, sales="4000")) as month,
        pytest.raises(UsageError, match=r"report.journal.*'4000'"),
    ):
        list(beancount.text(month, sheets(month)))


def test_balances_that_share_a_name_are_asserted_together(busy: Books) -> None:
    busy.entry("charge", 500, at=on(4), balance_type="risk_reserved")
    with dossier(busy, replace(BOOK, clearing="Assets:Stripe")) as month:
        held = {each.amount.currency: each.amount.minor for each in journal(month).closing.holds}
        assert held["USD"] == net(month.report, "closing") + 500
        assert errors_of(beans(month)) == []


# --- hledger --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cents", [0, 1])
def test_hledger_checks_every_assertion(month: Dossier, tmp_path: Path, cents: int) -> None:
    program = needed("hledger", "hledger")
    path = tmp_path / "journal.hledger"
    text = "".join(hledger.text(month, sheets(month)))
    text = text.replace(f"{CLEARING}  2500.00 USD", f"{CLEARING}  2500.0{cents} USD")
    text = text.replace("Equity:Opening-Balances  -2500.00 USD", f"Equity:Opening-Balances  -2500.0{cents} USD")
    path.write_text(text, encoding="utf-8")
    ran = subprocess.run(
        [program, "-f", str(path), "check", "--strict"], capture_output=True, text=True, timeout=60, check=False
    )
    if cents:
        assert ran.returncode != 0
        assert "balance assertion" in ran.stderr.lower()
    else:
        assert (ran.returncode, ran.stderr) == (0, "")


# --- QuickBooks and Xero --------------------------------------------------------------------------


def test_quickbooks_rows_repeat_their_header_and_debits_are_credits(month: Dossier, tmp_path: Path) -> None:
    found = {path.name: rows(path) for path in qbo.write(tmp_path, month)}
    assert set(found) == {"qbo_JPY_001.csv", "qbo_KWD_001.csv", "qbo_USD_001.csv"}
    entries = defaultdict(list)
    for name, listed in found.items():
        for row in listed:
            assert row["Currency"] in name
            assert (row["Debits"] == "") != (row["Credits"] == "")
            assert row["Journal Date"]
            entries[row["Journal No"], row["Currency"]].append(row)
    assert all(len(number) <= 21 for number, _ in entries)
    for own in entries.values():
        assert sum(Decimal(row["Debits"] or 0) - Decimal(row["Credits"] or 0) for row in own) == 0
        assert len({(row["Journal Date"], row["Memo"]) for row in own}) == 1


def test_xero_narrations_are_unique_and_files_are_cut_between_entries(month: Dossier, tmp_path: Path) -> None:
    written = [path for path in xero.write(tmp_path, month, most=20) if "_USD_" in path.name]
    assert len(written) > 3
    seen: set[str] = set()
    for path in written:
        listed = rows(path)
        assert len(listed) <= 20
        own: dict[str, Decimal] = defaultdict(Decimal)
        for row in listed:
            own[row["*Narration"]] += Decimal(row["*Amount"])
        assert set(own.values()) == {Decimal(0)}
        assert not seen & set(own)
        seen |= set(own)


def test_an_entry_longer_than_a_file_stays_whole(month: Dossier, tmp_path: Path) -> None:
    written = [path for path in xero.write(tmp_path, month, most=2) if "_USD_" in path.name]
    for path in written:
        assert sum(Decimal(row["*Amount"]) for row in rows(path)) == 0
    assert max(len(rows(path)) for path in written) > 2


def test_online_programs_get_no_opening_balance(month: Dossier, tmp_path: Path) -> None:
    assert any(entry.kind == OPENING for entry in journal(month).entries)
    for path in (*qbo.write(tmp_path, month), *xero.write(tmp_path, month)):
        assert BOOK.opening not in path.read_text(encoding="utf-8")


# --- locked periods, and any ledger ---------------------------------------------------------------


def test_what_became_known_of_a_locked_period_is_booked_and_the_days_still_hold(ledger: Ledger) -> None:
    books = Books(ledger)
    books.states(0, at=BEGINNING)
    books.entry("charge", 10000, at=on(5))
    books.states(10000, at=END)
    books.covers()
    sign_january(books)
    books.entry("charge", 530, fee=30, at=on(20), known=on(15, month=2))
    books.entry("charge", 70, at=on(3, month=2))
    february: dict[str, Any] = {"from_day": date(2026, 2, 1), "to_day": date(2026, 2, 28), "as_of": on(6, month=3)}
    with dossier(books, **february) as month:
        (adjustment,) = [
            each for each in journal(month).entries if BOOK.prior_period in {p.account for p in each.postings}
        ]
        assert sorted(posting.amount.minor for posting in adjustment.postings) == [-500, 500]
        assert net(month.report, "opening") == 10000
        assert f"balance {CLEARING}  105.70 ~ 0 USD" in beans(month)
        assert errors_of(beans(month)) == []


@PROPERTY
@given(story=stories)
def test_any_ledgers_journal_passes_and_its_clearing_is_the_closing(ledger: Ledger, story: Story) -> None:
    fill(ledger, Teller().tell(story))
    with dossier(Books(ledger), as_of=KNOWN, rules=Rules(tolerance_minor=2)) as month:
        found = journal(month)
        held: dict[tuple[str, str], int] = defaultdict(int)
        for entry in found.entries:
            assert sum(posting.amount.minor for posting in entry.postings) == 0
            assert {posting.amount.currency for posting in entry.postings} == {entry.currency}
            for posting in entry.postings:
                held[posting.account, entry.currency] += posting.amount.minor
        for each in found.closing.holds:
            assert held[each.account, each.amount.currency] == each.amount.minor
        assert errors_of(beans(month)) == []


def sign_january(books: Books) -> None:
    report = answered(books, params(books))
    with books.ledger.store.write() as tx:
        policy = LockPolicy.ROLL_FORWARD
        signoff.prepare(tx, report, by="ada", now=on(11, month=2), policy=policy)
        signoff.lock(tx, report, by="grace", now=on(11, month=2), policy=policy, override_reason="test")
