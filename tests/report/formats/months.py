"""A busy month for every format: four currencies, every sort of line, and words that wish to be formulas."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from reconciler.asking import Answer
from reconciler.config import JournalSection
from reconciler.ledger.breaks import BreakAction, BreakEvent, record_break_event
from reconciler.report.engine import report
from reconciler.report.facts import Facts
from reconciler.report.formats.accounts import BookAccounts
from reconciler.report.formats.dossier import Dossier
from reconciler.report.gathering import gather
from reconciler.report.model import FeeRule, Params, Report, Rules
from tests.report.books import BEGINNING, END, LATER, START, STRIPE_TERMS, Books, block, on

BOOK = BookAccounts(**JournalSection().model_dump())
RULES = Rules(tolerance_minor=2, fee_rules=(FeeRule("main", "charge", 140, 25, "USD"),))
HOSTILE = '=HYPERLINK("http://evil","x")</script><script>alert(1)</script>|`*_[x](y)\n@SUM'
LAST_WORDS = "-2+3+cmd|' /C calc'!A0"


def busy_month(books: Books) -> None:
    """January 2026; nothing here is a round number by accident."""
    _dollars(books)
    for currency, minor, sold in (("jpy", 12000, "12000"), ("kwd", 12340, "12.340")):
        books.states(0, at=BEGINNING, currency=currency.upper())
        charge = books.charge(minor, currency=currency, at=on(12))
        books.sale(sold, currency=currency.upper(), at=on(12), authorization=charge)
        books.states(minor, at=END, currency=currency.upper())
    books.covers()


def _dollars(books: Books) -> None:
    books.states(0, at=BEGINNING)
    books.entry("other_adjustment", 250_000, at=on(15, month=12, year=2025))
    for day in range(2, 29):
        for part in range(3):
            minor = 1990 + 730 * part + 17 * day
            fee = (minor * 140 + 5000) // 10000 + 25
            charge = books.charge(minor, fee=fee, at=on(day, 8 + part), charge_id=f"ch_{day:02d}{part}")
            if (day, part) == (27, 2):
                continue
            short = 1 if (day, part) == (9, 0) else 0
            books.sale(
                f"{(minor + short) / 100:.2f}", at=on(day, 8 + part), order=day * 10 + part, authorization=charge
            )
    unmatched = books.charge(4_999, fee=95, at=on(20), charge_id="ch_over", metadata={"name": HOSTILE})
    books.refund("ch_050", 2075, at=on(8), metadata={"order_transaction_id": "77"})
    books.sale("20.75", kind="refund", at=on(8), transaction_id=77)
    books.refund(unmatched, 999, at=on(22))
    books.sale("31.00", at=on(31), order=900)
    books.sale("44.00", at=on(14), order=901)
    books.sale("25.00", at=on(6), gateway="gift_card", order=902)
    books.sale("12.00", at=on(7), gateway=f"=cash {HOSTILE}", order=903)
    books.entry("fee", -1234, at=on(15), source="fee_1")
    books.entry("zz_new_category", 77, at=on(16), source="zz_1")
    books.entry("dispute", -3000, fee=1500, at=on(18), source="dp_1")
    dispute = {"id": "dp_1", "amount": 3000, "currency": "usd", "charge": "ch_060", "created": int(on(18).timestamp())}
    books.read("dispute", dispute | {"status": "needs_response"}, at=on(18))
    euro = books.charge(10000, currency="eur", at=on(5), settled=(11000, "usd", 1.1), charge_id="ch_eur")
    books.sale("100.00", currency="EUR", at=on(5), order=950, authorization=euro)
    back = books.refund(euro, 5000, currency="eur", at=on(9), settled=(-5400, "usd", 1.08))
    books.sale("50.00", kind="refund", currency="EUR", at=on(9), order=950, authorization=back)
    books.order(902, at=on(6), total_line_items_price="31.00", total_discounts="8.00", total_tax="2.00",
                total_price="25.00", current_total_price="25.00")  # fmt: skip
    books.order(950, at=on(5), currency="EUR", total_line_items_price="108.00", total_discounts="8.00",
                total_price="100.00", current_total_price="50.00")  # fmt: skip
    paid = books.entry("charge", 30000, at=on(3), entry_id="txn_paid")
    books.payout(30000, at=on(4), members=[paid], arrives=on(6), payout_id="po_one", trace_id={"value": LAST_WORDS})
    less = books.entry("charge", 20000, at=on(10), entry_id="txn_wrong")
    books.payout(20500, at=on(11), members=[less], arrives=on(13), payout_id="po_diff")
    late = books.entry("charge", 15000, at=on(30), entry_id="txn_late")
    books.payout(15000, at=on(30, 18), members=[late], status="in_transit", arrives=on(3, month=2), payout_id="po_way")
    books.payout(40000, at=on(21), automatic=False, payout_id="po_manual")
    # The provider's word of each day's end is what the entries add up to, and from the 26th on it is made wrong.
    for number, point in enumerate(block(answered(books, params(books))).days[1:], start=2):
        wrong = 500 if number > 25 else 0
        books.states(point.closing.minor + wrong, at=START + timedelta(days=number))


def answered(books: Books, given: Params) -> Report:
    with books.ledger.store.read() as tx:
        return report(gather(tx, books.terms, given), given)


def params(books: Books, **more: Any) -> Params:
    given: dict[str, Any] = {
        "from_day": date(2026, 1, 1),
        "to_day": date(2026, 1, 31),
        "as_of": LATER,
        "accounts": tuple(sorted(term.name for term in books.terms)),
        "rules": RULES,
        "sales": True,
        "code_version": "test",
        "config_hash": "0123456789abcdef",
    }
    return Params(**(given | more))


@contextmanager
def dossier(books: Books, book: BookAccounts = BOOK, **more: Any) -> Iterator[Dossier]:
    """As the command makes it, without evidence of a moment."""
    given = params(books, **more)
    with books.ledger.store.read() as tx:
        facts = gather(tx, books.terms, given)
        yield Answer(report(facts, given), facts, tx, book).dossier()


def work_on_a_break(books: Books, words: str = HOSTILE) -> None:
    """The first break gets an owner and a note that somebody pasted."""
    with dossier(books) as found:
        first = found.report.breaks[0].break_id
    with books.ledger.store.write() as tx:
        record_break_event(tx, BreakEvent(first, on(5, month=2), "ann", BreakAction.ASSIGN, text="+ann"))
        record_break_event(tx, BreakEvent(first, on(5, month=2), "ann", BreakAction.NOTE, text=words))


def nothing(month: Dossier) -> Dossier:
    """The same question, asked of a ledger in which no money ever moved."""
    facts = Facts((STRIPE_TERMS,))
    found = report(facts, month.report.params)
    return replace(month, report=found, entries=lambda: iter(()), day_sums=())
