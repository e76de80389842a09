"""`python -m tests.benchmarks.outbox [--subscribers N] [--hanging N] [--database sqlite|postgres]`: who waits for whom.

A thousand subscribers, of whom a hundred accept a request and never answer. The delay of the others, from a change's
commit to the subscriber having it, is measured with and without the hundred, in turns in the same run; exit code 1
where its 99th percentile more than doubles. Everything runs on one event loop, the receivers too: the figures are
those of a small machine that does everything itself, and only their ratio is a promise.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import orjson

from reconciler.clock import SystemClock
from reconciler.ledger import Ledger, PageRow, open_ledger
from reconciler.ledger.subscriptions import Subscription
from reconciler.model import Cause, ResourceRef, Snapshot
from reconciler.outbox.policy import Policy
from reconciler.outbox.pool import PoolSettings
from tests.benchmarks.processes import postgres
from tests.outbox.harness import node

TIMES_AS_LONG = 2.0


@dataclass(slots=True)
class Crowd:
    """Receivers under one port, told apart by their paths: `/well/N` answers, `/hang/N` never does."""

    url: str = ""
    arrived: dict[str, list[float]] = field(default_factory=dict)
    """By resource: when each of the well had it."""
    hung: int = 0
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                if head.startswith(b"POST /hang/"):
                    self.hung += 1
                    await self.closing.wait()
                    return
                ref = ResourceRef.parse(orjson.loads(body)["data"]["ref"])
                self.arrived.setdefault(ref.id, []).append(time.monotonic())
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


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


async def delays(ledger_url: str, well: int, hanging: int, changes: int) -> list[float]:
    """Seconds, of each change to each of the well."""
    policy, settings = Policy(), PoolSettings(drain=timedelta(seconds=1))
    async with (
        crowd() as receivers,
        node(ledger_url, everybody(receivers.url, well, hanging), policy=policy, settings=settings, seconds=15) as at,
    ):
        found: list[float] = []
        for number in range(changes):
            name = f"ch_{hanging}_{number}"
            began = time.monotonic()
            await at.commit.call(lambda ledger, name=name: _see(ledger, name))  # type: ignore[misc]  # mypy does not infer a default's type
            at.applied.ring()
            async with asyncio.timeout(120):
                while len(receivers.arrived.get(name, ())) < well:  # noqa: ASYNC110  # another task's work
                    await asyncio.sleep(0.01)
            found += [each - began for each in receivers.arrived[name]]
        assert receivers.hung >= min(hanging, 1), "they must have been asked"
        return found


def _see(ledger: Ledger, name: str) -> None:
    now = SystemClock().now()
    row = PageRow(Snapshot(ResourceRef("stripe", "main", "charge", name), {"id": name}))
    ledger.apply_page(
        [row], start=ledger.tick(), started_at=now, cause=Cause.SWEEP, settle={"charge": timedelta(0)}, now=now
    )


def p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.outbox")
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--hanging", type=int, default=100)
    parser.add_argument("--changes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    given = parser.parse_args()
    well = given.subscribers - given.hanging
    ratios = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outbox-benchmark-")))
        server = stack.enter_context(postgres(folder)) if given.database == "postgres" else None
        for round_ in range(given.rounds):
            told = {}
            for hanging in (0, given.hanging):
                name = f"outbox_{round_}_{hanging}"
                url = f"sqlite:///{folder / name}.db"
                if server is not None:
                    server.psql(f"CREATE DATABASE {name}")
                    url = server.get_uri(name).replace("postgresql://", "postgresql+psycopg://", 1)
                with closing(open_ledger(url)) as ledger:
                    ledger.require_current_schema()
                told[hanging] = p99(asyncio.run(delays(url, well, hanging, given.changes)))
            ratios.append(told[given.hanging] / told[0])
            print(  # noqa: T201  # a program
                f"{given.database}: {well} subscribers, p99 {told[0]:.2f} s; beside {given.hanging} that hang "
                f"{told[given.hanging]:.2f} s; {ratios[-1]:.2f} times"
            )
    return 0 if statistics.median(ratios) <= TIMES_AS_LONG else 1


if __name__ == "__main__":
    raise SystemExit(main())
