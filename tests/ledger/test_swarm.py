"""Thousands of steps through a world of lost hooks, dying workers, late pages and lagging replicas."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from reconciler.ledger import Ledger, Store
from tests.ledger.known import Violation
from tests.ledger.mutants import MUTANTS
from tests.ledger.seams import Faults, faulty_ledger
from tests.ledger.swarm import walk

SEEDS = 60


@pytest.fixture
def in_memory() -> Iterator[tuple[Ledger, Faults]]:
    """SQLite without a disk under it: the same statements, many times quicker."""
    ledger, faults = faulty_ledger("sqlite://")
    with closing(ledger):
        ledger.require_current_schema()
        yield ledger, faults


def walk_all(ledger: Ledger, faults: Faults, seeds: range) -> None:
    for seed in seeds:
        walk(ledger, faults, seed)


@pytest.mark.long
def test_no_walk_breaks_a_promise_on_sqlite(in_memory: tuple[Ledger, Faults]) -> None:
    ledger, faults = in_memory
    walk_all(ledger, faults, range(SEEDS))


@pytest.mark.long
def test_no_walk_breaks_a_promise_on_postgres(postgres_ledger_url: str) -> None:
    ledger, faults = faulty_ledger(postgres_ledger_url)
    with closing(ledger):
        walk_all(ledger, faults, range(1000, 1015))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_ledger_without_one_of_its_guards_is_caught(mutant: type[Ledger]) -> None:
    """Fewer seeds than the walk of the real ledger takes: what is missing there would have been found."""
    faults = Faults()
    with closing(mutant(Store("sqlite://", transactions=faults.begin))) as ledger:
        ledger.require_current_schema()
        with pytest.raises(Violation):
            walk_all(ledger, faults, range(SEEDS))
