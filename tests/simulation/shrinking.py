"""Cutting a failing scenario down to the faults that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.simulation.running import Verdict
from tests.simulation.scenario import Scenario

Run = Callable[[Scenario], Verdict]


def shrink(verdict: Verdict, run: Run, *, most_runs: int = 60) -> Verdict:
    """The smallest scenario found that still breaks a promise: first halves of the faults go, then single ones.

    `most_runs` bounds the work. What is left may break another promise than before: it is as good a find.
    """
    runs = 0

    def fails(scenario: Scenario) -> Verdict | None:
        nonlocal runs
        runs += 1
        found = run(scenario)
        return found if found.violation is not None else None

    best = verdict
    size = max(len(best.scenario.faults()) // 2, 1)
    while runs < most_runs:
        faults = best.scenario.faults()
        groups = [faults[at : at + size] for at in range(0, len(faults), size)]
        smaller = None
        for group in groups:
            if runs >= most_runs:
                break
            smaller = fails(best.scenario.without(frozenset(group)))
            if smaller is not None:
                break
        if smaller is not None:
            best = smaller
        elif size == 1:
            break
        else:
            size //= 2
    for minutes in (1.0, 2.0):
        if minutes < best.scenario.minutes and runs < most_runs:
            best = fails(replace(best.scenario, minutes=minutes)) or best
    return best
