"""The daemon where no provider's limits hold it back: time to truth at a steady rate and in a burst, and drains.

With Stripe's own limits (`tests.benchmarks.daemon`) a backlog is read at 25 a second, whatever we cost. A drain's floor
(`tests.benchmarks.reading`) reads as many from the same provider, right after it.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import orjson

from reconciler.ledger import Ledger, open_ledger
from reconciler.model import ResourceRef
from tests.benchmarks.daemon import running
from tests.benchmarks.events import ACCOUNT, RESOURCES
from tests.benchmarks.load import percentile
from tests.benchmarks.processes import ROOT, Receiver, Started, load, settle
from tests.benchmarks.truths import last_delivery, mark, seconds_of_first_versions, truths

PROVIDER = "tests.benchmarks.unlimited:Unlimited"
STEADY_RATE = 50
STEADY_SECONDS = 8.0
BURST = 400
"""Deliveries that come as fast as 64 connections bring them."""
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
LATENCY_SECONDS = 0.08
_CALM_CPU_SECONDS = 0.02
"""In half a second. A daemon that has nothing to do takes a few milliseconds."""
_CALM_PATIENCE_SECONDS = 15.0
_GATHER = timedelta(seconds=2)
"""Marks of a drain fall due together, when all of them have been made."""


@dataclass(frozen=True, slots=True)
class Truths:
    """Milliseconds from a delivery's arrival to the version that its read stored."""

    deliveries: int
    by_share: Mapping[str, float]
    """The percentiles of SHARES, as "0.99"."""
    unsettled: int


@dataclass(frozen=True, slots=True)
class Drain:
    """A backlog that was read one by one."""

    resources: int
    concurrency: int
    latency_ms: float
    """How long the provider took to answer with each."""
    per_second: float
    cpu_us: float
    """Of the daemon, for each resource."""
    floor_per_second: float
    floor_cpu_us: float

    @property
    def times_floor(self) -> float:
        """CPU."""
        return self.cpu_us / self.floor_cpu_us

    @property
    def share(self) -> float | None:
        """Of what so many reads at once could bring at that latency if we cost nothing; None without latency."""
        return self.per_second * self.latency_ms / 1000 / self.concurrency if self.latency_ms else None


@dataclass(frozen=True, slots=True)
class Unbound:
    steady: Truths
    burst: Truths
    drains: Sequence[Drain]


def measure(url: str, floor_url: str, folder: Path) -> Unbound:
    numbers = itertools.count(1)
    with closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()
        with Receiver("shop") as shop, running(url, folder, shop.port, provider=PROVIDER) as (daemon, _):
            load(daemon, "warm", connections=1, seconds=5, count=1, livemode=1, first=RESOURCES - 10)
            truths(ledger, 0)
            settle()
            steady = _truths_of(ledger, daemon, "steady", connections=16, seconds=STEADY_SECONDS, rate=STEADY_RATE)
            sent = int(STEADY_SECONDS * STEADY_RATE)
            burst = _truths_of(ledger, daemon, "burst", connections=64, seconds=30, count=BURST, first=sent)
            drain = _Drain(ledger, daemon, floor_url, shop.port)
            drains = [drain.measure(numbers, 1_000, 16, 0.0)]
        for concurrency, count in ((16, 600), (100, 2_000)):
            with (
                Receiver("shop", str(LATENCY_SECONDS)) as shop,
                running(url, folder, shop.port, provider=PROVIDER, concurrency=concurrency) as (daemon, _),
            ):
                drain = _Drain(ledger, daemon, floor_url, shop.port)
                drains.append(drain.measure(numbers, count, concurrency, LATENCY_SECONDS))
    return Unbound(steady, burst, drains)


def _truths_of(ledger: Ledger, daemon: Started, run: str, *, connections: int, seconds: float, **more: float) -> Truths:
    after = last_delivery(ledger)
    load(daemon, run, connections=connections, seconds=seconds, livemode=1, **more)
    found, unsettled = truths(ledger, after)
    return Truths(
        deliveries=len(found) + unsettled,
        by_share={f"{share:g}": percentile(found, share) for share in SHARES},
        unsettled=unsettled,
    )


@dataclass(frozen=True, slots=True)
class _Drain:
    ledger: Ledger
    daemon: Started
    floor_url: str
    shop_port: int

    def measure(self, numbers: Iterator[int], count: int, concurrency: int, latency: float) -> Drain:
        taken = list(itertools.islice(numbers, count))
        refs = [ResourceRef("stripe", ACCOUNT, "payment_intent", f"pi_8{number:015d}") for number in taken]
        _wait_until_calm(self.daemon)
        spent = self.daemon.cpu_seconds()
        mark(self.ledger, refs, delay=_GATHER)
        seconds = seconds_of_first_versions(self.ledger, refs)
        spent = self.daemon.cpu_seconds() - spent
        floor = self._floor(concurrency, taken[0], count)
        return Drain(
            resources=count,
            concurrency=concurrency,
            latency_ms=latency * 1000,
            per_second=(count - 1) / seconds,
            cpu_us=spent / count * 1e6,
            floor_per_second=floor["per_second"],
            floor_cpu_us=floor["cpu_us"],
        )

    def _floor(self, concurrency: int, first: int, count: int) -> Mapping[str, float]:
        given = (str(self.shop_port), str(concurrency), str(first), str(count))
        finished = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.reading", self.floor_url, *given],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            timeout=120,
            check=True,
        )
        told: Mapping[str, float] = orjson.loads(finished.stdout)
        return told


def _wait_until_calm(daemon: Started) -> None:
    """What a start costs, its first sweeps and all (0.2 to 0.5 s of CPU), is no part of what a drain does."""
    give_up_at = time.monotonic() + _CALM_PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        spent = daemon.cpu_seconds()
        time.sleep(0.5)
        if daemon.cpu_seconds() - spent <= _CALM_CPU_SECONDS:
            return


assert STEADY_RATE * STEADY_SECONDS + BURST + 64 < RESOURCES - 10, "each delivery must name a resource of its own"
