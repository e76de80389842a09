"""Backfills in a process of their own, from a list in another: `tests.benchmarks.backfiller` and `lister`.

Each after its floor, `tests.benchmarks.listing`, which lists and stores as many.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from sqlalchemy import text

from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.packing import Place
from tests.benchmarks.events import ACCOUNT
from tests.benchmarks.processes import ROOT, Receiver

SPAN = timedelta(days=180)
_SPAN_SECONDS = int(SPAN.total_seconds()) - 3600
_MOST_OF_FLOOR = 100_000
"""Objects: a floor's rate does not change with their number, and its bodies lie on the disk as they are."""
_WEIGHED = 200
"""Bodies whose packed size is compared with what they were."""
_CONFIG = """
[ledger]
url = "{url}"
[accounts.{account}]
provider = "stripe"
api_key = "env:BENCHMARK_KEY"
base_url = "http://127.0.0.1:{port}"
monthly_reads = 100000000
"""


@dataclass(frozen=True, slots=True)
class Backfilled:
    """One backfill of so many objects, from an empty ledger until everything was proven."""

    objects: int
    latency_ms: float
    """How long the list took to answer with each page."""
    seconds: float
    cpu_us: float
    """Of the backfill's process, for each object."""
    peak_mb: float
    bytes_each: float
    """What the ledger grew by for each object, with its first version and everything that stands beside it."""
    packed_share: float
    """Of the bodies as JSON, what is stored."""
    floor_per_second: float
    floor_cpu_us: float

    @property
    def per_second(self) -> float:
        return self.objects / self.seconds

    @property
    def share(self) -> float:
        """Of the floor's rate."""
        return self.per_second / self.floor_per_second


def backfill(count: int, url: str, floor_url: str, folder: Path, *, latency_seconds: float = 0.0) -> Backfilled:
    """Into the empty ledger at `url`, after its floor into the one at `floor_url`.

    Raises RuntimeError when either did not find everything.
    """
    floor = _floor(min(count, _MOST_OF_FLOOR), floor_url, latency_seconds)
    with closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()
        empty = _bytes(ledger)
    with backfilling(count, url, folder, latency_seconds=latency_seconds) as process:
        told = _told(process, count)
    with closing(open_ledger(url)) as ledger:
        return Backfilled(
            objects=count,
            latency_ms=latency_seconds * 1000,
            seconds=told["seconds"],
            cpu_us=told["cpu_seconds"] / count * 1e6,
            peak_mb=told["peak_mb"],
            bytes_each=(_bytes(ledger) - empty) / count,
            packed_share=_packed_share(ledger),
            floor_per_second=floor["objects"] / floor["seconds"],
            floor_cpu_us=floor["cpu_seconds"] / floor["objects"] * 1e6,
        )


def _floor(count: int, url: str, latency_seconds: float) -> Mapping[str, float]:
    with closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()
    with (
        _lister(count, latency_seconds) as (lister, first),
        _told_by("listing", url, str(lister.port), str(first), str(first + _SPAN_SECONDS)) as process,
    ):
        return _told(process, count)


@contextmanager
def backfilling(
    count: int, url: str, folder: Path, *, latency_seconds: float = 0.0
) -> Iterator[subprocess.Popen[bytes]]:
    """Under way, of so many objects; what it found is one line of JSON on its output.

    It is ended with the block, whether or not it has come to its end.
    """
    config = folder / "backfill.toml"
    with _lister(count, latency_seconds) as (lister, first):
        config.write_text(_CONFIG.format(url=url, account=ACCOUNT, port=lister.port))
        since = datetime.fromtimestamp(first, UTC).isoformat()
        with _told_by("backfiller", str(config), since) as process:
            yield process


@contextmanager
def _lister(count: int, latency_seconds: float) -> Iterator[tuple[Receiver, int]]:
    """And from which second on its objects were created."""
    first = int((datetime.now(UTC) - SPAN).timestamp())
    with Receiver("lister", str(count), str(first), str(_SPAN_SECONDS), str(latency_seconds)) as lister:
        yield lister, first


@contextmanager
def _told_by(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"BENCHMARK_KEY": "rk_live_benchmark"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _told(process: subprocess.Popen[bytes], count: int) -> Mapping[str, float]:
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("what was measured failed; its reason is above")
    told: Mapping[str, float] = orjson.loads(output)
    if told["objects"] < count:
        raise RuntimeError(f"{told['objects']} of {count} objects were listed")
    return told


def _bytes(ledger: Ledger) -> int:
    with ledger.store.read() as tx:
        if tx.dialect.is_postgres:
            return int(tx.run(text("SELECT pg_database_size(current_database())")).scalar_one())
        pages = int(tx.run(text("SELECT page_count FROM pragma_page_count")).scalar_one())
        return pages * int(tx.run(text("SELECT page_size FROM pragma_page_size")).scalar_one())


def _packed_share(ledger: Ledger) -> float:
    with ledger.store.read() as tx:
        bodies = [bytes(row.body) for row in tx.run(text(f"SELECT body FROM version LIMIT {_WEIGHED}"))]
        return sum(map(len, bodies)) / sum(len(tx.unpack(body, Place.VERSION)) for body in bodies)
