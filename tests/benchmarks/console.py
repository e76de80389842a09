"""`python -m tests.benchmarks.console [--database sqlite|postgres]`: how long each page takes on 100,000 resources and
1,000,000 deliveries.

The ledger is filled by the statement, not by the loop: what is measured is reading. A year of sales, of which a tenth
moved money in the month that the report speaks of. Each page is asked for in turn, as a browser does; the first round
warms the caches, the median of the others counts. `--beside` measures once more while a report is being made anew all
the time. Exits with 1 where one takes longer than `--least` milliseconds; with `--cpu` where it takes more than that
of one core, the database server's share included, for a machine on which others work too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import text

from reconciler.asking import Question
from reconciler.clock import ManualClock, to_micros
from reconciler.console.freshness import Reports
from reconciler.desk import Desk
from reconciler.ledger import Coverage, Ledger, open_ledger, people
from reconciler.ledger.bulk import BYTES, WHOLE, WORDS, insert_into
from reconciler.ledger.codec import pack
from reconciler.ledger.links import era_of
from reconciler.ledger.moving.deliveries import count
from reconciler.ledger.moving.facts import raise_clock
from reconciler.ledger.people import Role
from reconciler.loading import load_accounts
from reconciler.model import ControlTotal, Window
from reconciler.money import Money
from tests.benchmarks.processes import Cluster, postgres
from tests.console.serving import Served
from tests.console.shop import PASSWORD, QUICK, config_of
from tests.databases import sqlite_url

NOW = datetime(2026, 2, 1, 10, 30, tzinfo=UTC)
YEAR = timedelta(days=365)
_ROUNDS = 6
_BATCH = 5000
_KINDS = ("charge", "payment_intent", "balance_transaction", "customer", "product")

PAGES = {
    "overview": "/console",
    "overview as of": "/console?as_of=2026-01-20",
    "report": "/console/report",
    "report, entries": "/console/report/entries?account=main&balance_type=payments&currency=USD&category=charge",
    "report, section": "/console/report/section/balance",
    "breaks": "/console/breaks",
    "resources": "/console/resources",
    "resources, deep": "/console/resources?after=main/charge/ch_0010000",
    "resources, rare status": "/console/resources?status=nothing",
    "resources, dirty": "/console/resources?condition=dirty",
    "resources as of": "/console/resources?as_of=2026-01-20",
    "resource": "/console/resource?ref=stripe/main/charge/ch_0000007",
    "search": "/console/search?q=ch_0012",
    "deliveries": "/console/deliveries",
    "deliveries, rejected": "/console/deliveries?verdict=rejected",
    "deliveries, a day": "/console/deliveries?since=2025-08-01&until=2025-08-01",
    "deliveries, an event": "/console/deliveries?account=main&event=evt_0500000",
    "delivery": "/console/delivery?id=5000",
    "missed": "/console/missed",
    "dead letters": "/console/dead-letters",
    "sweeps": "/console/jobs",
    "accounts": "/console/accounts",
    "account": "/console/account?name=main",
}


def fill(ledger: Ledger, resources: int, deliveries: int) -> None:
    per_kind = resources // len(_KINDS)
    with ledger.store.write() as tx:
        for start in range(0, resources, _BATCH):
            rows = [_resource(number, per_kind) for number in range(start, min(start + _BATCH, resources))]
            _RESOURCE.run(tx, rows)
            _VERSION.run(tx, [_version(row) for row in rows])
            _ENTRY.run(tx, [_entry(row) for row in rows if row["kind"] == "balance_transaction"])
        for start in range(1, deliveries + 1, _BATCH):
            numbers = range(start, min(start + _BATCH, deliveries + 1))
            _DELIVERY.run(tx, [_delivery(number, deliveries) for number in numbers])
            _MARK.run(tx, [_mark(number, per_kind) for number in numbers])
        count(tx)
        raise_clock(tx, resources + deliveries + 10)
        people.add_user(tx, "oper", Role.OPERATOR, QUICK.hash(PASSWORD, name=""), by="bench", now=NOW)
    window = Window(NOW - 2 * YEAR, NOW)
    streams = ("balance_transaction", "charge", "refund", "dispute", "payout")
    ledger.record_coverage([Coverage("main", each, window, True) for each in streams], NOW)
    ledger.record_control_totals([ControlTotal("main", "payments", Money(0, "USD"), NOW - 2 * YEAR)], NOW - YEAR)
    with ledger.store.write() as tx:
        tx.run(text("ANALYZE"))
    ledger.store.checkpoint()


def _at(number: int, count: int) -> datetime:
    return NOW - YEAR + YEAR * (number / count)


def _resource(number: int, per_kind: int) -> dict[str, Any]:
    kind, inside = _KINDS[number // per_kind % len(_KINDS)], number % per_kind
    at = to_micros(_at(inside, per_kind))
    prefix = {"charge": "ch", "payment_intent": "pi", "balance_transaction": "txn", "customer": "cus"}.get(kind, "prod")
    return {
        "id": number + 1, "provider": "stripe", "account": "main", "kind": kind,
        "remote_id": f"{prefix}_{inside:07}", "state": "present", "status": "succeeded", "version": 1,
        "content_hash": f"{number:064}", "created_at": at, "fetched_at": at, "generation": 1, "settled_generation": 1,
    }  # fmt: skip


def _version(row: dict[str, Any]) -> dict[str, Any]:
    inside = int(row["remote_id"].rpartition("_")[2])
    body = {
        "id": row["remote_id"], "amount": 1000 + inside, "currency": "usd", "created": row["created_at"] // 1_000_000,
        "status": "succeeded", "amount_captured": 1000 + inside, "metadata": {"order": str(inside)}, "fee": 30,
        "net": 970 + inside, "description": "A thing that somebody bought, " * 8,
        "balance_transaction": f"txn_{inside:07}", "payment_intent": f"pi_{inside:07}",
        "reporting_category": "charge", "source": f"ch_{inside:07}",
    }  # fmt: skip
    return {
        "resource_id": row["id"], "version": 1, "state": "present", "content_hash": row["content_hash"],
        "body": pack(json.dumps(body).encode()), "status": "succeeded", "cause": "webhook",
        "recorded_at": row["created_at"] + 5_000_000, "fetched_at": row["created_at"] + 4_000_000, "applied_seq": 1,
    }  # fmt: skip


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    inside = int(row["remote_id"].rpartition("_")[2])
    return {
        "resource_id": row["id"], "version": 1, "ordinal": 0, "account": "main", "kind": row["kind"],
        "remote_id": row["remote_id"], "balance_type": "payments", "category": "charge", "currency": "USD",
        "gross": 1000 + inside, "fee": 30, "net": 970 + inside, "effective_at": row["created_at"],
        "source_id": f"ch_{inside:07}", "recorded_at": row["created_at"] + 5_000_000,
    }  # fmt: skip


def _delivery(number: int, count: int) -> dict[str, Any]:
    body = {"id": f"evt_{number:07}", "data": {"object": {"id": f"ch_{number % 20000:07}", "text": "x" * 900}}}
    return {
        "id": number, "provider": "stripe", "account": "main", "event_id": f"evt_{number:07}", "type": "charge.updated",
        "received_at": to_micros(_at(number, count)), "verdict": "rejected" if number == 5 else "stored",
        "source": "203.0.113.7", "headers": '{"stripe-signature":"t=1,v1=00"}',
        "body": pack(json.dumps(body).encode()), "size": 1000,
    }  # fmt: skip


def _mark(number: int, per_kind: int) -> dict[str, Any]:
    name = f"ch_{number % per_kind:07}"
    return {"era": era_of(number), "account": "main", "kind": "charge", "remote_id": name, "delivery_id": number}


def _insert(table: str, words: str, wholes: str, packed: str = "") -> Any:
    columns = dict.fromkeys(words.split(), WORDS) | dict.fromkeys(wholes.split(), WHOLE)
    return insert_into(table, columns | dict.fromkeys(packed.split(), BYTES))


_RESOURCE = _insert(
    "resource",
    "provider account kind remote_id state status content_hash",
    "id version created_at fetched_at generation settled_generation",
)
_VERSION = _insert(
    "version",
    "state content_hash status cause",
    "resource_id version recorded_at fetched_at applied_seq",
    "body",
)
_ENTRY = _insert(
    "entry",
    "account kind remote_id balance_type category currency source_id",
    "resource_id version ordinal gross fee net effective_at recorded_at",
)
_DELIVERY = _insert("delivery", "provider account event_id type verdict source headers", "id received_at size", "body")
_MARK = _insert("delivery_link", "account kind remote_id", "era delivery_id")


def measured(console: Served, server: Cluster | None) -> Iterator[tuple[str, float, float, float]]:
    """(page, median, worst, mean of what it took of one core) in milliseconds."""

    def spent() -> float:
        return time.process_time() + (0.0 if server is None else server.cpu_seconds())

    browser = console.client("oper")
    for report in ("/console/report", "/console/report?as_of=2026-01-20"):
        browser.get(report)  # the first of a process is made off the request; who asks for it meanwhile is told so
    for name, path in PAGES.items():
        times, cores = [], []
        for _ in range(_ROUNDS):
            began, used = time.perf_counter(), spent()
            answer = browser.get(path)
            times.append((time.perf_counter() - began) * 1000)
            cores.append((spent() - used) * 1000)
            assert answer.status_code == 200, (name, answer.status_code, answer.text[-500:])
        yield name, statistics.median(times[1:]), max(times[1:]), statistics.fmean(cores[1:])


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def reports_without_end(console: Served) -> Iterator[None]:
    """The month's report, made anew all the time, as the console makes it: on another thread of its process."""
    desk = Desk(console.config, load_accounts(console.config, with_secrets=False), console.ledger, console.clock)
    reports = Reports(desk)
    with desk.ledger.store.read() as tx:
        params = reports.params(tx, Question())
    done = threading.Event()

    def make() -> None:
        while not done.is_set():
            began = time.perf_counter()
            made = reports.made(replace(params, as_of=desk.clock.now()))
            say(f"    a report with {len(made.breaks):,} breaks: {time.perf_counter() - began:.1f} s")

    thread = threading.Thread(target=make)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        reports.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resources", type=int, default=100_000)
    parser.add_argument("--deliveries", type=int, default=1_000_000)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--least", type=float, default=300.0, help="milliseconds that no page's median may exceed")
    parser.add_argument("--cpu", action="store_true", help="judge by what a page takes of one core")
    parser.add_argument("--beside", action="store_true", help="and once more while reports are made without end")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reconciler-bench-")))
        url, spent = sqlite_url(folder / "bench.db"), None
        if given.database == "postgres":
            server = stack.enter_context(postgres(folder))
            server.psql("CREATE DATABASE bench")
            url, spent = server.get_uri("bench"), Cluster.of(server)
        began = time.perf_counter()
        with closing(open_ledger(url)) as ledger:
            ledger.require_current_schema()
            fill(ledger, given.resources, given.deliveries)
        say(f"filled in {time.perf_counter() - began:.0f} s")
        console = stack.enter_context(Served(url, config=config_of(url), clock=ManualClock(NOW)))
        slow = 0
        for beside in (False, True) if given.beside else (False,):
            with reports_without_end(console) if beside else nullcontext():
                for name, median, worst, core in measured(console, spent):
                    late = (core if given.cpu else median) > given.least
                    slow += late
                    say(f"{name:28} {median:6.0f} ms   worst {worst:6.0f} ms   cpu {core:6.0f} ms{' TOO SLOW' * late}")
        return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
