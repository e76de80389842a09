"""`python -m tests.benchmarks.backfiller CONFIG SINCE`: what `reconcile --since` does, at a provider without limits.

Stripe's own limit is 2,500 objects a second; what is measured is how far we are from it. Prints one line of JSON.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import orjson
import uvloop

from reconciler import log
from reconciler.app import backfill_of
from reconciler.backfill import Request
from reconciler.clock import SystemClock
from reconciler.config import load
from reconciler.garbage import collect_seldom
from reconciler.loading import load_accounts
from tests.benchmarks.unlimited import Unlimited


async def main(path: Path, since: datetime) -> None:
    """Raises RuntimeError when not everything was verified."""
    config = load(path, os.environ)
    accounts = {name: replace(each, provider=Unlimited) for name, each in load_accounts(config).items()}
    began, spent = time.perf_counter(), time.process_time()
    async with AsyncExitStack() as stack:
        work = await backfill_of(stack, config, accounts, SystemClock(), random.Random(7), watch=lambda _: None)
        results = await work.run(Request(since, None, frozenset(), frozenset({"payment_intent"})))
        await work.settle(results)
    if wrong := [reason for each in results for reason in each.reasons]:
        raise RuntimeError(f"not verified: {wrong[:3]}")
    told = {
        "objects": sum(each.objects for each in results),
        "pages": sum(each.pages for each in results),
        "singly": sum(each.singly for each in results),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - spent,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(orjson.dumps(told).decode() + "\n")


if __name__ == "__main__":
    log.configure(level="error")
    collect_seldom(after=50_000)
    uvloop.run(main(Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2])))
