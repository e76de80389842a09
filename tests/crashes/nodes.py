"""Several real `reconcile run` on one Postgres: one paused beyond its lease, one killed, one cut off from it.

`python -m tests.crashes.nodes [--rounds N]`. Triggers in the database write down every lease that was taken while
another one still ran, of resources and of jobs: no two nodes ever sweep the same thing at once. The sandbox enforces
Stripe's limits, and no node is ever told 429: the budget is one for all. At the end the ledger is the truth.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import psycopg
from sqlalchemy import text
from sqlalchemy.engine import URL

from providers.sandbox import Limits, SandboxServer, ThreadedSandbox, World
from reconciler.clock import SystemClock
from reconciler.demo.comparing import BALANCE, compare
from reconciler.demo.looking import backlog, held
from reconciler.errors import LedgerError
from reconciler.ledger import Ledger, open_ledger
from reconciler.loading import load_provider
from tests.benchmarks.processes import ROOT, postgres
from tests.crashes.wire import Wire
from tests.sandbox_fixtures import SECRET

PATIENCE_SECONDS = 300.0
LEASE_SECONDS = 4
CONFIG = """
[ledger]
url = "{ledger}"
[server]
port = 0
[accounts.main]
provider = "stripe"
api_key = "env:NODE_KEY"
webhook_secrets = ["env:NODE_SECRET"]
base_url = "{stripe}"
monthly_reads = 100000000
[sweeps]
every = "3s"
lag = "1s"
overlap = "20s"
full_every = "15s"
[worker]
lease = "{lease}s"
[retry]
max_wait = "2s"
"""
_AUDIT = """
CREATE TABLE stolen_lease (what text, at bigint);
CREATE FUNCTION note_stolen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.lease_until IS NOT NULL AND NEW.lease_token <> OLD.lease_token
     AND OLD.lease_until > extract(epoch FROM clock_timestamp()) * 1000000 THEN
    INSERT INTO stolen_lease VALUES (TG_TABLE_NAME, OLD.lease_until);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER stolen BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION note_stolen();
CREATE TRIGGER stolen BEFORE UPDATE ON resource FOR EACH ROW EXECUTE FUNCTION note_stolen();
CREATE TABLE taken_lease (owner text, what text);
CREATE FUNCTION note_taken() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.lease_owner IS NOT NULL AND NEW.lease_token <> OLD.lease_token THEN
    INSERT INTO taken_lease VALUES (NEW.lease_owner, TG_TABLE_NAME);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER taken BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION note_taken();
CREATE TRIGGER taken BEFORE UPDATE ON resource FOR EACH ROW EXECUTE FUNCTION note_taken();
"""


@dataclass(slots=True)
class Running:
    """One node, and the log it writes."""

    process: asyncio.subprocess.Process
    log: Path
    url: str = ""

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)


@dataclass(frozen=True, slots=True)
class Story:
    """What the nodes came to."""

    resources: int
    reads: int
    workers: int
    """Nodes' lives that took a lease."""


async def live_through(folder: Path, server: Any, rounds: int) -> Story:
    """Raises AssertionError for a broken promise."""
    server.psql("CREATE DATABASE nodes")
    socket_folder, user = _address(server)
    url = URL.create("postgresql+psycopg", user, database="nodes", query={"host": socket_folder})
    with closing(open_ledger(url.render_as_string())) as ledger:
        await asyncio.to_thread(ledger.require_current_schema)
        with psycopg.connect(server.get_uri("nodes"), autocommit=True) as watcher:
            watcher.execute(_AUDIT)
            wire = Wire(lambda: asyncio.open_unix_connection(f"{socket_folder}/.s.PGSQL.5432"))
            await wire.start()
            far = URL.create("postgresql+psycopg", user, host="127.0.0.1", port=wire.port, database="nodes")
            make = partial(SandboxServer, World(seed=7, clock=SystemClock()), limits=Limits())
            try:
                with ThreadedSandbox(make) as shop:
                    return await _story(folder, ledger, shop, wire, [url, url, far], watcher, rounds)
            finally:
                await wire.close()


def _address(server: Any) -> tuple[str, str]:
    made = psycopg.conninfo.conninfo_to_dict(server.get_uri("postgres"))
    return str(made["host"]), str(made.get("user", "postgres"))


async def _story(
    folder: Path,
    ledger: Ledger,
    shop: ThreadedSandbox,
    wire: Wire,
    urls: list[URL],
    watcher: psycopg.Connection[Any],
    rounds: int,
) -> Story:
    nodes = [await _start(folder, number, url, shop) for number, url in enumerate(urls)]
    busy = asyncio.create_task(_trade(shop))
    try:
        for node in nodes:
            await _listening(node, shop)
        for _ in range(rounds):
            await _more(ledger, 40)
            nodes[0].signal(signal.SIGSTOP)
            wire.cut()
            await _more(ledger, 10)
            nodes[1].signal(signal.SIGKILL)
            await nodes[1].process.wait()
            await asyncio.sleep(2.5 * LEASE_SECONDS)  # what the paused and the cut-off one hold has to run out
            nodes[0].signal(signal.SIGCONT)
            wire.mend()
            nodes[1] = await _start(folder, 1, urls[1], shop)
            await _listening(nodes[1], shop)
        await _more(ledger, 40)
        busy.cancel()
        compared = await _rest(ledger, shop)
    finally:
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        for node in nodes:
            await _stop(node)
    stolen = watcher.execute("SELECT what, count(*) FROM stolen_lease GROUP BY what").fetchall()
    assert stolen == [], f"leases were taken that still ran: {stolen}"
    taken = watcher.execute("SELECT count(DISTINCT owner) FROM taken_lease WHERE what = 'job'").fetchone()
    workers = 0 if taken is None else int(taken[0])
    assert workers >= len(urls), "every node had jobs to run"
    summary = shop.ask(lambda server: server.journal.summary())
    throttled = {name: told for name, told in summary["operations"].items() if "429" in told}
    assert not throttled, f"the nodes together asked for more than is allowed: {throttled}"
    _look(ledger)
    return Story(compared, summary["total"], workers)


