"""What holds for every format: the same bytes for the same report, and the report's own figures in it."""

from __future__ import annotations

import hashlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given

from reconciler.errors import UsageError
from reconciler.ledger import Ledger
from reconciler.report import canonical
from reconciler.report.formats import outputs
from reconciler.report.formats.columns import Column, Kind, Row, Sheet
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.sheets import chosen, sheets
from reconciler.report.model import Rules
from tests.report.books import Books, on
from tests.report.formats.months import dossier
from tests.report.histories import KNOWN, Story, Teller, stories
from tests.report.test_invariants import PROPERTY, fill


def written(format_: str, folder: Path, month: Dossier) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in outputs.write(format_, folder, month, sheets(month))
    }


@pytest.mark.parametrize("format_", outputs.FORMATS)
def test_the_same_question_gives_the_same_bytes_whatever_became_known_since(
    busy: Books, tmp_path: Path, format_: str
) -> None:
    with dossier(busy) as month:
        first = written(format_, tmp_path / "first", month)
    busy.charge(777, at=on(7), known=on(15, month=3))
    busy.states(1, at=on(31, 23), known=on(15, month=3))
    with dossier(busy) as month:
        assert written(format_, tmp_path / "again", month) == first
    with dossier(busy, as_of=on(16, month=3)) as month:
        assert written(format_, tmp_path / "later", month) != first


def test_json_in_a_file_is_what_a_sign_off_keeps(month: Dossier, tmp_path: Path) -> None:
    (path,) = outputs.write("json", tmp_path, month, ())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == canonical.digest(month.report)


def test_json_holds_the_integers_of_the_report(month: Dossier) -> None:
    document = orjson.loads("".join(outputs.text("json", month, ())))
    found = {
        (block["currency"], line["code"]): line["net"]["minor"]
        for block in document["balance"]
        for line in block["lines"]
        if line["net"] is not None
    }
    assert found == {
        (block.currency, line.code): line.net.minor
        for block in month.report.balance
        for line in block.lines
        if line.net is not None
    }


def test_an_unknown_section_is_named_with_those_that_there_are(month: Dossier) -> None:
    with pytest.raises(UsageError, match="no section 'brakes'; known are header, verdicts"):
        chosen(sheets(month), ["brakes"])


def test_formats_that_are_files_ask_for_a_folder(month: Dossier) -> None:
    for format_ in ("xlsx", "qbo", "xero"):
        with pytest.raises(UsageError, match="--out DIR"):
            outputs.text(format_, month, sheets(month))
    with pytest.raises(UsageError, match="--section"):
        list(outputs.text("csv", month, sheets(month)))


def test_a_folder_that_cannot_be_made_is_explained(month: Dossier, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be used as a folder"):
        outputs.write("json", tmp_path / "file" / "out", month, ())


def test_what_no_figure_says_of_a_balance_is_in_every_format(month: Dossier) -> None:
    """A balance that was rolled back, or never read, must not look proved in a spreadsheet alone."""
    first, *others = month.report.balance
    noted = replace(first, notes=("The opening is uncertain.",))
    month = replace(month, report=replace(month.report, balance=(noted, *others)))
    (header,) = (sheet for sheet in sheets(month) if sheet.name == "header")
    said = f"{first.account} {first.balance_type} {first.currency}: The opening is uncertain."
    assert said in [value for _, value in header.rows()]
    assert said in "".join(outputs.text("md", month, sheets(month)))
    for format_ in ("json", "html"):
        assert noted.notes[0] in "".join(outputs.text(format_, month, sheets(month)))


def test_markdown_is_a_table_that_nobody_can_break_out_of(month: Dossier) -> None:
    text = "".join(outputs.text("md", month, sheets(month)))
    for line in text.splitlines():
        assert "<script>" not in line.replace("\\<", "")
    (broken,) = [line for line in text.splitlines() if "HYPERLINK" in line and "BALANCE" in line]
    cells = broken.replace("\\|", "").count("|")
    (head,) = [line for line in text.splitlines() if line.startswith("| Break id") and "Clears" not in line][:1]
    assert cells == head.count("|")


@PROPERTY
@given(story=stories)
def test_any_ledger_fits_every_text_format(ledger: Ledger, story: Story) -> None:
    """Without the page: its charts are slow to draw, and have tests of their own."""
    fill(ledger, Teller().tell(story))
    with dossier(Books(ledger), as_of=KNOWN, rules=Rules(tolerance_minor=2)) as month:
        for name in ("json", "md", "beancount", "hledger"):
            assert "".join(outputs.text(name, month, sheets(month)))
        for sheet in sheets(month):
            assert "".join(outputs.text("csv", month, (sheet,))).startswith(sheet.columns[0].name)


@pytest.mark.parametrize("format_", ["xlsx", "csv"])
def test_what_a_killed_one_left_goes_with_the_next(
    month: Dossier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    """Half a file beside it, and the rows that a library had put aside elsewhere."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))

    def killed() -> Iterator[Row]:
        yield ("first",)
        os.kill(os.getpid(), signal.SIGKILL)

    def write(rows: Callable[[], Iterable[Row]]) -> list[Path]:
        return outputs.write(format_, out, month, [Sheet("one", "One", (Column("account", Kind.TEXT),), rows)])

    child = os.fork()
    if child == 0:
        write(killed)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert [*out.iterdir(), *elsewhere.iterdir()] != []
    paths = write(lambda: [("first",)])
    assert sorted([*out.iterdir(), *elsewhere.iterdir()]) == sorted(paths)
