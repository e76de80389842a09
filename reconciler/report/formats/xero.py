"""The journal as Xero imports manual journals: one narration per entry, at most 300 lines in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reconciler.report.formats import lines
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.journal import JournalEntry

MOST_LINES = 300
"""Of one file; Xero refuses more."""
_HEADS = ("*Narration", "*Date", "Description", "*AccountCode", "*TaxRate", "*Amount")
_TEXT = frozenset({0, 2, 3, 4})
_NO_TAX = "Tax Exempt"


def write(folder: Path, dossier: Dossier, *, most: int = MOST_LINES) -> list[Path]:
    reference = dossier.report.report_id.removeprefix("rep_")[:8]

    def rows(entry: JournalEntry, number: int) -> Sequence[Sequence[str]]:
        narration = f"{entry.narration} ({reference}-{number:05d})"
        return [
            (narration, entry.day.isoformat(), posting.memo, posting.account, _NO_TAX, posting.amount.text)
            for posting in entry.postings
            if posting.amount.minor
        ]

    return lines.write(folder, dossier, "xero", heads=_HEADS, lines=rows, most=most, text=_TEXT)
