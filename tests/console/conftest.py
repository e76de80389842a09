"""One shop's ledger per run of this folder, made once; every test that writes gets a copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.console import shop
from tests.console.browser import chromium
from tests.console.serving import Served
from tests.databases import TestRun, sqlite_url


@pytest.fixture(scope="session")
def _shop_ledger(_sqlite_template: Path, test_run: TestRun) -> Path:
    def make(path: Path) -> None:
        shutil.copy(_sqlite_template, path)
        shop.make(sqlite_url(path))

    return test_run.once("shop.db", make)


@pytest.fixture
def shop_url(_shop_ledger: Path, tmp_path: Path) -> str:
    path = tmp_path / "shop.db"
    shutil.copy(_shop_ledger, path)
    return sqlite_url(path)


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
