"""Seeds that keep every promise, run after run alike; and products without a guard, of which none stays unnoticed."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import structlog

from tests.simulation.__main__ import run
from tests.simulation.hunting import INVARIANTS, hunt
from tests.simulation.mutants import MUTANTS, Guarded
from tests.simulation.running import Simulation
from tests.simulation.scenario import Incident, short

SEEDS = 20
"""Of the suite; `python -m tests.simulation --seeds 10000` is for the night."""


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.disable()
    yield
    gc.enable()
    structlog.reset_defaults()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(4))
def test_no_seed_breaks_a_promise(part: int) -> None:
    for seed in range(part, SEEDS, 4):
        verdict = run(short(seed))
        assert verdict.violation is None, f"{verdict.violation}\nreplay: python -m tests.simulation --seed {seed}"


@pytest.mark.long
def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Also where Python hashes strings otherwise: else a failure that was found could not be found again."""
    seed = 7
    here = Simulation(short(seed)).run().trace
    for hashing in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed)]
        told = subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": hashing}, capture_output=True, text=True, check=True
        )
        assert f"trace {here}" in told.stdout


@pytest.mark.long
def test_a_clock_that_was_an_hour_ahead_for_a_while_hides_nothing() -> None:
    """Half of the deliveries are lost, the clock is put forward and back, and no complete list helps out."""
    scenario = replace(
        short(1),
        nodes=1,
        minutes=12.0,
        pace=6.0,
        rates={"drop": 0.5},
        incidents=(Incident(60.0, "step", seconds=3600.0), Incident(200.0, "step", seconds=-3600.0)),
        provider_skew=0.0,
        sweeps=replace(short(1).sweeps, full_every=timedelta(days=1)),
        bound=timedelta(minutes=5),
    )
    verdict = run(scenario)
    assert verdict.violation is None


FIRST = {each.invariant: each for each in reversed(MUTANTS) if each.seed is not None}
"""For each invariant the first product without a guard whose seed is known."""


def test_each_invariant_has_a_guard_whose_loss_is_noticed() -> None:
    assert sorted(FIRST) == list(INVARIANTS)


@pytest.mark.long
@pytest.mark.parametrize("guarded", FIRST.values(), ids=lambda each: f"{each.invariant}-{each.name}")
def test_a_product_without_a_guard_is_noticed(guarded: Guarded) -> None:
    """All of them: `python -m tests.simulation.hunting`."""
    caught = hunt(guarded)
    assert caught.seed is not None, str(caught)
