"""Whose leases may be ended before their time: those of a process of this machine that runs no more."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.worker import is_gone, owner_name

BOOT = datetime(2026, 5, 5, 12, tzinfo=UTC)
HOST = socket.gethostname()


def test_a_life_before_this_one_under_the_same_number_is_gone() -> None:
    """A container's process has the same number in each of its lives."""
    before, now = owner_name(BOOT), owner_name(BOOT + timedelta(minutes=1))
    assert is_gone(before, self_name=now)
    assert not is_gone(now, self_name=now)


def test_a_process_that_ended_is_gone_and_one_that_runs_is_not() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        owner = f"{HOST}:{child.pid}:1"
        assert not is_gone(owner, self_name=owner_name(BOOT))
        child.communicate(b"\n")
    assert is_gone(owner, self_name=owner_name(BOOT))


@pytest.mark.parametrize(
    "owner",
    [f"elsewhere.{HOST}:{os.getpid()}:1", f"{HOST}:first:1", f"{HOST}:1:1", HOST, "", "node0:1:0"],
    ids=["elsewhere", "no number", "the first", "no process", "nobody", "a node"],  # alike in every worker
)
def test_in_doubt_nobody_is_gone(owner: str) -> None:
    """Another machine's, a name that is none of ours, and number 1, which always runs and may be somebody else's."""
    assert not is_gone(owner, self_name=owner_name(BOOT))
