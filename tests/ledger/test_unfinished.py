"""Rooms for files that are being written: what nobody holds any more goes, and nothing else."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from reconciler.ledger.unfinished import PREFIX, give_name, room_beside


def test_what_a_killed_process_left_goes_with_the_next_one(tmp_path: Path) -> None:
    left = tmp_path / f"{PREFIX}left"
    left.mkdir()
    (left / "ledger.db").write_bytes(b"half a ledger")
    with room_beside(tmp_path / "new.zip") as room:
        assert [each.name for each in tmp_path.iterdir()] == [room.name]
        (room / "new.zip").write_bytes(b"whole")
        (room / "beside.db").write_bytes(b"no longer needed")
        (room / "new.zip").rename(tmp_path / "new.zip")
    assert [each.name for each in tmp_path.iterdir()] == ["new.zip"]


def test_a_room_that_somebody_works_in_is_left_alone(tmp_path: Path) -> None:
    with room_beside(tmp_path / "a.zip") as room:
        (room / "a.zip").write_bytes(b"so far")
        with room_beside(tmp_path / "b.zip") as other:
            assert other != room
        assert (room / "a.zip").read_bytes() == b"so far"
    assert list(tmp_path.iterdir()) == []


def test_what_only_has_such_a_name_is_nobodys_to_clear_away(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    (tmp_path / f"{PREFIX}file").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    before = sorted(tmp_path.rglob("*"))
    with room_beside(tmp_path / "new.zip"):
        pass
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("links", [True, False], ids=["links", "a file system without links"])
def test_a_name_that_is_taken_is_not_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refused(_: Path, __: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refused)
    first, second, out = (tmp_path / name for name in ("first", "second", "out"))
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    give_name(first, out)
    with pytest.raises(FileExistsError):
        give_name(second, out)
    assert (out.read_bytes(), first.exists(), second.read_bytes()) == (b"first", False, b"second")


def test_another_fault_of_the_disk_is_told_and_nothing_gets_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path, __: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "hardlink_to", full)
    (tmp_path / "whole").write_bytes(b"whole")
    with pytest.raises(OSError, match="No space left"):
        give_name(tmp_path / "whole", tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["whole"]


def test_where_nobody_can_lock_files_are_written_all_the_same_and_nothing_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems. Nobody can say there whether a room is still worked in."""

    def without_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without_locks)
    left = tmp_path / f"{PREFIX}left"
    left.mkdir()
    with room_beside(tmp_path / "a.zip") as room:
        (room / "a.zip").write_bytes(b"whole")
        (room / "a.zip").rename(tmp_path / "a.zip")
    assert sorted(tmp_path.iterdir()) == [left, tmp_path / "a.zip"]


def test_a_room_that_was_cleared_away_before_it_was_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes between takes it for one that was left: at once, or when it is open and not locked yet."""
    make, lock = tempfile.mkdtemp, fcntl.flock
    made: list[str] = []

    def taken_at_once(**given: Any) -> str:
        made.append(make(**given))
        if len(made) == 1:
            shutil.rmtree(made[0])
        return made[-1]

    def taken_before_the_lock(descriptor: int, how: int) -> None:
        if len(made) == 2:
            shutil.rmtree(made[1])
        if len(made) == 3:
            shutil.rmtree(made[2])
            Path(made[2]).mkdir()
        lock(descriptor, how)

    monkeypatch.setattr(tempfile, "mkdtemp", taken_at_once)
    monkeypatch.setattr(fcntl, "flock", taken_before_the_lock)
    before = len(os.listdir("/proc/self/fd"))
    with room_beside(tmp_path / "a.zip") as room:
        assert (str(room), len(made)) == (made[3], 4)
        (room / "a.zip").write_bytes(b"whole")
    assert len(os.listdir("/proc/self/fd")) <= before, "none stays open"
