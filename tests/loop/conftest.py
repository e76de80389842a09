"""These stories read what the ledger says: no log lines, and no fsync where the machine offers a disk in memory."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.databases import sqlite_url

_MEMORY = Path("/dev/shm")  # noqa: S108 - a fresh folder is made in it


@pytest.fixture(autouse=True, scope="package")
def _quiet_logs() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def url(_sqlite_template: Path) -> Iterator[str]:
    """A fresh SQLite ledger that survives everything but a power cut."""
    with tempfile.TemporaryDirectory(prefix="loop-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        shutil.copy(_sqlite_template, Path(folder) / "ledger.db")
        yield sqlite_url(Path(folder) / "ledger.db")
