"""CSV: one file per section (RFC 4180, UTF-8 without a mark, CRLF), and a manifest that says what must be in them."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from reconciler.report import canonical
from reconciler.report.formats.columns import Kind, Row, Sheet, Value, shown
from reconciler.report.formats.files import writing
from reconciler.report.formats.guarding import guarded
from reconciler.report.formats.totals import Totals
from reconciler.report.model import Report

MANIFEST = "manifest.json"
_BATCH = 2000
"""Rows encoded and hashed at a time; memory does not grow with the section."""


def write(folder: Path, report: Report, sheets: Sequence[Sheet]) -> list[Path]:
    """Every section and, last of all, the manifest: where it stands, everything that it names is complete."""
    written, listed = [], []
    for sheet in sheets:
        path = folder / f"{sheet.name}.csv"
        listed.append(_write(path, sheet))
        written.append(path)
    manifest = folder / MANIFEST
    with writing(manifest) as out:
        out.write(orjson.dumps(_manifest(report, listed), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2) + b"\n")
    return [*written, manifest]


def text(sheet: Sheet) -> Iterable[str]:
    """One section, in pieces."""
    yield _lines(sheet, [tuple(column.name for column in sheet.columns)])
    batch: list[Row] = []
    for row in sheet.rows():
        batch.append(row)
        if len(batch) == _BATCH:
            yield _lines(sheet, batch)
            batch = []
    if batch:
        yield _lines(sheet, batch)


def _lines(sheet: Sheet, rows: Iterable[Row]) -> str:
    out = io.StringIO(newline="")
    write_row = csv.writer(out, lineterminator="\r\n").writerow
    shows = [_words if column.kind is Kind.TEXT else shown for column in sheet.columns]
    for row in rows:
        write_row([show(cell) for show, cell in zip(shows, row, strict=True)])
    return out.getvalue()


def _words(value: Value) -> str:
    return guarded(shown(value))


def _write(path: Path, sheet: Sheet) -> dict[str, Any]:
    totals = Totals(sheet)
    watched = Sheet(sheet.name, sheet.title, sheet.columns, lambda: totals.watch(sheet.rows()))
    digest, size = hashlib.sha256(), 0
    with writing(path) as out:
        for piece in text(watched):
            encoded = piece.encode("utf-8")
            digest.update(encoded)
            size += len(encoded)
            out.write(encoded)
    return {
        "file": path.name,
        "section": sheet.name,
        "title": sheet.title,
        "rows": totals.rows,
        "bytes": size,
        "sha256": digest.hexdigest(),
        "columns": [{"name": column.name, "type": column.kind.value} for column in sheet.columns],
        "control_totals": totals.document(),
    }


def _manifest(report: Report, listed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    content = canonical.tree(report)
    return {
        "report_id": report.report_id,
        "digest": canonical.digest(report),
        "as_of": content["as_of"],
        "params": content["params"],
        "verdicts": content["verdicts"],
        "format": {
            "encoding": "utf-8",
            "line_end": "CRLF",
            "amounts": "major units, plain decimal",
            "guard": "an apostrophe before text that a spreadsheet would take for a formula",
        },
        "files": list(listed),
    }
