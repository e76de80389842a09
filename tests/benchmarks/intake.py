"""The intake against its floor: both take turns in the same run, and medians are compared."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import gates
from tests.benchmarks.backfilling import backfilling
from tests.benchmarks.gates import Figure
from tests.benchmarks.processes import Load, Receiver, load, settle

STEADY_RATE = 300
GROWTH_OVER = 100_000
_MORE_THAN_WE_WAIT_FOR = 1_000_000
"""Objects of a backfill that is still at it when the loads beside it are over."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure. All together, both databases stay below two minutes (quick) and a quarter of an hour."""

    connections: tuple[int, ...]
    rounds: int
    seconds: float
    """Of each round."""
    steady_seconds: float
    sizes: tuple[int, ...]
    """Objects of the backfills. Empty: only what takes seconds is measured."""


@dataclass(frozen=True, slots=True)
class Row:
    """Medians over the rounds at one number of connections."""

    connections: str
    floor: Load
    intake: Load

    @property
    def share(self) -> float:
        return self.intake.per_second / self.floor.per_second


def measure(
    database: str, floor_url: str, intake_url: str, plan: Plan, fsync: float, folder: Path
) -> tuple[list[Row], list[Figure], float]:
    """The loads, the judged figures, and the intake's p99 at the steady rate."""
    with Receiver("floor", floor_url) as floor, Receiver("receiver", intake_url) as intake:
        for each in (floor, intake):
            load(each, "warm", connections=16, seconds=0.3)
        rows = []
        runs: dict[int, list[tuple[Load, Load]]] = {connections: [] for connections in plan.connections}
        for number in range(plan.rounds):
            for connections in plan.connections:
                run = f"r{number}c{connections}"
                runs[connections].append(
                    (
                        load(floor, run, connections=connections, seconds=plan.seconds),
                        load(intake, run, connections=connections, seconds=plan.seconds),
                    )
                )
        for connections, pairs in runs.items():
            rows.append(Row(f"c={connections}", _median([f for f, _ in pairs]), _median([i for _, i in pairs])))
        settle()
        calm = [
            (_steady(floor, f"r{number}", plan), _steady(intake, f"r{number}", plan)) for number in range(plan.rounds)
        ]
        steady = Row(f"{STEADY_RATE}/s", _median([f for f, _ in calm]), _median([i for _, i in calm]))
        rows.append(steady)
        at = {row.connections: row for row in rows}
        figures = [
            gates.share_of_floor(database, at["c=64"].share),
            gates.cpu(database, at["c=64"].intake.cpu_us),
            *gates.latencies(
                database,
                c1=(at["c=1"].intake.p99_ms, at["c=1"].floor.p99_ms),
                c64=(at["c=64"].intake.p99_ms, at["c=64"].floor.p99_ms),
                steady=(steady.intake.p99_ms, steady.floor.p99_ms),
                fsync=fsync,
            ),
            *gates.memory(database, saturated=intake.memory_mb("VmHWM")),
        ]
        if plan.sizes:
            with backfilling(_MORE_THAN_WE_WAIT_FOR, intake_url, folder):
                load(intake, "starting", connections=1, seconds=3, rate=10)
                beside = _median([_steady(intake, f"beside{number}", plan) for number in range(plan.rounds)])
            figures.append(gates.beside_backfill(database, beside.p99_ms / steady.intake.p99_ms))
    return rows, figures, steady.intake.p99_ms


def _steady(receiver: Receiver, run: str, plan: Plan) -> Load:
    return load(receiver, f"steady{run}", connections=64, seconds=plan.steady_seconds, rate=STEADY_RATE)


def grow(database: str, url: str) -> Figure:
    """What 100,000 deliveries leave behind in memory, counted from when the first thousands have filled the pools."""
    with Receiver("receiver", url) as intake:
        load(intake, "fill", connections=64, seconds=120, count=5_000)
        before = intake.memory_mb()
        grown = load(intake, "grow", connections=64, seconds=600, count=GROWTH_OVER)
        if grown.answered < GROWTH_OVER:
            raise RuntimeError(f"only {grown.answered} deliveries in ten minutes; try again on a quieter machine")
        return gates.intake_memory_growth(database, max(0.0, intake.memory_mb() - before))


def _median(runs: Sequence[Load]) -> Load:
    return Load(
        answered=sum(run.answered for run in runs),
        per_second=statistics.median(run.per_second for run in runs),
        p50_ms=statistics.median(run.p50_ms for run in runs),
        p99_ms=statistics.median(run.p99_ms for run in runs),
        cpu_us=statistics.median(run.cpu_us for run in runs),
    )
