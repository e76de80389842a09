"""The console over the shop's ledger, and a browser to look at it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.console.browser import chromium
from tests.console.serving import Served
from tests.databases import sqlite_url


@pytest.fixture
def console(shop_url: str) -> Iterator[Served]:
    """For tests that write."""
    with Served(shop_url) as served:
        yield served


@pytest.fixture(scope="session")
def reading(_shop_ledger: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """For tests that only look: one console for all of them."""
    path = tmp_path_factory.mktemp("reading") / "shop.db"
    shutil.copy(_shop_ledger, path)
    with Served(sqlite_url(path)) as served:
        yield served


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    """One browser for the tests of a module. It keeps a loop running in this thread: no longer than that, or every
    later test of the process that runs a loop of its own would fail."""
    with chromium() as browser:
        yield browser
