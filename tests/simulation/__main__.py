"""`python -m tests.simulation --seed N` replays one seed exactly; `--seeds 10000` looks for one that fails.

Exit codes: 0 no promise was broken; 1 one was, and its seed, its faults cut down and the promise are on stdout.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import structlog

from tests.simulation.running import Simulation, Verdict
from tests.simulation.scenario import PROFILES, Scenario
from tests.simulation.shrinking import shrink

_SEEDS_PER_COLLECTION = 8
_runs = itertools.count(1)


def run(scenario: Scenario) -> Verdict:
    verdict = Simulation(scenario).run()
    if next(_runs) % _SEEDS_PER_COLLECTION == 0:
        gc.collect()
    return verdict


def run_seed(profile: str, seed: int) -> Verdict:
    return run(PROFILES[profile](seed))


def quietly() -> None:
    """No log lines, and no garbage collection in the middle of a run: it costs a tenth of the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.freeze()
    gc.disable()


def summary(verdicts: Iterable[Verdict]) -> str:
    every = list(verdicts)
    hours, cpu = sum(each.simulated_hours for each in every), sum(each.cpu_seconds for each in every)
    rate = hours / cpu * 3600 if cpu else 0.0
    return (
        f"{len(every)} seeds, {sum(each.violation is not None for each in every)} broken promises, "
        f"{sum(each.commits for each in every)} commits looked at, {sum(each.deaths for each in every)} deaths; "
        f"{hours:.1f} simulated hours in {cpu / 3600:.3f} CPU hours: {rate:,.0f} simulated hours per CPU hour"
    )


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this seed alone, with its log lines")
    parser.add_argument("--seeds", type=int, default=300, help="how many seeds to try (300)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="short", help="what a seed means (short)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no seed after so long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes to run them in")
    parser.add_argument("--no-shrink", action="store_true", help="leave a failing seed as it is")
    parser.add_argument("--quiet", action="store_true", help="no log lines of a single seed")
    chosen = parser.parse_args(words)
    if chosen.seed is not None:
        if chosen.quiet:
            quietly()
        return _tell(run_seed(chosen.profile, chosen.seed), chosen.profile, chosen.no_shrink)
    quietly()
    seeds = _while_there_is_time(range(chosen.first, chosen.first + chosen.seeds), chosen.minutes)
    verdicts = []
    for verdict in _run_all(chosen.profile, seeds, chosen.jobs):
        verdicts.append(verdict)
        if verdict.violation is not None:
            _print(f"seed {verdict.scenario.seed}: {verdict.violation}")
    _print(summary(verdicts))
    broken = [each for each in verdicts if each.violation is not None]
    return _tell(broken[0], chosen.profile, chosen.no_shrink) if broken else 0


def _while_there_is_time(seeds: Iterable[int], minutes: float) -> Iterator[int]:
    began = time.monotonic()
    return itertools.takewhile(lambda _: time.monotonic() - began < minutes * 60, seeds)


def _run_all(profile: str, seeds: Iterator[int], jobs: int) -> Iterator[Verdict]:
    """One after the other begins as one ends, so that a bound on time is one; in the order in which they began."""
    if jobs <= 1:
        yield from map(partial(run_seed, profile), seeds)
        return
    with ProcessPoolExecutor(jobs, initializer=quietly, max_tasks_per_child=None) as pool:
        running = deque(pool.submit(run_seed, profile, seed) for seed in itertools.islice(seeds, jobs))
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(run_seed, profile, seed) for seed in itertools.islice(seeds, 1))


def _tell(verdict: Verdict, profile: str, as_it_is: bool) -> int:
    """What one run came to; of a broken promise, with the fewest faults that break it."""
    _print(str(verdict.scenario))
    if verdict.violation is None:
        _print(f"kept every promise; the truth {verdict.quiet_after:.0f} s after the last fault; trace {verdict.trace}")
        _print(summary([verdict]))
        return 0
    _print(f"BROKEN {verdict.violation}")
    if not as_it_is:
        quietly()
        began = time.monotonic()
        least = shrink(verdict, run)
        _print(f"cut down in {time.monotonic() - began:.0f} s to\n{least.scenario}\nBROKEN {least.violation}")
    named = "" if profile == "short" else f" --profile {profile}"
    _print(f"replay: python -m tests.simulation{named} --seed {verdict.scenario.seed}")
    return 1


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
