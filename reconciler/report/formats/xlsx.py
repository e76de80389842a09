"""XLSX: typed cells, one sheet per section, and a control sheet whose formulas find every total again.

Rows are written as they come and never held (`constant_memory`), so strings stand in their cells; none of them is a
formula, because nothing is ever written by a method that guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import xlsxwriter
from xlsxwriter.exceptions import FileCreateError
from xlsxwriter.utility import xl_col_to_name, xl_range_abs

from reconciler.errors import UsageError
from reconciler.report.formats import words
from reconciler.report.formats.columns import Column, Kind, Sheet, Value, shown
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.files import replacing
from reconciler.report.formats.sheets import parameters
from reconciler.report.formats.totals import Totals
from reconciler.report.model import Amount, Report

HEAD = 3
"""Rows above the column headings: the title, what the report speaks for, and an empty one."""
MOST_ROWS = 1_000_000
"""Of one sheet; Excel holds 1,048,576. A longer section goes on in a further sheet."""
MOST_CHARACTERS = 32_767
"""Of one cell."""
_EXACT = 10**15
"""Excel counts with 15 digits; a larger amount is written as text, exactly."""
_MOST_RANGES = 200
"""Arguments of one SUBTOTAL; Excel takes 254."""
_WIDTHS = {
    Kind.TEXT: 22,
    Kind.COUNT: 9,
    Kind.AMOUNT: 15,
    Kind.NUMBER: 11,
    Kind.DAY: 12,
    Kind.INSTANT: 21,
    Kind.TRUTH: 9,
}
_RIGHT = frozenset({Kind.COUNT, Kind.AMOUNT, Kind.NUMBER, Kind.DAY, Kind.INSTANT})
"""Kinds whose cells Excel sets on the right; words keep a little off them."""
_CONTROL = "Control"
_OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_numbers": False,
    "strings_to_urls": False,
    "default_date_format": "yyyy-mm-dd",
}

Shape = dict[str, Any]
"""What xlsxwriter makes a format of."""
_WORDS: Shape = {"num_format": "@", "indent": 1}


@dataclass(slots=True)
class _Written:
    """One sheet as it stands in the workbook, with what the control sheet says of it."""

    name: str
    sheet: Sheet
    totals: Totals
    last: int = HEAD
    ranges: dict[tuple[int, str], list[tuple[int, int]]] = field(default_factory=dict)
    """(column, currency) -> runs of neighbouring rows that hold it."""

    def mark(self, place: int, currency: str, row: int) -> None:
        runs = self.ranges.setdefault((place, currency), [])
        if runs and runs[-1][1] == row - 1:
            runs[-1] = (runs[-1][0], row)
        else:
            runs.append((row, row))


def write(path: Path, dossier: Dossier, sheets: Sequence[Sheet]) -> Path:
    """Raises UsageError where the file cannot be written. The same report gives the same bytes."""
    try:
        with replacing(path) as beside:
            workbook = xlsxwriter.Workbook(str(beside), _OPTIONS | {"tmpdir": str(beside.parent)})
            _Book(workbook, dossier.report).fill(sheets)
            workbook.close()
    except FileCreateError as error:
        raise UsageError(f"{path} cannot be written: {error}") from error
    return path


def write_table(path: Path, sheet: Sheet, at: datetime) -> None:
    """One table without a report around it: typed cells, as in a report's workbook. Rows are written as they come."""
    workbook = xlsxwriter.Workbook(str(path), dict(_OPTIONS))
    workbook.set_properties({"title": sheet.title, "created": at.replace(tzinfo=None)})
    shapes: dict[str, Any] = {}

    def shaped(shape: Shape) -> Any:
        return _shape(workbook, shapes, shape)

    rows, number = iter(sheet.rows()), 0
    row = next(rows, None)
    while number == 0 or row is not None:
        number += 1
        worksheet = workbook.add_worksheet(f"{words.words(sheet.name)[:27]}{f' {number}' if number > 1 else ''}")
        _heads(worksheet, 0, sheet.columns, shaped)
        worksheet.freeze_panes(1, 0)
        last = 0
        while row is not None and last < MOST_ROWS:
            last += 1
            for place, value in enumerate(row):
                _write_cell(worksheet, last, place, value, shaped)
            row = next(rows, None)
        worksheet.autofilter(0, 0, max(last, 1), len(sheet.columns) - 1)
    workbook.close()


