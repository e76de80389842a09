"""A failing seed is cut down to the faults that it takes, and to no fewer."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.mutants import AnswersBeforeItStores
from tests.simulation.nodes import Mutant
from tests.simulation.running import Simulation, Verdict
from tests.simulation.scenario import Incident, Scenario, short
from tests.simulation.shrinking import shrink

RICH = replace(
    short(0),
    minutes=5.0,
    rates=dict.fromkeys(("drop", "duplicate", "delay", "reorder", "stale", "throttle", "hang"), 0.1),
    incidents=tuple(Incident(float(at), "kill") for at in range(7)),
)


def verdict(scenario: Scenario, violation: str | None) -> Verdict:
    return Verdict(scenario, violation, "", 0.0, 0.0, 0, 0, {}, 0.0)


@given(st.sets(st.sampled_from(sorted(RICH.rates))), st.sets(st.sampled_from(range(7))))
def test_what_is_left_is_what_it_takes(rates: set[str], incidents: set[int]) -> None:
    """A promise that breaks if and only if certain faults are there: those remain, in whatever order they went."""
    taken = {RICH.incidents[number] for number in incidents}
    runs = 0

    def run(scenario: Scenario) -> Verdict:
        nonlocal runs
        runs += 1
        breaks = rates <= set(scenario.rates) and taken <= set(scenario.incidents)
        return verdict(scenario, "broken" if breaks else None)

    least = shrink(run(RICH), run, most_runs=400)
    assert set(least.scenario.rates) == rates
    assert set(least.scenario.incidents) == taken
    assert (least.violation, least.scenario.minutes) == ("broken", 1.0), "and no longer than it takes"


def test_the_work_is_bounded_and_a_failure_never_lost() -> None:
    runs: list[Scenario] = []

    def run(scenario: Scenario) -> Verdict:
        runs.append(scenario)
        return verdict(scenario, "broken" if scenario == RICH else None)

    assert shrink(verdict(RICH, "broken"), run, most_runs=9) == verdict(RICH, "broken")
    assert len(runs) == 9


def test_a_real_failure_still_fails_once_it_is_cut_down() -> None:
    broken = Mutant(commit=AnswersBeforeItStores)
    before = Simulation(short(0), broken).run()
    assert before.violation is not None
    least = shrink(before, lambda scenario: Simulation(scenario, broken).run(), most_runs=6)
    assert len(least.scenario.faults()) < len(before.scenario.faults())
    assert Simulation(least.scenario, broken).run().violation == least.violation, "it replays"
