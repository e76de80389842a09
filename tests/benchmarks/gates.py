"""What intake promises, and whether a run kept it. The figures are those of docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.backfilling import Backfilled
from tests.benchmarks.daemon import DaemonFigures
from tests.benchmarks.growth import FLOOR, MARK, Costs
from tests.benchmarks.unbound import Unbound


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number against what we aim at and what we accept."""

    database: str
    name: str
    unit: str
    """Empty: a ratio; "/s": a rate; else what the value is counted in."""
    value: float
    target: float
    least: float
    at_least: bool = False
    """Whether more is better."""
    gates: bool = False
    """Whether the run fails when it is missed. Only ratios of one run and CPU per delivery do: milliseconds say as
    much about the machine and its other users as about us."""

    def _keeps(self, limit: float) -> bool:
        return self.value >= limit if self.at_least else self.value <= limit

    @property
    def verdict(self) -> str:
        if self._keeps(self.target):
            return "target"
        return "accepted" if self._keeps(self.least) else "missed"

    @property
    def fails(self) -> bool:
        return self.gates and self.verdict == "missed"


def share_of_floor(database: str, value: float) -> Figure:
    return Figure(database, "throughput at c=64, share of the floor", "", value, 0.70, 0.50, at_least=True, gates=True)


def cpu(database: str, value: float) -> Figure:
    return Figure(database, "server CPU a delivery at c=64", "us", value, 200, 350, gates=True)


def latencies(
    database: str, *, c1: tuple[float, float], c64: tuple[float, float], steady: tuple[float, float], fsync: float
) -> Sequence[Figure]:
    """Each is the intake's p99 and the floor's, whose milliseconds say what the machine was like at that moment."""
    absolute = (
        Figure(database, "p99 at c=1", "ms", c1[0], 2 * fsync + 1, 5),
        Figure(database, "p99 at c=64", "ms", c64[0], 40, 60),
        Figure(database, "p99 at a steady 300/s", "ms", steady[0], 20, 30),
    )
    relative = [
        Figure(database, f"{each.name}, times the floor's", "", ours / floor, 1.5, 2.5)
        for each, (ours, floor) in zip(absolute, (c1, c64, steady), strict=True)
    ]
    return (*absolute, *relative)


def memory(database: str, *, saturated: float) -> Sequence[Figure]:
    return (Figure(database, "memory, highest while saturated", "MB", saturated, 120, 160),)


def intake_memory_growth(database: str, megabytes: float) -> Figure:
    return Figure(database, "memory, growth over 100,000 deliveries", "MB", megabytes, 10, 25, gates=True)


def daemon(database: str, figures: DaemonFigures, *, steady_ms: float) -> Sequence[Figure]:
    return (
        Figure(database, "start-up to ready", "s", figures.ready_seconds, 2, 4),
        Figure(database, "`reconcile --help`", "s", figures.help_seconds, 0.4, 0.8),
        Figure(database, "memory, idle daemon", "MB", figures.idle_mb, 80, 100, gates=True),
        Figure(database, "time to truth at 20/s, p50", "ms", figures.truth_p50_ms, 50, 100),
        Figure(database, "time to truth at 20/s, p99", "ms", figures.truth_p99_ms, 250, 500),
        Figure(database, "deliveries not verified after that", "", figures.unsettled, 0, 0, gates=True),
        Figure(database, "p99 while the worker drains, times quiet", "", figures.drain_p99_ms / steady_ms, 2, 3),
    )


def unbound(database: str, found: Unbound) -> Sequence[Figure]:
    """Without a provider's limits."""
    slow = [drain for drain in found.drains if drain.share is not None]
    return (
        Figure(database, "time to truth at 50/s, p50", "ms", found.steady.by_share["0.5"], 50, 100),
        Figure(database, "time to truth at 50/s, p99", "ms", found.steady.by_share["0.99"], 250, 500),
        Figure(
            database, "deliveries not verified after a burst", "", found.steady.unsettled + found.burst.unsettled, 0, 0,
            gates=True,
        ),
        *(
            Figure(
                database, f"drain at 80 ms, {drain.concurrency} at once, of c / latency", "", drain.share or 0.0,
                0.8, 0.6, at_least=True,
            )
            for drain in slow
        ),
        *(
            Figure(database, f"drain at 80 ms, {drain.concurrency} at once, CPU each", "us", drain.cpu_us, 800, 800)
            for drain in slow
        ),
        *(
            Figure(
                database, f"drain at 80 ms, {drain.concurrency} at once, CPU, times the floor's", "",
                drain.times_floor, 2, 4,
            )
            for drain in slow
        ),
    )  # fmt: skip


def idle_cpu(database: str, share: float) -> Figure:
    return Figure(database, "CPU of an idle daemon with 10 accounts, of a core", "", share, 0.01, 0.03)


def beside_backfill(database: str, times: float) -> Figure:
    return Figure(database, "p99 at 300/s beside a backfill, times quiet", "", times, 2, 3)


def beside_report(database: str, times: float) -> Figure:
    return Figure(database, "p99 at 300/s beside a month's report, times quiet", "", times, 2, 3)


def backfill(database: str, figures: Backfilled) -> Sequence[Figure]:
    name = f"backfill of {figures.objects:,}"
    if figures.latency_ms:
        name += f" at {figures.latency_ms:.0f} ms a page"
        target, least = 5_000, 3_000
    else:
        target, least = (8_000, 4_000) if database == "sqlite" else (5_000, 3_000)
    rates = (
        Figure(database, f"{name}, a second", "/s", figures.per_second, target, least, at_least=True),
        Figure(database, f"{name}, share of the floor", "", figures.share, 0.5, 0.3, at_least=True, gates=True),
    )
    if figures.latency_ms:
        return rates
    return (
        *rates,
        Figure(database, f"{name}, memory", "MB", figures.peak_mb, 150, 200, gates=True),
        Figure(database, f"{name}, bodies, of raw", "", figures.packed_share, 0.35, 0.35, gates=True),
    )


def growth(database: str, costs: Sequence[Costs]) -> Sequence[Figure]:
    """What an act costs in the largest ledger, times the same in the smallest: in CPU, which other work on the machine
    hardly moves, and by the clock. Of marks also what the database itself takes to note as much: on Postgres its own
    cost grows beyond the limit, which no program can keep then, so the run is judged by the share that is ours."""
    smallest, largest = costs[0], costs[-1]
    beyond = [MARK] if database == "postgres" else []
    at, between = f"at {largest.resources:,}", f"at {largest.resources:,}, times at {smallest.resources:,}"
    return [
        *(
            Figure(
                database, f"{act} {between}, CPU", "", cost / smallest.cpu_by_act[act], 1.5, 2, gates=act not in beyond
            )
            for act, cost in largest.cpu_by_act.items()
            if act != FLOOR
        ),
        *(
            Figure(database, f"{act} {between}, clock", "", cost / smallest.by_act[act], 1.5, 2)
            for act, cost in largest.by_act.items()
            if act != FLOOR
        ),
        Figure(
            database, f"{MARK} {at}, times the floor's, CPU", "",
            largest.cpu_by_act[MARK] / largest.cpu_by_act[FLOOR], 1.5, 2, gates=True,
        ),
    ]  # fmt: skip
