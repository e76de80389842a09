"""Backfills of ledgers of several sizes, and what the ledger's statements cost in each: do costs grow with its age?

Every ledger is filled by a real backfill over HTTP from a list that answers at once. Then the ledgers take turns, so
that a machine which is slow for a while is slow for all of them, and medians are compared with the smallest ledger's.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from sqlalchemy import text

from reconciler.clock import SystemClock
from reconciler.ledger import Answer, Ledger, Mark, PageRow, open_ledger
from reconciler.model import Cause, ResourceRef, Snapshot
from tests.benchmarks.events import ACCOUNT
from tests.benchmarks.lister import name_of
from tests.benchmarks.processes import ROOT, Receiver

KIND = "payment_intent"
SPAN = timedelta(days=180)
TURNS = 40
MARKED = 64
"""Deliveries of one group commit."""
CLAIMED = 10
PAGE = 100
_LONGEST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Backfilled:
    """One backfill of so many objects, from an empty ledger until everything was proven."""

    objects: int
    seconds: float
    cpu_us: float
    """Of the backfill's process, for each object."""
    peak_mb: float
    bytes_each: float
    """What the ledger grew by for each object, with its first version and everything that stands beside it."""

    @property
    def per_second(self) -> float:
        return self.objects / self.seconds


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds of each act in a ledger of so many resources, medians over all turns."""

    resources: int
    by_act: Mapping[str, float]


def measure(urls: Mapping[int, str], folder: Path) -> tuple[list[Backfilled], list[Costs]]:
    """`urls` are empty ledgers by the number of objects that each is to hold."""
    backfills = [_backfill(count, url, folder) for count, url in sorted(urls.items())]
    return backfills, _costs(urls)


# --- filling --------------------------------------------------------------------------------------


def _backfill(count: int, url: str, folder: Path) -> Backfilled:
    with closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()
        empty = _bytes(ledger)
    first = datetime.now(UTC).replace(microsecond=0) - SPAN
    catalogue = (str(count), str(int(first.timestamp())), str(int(SPAN.total_seconds()) - 3600))
    with Receiver("lister", *catalogue) as lister:
        config = folder / f"backfill-{count}.toml"
        config.write_text(
            f"""
            [ledger]
            url = "{url}"
            [accounts.{ACCOUNT}]
            provider = "stripe"
            api_key = "env:BENCHMARK_KEY"
            base_url = "http://127.0.0.1:{lister.port}"
            monthly_reads = 100000000
            """
        )
        finished = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.backfiller", str(config), first.isoformat()],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"BENCHMARK_KEY": "rk_live_benchmark"},
            timeout=_LONGEST_SECONDS,
            check=True,
        )
    told = orjson.loads(finished.stdout)
    if told["objects"] < count:
        raise RuntimeError(f"the backfill listed {told['objects']} of {count} objects")
    with closing(open_ledger(url)) as ledger:
        grown = _bytes(ledger) - empty
        with ledger.store.write() as tx:
            tx.run(text("ANALYZE"))  # Postgres does so by itself, within a minute of a table's growth
    return Backfilled(count, told["seconds"], told["cpu_seconds"] / count * 1e6, told["peak_mb"], grown / count)


def _bytes(ledger: Ledger) -> int:
    with ledger.store.read() as tx:
        if tx.dialect.is_postgres:
            return int(tx.run(text("SELECT pg_database_size(current_database())")).scalar_one())
        pages = int(tx.run(text("SELECT page_count FROM pragma_page_count")).scalar_one())
        return pages * int(tx.run(text("SELECT page_size FROM pragma_page_size")).scalar_one())


# --- what it costs then ---------------------------------------------------------------------------


def _costs(urls: Mapping[int, str]) -> list[Costs]:
    chance = random.Random(7)
    took: dict[int, dict[str, list[float]]] = {count: {} for count in urls}
    with ExitStack() as stack:
        ledgers = {count: stack.enter_context(closing(open_ledger(url))) for count, url in sorted(urls.items())}
        for turn in range(TURNS):
            for count, ledger in ledgers.items():
                for act, work in _acts(ledger, count, chance).items():
                    began = time.perf_counter()
                    work()
                    if turn:  # the first fills caches
                        took[count].setdefault(act, []).append((time.perf_counter() - began) * 1000)
    return [
        Costs(count, {act: statistics.median(times) for act, times in acts.items()})
        for count, acts in sorted(took.items())
    ]


def _acts(ledger: Ledger, count: int, chance: random.Random) -> Mapping[str, Callable[[], object]]:
    """One group of marks, one claim, its apply, and a page of a sweep: in this order, each undone by the next."""
    now = SystemClock().now()
    marked = [_ref(number) for number in chance.sample(range(count), MARKED)]
    start = chance.randrange(count - PAGE)
    claims = []

    def claim() -> None:
        lanes, _ = ledger.lanes()
        for lane in lanes:
            claims.extend(
                ledger.claim(
                    lane.account, lane.kind, lane.priority, owner="bench", count=CLAIMED,
                    lease=timedelta(seconds=60), now=now,
                )
            )  # fmt: skip

    def apply() -> None:
        answers = [Answer(each, _changed(each.ref, now), now) for each in claims]
        ledger.apply(answers, now=now, least_interval=timedelta(0))

    def page() -> None:
        rows = [PageRow(_changed(_ref(number), now)) for number in range(start, start + PAGE)]
        ledger.apply_page(
            rows, start=ledger.tick(), started_at=now, cause=Cause.SWEEP, settle={KIND: timedelta(0)}, now=now
        )

    return {
        f"mark {MARKED}": lambda: ledger.mark([Mark(ref, Cause.MANUAL) for ref in marked], now),
        f"claim {CLAIMED}": claim,
        f"apply {CLAIMED}": apply,
        f"apply a page of {PAGE}": page,
    }


def _ref(number: int) -> ResourceRef:
    return ResourceRef("stripe", ACCOUNT, KIND, name_of(number))


def _changed(ref: ResourceRef, now: datetime) -> Snapshot:
    return Snapshot(ref, {"id": ref.id, "object": KIND, "amount": 12900, "seen": now.isoformat()}, status="succeeded")