class _Book:
    def __init__(self, workbook: Any, report: Report) -> None:
        """`workbook` is xlsxwriter's, which ships no types."""
        self._book = workbook
        self._report = report
        self._formats: dict[str, Any] = {}
        self._names: set[str] = set()
        # The moment of writing must not be in the file: the report's own instant stands for it.
        workbook.set_properties(
            {"title": f"Reconciliation {report.report_id}", "created": report.params.as_of.replace(tzinfo=None)}
        )

    def fill(self, sheets: Sequence[Sheet]) -> None:
        control = self._book.add_worksheet(_CONTROL)
        self._names.add(_CONTROL.lower())
        written = [part for sheet in sheets for part in self._section(sheet)]
        self._control(control, written)

    # --- sections ---

    def _section(self, sheet: Sheet) -> Iterator[_Written]:
        rows = iter(sheet.rows())
        first = next(rows, None)
        number = 1
        while number == 1 or first is not None:
            part = _Written(self._name(sheet, number), sheet, Totals(sheet))
            worksheet = self._open(part)
            row = first
            while row is not None and part.last - HEAD < MOST_ROWS:
                part.last += 1
                part.totals.add(row)
                for place, (column, value) in enumerate(zip(sheet.columns, row, strict=True)):
                    self._cell(worksheet, part.last, place, column, value)
                    if isinstance(value, Amount):
                        part.mark(place, value.currency, part.last)
                row = next(rows, None)
            first, number = row, number + 1
            self._close(worksheet, part)
            yield part

    def _name(self, sheet: Sheet, number: int) -> str:
        """At most 31 characters, and each once."""
        name = words.words(sheet.name)[:27] + (f" {number}" if number > 1 else "")
        assert name.lower() not in self._names, "sections have different names"
        self._names.add(name.lower())
        return name

    def _open(self, part: _Written) -> Any:
        worksheet = self._book.add_worksheet(part.name)
        self._page(worksheet, part.sheet.title)
        _heads(worksheet, HEAD, part.sheet.columns, self._shaped)
        worksheet.freeze_panes(HEAD + 1, 0)
        worksheet.repeat_rows(HEAD)
        return worksheet

    def _close(self, worksheet: Any, part: _Written) -> None:
        worksheet.autofilter(HEAD, 0, max(part.last, HEAD + 1), len(part.sheet.columns) - 1)

    def _page(self, worksheet: Any, title: str) -> None:
        report = self._report
        worksheet.write_string(0, 0, title, self._format(bold=True, font_size=14))
        said = " · ".join(f"{each.currency} {each.standing.value}" for each in report.verdicts) or "no money moved"
        worksheet.write_string(1, 0, f"{words.period(report)} · as of {words.instant(report.params.as_of)} · {said}")
        worksheet.set_landscape()
        worksheet.set_paper(9)
        worksheet.fit_to_pages(1, 0)
        worksheet.set_footer(f"&L{report.report_id}&RPage &P of &N")

    def _cell(self, worksheet: Any, row: int, place: int, column: Column, value: Value) -> None:
        _write_cell(worksheet, row, place, value, self._shaped)

    # --- control ---

    def _control(self, worksheet: Any, written: Sequence[_Written]) -> None:
        """Totals that were counted while writing, beside formulas that count the cells again."""
        self._page(worksheet, "Control")
        heads = (
            *(Column(name, Kind.TEXT) for name in ("sheet", "column", "currency")),
            Column("total", Kind.AMOUNT),
            Column("visible", Kind.AMOUNT),
            Column("check", Kind.TEXT),
        )
        _heads(worksheet, HEAD, heads, self._shaped)
        worksheet.freeze_panes(HEAD + 1, 0)
        worksheet.repeat_rows(HEAD)
        row = HEAD
        for part in written:
            row += 1
            self._count(worksheet, row, part)
            for place in part.sheet.amounts:
                for currency, total in part.totals.of(place).items():
                    row += 1
                    self._total(worksheet, row, part, place, currency, total)
        worksheet.autofilter(HEAD, 0, row, len(heads) - 1)
        row += 2
        worksheet.write_string(row, 0, "Filtered rows leave `visible`; without a filter every check says OK.")
        for name, value in parameters(self._report).items():
            row += 1
            worksheet.write_string(row, 0, name, self._format(bold=True))
            worksheet.write_string(row, 1, _fitting(value))

    def _count(self, worksheet: Any, row: int, part: _Written) -> None:
        counted = part.last - HEAD
        worksheet.write_string(row, 0, part.name, self._words())
        worksheet.write_string(row, 1, "rows", self._words())
        worksheet.write_number(row, 3, counted, self._format(num_format="#,##0"))
        place = next((at for at, column in enumerate(part.sheet.columns) if column.name in _ALWAYS), None)
        if place is None or not counted:
            return
        cells = f"'{part.name}'!{xl_range_abs(HEAD + 1, place, part.last, place)}"
        formula = f"=SUBTOTAL(103,{cells})"
        worksheet.write_formula(row, 4, formula, self._format(num_format="#,##0"), counted)
        self._check(worksheet, row)

    def _total(self, worksheet: Any, row: int, part: _Written, place: int, currency: str, total: Amount) -> None:
        shape = self._format(num_format=number_format(total.exponent))
        worksheet.write_string(row, 0, part.name, self._words())
        worksheet.write_string(row, 1, part.sheet.columns[place].name, self._words())
        worksheet.write_string(row, 2, currency, self._words())
        self._cell(worksheet, row, 3, part.sheet.columns[place], total)
        runs = part.ranges[place, currency]
        if len(runs) > _MOST_RANGES or abs(total.minor) >= _EXACT:
            worksheet.write_string(row, 5, "by eye", self._words())
            return
        column = xl_col_to_name(place, col_abs=True)
        cells = ",".join(f"'{part.name}'!{column}${first + 1}:{column}${last + 1}" for first, last in runs)
        formula = f"=ROUND(SUBTOTAL(109,{cells}),{total.exponent})"
        worksheet.write_formula(row, 4, formula, shape, total.major)
        self._check(worksheet, row)

    def _check(self, worksheet: Any, row: int) -> None:
        number = row + 1
        worksheet.write_formula(row, 5, f'=IF(D{number}=E{number},"OK","DIFFERS")', self._words(), "OK")

    def _words(self) -> Any:
        return self._format(**_WORDS)

    def _format(self, **shape: Any) -> Any:
        return self._shaped(shape)

    def _shaped(self, shape: Shape) -> Any:
        return _shape(self._book, self._formats, shape)


