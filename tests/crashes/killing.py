"""SIGKILL at random moments to real processes that commit under load: two at a time, one after the other."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from reconciler.ledger import open_ledger
from tests.crashes.verifying import verify
from tests.ledger.processes import PATIENCE_SECONDS, child

AT_ONCE = 2


def kill_in_the_middle(url: str, folder: Path, kills: int, *, seed: int = 7) -> int:
    """Looks at the whole ledger after each pair of kills; how many deliveries had been answered 2xx.

    Raises AssertionError for a broken promise.
    """
    chance = random.Random(seed)
    acknowledged: dict[str, str] = {}
    with closing(open_ledger(url)) as ledger, child("breed", url) as breeder:
        assert _line(breeder) == "ready"
        for number in range(0, kills, AT_ONCE):
            paths = [folder / f"said-{number + each}" for each in range(AT_ONCE)]
            victims = {path: _breed(breeder, path) for path in paths}
            for path, victim in victims.items():
                _until(partial(_has_content, path))
                time.sleep(chance.uniform(0, 0.1))  # a random instant of its work is the point
                _kill(victim)
                acknowledged |= _acknowledged(path)
            verify(ledger, acknowledged)
        breeder.terminate()
        _, complaints = breeder.communicate(timeout=PATIENCE_SECONDS)
    assert "Traceback" not in complaints, complaints
    assert len(acknowledged) > 2 * kills, "they lived long enough to be killed in the middle of something"
    return len(acknowledged)


def _breed(breeder: subprocess.Popen[str], path: Path) -> int:
    assert breeder.stdin is not None
    breeder.stdin.write(f"{path.name.removeprefix('said-')} {path}\n")
    breeder.stdin.flush()
    return int(_line(breeder))


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _kill(victim: int) -> None:
    os.kill(victim, signal.SIGKILL)
    _until(lambda: not Path(f"/proc/{victim}").exists())


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _until(true: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < give_up_at, "a process neither began nor ended"
        time.sleep(0.002)


def _acknowledged(path: Path) -> dict[str, str]:
    """Event ids, each with the resource that it named."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return {f"evt_{words[1]}": words[2] for words in lines if _is_whole(words)}


def _is_whole(words: Sequence[str]) -> bool:
    return len(words) == 4 and words[0] == "A" and words[3] == "stored"
