"""A power cut leaves what was synced, and any part of the rest: what was answered 2xx is there, and nothing is torn."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.crashes.disk import FULL, IOERR_FSYNC
from tests.crashes.power import NAME, find, work

COMMITS = 300
"""More than lie between two checkpoints."""


@pytest.fixture
def folder(sqlite_ledger_url: str, tmp_path: Path) -> Path:
    made = tmp_path / "machine"
    made.mkdir()
    shutil.move(sqlite_ledger_url.removeprefix("sqlite:///"), made / NAME)
    return made


def test_what_was_acknowledged_survives_every_power_cut(folder: Path, tmp_path: Path) -> None:
    course = work(folder, COMMITS, seed=1)
    written = {Path(act.path).name for act in course.disk.acts}
    assert written == {NAME, f"{NAME}-wal"}, "the journal was moved into the database in between"
    for seed in range(12):
        find(course, tmp_path / str(seed), seed)


def test_the_model_notices_a_setting_that_is_weaker(folder: Path, tmp_path: Path) -> None:
    """Without a sync at every commit, acknowledged deliveries are gone: the test above would see it."""
    course = work(folder, 40, seed=1, synchronous="NORMAL")
    lost = 0
    for seed in range(12):
        try:
            find(course, tmp_path / str(seed), seed)
        except AssertionError:
            lost += 1
    assert lost >= 3


@pytest.mark.parametrize("fault", [FULL, IOERR_FSYNC], ids=["full", "sync fails"])
def test_a_disk_that_fails_for_a_while_acknowledges_nothing_meanwhile(folder: Path, tmp_path: Path, fault: int) -> None:
    course = work(folder, 60, seed=2, failing={20: fault, 35: 0})
    said = {int(event.split("_")[1]) for _, event, _ in course.acknowledged}
    assert said == {*range(20), *range(35, 60)}, "503 meanwhile, and at work again by itself"
    for seed in range(12):
        find(course, tmp_path / str(seed), seed)
