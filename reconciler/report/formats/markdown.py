"""Markdown for a ticket or a wiki: the same sections as tables, short enough to be read there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from reconciler.report.formats import words
from reconciler.report.formats.columns import Kind, Sheet, shown
from reconciler.report.formats.dossier import Dossier

_LEFT_OUT = frozenset({"header", "entries", "pairs", "days"})
"""Too long for a ticket, or said above already; `--section` brings each of them."""
_ADD_UP = frozenset(
    ("verdicts", "coverage", "balance", "waterfall", "unsettled_totals", "matches", "open_items", "ages", "sales",
     "fees", "disputes")
)  # fmt: skip
"""Never cut: what is left out of these would be missing in a sum, and whole currencies with it."""
_LISTED = 50
_SPECIAL = re.compile(r"([\\`*_\[\]<>#!|~&])")


def text(dossier: Dossier, sheets: Sequence[Sheet]) -> Iterable[str]:
    report = dossier.report
    yield f"# Reconciliation {_plain(words.period(report))}\n\n"
    for verdict in report.verdicts:
        reasons = _plain("; ".join(verdict.reasons))
        yield f"- **{verdict.currency}: {words.MARKS[verdict.standing]} {_plain(verdict.standing.value)}** {reasons}\n"
    yield f"\nAs of {_plain(words.instant(report.params.as_of))}, report `{report.report_id}`.\n"
    for note in words.notes(report):
        yield f"\n{_plain(note)}\n"
    whole = len(sheets) > 1
    for sheet in sheets:
        if not (whole and sheet.name in _LEFT_OUT):
            yield from _section(sheet, _LISTED if whole and sheet.name not in _ADD_UP else None)


def _section(sheet: Sheet, listed: int | None) -> Iterator[str]:
    waiting = iter(sheet.rows())
    rows = list(waiting if listed is None else islice(waiting, listed))
    yield f"\n## {_plain(sheet.title)}\n\n"
    if not rows:
        yield f"{_plain(sheet.empty)}\n"
        return
    numbers = (Kind.COUNT, Kind.AMOUNT, Kind.NUMBER)
    yield "| " + " | ".join(_plain(column.title) for column in sheet.columns) + " |\n"
    yield "|" + "|".join("---:" if column.kind in numbers else "---" for column in sheet.columns) + "|\n"
    for row in rows:
        cells = (
            _plain(shown(cell)) if column.kind is Kind.TEXT else shown(cell)
            for cell, column in zip(row, sheet.columns, strict=True)
        )
        yield "| " + " | ".join(cells) + " |\n"
    rest = sum(1 for _ in waiting)
    if rest:
        yield f"\nand {rest} more\n"


def _plain(words: str) -> str:
    """Words that mean nothing to Markdown or HTML, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(words.split()))
