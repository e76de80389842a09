"""SIGKILL at random moments: what was acknowledged is there afterwards, and nothing is half there."""

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

import pytest
from sqlalchemy import text

from reconciler.ledger import Ledger, open_ledger
from tests.ledger.factories import table
from tests.ledger.processes import child

ROUNDS = 10
"""In each of them two processes are killed, one after the other."""


@pytest.mark.long
def test_no_acknowledged_delivery_is_lost_by_a_kill(ledger_url: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged: dict[str, str] = {}
    with closing(open_ledger(ledger_url)) as ledger, child("breed", ledger_url) as breeder:
        assert _line(breeder) == "ready"
        for number in range(ROUNDS):
            paths = [tmp_path / f"said-{2 * number + each}" for each in range(2)]
            victims = {path: _breed(breeder, path) for path in paths}
            for path, victim in victims.items():
                _until(partial(_has_content, path))
                time.sleep(chance.uniform(0, 0.1))  # a random instant of its work is the point
                _kill(victim)
                acknowledged |= _acknowledged(path)
            _verify(ledger, acknowledged)
        breeder.terminate()
        _, complaints = breeder.communicate(timeout=30)
    assert "Traceback" not in complaints, complaints
    assert len(acknowledged) > 5 * ROUNDS, "they lived long enough to be killed in the middle of something"


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
    give_up_at = time.monotonic() + 30
    while not true():
        assert time.monotonic() < give_up_at, "a process neither began nor ended"
        time.sleep(0.002)


def _acknowledged(path: Path) -> dict[str, str]:
    """Event ids, each with the resource that it named."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return {f"evt_{words[1]}": words[2] for words in lines if _is_whole(words)}


def _is_whole(words: Sequence[str]) -> bool:
    return len(words) == 4 and words[0] == "A" and words[3] == "stored"


def _verify(ledger: Ledger, acknowledged: dict[str, str]) -> None:
    if not ledger.store.dialect.is_postgres:
        with ledger.store.read() as tx:
            assert tx.run(text("PRAGMA integrity_check")).scalar_one() == "ok"
    logged = {each["event_id"]: each["id"] for each in table(ledger, "delivery")}
    assert acknowledged.keys() <= logged.keys()
    links = {(each["delivery_id"], each["remote_id"]) for each in table(ledger, "delivery_mark")}
    assert {(logged[event_id], name) for event_id, name in acknowledged.items()} <= links
    assert sum(each["count"] for each in table(ledger, "delivery_tally")) == len(logged)
    versions: dict[int, list[int]] = {}
    for each in table(ledger, "version", "resource_id, version"):
        versions.setdefault(each["resource_id"], []).append(each["version"])
    marks = {each["remote_id"]: 0 for each in table(ledger, "resource")}
    for _, name in links:
        marks[name] += 1
    for each in table(ledger, "resource"):
        assert versions.get(each["id"], []) == list(range(1, each["version"] + 1)), "a gap in the versions"
        assert each["generation"] >= marks[each["remote_id"]], "a delivery without its mark"
        assert each["generation"] == each["settled_generation"] or each["due_at"] is not None
