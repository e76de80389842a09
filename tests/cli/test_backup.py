"""`reconcile backup` and `restore`: where the file comes to lie, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.ledger.backup import verify
from tests.cli.running import run_here
from tests.databases import sqlite_url


@pytest.fixture(autouse=True)
def here(tmp_path: Path, sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER__LEDGER__URL", sqlite_ledger_url)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("folder", ["backups", "backups/", "of.the.shop/", "there"])
def test_every_night_gets_a_file_of_its_own_in_a_folder_that_need_not_be_there(tmp_path: Path, folder: str) -> None:
    """The first night used to be a file with the folder's name, and every later one was refused because of it."""
    (tmp_path / "there").mkdir()
    for night in ("first", "second"):
        file = Path(run_here("--format", "json", "backup", "--out", folder).json["file"])
        assert (file.parent, file.suffix) == (Path(folder), ".zip")
        assert verify(file).tables
        file.rename(tmp_path / folder / night)  # both are of one second here
    assert {each.name for each in (tmp_path / folder).iterdir()} == {"first", "second"}


def test_a_file_gets_the_name_that_was_given_and_is_never_replaced(tmp_path: Path) -> None:
    assert run_here("backup", "--out", "tuesday.zip").code == 0
    assert (tmp_path / "tuesday.zip").is_file()
    ran = run_here("backup", "--out", "tuesday.zip")
    assert (ran.code, "exists; a backup never replaces a file" in ran.err) == (2, True)


def test_without_a_place_it_is_made_here(tmp_path: Path) -> None:
    assert run_here("backup").code == 0
    assert len(list(tmp_path.glob("ledger-*.backup.zip"))) == 1


def test_a_folder_that_cannot_be_made_is_explained() -> None:
    ran = run_here("backup", "--out", "nowhere/backups")
    assert (ran.code, "nowhere/backups cannot be made: No such file or directory" in ran.err) == (2, True)


def test_what_an_earlier_version_left_in_the_folders_place_is_to_be_moved_away(tmp_path: Path) -> None:
    (tmp_path / "backups").write_bytes(b"a backup, perhaps")
    ran = run_here("backup", "--out", "backups")
    assert (ran.code, "backups is a file and no folder; move it away" in ran.err) == (2, True)


def test_a_restored_ledger_says_what_to_run_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = run_here("--format", "json", "backup").json["file"]
    monkeypatch.setenv("RECONCILER__LEDGER__URL", sqlite_url(tmp_path / "new"))
    ran = run_here("restore", file)
    assert (ran.code, "run `reconcile --since 20" in ran.err) == (0, True)
