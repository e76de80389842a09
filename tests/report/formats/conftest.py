"""One busy month per run of this folder: reading it a hundred ways changes nothing in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.ledger import open_ledger
from reconciler.report.formats import html
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.sheets import sheets
from tests.databases import sqlite_url
from tests.report.books import Books
from tests.report.formats.months import busy_month, dossier, work_on_a_break


@pytest.fixture(scope="session")
def _busy_ledger(_sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("busy") / "busy.db"
    shutil.copy(_sqlite_template, path)
    with closing(open_ledger(sqlite_url(path))) as ledger:
        books = Books(ledger)
        busy_month(books)
        work_on_a_break(books)
        ledger.store.checkpoint()
    return path


@pytest.fixture
def busy_url(_busy_ledger: Path, tmp_path: Path) -> str:
    path = tmp_path / "busy.db"
    shutil.copy(_busy_ledger, path)
    return sqlite_url(path)


@pytest.fixture
def busy(busy_url: str) -> Iterator[Books]:
    with closing(open_ledger(busy_url)) as ledger:
        yield Books(ledger)


@pytest.fixture
def month(busy: Books) -> Iterator[Dossier]:
    with dossier(busy) as found:
        yield found


@pytest.fixture(scope="session")
def page(_busy_ledger: Path) -> str:
    """The busy month's page: drawn once, because drawing takes seconds."""
    with closing(open_ledger(sqlite_url(_busy_ledger))) as ledger, dossier(Books(ledger)) as month:
        return "".join(html.text(month, sheets(month)))
