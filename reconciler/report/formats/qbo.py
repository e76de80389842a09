"""The journal as QuickBooks Online imports journal entries: the header fields stand in every row of an entry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reconciler.report.formats import lines
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.journal import JournalEntry
from reconciler.report.model import Amount

MOST_LINES = 1000
"""Of one file; QuickBooks refuses more."""
_HEADS = ("Journal No", "Journal Date", "Currency", "Memo", "Account", "Debits", "Credits", "Description")
_TEXT = frozenset({0, 3, 4, 7})
_NUMBER_LENGTH = 21
"""Characters of a journal number."""


def write(folder: Path, dossier: Dossier) -> list[Path]:
    prefix = dossier.report.report_id.removeprefix("rep_")[:8].upper()

    def rows(entry: JournalEntry, number: int) -> Sequence[Sequence[str]]:
        head = (f"R{prefix}-{number:05d}"[:_NUMBER_LENGTH], entry.day.isoformat(), entry.currency, entry.narration)
        return [
            (*head, posting.account, _if(posting.amount, 1), _if(posting.amount, -1), posting.memo)
            for posting in entry.postings
            if posting.amount.minor
        ]

    return lines.write(folder, dossier, "qbo", heads=_HEADS, lines=rows, most=MOST_LINES, text=_TEXT)


def _if(amount: Amount, sign: int) -> str:
    """The amount without its sign where it has this one; debits are positive."""
    if amount.minor * sign <= 0:
        return ""
    return Amount(abs(amount.minor), amount.currency, amount.exponent).text
