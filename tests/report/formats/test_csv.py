"""CSV reads back to the same integers, and the manifest says what must be found."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from reconciler.report import canonical
from reconciler.report.formats import csv_files
from reconciler.report.formats.columns import Kind, Sheet, shown
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.guarding import unguarded
from reconciler.report.formats.sheets import sheets
from reconciler.report.model import Amount
from tests.report.formats.months import HOSTILE, LAST_WORDS


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline=""), strict=True))


def written(folder: Path, month: Dossier) -> tuple[dict[str, Any], tuple[Sheet, ...]]:
    every = sheets(month)
    csv_files.write(folder, month.report, every)
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return manifest, every


def test_every_amount_reads_back_to_the_same_integer(month: Dossier, tmp_path: Path) -> None:
    _, every = written(tmp_path, month)
    compared = 0
    for sheet in every:
        for row, values in zip(read(tmp_path / f"{sheet.name}.csv"), sheet.rows(), strict=True):
            for column, value in zip(sheet.columns, values, strict=True):
                if isinstance(value, Amount):
                    assert int(Decimal(row[column.name]).scaleb(value.exponent)) == value.minor
                    assert row[column.name] == value.text
                    compared += 1
    assert compared > 500


def test_text_reads_back_unchanged_once_the_guard_is_taken_off(month: Dossier, tmp_path: Path) -> None:
    _, every = written(tmp_path, month)
    seen = set()
    for sheet in every:
        for row, values in zip(read(tmp_path / f"{sheet.name}.csv"), sheet.rows(), strict=True):
            for column, value in zip(sheet.columns, values, strict=True):
                if column.kind is Kind.TEXT:
                    assert unguarded(row[column.name]) == shown(value)
                    assert row[column.name][:1] not in set("=+-@\t\r")
                    seen.add(row[column.name])
    assert {f"'{HOSTILE}", f"'{LAST_WORDS}", "'+ann"} <= seen


def test_numbers_are_never_guarded(month: Dossier, tmp_path: Path) -> None:
    written(tmp_path, month)
    refunds = [row for row in read(tmp_path / "balance.csv") if row["line"] == "refund"]
    assert [row["gross"] for row in refunds] == ["-84.74"]


def test_the_manifest_says_rows_totals_and_fingerprints(month: Dossier, tmp_path: Path) -> None:
    manifest, every = written(tmp_path, month)
    assert manifest["report_id"] == month.report.report_id
    assert manifest["digest"] == canonical.digest(month.report)
    assert [each["section"] for each in manifest["files"]] == [sheet.name for sheet in every]
    for each in manifest["files"]:
        content = (tmp_path / each["file"]).read_bytes()
        rows = read(tmp_path / each["file"])
        assert hashlib.sha256(content).hexdigest() == each["sha256"]
        assert (len(content), len(rows)) == (each["bytes"], each["rows"])
        assert [column["name"] for column in each["columns"]] == list(next(csv.reader(io.StringIO(content.decode()))))


def test_the_control_totals_are_found_again_in_the_file_currency_by_currency(month: Dossier, tmp_path: Path) -> None:
    manifest, _ = written(tmp_path, month)
    (entries,) = [each for each in manifest["files"] if each["section"] == "entries"]
    rows = read(tmp_path / "entries.csv")
    assert set(entries["control_totals"]["net"]) == {"JPY", "KWD", "USD"}
    for column, totals in entries["control_totals"].items():
        for currency, total in totals.items():
            found = sum((Decimal(row[column]) for row in rows if row["currency"] == currency), Decimal(0))
            assert found == Decimal(total["amount"])
            assert found.scaleb(total["exponent"]) == total["minor"]


def test_the_entries_add_up_to_the_lines_of_the_proof(month: Dossier, tmp_path: Path) -> None:
    """The rows behind a figure form it."""
    written(tmp_path, month)
    rows = read(tmp_path / "entries.csv")
    for block in month.report.balance:
        for line in block.lines:
            if line.count is not None and line.net is not None:
                behind = [
                    Decimal(row["net"])
                    for row in rows
                    if (row["account"], row["currency"], row["reporting_category"])
                    == (block.account, block.currency, line.code)
                ]
                assert (len(behind), sum(behind)) == (line.count, line.net.major)


def test_the_files_are_rfc_4180(month: Dossier, tmp_path: Path) -> None:
    written(tmp_path, month)
    for path in tmp_path.glob("*.csv"):
        content = path.read_bytes()
        assert content.endswith(b"\r\n")
        assert not content.startswith(b"\xef\xbb\xbf")
    assert (tmp_path / "changes.csv").read_bytes().count(b"\r\n") == 1, "a section without rows is its heading"
