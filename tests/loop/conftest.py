"""These stories read what the ledger says: no log lines."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.databases import sqlite_url


@pytest.fixture(autouse=True, scope="package")
def _quiet_logs() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def url(_sqlite_template: Path) -> Iterator[str]:
    """A fresh SQLite ledger whose file is gone with the test."""
    with tempfile.TemporaryDirectory(prefix="loop-") as folder:
        shutil.copy(_sqlite_template, Path(folder) / "ledger.db")
        yield sqlite_url(Path(folder) / "ledger.db")
