"""Turns at SQLite's file: who has it, who waits for it, and who is next."""

from __future__ import annotations

import fcntl
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from reconciler.errors import LedgerUnavailable
from reconciler.ledger.store import BUSY_SECONDS
from reconciler.ledger.turn import FileTurn


def test_a_turn_within_a_turn_is_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db.lock"
    with closing(FileTurn(path)) as turn, path.open("w") as other:
        with turn.taken(BUSY_SECONDS):
            with turn.taken(BUSY_SECONDS):
                pass
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_whoever_waits_is_next_also_beside_one_who_commits_without_pause(tmp_path: Path) -> None:
    """Who frees the turn and wants it again at once finds that somebody else is before him."""
    path = tmp_path / "ledger.db.lock"
    order: list[str] = []
    with closing(FileTurn(path)) as busy, closing(FileTurn(path, pause=lambda _: busy_commits_twice())) as patient:
        held = ExitStack()
        held.enter_context(busy.taken(1))

        def busy_commits_twice() -> None:
            held.close()
            with pytest.raises(LedgerUnavailable), busy.taken(0):
                order.append("busy again")

        with patient.taken(1):
            order.append("patient")
        with busy.taken(0):
            order.append("busy")
    assert order == ["patient", "busy"]


def test_who_has_the_turn_sees_who_waits_for_it_and_takes_nobodys_place(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db.lock"
    with closing(FileTurn(path)) as ours, closing(FileTurn(path)) as theirs:

        def take() -> None:
            with theirs.taken(180):
                pass

        with ours.taken(0):
            looked = ours.is_wanted
        assert not looked
        with theirs.taken(0):
            pass  # the look has left the place free
        waiting = threading.Thread(target=take)
        with ours.taken(0):
            waiting.start()
            while not ours.is_wanted:
                waiting.join(0.001)
        waiting.join(180)
        assert not waiting.is_alive()
        with pytest.raises(AssertionError, match="not ours"):
            _ = ours.is_wanted


def test_a_machine_that_was_asleep_has_not_waited_for_its_turn(tmp_path: Path) -> None:
    """The holder slept as well: it lets go a moment after both have woken up."""
    elapsed, pauses = 0.0, 0
    with (tmp_path / "ledger.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def pause(seconds: float) -> None:
            nonlocal elapsed, pauses
            pauses += 1
            elapsed += 3600.0 if pauses == 1 else seconds
            if pauses == 3:
                fcntl.flock(lock, fcntl.LOCK_UN)

        turn = FileTurn(tmp_path / "ledger.db.lock", monotonic=lambda: elapsed, pause=pause)
        with closing(turn), turn.taken(BUSY_SECONDS):
            assert pauses == 3
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
