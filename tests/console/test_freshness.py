"""A shared value after a change: whoever has the patience gets one that shows it, whatever was being made meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from reconciler.clock import ManualClock
from reconciler.console.freshness import Fresh

PATIENCE_SECONDS = 120.0


class Ledger:
    """Something that changes, and is read slowly: a reading ends when it is let go."""

    def __init__(self) -> None:
        self.value = 1
        self.reading = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def read(self) -> int:
        seen = self.value
        self.reading.release()
        assert self.go_on.acquire(timeout=PATIENCE_SECONDS)
        return seen


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as found:
        yield found


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def fresh(ledger: Ledger, threads: ThreadPoolExecutor, clock: ManualClock) -> Fresh[int]:
    """The first value is there."""
    found = Fresh(ledger.read, threads, clock, timedelta(seconds=20))
    ledger.go_on.release()
    assert found.get(patience_seconds=PATIENCE_SECONDS) == 1
    assert ledger.reading.acquire(timeout=PATIENCE_SECONDS)
    return found


def test_who_asks_second_after_a_change_waits_like_the_first(
    fresh: Fresh[int], ledger: Ledger, threads: ThreadPoolExecutor
) -> None:
    ledger.value = 2
    fresh.forget()
    assert fresh.get(patience_seconds=0.01) == 1, "no patience: the one before"
    assert ledger.reading.acquire(timeout=PATIENCE_SECONDS)
    second = threads.submit(fresh.get, patience_seconds=PATIENCE_SECONDS)
    ledger.go_on.release()
    assert second.result(PATIENCE_SECONDS) == 2


def test_what_was_being_made_when_something_changed_is_not_what_shows_it(
    fresh: Fresh[int], ledger: Ledger, threads: ThreadPoolExecutor
) -> None:
    fresh.forget()
    assert fresh.get(patience_seconds=0.01) == 1
    assert ledger.reading.acquire(timeout=PATIENCE_SECONDS), "it has read, and is not done"
    ledger.value = 2
    fresh.forget()
    patient = threads.submit(fresh.get, patience_seconds=PATIENCE_SECONDS)
    ledger.go_on.release()
    ledger.go_on.release()
    assert patient.result(PATIENCE_SECONDS) == 2


def test_nothing_is_made_anew_while_nothing_has_changed(fresh: Fresh[int], ledger: Ledger) -> None:
    assert fresh.get(patience_seconds=PATIENCE_SECONDS) == 1
    assert not ledger.reading.acquire(blocking=False)
