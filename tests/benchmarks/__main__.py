"""`python -m tests.benchmarks [--quick | --long] [--database NAME] [--json FILE]`: every promise, against its floor.

Floor and intake take turns in the same run, several rounds of each, and the medians are compared, because the
absolute figures of a shared machine move by half between two runs and their ratio does not. Exit code 1 when the
least acceptable ratio, or CPU per delivery, is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import daemon, gates, growth, reads
from tests.benchmarks.gates import Figure
from tests.benchmarks.growth import Backfilled, Costs
from tests.benchmarks.processes import Load, Receiver, fsync_p50_ms, load, postgres

STEADY_RATE = 300
GROWTH_OVER = 100_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure. All together, both databases stay below two minutes (quick) and a quarter of an hour."""

    connections: tuple[int, ...]
    rounds: int
    seconds: float
    steady_seconds: float
    sizes: tuple[int, ...]
    """Objects in the ledgers that are filled and compared."""


QUICK = Plan((1, 64), rounds=2, seconds=0.8, steady_seconds=2, sizes=())
FULL = Plan((1, 16, 64, 256), rounds=3, seconds=2.5, steady_seconds=8, sizes=(10_000, 100_000))
LONG_SIZES = (10_000, 100_000, 1_000_000)


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
    database: str, floor_url: str, intake_url: str, plan: Plan, fsync: float
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
        steady = [
            load(each, "steady", connections=64, seconds=plan.steady_seconds, rate=STEADY_RATE)
            for each in (floor, intake)
        ]
        rows.append(Row(f"{STEADY_RATE}/s", *steady))
        at = {row.connections: row for row in rows}
        figures = [
            gates.share_of_floor(database, at["c=64"].share),
            gates.cpu(database, at["c=64"].intake.cpu_us),
            *gates.latencies(
                database,
                c1=(at["c=1"].intake.p99_ms, at["c=1"].floor.p99_ms),
                c64=(at["c=64"].intake.p99_ms, at["c=64"].floor.p99_ms),
                steady=(steady[1].p99_ms, steady[0].p99_ms),
                fsync=fsync,
            ),
            *gates.memory(database, saturated=intake.memory_mb("VmHWM")),
        ]
    return rows, figures, steady[1].p99_ms


def grow(database: str, url: str) -> Figure:
    """What 100,000 deliveries leave behind in memory, counted from when the first thousands have filled the pools."""
    with Receiver("receiver", url) as intake:
        load(intake, "fill", connections=64, seconds=120, count=5_000)
        before = intake.memory_mb()
        grown = load(intake, "grow", connections=64, seconds=600, count=GROWTH_OVER)
        if grown.answered < GROWTH_OVER:
            raise RuntimeError(f"only {grown.answered} deliveries in ten minutes; try again on a quieter machine")
        return gates.intake_memory_growth(database, max(0.0, intake.memory_mb() - before))


def _median(runs: list[Load]) -> Load:
    return Load(
        answered=sum(run.answered for run in runs),
        per_second=statistics.median(run.per_second for run in runs),
        p50_ms=statistics.median(run.p50_ms for run in runs),
        p99_ms=statistics.median(run.p99_ms for run in runs),
        cpu_us=statistics.median(run.cpu_us for run in runs),
    )


@contextmanager
def _ledgers(database: str, folder: Path, names: Sequence[str]) -> Iterator[list[str]]:
    """Empty databases on the same disk, or the same server."""
    if database == "sqlite":
        yield [f"sqlite:///{folder}/{name}.db" for name in names]
        return
    # A place of its own for each: the wheel remembers a server that was stopped, and would not start it again.
    with postgres(Path(tempfile.mkdtemp(prefix="server-", dir=folder))) as server:
        for name in names:
            server.psql(f"CREATE DATABASE {name}")
        yield [server.get_uri(name) for name in names]


def grown(database: str, folder: Path, sizes: Sequence[int]) -> tuple[list[Backfilled], list[Costs]]:
    with _ledgers(database, folder, [f"of_{size}" for size in sizes]) as urls:
        return growth.measure(dict(zip(sizes, urls, strict=True)), folder)