def _heads(worksheet: Any, row: int, columns: Sequence[Column], shaped: Callable[[Shape], Any]) -> None:
    """Each heading stands where its figures or words stand, with room for the filter's button."""
    for place, column in enumerate(columns):
        worksheet.set_column(place, place, max(_WIDTHS[column.kind], len(column.name) + 4))
        where = {"align": "right"} if column.kind in _RIGHT else {"indent": 1}
        worksheet.write_string(row, place, column.name, shaped({"bold": True, "bottom": 1} | where))


def _shape(book: Any, known: dict[str, Any], shape: Shape) -> Any:
    """One format object for each shape: Excel has room for 64,000."""
    key = repr(sorted(shape.items()))
    if key not in known:
        known[key] = book.add_format(shape)
    return known[key]


def _write_cell(worksheet: Any, row: int, place: int, value: Value, shaped: Callable[[Shape], Any]) -> None:
    match value:
        case None:
            return
        case Amount() if abs(value.minor) < _EXACT:
            worksheet.write_number(row, place, value.major, shaped({"num_format": number_format(value.exponent)}))
        case bool():
            worksheet.write_boolean(row, place, value)
        case Decimal():
            worksheet.write_number(row, place, value, shaped({"num_format": "0.0#####"}))
        case int() if abs(value) < _EXACT:
            worksheet.write_number(row, place, value, shaped({"num_format": "#,##0"}))
        case datetime():
            moment = value.astimezone(UTC).replace(tzinfo=None)
            worksheet.write_datetime(row, place, moment, shaped({"num_format": 'yyyy-mm-dd hh:mm:ss"Z"'}))
        case date():
            worksheet.write_datetime(row, place, value, shaped({"num_format": "yyyy-mm-dd"}))
        case _:
            worksheet.write_string(row, place, _fitting(shown(value)), shaped(_WORDS))


_ALWAYS = frozenset(
    {"parameter", "account", "currency", "line", "plane", "break_id", "balance_transaction_id", "verdict", "refund",
     "resource"}
)  # fmt: skip
"""Columns that no row leaves empty, so that counting them counts the rows."""


def number_format(exponent: int) -> str:
    return "#,##0" if exponent <= 0 else f"#,##0.{'0' * exponent}"


def _fitting(text: str) -> str:
    """Excel refuses a longer cell; where it was cut is said in it."""
    if len(text) <= MOST_CHARACTERS:
        return text
    mark = "… (cut; the CSV has all of it)"
    return text[: MOST_CHARACTERS - len(mark)] + mark
