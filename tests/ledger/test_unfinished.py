"""Rooms for files that are being written: what nobody holds any more goes, and nothing else."""

from __future__ import annotations

import errno
from pathlib import Path

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