def _show(console: Console, database: str, rows: list[Row]) -> None:
    table = Table(title=f"intake on {database}: deliveries a second, p99, server CPU a delivery")
    for heading in ("load", "floor", "p99", "CPU", "intake", "p99", "CPU", "share of the floor"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.connections,
            *(
                text
                for each in (row.floor, row.intake)
                for text in (f"{each.per_second:,.0f}/s", f"{each.p99_ms:.1f} ms", f"{each.cpu_us:.0f} us")
            ),
            f"{row.share:.0%}",
        )
    console.print(table)


def _show_growth(console: Console, database: str, backfills: Sequence[Backfilled], costs: Sequence[Costs]) -> None:
    table = Table(title=f"backfills on {database}, from nothing, and what a ledger of that size costs (medians)")
    for heading in ("objects", "a second", "CPU each", "memory", "ledger each", *costs[0].by_act):
        table.add_column(heading, justify="right")
    for filled, cost in zip(backfills, costs, strict=True):
        table.add_row(
            f"{filled.objects:,}",
            f"{filled.per_second:,.0f}",
            f"{filled.cpu_us:.0f} us",
            f"{filled.peak_mb:.0f} MB",
            f"{filled.bytes_each:,.0f} B",
            *(f"{milliseconds:.2f} ms" for milliseconds in cost.by_act.values()),
        )
    console.print(table)


def _show_figures(console: Console, figures: list[Figure]) -> None:
    table = Table(title="against docs/performance.md; marked figures decide about the exit code")
    for heading in ("database", "measure", "value", "target", "least", "verdict"):
        table.add_column(heading)
    for each in figures:
        value, target, least = (_in_words(number, each.unit) for number in (each.value, each.target, each.least))
        table.add_row(each.database, each.name, value, target, least, f"{each.verdict}{' *' if each.gates else ''}")
    console.print(table)


def _in_words(number: float, unit: str) -> str:
    if not unit:
        return f"{number:.0%}"
    return f"{number:,.0f}{unit}" if unit == "/s" else f"{number:.1f} {unit}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="less than a minute; the medians are less steady")
    length.add_argument(
        "--long",
        action="store_true",
        help="only what takes long: memory after 100,000 deliveries, a ledger of 1,000,000",
    )
    parser.add_argument("--database", choices=("sqlite", "postgres"), help="only this one")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args()
    plan = QUICK if asked.quick else FULL
    console = Console(width=120)
    tables: dict[str, list[Row]] = {}
    ages: dict[str, object] = {}
    figures: list[Figure] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reconciler-bench-")))
        fsync = fsync_p50_ms(folder)
        console.print(f"bare fsync, p50: {fsync:.2f} ms")
        for database in [asked.database] if asked.database else ["sqlite", "postgres"]:
            sizes = LONG_SIZES if asked.long else plan.sizes
            if sizes:
                backfills, costs = grown(database, folder, sizes)
                ages[database] = {"backfills": [*map(asdict, backfills)], "costs": [*map(asdict, costs)]}
                figures += [each for filled in backfills for each in gates.backfill(database, filled)]
                figures += gates.growth(database, costs)
                _show_growth(console, database, backfills, costs)
            with _ledgers(database, folder, ("floor", "intake", "daemon")) as (floor_url, intake_url, daemon_url):
                if asked.long:
                    figures.append(grow(database, intake_url))
                    continue
                # First, on a server at rest: after the loads it has their tables to vacuum and their pages to write.
                whole = daemon.measure(daemon_url, folder, seconds=plan.steady_seconds * 1.5)
                tables[database], found, steady_ms = measure(database, floor_url, intake_url, plan, fsync)
                figures += [*found, *gates.daemon(database, whole, steady_ms=steady_ms)]
            _show(console, database, tables[database])
    figures += [] if asked.long else [reads.figure()]
    _show_figures(console, figures)
    if asked.json:
        content = {
            "fsync_p50_ms": fsync,
            "loads": {name: [asdict(row) | {"share": row.share} for row in rows] for name, rows in tables.items()},
            "ages": ages,
            "figures": [asdict(each) | {"verdict": each.verdict} for each in figures],
        }
        asked.json.write_text(json.dumps(content, indent=2))
    return 1 if any(each.fails for each in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
