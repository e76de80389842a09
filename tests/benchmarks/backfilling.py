"""Backfills in a process of their own, from a list in another: `tests.benchmarks.backfiller` and `lister`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import text

from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.packing import Place
from tests.benchmarks.events import ACCOUNT
from tests.benchmarks.processes import ROOT, Receiver

SPAN = timedelta(days=180)
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

    @property
    def per_second(self) -> float:
        return self.objects / self.seconds


def backfill(count: int, url: str, folder: Path, *, latency_seconds: float = 0.0) -> Backfilled:
    """Into the empty ledger at `url`. Raises RuntimeError when it did not find everything."""
    with closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()
        empty = _bytes(ledger)
    with backfilling(count, url, folder, latency_seconds=latency_seconds) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("the backfill failed; its reason is above")
    told: dict[str, Any] = orjson.loads(output)
    if told["objects"] < count:
        raise RuntimeError(f"the backfill listed {told['objects']} of {count} objects")
    with closing(open_ledger(url)) as ledger:
        return Backfilled(
            objects=count,
            latency_ms=latency_seconds * 1000,
            seconds=told["seconds"],
            cpu_us=told["cpu_seconds"] / count * 1e6,
            peak_mb=told["peak_mb"],
            bytes_each=(_bytes(ledger) - empty) / count,
            packed_share=_packed_share(ledger),
        )


@contextmanager
def backfilling(
    count: int, url: str, folder: Path, *, latency_seconds: float = 0.0
) -> Iterator[subprocess.Popen[bytes]]:
    """Under way, of so many objects; what it found is one line of JSON on its output.

    It is ended with the block, whether or not it has come to its end.
    """
    first = datetime.now(UTC).replace(microsecond=0) - SPAN
    span_seconds = int(SPAN.total_seconds()) - 3600
    catalogue = (str(count), str(int(first.timestamp())), str(span_seconds), str(latency_seconds))
    config = folder / "backfill.toml"
    with Receiver("lister", *catalogue) as lister:
        config.write_text(_CONFIG.format(url=url, account=ACCOUNT, port=lister.port))
        with subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.backfiller", str(config), first.isoformat()],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"BENCHMARK_KEY": "rk_live_benchmark"},
        ) as process:
            try:
                yield process
            finally:
                process.kill()


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
