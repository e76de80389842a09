"""`python -m tests.benchmarks.outbox [--subscribers N] [--hanging N] [--database sqlite|postgres]`: who waits for whom.

A thousand subscribers, of whom a hundred accept a request and never answer. The delay of the others, from a change's
commit to the subscriber having it, is measured with the hundred paused and with them active, in turns within one run
of one node on one ledger, so that a machine that has other work slows down both alike. Exit code 1 where the median
over the rounds of the 99th percentile with them is more than twice the median without. Everything runs on one event
loop, the receivers too: the figures are those of a small machine that does everything itself, and only their ratio is
a promise.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import orjson
import structlog

from reconciler.clock import SystemClock
from reconciler.ledger import Ledger, PageRow, open_ledger
from reconciler.ledger.subscriptions import Standing, Subscription
from reconciler.model import Cause, ResourceRef, Snapshot
from reconciler.outbox.policy import Policy
from reconciler.outbox.pool import PoolSettings
from tests.benchmarks.processes import postgres
from tests.outbox.harness import Node, node

TIMES_AS_LONG = 2.0
PATIENCE_SECONDS = 180.0
SETTINGS = PoolSettings(drain=timedelta(seconds=1))


@dataclass(frozen=True, slots=True)
class Measured:
    """One round: the 99th percentile of the delays of the well, in seconds."""

    alone: float
    beside: float


@dataclass(slots=True)
class Crowd:
    """Receivers under one port, told apart by their paths: `/well/N` answers, `/hang/N` never does."""

    url: str = ""
    arrived: dict[str, list[float]] = field(default_factory=dict)
    """By resource: when each of the well had it."""
    hanging: int = 0
    """Requests that hang now."""
    came: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with every request and every end of one that hung."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                if head.startswith(b"POST /hang/"):
                    await self._hang(reader)
                    return
                ref = ResourceRef.parse(orjson.loads(body)["data"]["ref"])
                self.arrived.setdefault(ref.id, []).append(time.monotonic())
                self.came.set()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _hang(self, reader: asyncio.StreamReader) -> None:
        """Until the other side has had enough."""
        self.hanging += 1
        self.came.set()
        try:
            closing, gone = asyncio.ensure_future(self.closing.wait()), asyncio.ensure_future(reader.read())
            await asyncio.wait({closing, gone}, return_when=asyncio.FIRST_COMPLETED)
            closing.cancel()
            gone.cancel()
        finally:
            self.hanging -= 1
            self.came.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not true():
                self.came.clear()
                await self.came.wait()


@asynccontextmanager
async def crowd() -> AsyncIterator[Crowd]:
    made = Crowd()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, backlog=2048)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        made.closing.set()
        server.close()


def everybody(url: str, well: int, hanging: int) -> list[Subscription]:
    kinds = [("hang", number) for number in range(hanging)] + [("well", number) for number in range(well)]
    return [Subscription(f"{kind}-{number}", f"{url}/{kind}/{number}") for kind, number in kinds]


async def rounds(ledger_url: str, well: int, hanging: int, count: int, changes: int) -> AsyncIterator[Measured]:
    """Each round in both ways, now this one first and now the other."""
    async with (
        crowd() as receivers,
        node(ledger_url, everybody(receivers.url, well, hanging), policy=Policy(), settings=SETTINGS, seconds=6) as at,
    ):
        await _stand(at, hanging, Standing.PAUSED)
        await _told(at, receivers, "ch_first", well)  # connections are made, and everybody has earned two at a time
        for number in range(count):
            delays: dict[bool, list[float]] = {False: [], True: []}
            for beside in (False, True) if number % 2 else (True, False):
                await _stand(at, hanging, Standing.ACTIVE if beside else Standing.PAUSED)
                for change in range(changes):
                    delays[beside] += await _told(at, receivers, f"ch_{number}_{beside}_{change}", well)
                if beside:
                    await receivers.until(lambda: receivers.hanging >= hanging)
                    delays[beside] += await _told(at, receivers, f"ch_{number}_while_they_hang", well)
                await _stand(at, hanging, Standing.PAUSED)
                await receivers.until(lambda: receivers.hanging == 0)
            yield Measured(p99(delays[False]), p99(delays[True]))


async def _stand(at: Node, hanging: int, standing: Standing) -> None:
    def act(ledger: Ledger) -> None:
        for number in range(hanging):
            ledger.telling.stand(f"hang-{number}", standing, "", SystemClock().now())

    await at.commit.call(act)


async def _told(at: Node, receivers: Crowd, name: str, well: int) -> list[float]:
    """Seconds until each of the well had a change."""
    began = time.monotonic()
    await at.commit.call(lambda ledger: _see(ledger, name))
    at.applied.ring()
    await receivers.until(lambda: len(receivers.arrived.get(name, ())) >= well)
    return [each - began for each in receivers.arrived.pop(name)]


def _see(ledger: Ledger, name: str) -> None:
    now = SystemClock().now()
    row = PageRow(Snapshot(ResourceRef("stripe", "main", "charge", name), {"id": name}))
    ledger.apply_page(
        [row], start=ledger.tick(), started_at=now, cause=Cause.SWEEP, settle={"charge": timedelta(0)}, now=now
    )


def p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


async def measure(given: argparse.Namespace, url: str) -> list[Measured]:
    well, found = given.subscribers - given.hanging, []
    async for measured in rounds(url, well, given.hanging, given.rounds, given.changes):
        found.append(measured)
        print(  # noqa: T201  # a program
            f"{given.database}: {well} subscribers, p99 {measured.alone:.2f} s; beside {given.hanging} that hang "
            f"{measured.beside:.2f} s; {measured.beside / measured.alone:.2f} times",
            flush=True,
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.outbox")
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--hanging", type=int, default=100)
    parser.add_argument("--changes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outbox-benchmark-")))
        url = f"sqlite:///{folder / 'ledger.db'}"
        if given.database == "postgres":
            server = stack.enter_context(postgres(folder))
            server.psql("CREATE DATABASE outbox")
            url = server.get_uri("outbox").replace("postgresql://", "postgresql+psycopg://", 1)
        with closing(open_ledger(url)) as ledger:
            ledger.require_current_schema()
        found = asyncio.run(measure(given, url))
    alone = statistics.median(each.alone for each in found)
    beside = statistics.median(each.beside for each in found)
    print(f"medians: p99 {alone:.2f} s, beside those that hang {beside:.2f} s: {beside / alone:.2f} times")  # noqa: T201
    return 0 if beside <= TIMES_AS_LONG * alone else 1


if __name__ == "__main__":
    raise SystemExit(main())