def _look(ledger: Ledger) -> None:
    """Versions without gaps, and never two alike in a row."""
    with ledger.store.read() as tx:
        rows = tx.run(text("SELECT resource_id, version, state, content_hash FROM version ORDER BY 1, 2")).all()
    before: Any = None
    for row in rows:
        follows = before is not None and before.resource_id == row.resource_id
        assert row.version == (before.version + 1 if follows else 1), "a gap in the versions"
        assert not follows or (before.state, before.content_hash) != (row.state, row.content_hash), "twice the same"
        before = row


# --- nodes ----------------------------------------------------------------------------------------


async def _start(folder: Path, number: int, url: URL, shop: ThreadedSandbox) -> Running:
    path = folder / f"node{number}.toml"
    path.write_text(CONFIG.format(ledger=url.render_as_string(), stripe=shop.url, lease=LEASE_SECONDS))
    log = folder / f"node{number}-{time.monotonic_ns()}.log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILER")}
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "reconciler", "--config", str(path), "run"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=ROOT,
            env=kept | {"NODE_KEY": shop.api_key, "NODE_SECRET": SECRET},
        )
    return Running(process, log)


async def _listening(node: Running, shop: ThreadedSandbox) -> None:
    """Wait until it serves, and have the shop's webhooks sent there too."""

    def there() -> bool:
        assert node.process.returncode is None, node.log.read_text()
        for line in node.log.read_bytes().splitlines():
            if b'"running"' in line and line.endswith(b"}"):
                node.url = str(orjson.loads(line)["url"])
        return bool(node.url)

    await _until(there, "a node did not start")
    shop.ask(lambda server: server.add_endpoint(f"{node.url}/webhooks/stripe/main", secret=SECRET))


async def _stop(node: Running) -> None:
    if node.process.returncode is None:
        node.signal(signal.SIGCONT)
        node.process.terminate()
        try:
            async with asyncio.timeout(30):
                await node.process.wait()
        except TimeoutError:
            node.process.kill()
            await node.process.wait()


# --- the shop, and what comes of it -----------------------------------------------------------------


async def _trade(shop: ThreadedSandbox) -> None:
    """An act now and then, and thirty at once in the beginning: more than one endpoint's budget of a second."""
    number = 0
    while True:
        for _ in range(1 if number else 30):
            payment = await asyncio.to_thread(shop.act, "payments.pay", amount=1000 + number)
            if number % 3 == 0:
                await asyncio.to_thread(shop.act, "edits.metadata", object_id=payment["id"], note=str(number))
            number += 1
        await asyncio.sleep(0.7)


async def _more(ledger: Ledger, versions: int) -> None:
    """The nodes that can work do."""
    wanted = _versions(ledger) + versions
    await _until(lambda: _versions(ledger) >= wanted, "nobody works")


def _versions(ledger: Ledger) -> int:
    with ledger.store.read() as tx:
        return int(tx.run(text("SELECT count(*) FROM version")).scalar_one())


async def _rest(ledger: Ledger, shop: ThreadedSandbox) -> int:
    """Until the ledger is the truth and nothing is dirty; how many resources were compared."""
    kinds = set(load_provider("stripe").kinds) - {BALANCE}  # money matures by itself; it is read at its own pace
    last: list[str] = []

    def equal() -> bool:
        truth = shop.ask(_truth)
        try:
            dirty = backlog(ledger, SystemClock().now()).dirty
            rows = [each for each in held(ledger) if each.ref.kind in kinds]
            found = compare(truth, rows, provider="stripe", account="main", kinds=kinds)
        except LedgerError as error:
            last[:] = [str(error)]
            return False
        last[:] = [f"{dirty} dirty", *(f"{each.ref}: {each.text}" for each in found.differences[:5])]
        counted.append(found.resources)
        return found.equal and not dirty

    counted: list[int] = []
    await _until(equal, last, every=1.0)
    return counted[-1]


def _truth(server: SandboxServer) -> Any:
    server.world.run_due()
    return server.world.snapshot()


async def _until(true: Callable[[], bool], otherwise: object, *, every: float = 0.1) -> None:
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(true):
        assert time.monotonic() < give_up_at, otherwise
        await asyncio.sleep(every)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes.nodes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds: int = parser.parse_args().rounds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nodes-")))
        server = stack.enter_context(postgres(folder))
        began = time.monotonic()
        story = asyncio.run(live_through(folder, server, rounds))
    sys.stdout.write(
        f"{rounds} rounds of pause, kill and cut in {time.monotonic() - began:.0f} s: {story.workers} lives worked, "
        f"{story.reads} requests and no 429, no lease taken early, {story.resources} resources as they are there\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
