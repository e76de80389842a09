"""The workbook: typed cells, no formula that we did not write, and totals that another program finds again."""

from __future__ import annotations

import zipfile
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import xlsxwriter

from reconciler.report.formats import xlsx
from reconciler.report.formats.columns import Column, Kind, Row, Sheet
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.sheets import sheets
from reconciler.report.formats.totals import Totals
from reconciler.report.formats.words import words
from reconciler.report.model import Amount
from tests.report.books import net as net_of
from tests.report.formats.months import HOSTILE
from tests.report.formats.tools import as_csv, soffice

FIRST = xlsx.HEAD + 2
"""The first row of cells, counted from one."""


def book(path: Path, **options: bool) -> Any:
    return openpyxl.load_workbook(path, **options)


@pytest.fixture
def path(month: Dossier, tmp_path: Path) -> Path:
    return xlsx.write(tmp_path / "report.xlsx", month, sheets(month))


def test_every_amount_reads_back_to_the_same_integer(path: Path, month: Dossier) -> None:
    found = book(path)
    compared = 0
    for sheet in sheets(month):
        cells = found[words(sheet.name)]
        rows = list(sheet.rows())
        assert cells.max_row == FIRST - 1 + len(rows)
        for number, row in enumerate(rows, start=FIRST):
            for place, value in enumerate(row, start=1):
                if isinstance(value, Amount):
                    cell = cells.cell(number, place)
                    assert cell.data_type == "n"
                    assert round(Decimal(repr(cell.value)).scaleb(value.exponent)) == value.minor
                    assert cell.number_format == {0: "#,##0", 2: "#,##0.00", 3: "#,##0.000"}[value.exponent]
                    compared += 1
    assert compared > 500


def test_ids_are_text_dates_are_dates_and_counts_are_numbers(path: Path) -> None:
    found = book(path)
    payouts = found["Payouts"]
    heads = {payouts.cell(FIRST - 1, place).value: place for place in range(1, payouts.max_column + 1)}
    assert payouts.cell(FIRST, heads["payout_id"]).data_type in ("s", "inlineStr")
    created = payouts.cell(FIRST, heads["created"])
    assert created.is_date
    assert isinstance(created.value, datetime)
    assert payouts.cell(FIRST, heads["entries"]).data_type == "n"


def test_no_text_is_a_formula_and_only_the_control_sheet_has_any(path: Path) -> None:
    found = book(path)
    formulas = {sheet.title for sheet in found for row in sheet.iter_rows() for cell in row if cell.data_type == "f"}
    assert formulas == {"Control"}
    breaks = found["Breaks"]
    assert HOSTILE in {cell.value for row in breaks.iter_rows() for cell in row}


def test_headings_stay_in_sight_and_rows_can_be_filtered(path: Path) -> None:
    for sheet in book(path):
        assert sheet.freeze_panes == f"A{FIRST}"
        assert sheet.auto_filter.ref is not None
        assert sheet.print_title_rows == f"${FIRST - 1}:${FIRST - 1}"
        assert "as of 2026-02-10 00:00:00Z" in sheet["A2"].value


def test_the_control_sheet_has_every_total(path: Path, month: Dossier) -> None:
    control = book(path, data_only=True)["Control"]
    rows = {
        (row[0], row[1], row[2]): row[3:6]
        for row in control.iter_rows(min_row=FIRST, values_only=True)
        if row[3] is not None
    }
    for sheet in sheets(month):
        totals = Totals(sheet)
        for each in sheet.rows():
            totals.add(each)
        for place in sheet.amounts:
            for currency, total in totals.of(place).items():
                static, visible, check = rows[words(sheet.name), sheet.columns[place].name, currency]
                assert round(Decimal(repr(static)).scaleb(total.exponent)) == total.minor
                assert (visible, check) == (static, "OK")


def test_the_same_report_is_the_same_file(path: Path, month: Dossier, tmp_path: Path) -> None:
    again = xlsx.write(tmp_path / "again.xlsx", month, sheets(month))
    assert again.read_bytes() == path.read_bytes()


def test_an_amount_beyond_excels_digits_is_written_exactly_as_text(month: Dossier, tmp_path: Path) -> None:
    big = Amount(123_456_789_012_345_678, "USD", 2)
    columns = (Column("currency", Kind.TEXT), Column("net", Kind.AMOUNT))
    rows: list[Row] = [("USD", big), ("USD", Amount(-1, "USD", 2))]
    path = xlsx.write(tmp_path / "big.xlsx", month, [Sheet("big", "Big", columns, lambda: rows)])
    found = book(path)
    assert [found["Big"].cell(FIRST + at, 2).value for at in (0, 1)] == [big.text, -0.01]
    control = [row for row in found["Control"].iter_rows(values_only=True) if row[:2] == ("Big", "net")]
    assert [row[5] for row in control] == ["by eye"]


def test_control_characters_and_endless_text_do_not_break_the_file(month: Dossier, tmp_path: Path) -> None:
    rows: list[Row] = [("a\x00b\x1b[31m\x07",), ("x" * 40_000,)]
    path = xlsx.write(
        tmp_path / "odd.xlsx", month, [Sheet("odd", "Odd", (Column("account", Kind.TEXT),), lambda: rows)]
    )
    found = book(path)["Odd"]
    assert len(found.cell(FIRST + 1, 1).value) == xlsx.MOST_CHARACTERS
    with zipfile.ZipFile(path) as archive:
        assert all(b"\x00" not in archive.read(name) for name in archive.namelist())


@pytest.mark.long
def test_libreoffice_opens_it_and_finds_the_same_totals(month: Dossier, tmp_path: Path) -> None:
    office = soffice()
    path = xlsx.write(tmp_path / "report.xlsx", month, sheets(month))
    converted = as_csv(office, path, tmp_path / "converted")
    control = converted["Control"]
    checks = [row[5] for row in control[xlsx.HEAD + 1 :] if len(row) > 5 and row[5]]
    assert checks
    assert set(checks) == {"OK"}
    lines = converted["Balance"]
    heads = lines[xlsx.HEAD]
    net, line, currency = heads.index("net"), heads.index("line"), heads.index("currency")
    closing = {row[currency]: Decimal(row[net]) for row in lines if len(row) > net and row[line] == "closing"}
    assert closing == {
        cur: Decimal(net_of(month.report, "closing", cur)).scaleb(-exponent)
        for cur, exponent in (("JPY", 0), ("KWD", 3), ("USD", 2))
    }


@pytest.mark.long
def test_libreoffice_computes_the_checks_itself(month: Dossier, tmp_path: Path) -> None:
    """What the test above rests on: a result that stands in the file is not believed."""
    office = soffice()
    path = tmp_path / "wrong.xlsx"
    workbook = xlsxwriter.Workbook(str(path))
    sheet = workbook.add_worksheet("Sums")
    sheet.write_number(0, 0, 1)
    sheet.write_number(1, 0, 2)
    sheet.write_formula(2, 0, "=SUBTOTAL(109,A1:A2)", None, 99)
    workbook.close()
    assert as_csv(office, path, tmp_path / "converted")["Sums"] == [["1"], ["2"], ["3"]]
