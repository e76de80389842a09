"""The formats by name: which are one text that may go to a terminal or a pipe, and which are files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.report import canonical
from reconciler.report.formats import beancount, csv_files, hledger, html, markdown, qbo, xero, xlsx
from reconciler.report.formats.columns import Sheet
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.files import folder as made
from reconciler.report.formats.files import writing

Text = Callable[[Dossier, Sequence[Sheet]], Iterable[str]]
Files = Callable[[Path, Dossier, Sequence[Sheet]], list[Path]]


def json_text(dossier: Dossier, sheets: Sequence[Sheet]) -> Iterable[str]:
    """The canonical form, byte for byte what a sign-off keeps; `evidence` joins it only where there is any."""
    if dossier.evidence is None:
        yield canonical.encode(dossier.report).decode()
        return
    yield canonical.encode(dossier.report, evidence=dossier.evidence.document).decode()


def csv_text(dossier: Dossier, sheets: Sequence[Sheet]) -> Iterable[str]:
    if len(sheets) != 1:
        raise UsageError("CSV is one file per section: add --out DIR, or choose one with --section")
    return csv_files.text(sheets[0])


TEXTS: Mapping[str, Text] = {
    "json": json_text,
    "csv": csv_text,
    "html": html.text,
    "md": markdown.text,
    "beancount": beancount.text,
    "hledger": hledger.text,
}
_NAMES: Mapping[str, str] = {
    "json": "report.json",
    "html": "report.html",
    "md": "report.md",
    "beancount": "journal.beancount",
    "hledger": "journal.hledger",
}
_FILES: Mapping[str, Files] = {
    "csv": lambda folder, dossier, sheets: csv_files.write(folder, dossier.report, sheets),
    "xlsx": lambda folder, dossier, sheets: [xlsx.write(folder / "report.xlsx", dossier, sheets)],
    "qbo": lambda folder, dossier, sheets: qbo.write(folder, dossier),
    "xero": lambda folder, dossier, sheets: xero.write(folder, dossier),
}
SECTIONED = frozenset({"csv", "xlsx", "md"})
"""The ones that can be only some sections; the others are always the whole report."""
FORMATS = ("json", "csv", "xlsx", "html", "md", "beancount", "hledger", "qbo", "xero")


def text(format_: str, dossier: Dossier, sheets: Sequence[Sheet]) -> Iterable[str]:
    """For stdout, in pieces. Raises UsageError for a format that is files only."""
    if format_ not in TEXTS:
        raise UsageError(f"--format {format_} writes files: add --out DIR")
    return TEXTS[format_](dossier, sheets)


def write(format_: str, folder: Path, dossier: Dossier, sheets: Sequence[Sheet]) -> list[Path]:
    """Into the folder, made where it is missing; what was written. Raises UsageError where it cannot be."""
    made(folder)
    if format_ in _FILES:
        return _FILES[format_](folder, dossier, sheets)
    path = folder / _NAMES[format_]
    with writing(path) as out:
        for piece in TEXTS[format_](dossier, sheets):
            out.write(piece.encode("utf-8"))
    return [path]
