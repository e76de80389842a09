"""Fixtures for everyone: a clock that stands still, and a fresh ledger on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from reconciler.clock import ManualClock
from reconciler.ledger import Ledger, open_ledger
from tests.databases import Postgres, TestRun, sqlite_url

RUN = pytest.StashKey[TestRun]()

# A busy machine is no counterexample: how long an example takes says nothing about whether it holds.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# --- the run: made by the controller, shared with its workers ---------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    _write_to_memory()
    folder = given["run_folder"] if given else tempfile.mkdtemp(prefix="reconciler-tests-")
    config.stash[RUN] = TestRun(Path(folder))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist, before it starts a worker."""
    node.workerinput["run_folder"] = str(node.config.stash[RUN].folder)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: a million objects that no collection need walk again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.stash[RUN].sweep_up()


_MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes fresh folders in it
_ROOM_BYTES = 2 << 30
"""A tenth of it is used. A container often has 64 MB there: too little, so that its tests write to the disk."""


def _write_to_memory() -> None:
    """Every ledger waits for its disk at each commit; what a test commits need not survive a power cut.

    For this process and all that it starts, unless whoever runs the tests has chosen a place.
    """
    if "TMPDIR" not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


# --- order ------------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)  # what pytest-randomly has shuffled stays shuffled within both sorts of modules
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Modules with long tests first, dealt out to the workers: whoever got one last would end alone, minutes later.

    xdist's worksteal gives each worker a run of the list, in order, and lets an idle one steal from another's end.
    """
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    if given is not None:
        items[:] = dealt(items, given["workercount"])


def dealt(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """In as many runs of equal length as there are workers, each of which begins with its share of the long ones."""
    modules = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
    modules.sort(key=lambda module: not any(item.get_closest_marker("long") for item in module))
    piles: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for module in modules:
        min(piles, key=len).extend(module)
    return [item for pile in piles for item in pile]


# --- time -----------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> ManualClock:
    """A Tuesday in spring, at noon."""
    return ManualClock(datetime(2026, 5, 5, 12, 0, tzinfo=UTC))


# --- databases ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def test_run(request: pytest.FixtureRequest) -> TestRun:
    return request.config.stash[RUN]


@pytest.fixture(scope="session")
def postgres(test_run: TestRun) -> Postgres:
    """The run's PostgreSQL server."""
    return Postgres.of(test_run)


@pytest.fixture(scope="session")
def _sqlite_template(test_run: TestRun) -> Path:
    def make(path: Path) -> None:
        with closing(open_ledger(sqlite_url(path))) as ledger:
            ledger.require_current_schema()
            ledger.store.checkpoint()

    return test_run.once("template.db", make)


@pytest.fixture(scope="session")
def _shop_ledger(_sqlite_template: Path, test_run: TestRun) -> Path:
    """A shop with money, breaks and dead letters, made once in a run; whoever writes takes a copy."""
    from tests.console import shop  # only where it is asked for: few tests are

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
def sqlite_ledger_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh ledger in a SQLite file of its own."""
    path = tmp_path / "ledger.db"
    shutil.copy(_sqlite_template, path)
    return sqlite_url(path)


@pytest.fixture
def postgres_ledger_url(postgres: Postgres) -> Iterator[str]:
    """A fresh ledger in a PostgreSQL database of its own."""
    name = postgres.borrow_ledger()
    yield postgres.url(name)
    postgres.give_back(name)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated ledger; the test runs once on each database."""
    url: str = request.getfixturevalue(f"{request.param}_ledger_url")
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table; the test runs once on each database."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "empty.db")
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """An open ledger on a database of its own; the test runs once on each database."""
    with closing(open_ledger(ledger_url)) as opened:
        yield opened
