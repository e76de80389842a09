"""`python -m tests.benchmarks.reads`: what it costs to verify a change, in requests, on a controlled clock.

A shop's day with bursts, every webhook delivered, at the product's own settings. The measure against ours is one read
for each event, which is what a mirror does that fetches what every webhook names. Only requests are counted, so the
figure is the same on every machine.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from rich.console import Console

from reconciler.ledger import open_ledger
from tests.benchmarks.gates import Figure
from tests.loop.harness import DAY, HOUR, SECOND, Loop, looping

PAYMENTS_AN_HOUR = 2
SALE_HOUR = 12
PAYMENTS_IN_THE_SALE = 30


@dataclass(frozen=True, slots=True)
class Reads:
    """What webhooks made us ask for in a day. Sweeps come on top: their number depends on the clock, not on events."""

    events: int
    """Each says that one resource changed."""
    requests: int

    @property
    def per_change(self) -> float:
        return self.requests / self.events


def measure() -> Reads:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return asyncio.run(_a_day())


def figure() -> Figure:
    """Of one read for each event, which would be 100 %."""
    return Figure("any", "requests per verified change, of one for each event", "", measure().per_change, 0.8, 1.0)


async def _a_day() -> Reads:
    """Raises RuntimeError when the ledger is not the shop's truth at the end."""
    with tempfile.TemporaryDirectory(prefix="reconciler-reads-") as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        with closing(open_ledger(url)) as ledger:
            ledger.require_current_schema()
        async with looping(url) as loop:
            for hour in range(DAY // HOUR):
                for wait in _arrivals(hour):
                    await _a_payment(loop)
                    await loop.run_for(wait)
            await loop.settle()
            if wrong := loop.unlike_truth():
                raise RuntimeError(f"the ledger is not the truth: {wrong[:5]}")
            return Reads(len(loop.account.events), len(loop.requests()))


def _arrivals(hour: int) -> Iterator[timedelta]:
    """After each payment of an hour, how long until the next: evenly, and in one hour all within ten minutes."""
    if hour != SALE_HOUR:
        yield from [HOUR / PAYMENTS_AN_HOUR] * PAYMENTS_AN_HOUR
        return
    yield from [HOUR / 6 / PAYMENTS_IN_THE_SALE] * PAYMENTS_IN_THE_SALE
    yield HOUR * 5 / 6


async def _a_payment(loop: Loop) -> None:
    """A customer pays: created, processed and succeeded within one second, each step told as it happens."""
    intent = loop.world.payments.create(5_000)["id"]
    await loop.deliver_all()
    await loop.run_for(SECOND / 4)
    loop.world.payments.process(intent)
    await loop.deliver_all()
    await loop.run_for(SECOND / 4)
    loop.world.payments.succeed(intent)
    await loop.deliver_all()


def main() -> int:
    found = measure()
    Console().print(
        f"{found.requests} requests for {found.events} events: {found.per_change:.0%} of one read for each event"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
