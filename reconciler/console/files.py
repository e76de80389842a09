"""Tables to take away: CSV and XLSX, written to a file on a thread and sent from there, so that memory stays flat."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from starlette.background import BackgroundTask
from starlette.responses import FileResponse

from reconciler.asking import Question, answered
from reconciler.console.drawing.tables import Table
from reconciler.desk import Desk
from reconciler.report.formats import csv_files, outputs, xlsx
from reconciler.report.formats.columns import Sheet
from reconciler.report.formats.sheets import sheets

FORMATS: Final = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
MOST_ROWS: Final = 1_000_000


def written(table: Table, format_: str, now: datetime) -> Path:
    """The file, which is the caller's to remove. Not for the event loop: it takes as long as the table does."""
    sheet = Sheet(table.name, table.title, table.columns, lambda: islice(table.every(), MOST_ROWS))
    path = _place(format_)
    try:
        if format_ == "csv":
            with path.open("w", encoding="utf-8", newline="") as out:
                out.writelines(csv_files.text(sheet))
        else:
            xlsx.write_table(path, sheet, now)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def whole(desk: Desk, question: Question, format_: str) -> Path:
    """The report in one of its formats, as a file that is the caller's to remove; a folder becomes an archive."""
    with tempfile.TemporaryDirectory(prefix="reconciler-") as folder:
        with answered(desk, question) as found:
            dossier = found.dossier()
            paths = outputs.write(format_, Path(folder), dossier, sheets(dossier))
        if len(paths) == 1:
            place = _place(paths[0].suffix.removeprefix("."))
            shutil.move(paths[0], place)
            return place
        place = _place("zip")
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in paths:
                archive.write(path, path.relative_to(folder))
        return place


def sent(path: Path, name: str, media_type: str) -> FileResponse:
    """The file goes away once it was sent."""
    return FileResponse(
        path, media_type=media_type, filename=name, background=BackgroundTask(lambda: path.unlink(missing_ok=True))
    )


def _place(format_: str) -> Path:
    handle, name = tempfile.mkstemp(prefix="reconciler-", suffix=f".{format_}")
    os.close(handle)
    return Path(name)
