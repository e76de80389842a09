"""The journal for hledger, with an exact assertion on the clearing posting of every day and at the end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta

from reconciler.report.formats.columns import Sheet
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.journal import Assertion, JournalEntry, Posting, journal
from reconciler.report.model import Amount

_SPECIAL = re.compile(r"[;|\s]+")
"""A semicolon begins a comment, a bar ends the payee, and a line ends everything."""


def text(dossier: Dossier, sheets: Sequence[Sheet]) -> Iterable[str]:
    found = journal(dossier)
    yield f"; {found.reference}\n\n"
    yield "decimal-mark .\n"
    shapes = {posting.amount.currency: posting.amount for entry in found.entries for posting in entry.postings}
    shapes |= {each.amount.currency: each.amount for each in found.closing.holds}
    for currency, amount in sorted(shapes.items()):
        yield f"commodity {_thousand(amount)} {currency}\n"
    for name in found.accounts:
        yield f"account {name}\n"
    for entry in found.entries:
        yield _entry(entry)
    last = found.closing.day - timedelta(days=1)
    for each in found.closing.holds:
        yield f"\n{last} Closing balance  ; {found.reference}\n"
        yield _posting(Posting(each.account, Amount(0, each.amount.currency, each.amount.exponent), ""), each)


def _entry(entry: JournalEntry) -> str:
    head = f"\n{entry.day} * {_plain(entry.narration)}\n"
    holds = {(each.account, each.amount.currency): each for each in entry.holds}
    last = len(entry.postings) - 1
    lines = (
        _posting(posting, holds.get((posting.account, posting.amount.currency)) if place == last else None)
        for place, posting in enumerate(entry.postings)
    )
    return head + "".join(lines)


def _posting(posting: Posting, holds: Assertion | None) -> str:
    amount = f"{posting.amount.text} {posting.amount.currency}"
    proved = "" if holds is None else f" = {holds.amount.text} {holds.amount.currency}"
    memo = f"  ; {_plain(posting.memo)}" if posting.memo else ""
    return f"    {_plain(posting.account)}  {amount}{proved}{memo}\n"


def _thousand(amount: Amount) -> str:
    """How hledger is told of a currency's decimals."""
    return f"1000.{'0' * amount.exponent}" if amount.exponent else "1000."


def _plain(words: str) -> str:
    return _SPECIAL.sub(" ", words).strip()
