"""The tables of a run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.benchmarks.backfilling import Backfilled
from tests.benchmarks.gates import Figure
from tests.benchmarks.growth import Costs
from tests.benchmarks.intake import Row
from tests.benchmarks.unbound import SHARES, Unbound


def show_loads(console: Console, database: str, rows: Sequence[Row]) -> None:
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


def show_backfills(console: Console, database: str, backfills: Sequence[Backfilled]) -> None:
    table = Table(title=f"backfills on {database}, from nothing")
    for heading in (
        "objects", "latency a page", "a second", "CPU each", "floor", "its CPU", "memory", "ledger each", "bodies",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for each in backfills:
        table.add_row(
            f"{each.objects:,}",
            f"{each.latency_ms:.0f} ms",
            f"{each.per_second:,.0f}",
            f"{each.cpu_us:.0f} us",
            f"{each.floor_per_second:,.0f}",
            f"{each.floor_cpu_us:.0f} us",
            f"{each.peak_mb:.0f} MB",
            f"{each.bytes_each:,.0f} B",
            f"{each.packed_share:.0%} of raw",
        )
    console.print(table)


def show_costs(console: Console, database: str, costs: Sequence[Costs]) -> None:
    table = Table(title=f"what a ledger of that size costs on {database}: milliseconds of CPU (by the clock), medians")
    for heading in ("resources", *costs[0].by_act):
        table.add_column(heading, justify="right")
    for each in costs:
        cells = [f"{each.cpu_by_act[act]:.2f} ({clock:.2f})" for act, clock in each.by_act.items()]
        table.add_row(f"{each.resources:,}", *cells)
    console.print(table)


def show_unbound(console: Console, database: str, found: Unbound) -> None:
    table = Table(title=f"time to truth on {database}, no limits at the provider, ms: percentiles")
    for heading in ("", "deliveries", *(f"{share:.0%}" for share in SHARES)):
        table.add_column(heading, justify="right")
    for name, each in (("steady", found.steady), ("burst", found.burst)):
        table.add_row(name, f"{each.deliveries:,}", *(f"{milliseconds:.0f}" for milliseconds in each.by_share.values()))
    console.print(table)
    table = Table(title=f"drains on {database}")
    for heading in (
        "resources",
        "reads at once",
        "latency",
        "a second",
        "of c / latency",
        "CPU each",
        "floor",
        "its CPU",
    ):
        table.add_column(heading, justify="right")
    for drain in found.drains:
        table.add_row(
            f"{drain.resources:,}",
            f"{drain.concurrency}",
            f"{drain.latency_ms:.0f} ms",
            f"{drain.per_second:,.0f}",
            "" if drain.share is None else f"{drain.share:.0%}",
            f"{drain.cpu_us:,.0f} us",
            f"{drain.floor_per_second:,.0f}",
            f"{drain.floor_cpu_us:,.0f} us",
        )
    console.print(table)


def show_figures(console: Console, figures: Sequence[Figure]) -> None:
    table = Table(title="against docs/performance.md; marked figures decide about the exit code")
    for heading in ("database", "measure", "value", "target", "least", "verdict"):
        table.add_column(heading)
    for each in figures:
        value, target, least = (in_words(number, each.unit) for number in (each.value, each.target, each.least))
        table.add_row(each.database, each.name, value, target, least, f"{each.verdict}{' *' if each.gates else ''}")
    console.print(table)


def in_words(number: float, unit: str) -> str:
    if not unit:
        return f"{number:.1%}" if number < 0.1 else f"{number:.0%}"
    return f"{number:,.0f}{unit}" if unit == "/s" else f"{number:,.1f} {unit}"
