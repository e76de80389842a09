"""What the ledger's statements cost in ledgers of several sizes: do costs grow with its age?

The ledgers take turns, so that a machine which is slow for a while is slow for all of them, and medians are compared
with the smallest ledger's. The floor of a mark has turns of its own right after that: a commit of another connection
would cost the next one of ours the pages that SQLite keeps for it.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.clock import SystemClock, to_micros
from reconciler.ledger import Answer, Ledger, Mark, PageRow, open_ledger
from reconciler.model import Cause, ResourceRef, Snapshot
from tests.benchmarks import aged
from tests.benchmarks.events import ACCOUNT
from tests.benchmarks.lister import name_of
from tests.benchmarks.marking import BareMarks
from tests.benchmarks.processes import Cluster

KIND = "payment_intent"
TURNS = 40
MARKED = 64
"""Deliveries of one group commit."""
MARK = f"mark {MARKED}"
FLOOR = f"{MARK}, the floor"
CLAIMED = 10
PAGE = 100


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds of each act in a ledger of so many resources, medians over all turns."""

    resources: int
    by_act: Mapping[str, float]
    """By the clock, the wait for the disk included."""
    cpu_by_act: Mapping[str, float]
    """CPU of this process and of the database's."""


def measure(urls: Mapping[int, str], server: Cluster | None) -> list[Costs]:
    """`urls` are empty ledgers by the number of resources that each is to hold."""
    chance = random.Random(7)
    took: dict[int, dict[str, list[tuple[float, float]]]] = {count: {} for count in urls}
    with ExitStack() as stack:
        ledgers = {count: stack.enter_context(closing(open_ledger(url))) for count, url in sorted(urls.items())}
        for count, ledger in ledgers.items():
            ledger.require_current_schema()
            aged.fill(ledger, count)
        for turn in range(TURNS):
            for count, ledger in ledgers.items():
                for act, work in _acts(ledger, count, chance).items():
                    spent = _timed(work, server)
                    if turn:  # the first fills caches
                        took[count].setdefault(act, []).append(spent)
        floors = {count: stack.enter_context(BareMarks(url)) for count, url in urls.items()}
        for turn in range(TURNS):
            for count, floor in floors.items():
                spent = _timed(_bare_mark(floor, _sample(count, chance)), server)
                if turn:
                    took[count].setdefault(FLOOR, []).append(spent)
    return [
        Costs(
            count,
            by_act={act: statistics.median(clock for clock, _ in times) for act, times in acts.items()},
            cpu_by_act={act: statistics.median(cpu for _, cpu in times) for act, times in acts.items()},
        )
        for count, acts in sorted(took.items())
    ]


def _timed(work: Callable[[], object], server: Cluster | None) -> tuple[float, float]:
    """Milliseconds by the clock, and of CPU."""
    served = 0.0 if server is None else server.ran_seconds()
    began, spent = time.perf_counter(), time.process_time()
    work()
    spent, took = time.process_time() - spent, time.perf_counter() - began
    served = 0.0 if server is None else server.ran_seconds() - served
    return took * 1000, (spent + served) * 1000


def _acts(ledger: Ledger, count: int, chance: random.Random) -> Mapping[str, Callable[[], object]]:
    """One group of marks, one claim, its apply, and a sweep's page twice: in this order."""
    now = SystemClock().now()
    marked = _sample(count, chance)
    start = chance.randrange(count - PAGE)
    listed = [_ref(number) for number in range(start, start + PAGE)]
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

    def sweep() -> None:
        rows = [PageRow(_changed(ref, now)) for ref in listed]
        ledger.apply_page(
            rows, start=ledger.tick(), started_at=now, cause=Cause.SWEEP, settle={KIND: timedelta(0)}, now=now
        )

    return {
        MARK: lambda: ledger.mark([Mark(ref, Cause.MANUAL) for ref in marked], now),
        f"claim {CLAIMED}": claim,
        f"apply {CLAIMED}": apply,
        f"sweep {PAGE} that changed": sweep,
        f"sweep {PAGE} that did not": sweep,
    }


def _bare_mark(floor: BareMarks, marked: Sequence[ResourceRef]) -> Callable[[], None]:
    return lambda: floor.mark([ref.id for ref in marked], to_micros(SystemClock().now()))


def _sample(count: int, chance: random.Random) -> list[ResourceRef]:
    return [_ref(number) for number in chance.sample(range(count), MARKED)]


def _ref(number: int) -> ResourceRef:
    return ResourceRef("stripe", ACCOUNT, KIND, name_of(number))


def _changed(ref: ResourceRef, now: datetime) -> Snapshot:
    return Snapshot(ref, {"id": ref.id, "object": KIND, "amount": 12900, "seen": now.isoformat()}, status="succeeded")
