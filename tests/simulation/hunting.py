"""`python -m tests.simulation.hunting`: for each guard that a product lacks, the first seed that notices, as a table.

Exit codes: 0 every invariant of docs/guarantees.md has a product without a guard that is noticed; 1 one has none.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.simulation.__main__ import quietly
from tests.simulation.mutants import FEED, MUTANTS, Guarded
from tests.simulation.running import Simulation
from tests.simulation.scenario import PROFILES

INVARIANTS = range(1, FEED + 1)
MOST_SEEDS = 300


@dataclass(frozen=True, slots=True)
class Caught:
    """What became of one product without a guard."""

    guarded: Guarded
    seed: int | None
    """The first that notices; None: none did."""
    violation: str
    tried: int

    def __str__(self) -> str:
        seed = "none" if self.seed is None else str(self.seed)
        return f"{self.guarded.invariant:>2}  {self.guarded.name:<28} {seed:>5} {self.tried:>6}  {self.violation}"


def hunt(guarded: Guarded, *, most: int = MOST_SEEDS, seconds: float = float("inf")) -> Caught:
    """The recorded seed first; where the product's timing has changed since, the others in turn."""
    began, tried = time.monotonic(), 0
    first = () if guarded.seed is None else (guarded.seed,)
    for seed in (*first, *(each for each in range(most) if each not in first)):
        violation = Simulation(PROFILES[guarded.profile](seed), guarded.mutant).run().violation
        gc.collect()
        tried += 1
        if violation is not None:
            return Caught(guarded, seed, violation, tried)
        if time.monotonic() - began > seconds:
            break
    return Caught(guarded, None, "not noticed", tried)


def unguarded(caught: Iterable[Caught]) -> list[int]:
    """Invariants of which no loss was noticed."""
    noticed = {each.guarded.invariant for each in caught if each.seed is not None}
    return [each for each in INVARIANTS if each not in noticed]


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.hunting", description=__doc__)
    parser.add_argument("--seeds", type=int, default=MOST_SEEDS, help="how many to try for each (300)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="how long to try for each")
    parser.add_argument("--only", default="", help="invariants or names, by commas")
    chosen = parser.parse_args(words)
    quietly()
    only = {each for each in chosen.only.split(",") if each}
    caught = []
    _print("#   without the guard: see mutants  seed  tried  what was noticed")
    for each in _chosen(only):
        caught.append(hunt(each, most=chosen.seeds, seconds=chosen.seconds))
        _print(str(caught[-1]))
    missing = unguarded(caught)
    if not only and missing:
        _print(f"no loss of invariant {', '.join(map(str, missing))} was noticed")
    return 1 if (missing if not only else any(each.seed is None for each in caught)) else 0


def _chosen(only: set[str]) -> Iterator[Guarded]:
    return (each for each in MUTANTS if not only or str(each.invariant) in only or each.name in only)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
