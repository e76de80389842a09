"""`reconcile run`, whole, beside a Stripe that answers at once: start-up, idle memory, time to truth, and the intake's
p99 while the worker reads as fast as the provider's budget lets it."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from reconciler.ledger import open_ledger
from reconciler.model import ResourceRef
from tests.benchmarks.events import ACCOUNT, RESOURCES, SECRET
from tests.benchmarks.load import percentile
from tests.benchmarks.processes import ROOT, Receiver, Started, load, settle
from tests.benchmarks.truths import last_delivery, mark, truths, versions

TRUTH_RATE = 20
"""Deliveries a second, each about a payment of its own: Stripe allows 25 reads of payments a second."""

DRAIN_RATE = 300
DRAINED = 20_000
_PATIENCE_SECONDS = 30.0
_CONFIG = """
[ledger]
url = "{url}"
[server]
port = 0
[worker]
concurrency = {concurrency}
"""
_ACCOUNT = """
[accounts.{account}]
provider = "{provider}"
api_key = "env:KEY_OF_{account}"
webhook_secrets = ["env:BENCHMARK_SECRET"]
base_url = "http://127.0.0.1:{port}"
monthly_reads = 100000000
"""


@dataclass(frozen=True, slots=True)
class DaemonFigures:
    ready_seconds: float
    help_seconds: float
    """`reconcile --help`, the quickest of three."""
    idle_mb: float
    truth_p50_ms: float
    truth_p99_ms: float
    unsettled: int
    """Of the deliveries whose time to truth was taken: not verified when patience was over."""
    drain_p99_ms: float
    drained: int
    """Resources that were read meanwhile."""


def measure(url: str, folder: Path, *, rounds: int, seconds: float) -> DaemonFigures:
    """`seconds` of each round; of deliveries beside a drain the median round's p99."""
    with closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()
        with Receiver("shop") as shop, running(url, folder, shop.port) as (daemon, ready_seconds):
            time.sleep(1.0)  # its first jobs find nothing
            idle = daemon.memory_mb()
            after = last_delivery(ledger)
            settle()
            load(daemon, "truth", connections=16, seconds=rounds * seconds, rate=TRUTH_RATE, livemode=1)
            found, unsettled = truths(ledger, after)
            # A backlog that lasts longer than the measurement.
            mark(ledger, [_backlog(number) for number in range(DRAINED)])
            before = versions(ledger)
            busy = statistics.median(
                load(daemon, f"drain{number}", connections=64, seconds=seconds, rate=DRAIN_RATE, livemode=1).p99_ms
                for number in range(rounds)
            )
            drained = versions(ledger) - before
        return DaemonFigures(
            ready_seconds=ready_seconds,
            help_seconds=_help_seconds(),
            idle_mb=idle,
            truth_p50_ms=percentile(found, 0.5),
            truth_p99_ms=percentile(found, 0.99),
            unsettled=unsettled,
            drain_p99_ms=busy,
            drained=drained,
        )


def _backlog(number: int) -> ResourceRef:
    return ResourceRef("stripe", ACCOUNT, "payment_intent", f"pi_9{number:015d}")


def idle_cpu_share(url: str, folder: Path, *, accounts: int, rest_seconds: float, seconds: float) -> float:
    """Of one core, what a daemon with so many accounts takes while nothing happens, after its first sweeps."""
    with closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()
    names = [f"{ACCOUNT}{number}" for number in range(accounts)]
    with Receiver("shop") as shop, running(url, folder, shop.port, accounts=names) as (daemon, _):
        time.sleep(rest_seconds)
        spent, began = daemon.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        return (daemon.cpu_seconds() - spent) / (time.monotonic() - began)


def _help_seconds() -> float:
    took = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "reconciler", "--help"], stdout=subprocess.DEVNULL, cwd=ROOT, check=True)
        took.append(time.perf_counter() - began)
    return min(took)


@contextmanager
def running(
    url: str,
    folder: Path,
    shop_port: int,
    *,
    provider: str = "stripe",
    accounts: Sequence[str] = (ACCOUNT,),
    concurrency: int = 16,
) -> Iterator[tuple[Started, float]]:
    """The daemon, and how many seconds it took until it listened."""
    config = folder / "benchmark.toml"
    tables = [_ACCOUNT.format(account=account, provider=provider, port=shop_port) for account in accounts]
    config.write_text(_CONFIG.format(url=url, concurrency=concurrency) + "".join(tables))
    said = folder / "daemon.log"
    with said.open("w") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "reconciler", "--config", str(config), "run"],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            cwd=ROOT,
            env=os.environ
            | {f"KEY_OF_{account}": f"rk_live_{account}" for account in accounts}
            | {"BENCHMARK_SECRET": SECRET},
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


assert TRUTH_RATE * 50 <= RESOURCES, "each delivery of the first part must name a resource of its own"
