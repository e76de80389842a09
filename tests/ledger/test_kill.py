"""SIGKILL at random moments: what was acknowledged is there afterwards, and nothing is half there."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from contextlib import closing

import pytest
from sqlalchemy import text

from reconciler.ledger import Ledger, open_ledger
from tests.ledger.factories import table
from tests.ledger.processes import child

KILLS = 20


@pytest.mark.long
def test_no_acknowledged_delivery_is_lost_by_a_kill(ledger_url: str) -> None:
    chance = random.Random(7)
    acknowledged: dict[str, str] = {}
    with closing(open_ledger(ledger_url)) as ledger:
        for number in range(KILLS):
            acknowledged |= _kill_one(ledger_url, number, chance.uniform(0.01, 0.15))
            if number % 5 == 4:
                _verify(ledger, acknowledged)
    assert len(acknowledged) > KILLS, "the children lived long enough to be killed in the middle of something"


def _kill_one(url: str, seed: int, after_seconds: float) -> dict[str, str]:
    """Event ids that a child acknowledged before it was killed, each with the resource that it named."""
    with child("commit", url, seed) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.stderr and process.stderr.read()
        time.sleep(after_seconds)  # a random instant of its work is the point
        process.send_signal(signal.SIGKILL)
        said, complaints = process.communicate(timeout=30)
    assert "Traceback" not in complaints, complaints
    acknowledgements = [line.split() for line in said.splitlines()]
    return {f"evt_{each[1]}": each[2] for each in acknowledgements if _is_whole(each)}


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
