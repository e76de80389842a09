"""What the two import formats of online accounting have in common: bounded files, cut only between entries."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.files import writing
from reconciler.report.formats.guarding import guarded
from reconciler.report.formats.journal import OPENING, JournalEntry, journal

Lines = Callable[[JournalEntry, int], Sequence[Sequence[str]]]


def write(
    folder: Path, dossier: Dossier, name: str, *, heads: Sequence[str], lines: Lines, most: int, text: frozenset[int]
) -> list[Path]:
    """`name_CUR_001.csv` and so on, at most `most` lines each. `text` names the columns that hold words.

    A file never mixes currencies, and has no opening balance: these programs hold the history themselves. An entry
    that alone is longer than a file stands in one of its own, whole.
    """
    written = []
    for currency, entries in _by_currency(dossier).items():
        for number, rows in enumerate(_files(entries, lines, most), start=1):
            path = folder / f"{name}_{currency}_{number:03d}.csv"
            with writing(path) as out:
                out.write(_encoded(heads, rows, text))
            written.append(path)
    return written


def _by_currency(dossier: Dossier) -> dict[str, list[JournalEntry]]:
    found: dict[str, list[JournalEntry]] = {}
    for entry in journal(dossier).entries:
        if entry.kind != OPENING:
            found.setdefault(entry.currency, []).append(entry)
    return dict(sorted(found.items()))


def _files(entries: Sequence[JournalEntry], lines: Lines, most: int) -> Iterator[list[Sequence[str]]]:
    rows: list[Sequence[str]] = []
    for number, entry in enumerate(entries, start=1):
        own = list(lines(entry, number))
        if rows and len(rows) + len(own) > most:
            yield rows
            rows = []
        rows += own
    if rows:
        yield rows


def _encoded(heads: Sequence[str], rows: Sequence[Sequence[str]], text: frozenset[int]) -> bytes:
    out = io.StringIO(newline="")
    write_row = csv.writer(out, lineterminator="\r\n").writerow
    write_row(heads)
    for row in rows:
        write_row(guarded(cell) if place in text else cell for place, cell in enumerate(row))
    return out.getvalue().encode("utf-8")
