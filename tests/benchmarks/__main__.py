"""`python -m tests.benchmarks [--quick | --long | --growth | --backfills] [--database NAME] [--json FILE]`: every
promise, against its floor.

Floor and intake take turns in the same run, several rounds of each, and the medians are compared, because the
absolute figures of a shared machine move by half between two runs and their ratio does not. Exit code 1 when the
least acceptable ratio, or CPU per delivery, is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks import backfilling, daemon, gates, growth, intake, reads, showing, unbound
from tests.benchmarks.gates import Figure
from tests.benchmarks.intake import Plan
from tests.benchmarks.processes import Cluster, fsync_p50_ms, noted, postgres

QUICK = Plan((1, 64), rounds=2, seconds=0.8, steady_seconds=1.5, sizes=())
FULL = Plan((1, 16, 64, 256), rounds=3, seconds=2.5, steady_seconds=4, sizes=(10_000, 100_000))
LONG_SIZES = (10_000, 100_000, 1_000_000)
LEDGERS = (10_000, 100_000, 1_000_000)
SLOW_PAGES_OF = (10_000, 100_000)
"""Objects of the backfills whose pages take 80 ms each."""
IDLE_ACCOUNTS = 10


@dataclass(slots=True)
class Found:
    """What a run found; `curves` draws what `--json` writes of it."""

    console: Console
    fsync_p50_ms: float
    loads: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    backfills: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    costs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    unbound: dict[str, dict[str, Any]] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)

    def content(self, note: str) -> dict[str, Any]:
        return {
            "note": note,
            "fsync_p50_ms": self.fsync_p50_ms,
            "loads": self.loads,
            "backfills": self.backfills,
            "costs": self.costs,
            "unbound": self.unbound,
            "figures": [asdict(each) | {"verdict": each.verdict} for each in self.figures],
        }


@contextmanager
def _ledgers(database: str, folder: Path, names: Sequence[str]) -> Iterator[tuple[list[str], Cluster | None]]:
    """Empty databases on the same disk, or the same server."""
    folder.mkdir(exist_ok=True)
    if database == "sqlite":
        yield [f"sqlite:///{folder}/{name}.db" for name in names], None
        return
    # A place of its own for each: the wheel remembers a server that was stopped, and would not start it again.
    with postgres(Path(tempfile.mkdtemp(prefix="server-", dir=folder))) as server:
        for name in names:
            server.psql(f"CREATE DATABASE {name}")
        yield [server.get_uri(name) for name in names], Cluster.of(server)


def _costs(found: Found, database: str, folder: Path) -> None:
    """What ledgers of several sizes cost."""
    with _ledgers(database, folder / "aged", [f"of_{size}" for size in LEDGERS]) as (urls, server):
        costs = growth.measure(dict(zip(LEDGERS, urls, strict=True)), server)
    found.costs[database] = [*map(asdict, costs)]
    found.figures += gates.growth(database, costs)
    showing.show_costs(found.console, database, costs)


def _backfills(found: Found, database: str, folder: Path, sizes: Sequence[int]) -> None:
    asked = [*((size, 0.0) for size in sizes), *((size, unbound.LATENCY_SECONDS) for size in SLOW_PAGES_OF)]
    names = [name for at, _ in enumerate(asked) for name in (f"filled_{at}", f"floor_{at}")]
    with _ledgers(database, folder / "backfills", names) as (urls, _):
        made = [
            backfilling.backfill(size, url, floor_url, folder, latency_seconds=latency)
            for (size, latency), url, floor_url in zip(asked, urls[::2], urls[1::2], strict=True)
        ]
    found.backfills[database] = [asdict(each) | {"per_second": each.per_second} for each in made]
    found.figures += [each for filled in made for each in gates.backfill(database, filled)]
    showing.show_backfills(found.console, database, made)


def _daemons_and_intake(found: Found, database: str, folder: Path, plan: Plan) -> None:
    names = ("floor", "intake", "daemon", "unbound", "drain_floor", "idle")
    with _ledgers(database, folder, names) as (urls, _):
        floor_url, intake_url, daemon_url, unbound_url, drain_floor_url, idle_url = urls
        # First, on a server at rest: after the loads it has their tables to vacuum and their pages to write.
        whole = daemon.measure(daemon_url, folder, rounds=plan.rounds, seconds=plan.steady_seconds)
        if plan.sizes:
            free = unbound.measure(unbound_url, drain_floor_url, folder)
            share = daemon.idle_cpu_share(idle_url, folder, accounts=IDLE_ACCOUNTS, rest_seconds=30, seconds=20)
            found.unbound[database] = asdict(free) | {
                "drains": [asdict(each) | {"share": each.share} for each in free.drains]
            }
            found.figures += [*gates.unbound(database, free), gates.idle_cpu(database, share)]
            showing.show_unbound(found.console, database, free)
        rows, figures, steady_ms = intake.measure(database, floor_url, intake_url, plan, found.fsync_p50_ms, folder)
        found.loads[database] = [asdict(row) | {"share": row.share} for row in rows]
        found.figures += [*figures, *gates.daemon(database, whole, steady_ms=steady_ms)]
        showing.show_loads(found.console, database, rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="under two minutes; the medians are less steady")
    length.add_argument(
        "--long",
        action="store_true",
        help="only what takes long: memory after 100,000 deliveries, backfills of 1,000,000",
    )
    length.add_argument("--growth", action="store_true", help="only what ledgers of 10,000 to 1,000,000 cost")
    length.add_argument("--backfills", action="store_true", help="only backfills of 10,000 and 100,000")
    parser.add_argument("--database", choices=("sqlite", "postgres"), help="only this one")
    parser.add_argument("--json", type=Path, help="write the figures here too; tests.benchmarks.curves draws them")
    parser.add_argument("--note", default="", help="beside what it runs: goes into the JSON, and below the pictures")
    asked = parser.parse_args()
    plan = QUICK if asked.quick else FULL
    console = Console(width=120)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reconciler-bench-")))
        found = Found(console, fsync_p50_ms(folder))
        console.print(f"bare fsync, p50: {found.fsync_p50_ms:.2f} ms")
        for database in [asked.database] if asked.database else ["sqlite", "postgres"]:
            if not (asked.long or asked.growth or asked.backfills):
                _daemons_and_intake(found, database, folder, plan)
            if sizes := LONG_SIZES if asked.long else () if asked.growth else plan.sizes:
                _backfills(found, database, folder, sizes)
            if asked.growth or (plan.sizes and not (asked.long or asked.backfills)):
                _costs(found, database, folder)
            if asked.long:
                with _ledgers(database, folder, ("grown",)) as ((url,), _):
                    found.figures.append(intake.grow(database, url))
    if not (asked.long or asked.growth or asked.backfills):
        found.figures.append(reads.figure())
    showing.show_figures(console, found.figures)
    if asked.json:
        asked.json.write_text(json.dumps(found.content(noted(asked.note)), indent=2) + "\n")
    return 1 if any(each.fails for each in found.figures) else 0


if __name__ == "__main__":
    sys.exit(main())
