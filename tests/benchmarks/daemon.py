"""`reconcile run`, whole, beside a Stripe that answers at once: start-up, idle memory, time to truth, and the intake's
p99 while the worker reads as fast as the provider's budget lets it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from sqlalchemy import text

from reconciler.clock import SystemClock
from reconciler.ledger import Ledger, Mark, open_ledger
from reconciler.model import Cause, ResourceRef
from tests.benchmarks.events import ACCOUNT, RESOURCES, SECRET
from tests.benchmarks.load import percentile
from tests.benchmarks.processes import ROOT, Receiver, Started, load

TRUTH_RATE = 20
"""Deliveries a second, each about a payment of its own: Stripe allows 25 reads of payments a second."""

DRAIN_RATE = 300
DRAINED = 20_000
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class DaemonFigures:
    ready_seconds: float
    idle_mb: float
    truth_p50_ms: float
    truth_p99_ms: float
    unsettled: int
    """Of the deliveries whose time to truth was taken: not verified after _PATIENCE_SECONDS."""
    drain_p99_ms: float
    drained: int
    """Resources that were read meanwhile."""


def measure(url: str, folder: Path, *, seconds: float) -> DaemonFigures:
    ledger = open_ledger(url)
    try:
        ledger.require_current_schema()
        with Receiver("shop") as shop, _daemon(url, shop.port, folder) as (daemon, ready_seconds):
            time.sleep(1.0)  # its first jobs find nothing
            idle = daemon.memory_mb()
            load(daemon, "truth", connections=16, seconds=seconds, rate=TRUTH_RATE, livemode=1)
            truths, unsettled = _truths(ledger)
            _mark(ledger)
            before = _versions(ledger)
            busy = load(daemon, "drain", connections=64, seconds=seconds, rate=DRAIN_RATE, livemode=1)
            drained = _versions(ledger) - before
        return DaemonFigures(
            ready_seconds=ready_seconds,
            idle_mb=idle,
            truth_p50_ms=percentile(truths, 0.5),
            truth_p99_ms=percentile(truths, 0.99),
            unsettled=unsettled,
            drain_p99_ms=busy.p99_ms,
            drained=drained,
        )
    finally:
        ledger.close()


@contextmanager
def _daemon(url: str, shop_port: int, folder: Path) -> Iterator[tuple[Started, float]]:
    """The daemon, and how long it took until it listened."""
    config = folder / "benchmark.toml"
    config.write_text(
        f"""
        [ledger]
        url = "{url}"
        [server]
        port = 0
        [accounts.{ACCOUNT}]
        provider = "stripe"
        api_key = "env:BENCHMARK_KEY"
        webhook_secrets = ["env:BENCHMARK_SECRET"]
        base_url = "http://127.0.0.1:{shop_port}"
        monthly_reads = 100000000
        """
    )
    said = folder / "daemon.log"
    with said.open("w") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "reconciler", "--config", str(config), "run"],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            cwd=ROOT,
            env=os.environ | {"BENCHMARK_KEY": "rk_live_benchmark", "BENCHMARK_SECRET": SECRET},
        )
    try:
        port = _port(process, said)
        yield Started(process, port), time.perf_counter() - began
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], said: Path) -> int:
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < give_up_at and process.poll() is None:
        for line in said.read_bytes().splitlines():
            if line.startswith(b"{") and line.endswith(b"}"):
                fact = orjson.loads(line)
                if fact.get("event") == "running":
                    return int(fact["url"].rpartition(":")[2])
        time.sleep(0.01)
    raise RuntimeError(f"the daemon did not start:\n{said.read_text()}")


def _truths(ledger: Ledger) -> tuple[list[float], int]:
    """Milliseconds from each resource's delivery to its first version, ascending, and how many have none."""
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with ledger.store.read() as tx:
            rows = tx.run(_TRUTHS).all()
        unsettled = sum(row.settled is None for row in rows)
        if not unsettled or time.monotonic() > give_up_at:
            return sorted([row.settled / 1000 for row in rows if row.settled is not None]), unsettled
        time.sleep(0.2)


# Each resource was named once, and is settled by the read that its first version came from.
_TRUTHS = text(
    """
    SELECT CASE WHEN resource.generation = resource.settled_generation
                THEN version.recorded_at - delivery.received_at END AS settled
    FROM delivery
    JOIN delivery_mark ON delivery_mark.delivery_id = delivery.id
    JOIN resource ON resource.account = delivery_mark.account AND resource.kind = delivery_mark.kind
                     AND resource.remote_id = delivery_mark.remote_id
    LEFT JOIN version ON version.resource_id = resource.id AND version.version = 1
    """
)


def _versions(ledger: Ledger) -> int:
    with ledger.store.read() as tx:
        return int(tx.run(text("SELECT COUNT(*) FROM version")).scalar_one())


def _mark(ledger: Ledger) -> None:
    """A backlog that lasts longer than the measurement."""
    refs = [ResourceRef("stripe", ACCOUNT, "payment_intent", f"pi_9{number:015d}") for number in range(DRAINED)]
    now = SystemClock().now()
    for at in range(0, DRAINED, 500):
        ledger.mark([Mark(ref, Cause.BACKFILL) for ref in refs[at : at + 500]], now)


assert TRUTH_RATE * 50 <= RESOURCES, "each delivery of the first part must name a resource of its own"
