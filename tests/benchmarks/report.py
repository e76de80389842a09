"""`python -m tests.benchmarks.report [--months 12] [--orders 5000] [--entries 80000] [--database sqlite|postgres]`:
a month's report over an ever older ledger; with --intake also what it does to deliveries that arrive meanwhile.

Every month of the ledger has as many entries, and as many of them come from orders that a shop and a processor both
know: the sale, the charge, its entry, and for one in fifty a refund on both sides; one in five hundred is missing on
one side and stays a break for ever. The other entries belong to nothing (`tests/benchmarks/plain.py`). After the
months named by --at, the month that has just ended is reported by `reconcile report --format json` in a process of
its own: wall-clock seconds, CPU seconds and highest memory, whole command; on Postgres also what the server spent
meanwhile. Exit code 1 when the last one misses the promise (10 s of CPU, the server's included, and 300 MB).

--intake has 300 deliveries a second arrive in the oldest ledger, in turns alone and while one report follows the other,
and compares the medians of their 99th percentiles.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from providers.shopify.entries import entries as shopify_entries
from providers.shopify.provider import Shopify
from providers.stripe.entries import entries as stripe_entries
from providers.stripe.provider import Stripe
from reconciler.ledger import Coverage, Ledger, PageRow, open_ledger
from reconciler.model import Cause, ControlTotal, Entry, ResourceRef, Snapshot, Window
from reconciler.money import Money
from reconciler.movements import reader_of
from reconciler.report.aside import SettingAside
from reconciler.report.facts import AccountTerms
from tests.benchmarks.gates import beside_report
from tests.benchmarks.intake import STEADY_RATE
from tests.benchmarks.plain import tell_plain
from tests.benchmarks.processes import ROOT, Cluster, Receiver, load, noted, postgres
from tests.benchmarks.showing import show_figures

SECONDS = 10.0
MEGABYTES = 300.0
BEGINNING = datetime(2025, 1, 1, tzinfo=UTC)
_STREAMS = {
    "main": ("balance_transaction", "charge", "refund", "dispute", "payout"),
    "shop": ("order", "transaction"),
}
_CONFIG = """
[ledger]
url = "{url}"
[accounts.main]
provider = "stripe"
api_key = "env:STRIPE_API_KEY"
webhook_secrets = ["env:STRIPE_WEBHOOK_SECRET"]
[accounts.shop]
provider = "shopify"
shop = "bench.myshopify.com"
access_token = "env:SHOPIFY_ACCESS_TOKEN"
webhook_secrets = ["env:SHOPIFY_CLIENT_SECRET"]
"""
TERMS = tuple(
    AccountTerms(name, provider.name, provider.exponents, reader)
    for name, provider in (("main", Stripe), ("shop", Shopify))
    if (reader := reader_of(provider)) is not None
)


@dataclass(frozen=True, slots=True)
class Point:
    """One report: how old the ledger was, and what the command cost."""

    months: int
    entries: int
    seconds: float
    cpu_seconds: float
    server_seconds: float
    """CPU of the database server; on SQLite there is none."""
    megabytes: float
    exit_code: int


def month_after(day: date, months: int = 1) -> date:
    place = day.year * 12 + day.month - 1 + months
    return date(place // 12, place % 12 + 1, 1)


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


class Trade:
    """A shop's and its processor's months, told to a ledger."""

    def __init__(self, ledger: Ledger, entries: int) -> None:
        self._ledger = ledger
        self._entries = entries
        self._numbers = count(1)
        self._held = 0
        self._unpaid: list[tuple[str, int]] = []
        self.entries = 0
        ledger.record_control_totals([ControlTotal("main", "payments", Money(0, "USD"), BEGINNING)], BEGINNING)

    def month(self, first: date, orders: int) -> None:
        """As many entries as every other month, of which so many orders have their share."""
        plain = max(0, self._entries - orders - orders // 50 - 31)
        start, end = midnight(first), midnight(month_after(first))
        known, days = end + timedelta(hours=1), (end - start).days
        for day in range(days):
            at = start + timedelta(days=day)
            with self._ledger.together() as tx:
                self._page(self._orders_of(at, orders // days + (day < orders % days)), known)
                today = plain // days + (day < plain % days)
                number = next(self._numbers)
                self._numbers = count(number + today)
                told = tell_plain(tx, number=number, count=today, start=at, known=known)
                self._unpaid += told
                self._held += sum(net for _, net in told)
                self.entries += today
                self._page(self._payout(at + timedelta(hours=23)), known)
        self._ledger.record_control_totals([ControlTotal("main", "payments", Money(self._held, "USD"), end)], end)
        self._ledger.record_coverage(
            [
                Coverage(account, kind, Window(start, end), True)
                for account, kinds in _STREAMS.items()
                for kind in kinds
            ],
            end + timedelta(hours=2),
        )

    def _page(self, told: Iterable[PageRow], known: datetime) -> None:
        rows = list(told)
        self._ledger.apply_page(
            rows,
            start=self._ledger.tick(),
            started_at=known,
            cause=Cause.SWEEP,
            settle={row.snapshot.ref.kind: timedelta(0) for row in rows},
            now=known,
        )

    def _orders_of(self, day: datetime, count: int) -> Iterator[PageRow]:
        for number in range(count):
            yield from self._order(day + timedelta(seconds=60 + number % 80_000))

    def _order(self, at: datetime) -> Iterator[PageRow]:
        number = next(self._numbers)
        amount = 1000 + number % 9000
        charge, order = f"ch_{number:09d}", 5_000_000_000 + number
        if number % 500 != 7:
            yield self._sale("sale", order, 2 * number, amount, at, charge)
        if number % 500 == 9:
            return
        entry, row = self._entry("charge", amount, at + timedelta(seconds=5), charge, fee=amount * 29 // 1000 + 30)
        yield row
        yield self._thing("charge", charge, amount, at, entry, amount_captured=amount, captured=True,
                          payment_intent=f"pi_{number:09d}", amount_refunded=0, disputed=False, paid=True,
                          description=f"Order {order}", metadata={"order_id": str(order)},
                          payment_method_details={"type": "card", "card": {"brand": "visa", "country": "US",
                                                                           "last4": f"{number % 10_000:04d}"}},
                          billing_details={"email": f"buyer{number}@example.com"})  # fmt: skip
        if number % 50 == 0:
            back_at = at + timedelta(hours=30)
            refund = f"re_{number:09d}"
            entry, row = self._entry("refund", -amount, back_at, refund)
            yield row
            yield self._thing("refund", refund, amount, back_at, entry, charge=charge)
            yield self._sale("refund", order, 2 * number + 1, amount, back_at - timedelta(seconds=5), refund)

    def _sale(self, kind: str, order: int, number: int, amount: int, at: datetime, names: str) -> PageRow:
        body = {
            "id": 8_000_000_000 + number, "order_id": order, "kind": kind, "gateway": "stripe", "status": "success",
            "amount": f"{amount / 100:.2f}", "currency": "USD", "processed_at": at.isoformat(),
            "created_at": at.isoformat(), "authorization": names, "test": False, "source_name": "web",
            "message": "Transaction approved", "receipt": {"id": names, "object": kind, "amount": amount},
        }  # fmt: skip
        snapshot = Snapshot(ResourceRef("shopify", "shop", "transaction", str(body["id"])), body, status="success")
        return PageRow(snapshot, shopify_entries(snapshot))

    def _thing(self, kind: str, name: str, amount: int, at: datetime, entry: str | None, **more: Any) -> PageRow:
        body = {
            "id": name, "object": kind, "status": "succeeded", "amount": amount, "currency": "usd",
            "created": int(at.timestamp()), "balance_transaction": entry, "livemode": False, "metadata": {},
        } | more  # fmt: skip
        return PageRow(Snapshot(ResourceRef("stripe", "main", kind, name), body, status=str(body["status"])), ())

    def _entry(
        self, category: str, gross: int, at: datetime, source: str, fee: int = 0, *, paid: bool = False
    ) -> tuple[str, PageRow]:
        name = f"txn_{next(self._numbers):09d}"
        body = {
            "id": name, "object": "balance_transaction", "amount": gross, "fee": fee, "net": gross - fee,
            "currency": "usd", "created": int(at.timestamp()), "available_on": int(at.timestamp()) + 172_800,
            "reporting_category": category, "source": source, "balance_type": "payments", "status": "available",
            "fee_details": [{"amount": fee, "currency": "usd", "type": "stripe_fee"}] if fee else [],
        }  # fmt: skip
        self._held += gross - fee
        self.entries += 1
        if not paid:
            self._unpaid.append((name, gross - fee))
        snapshot = Snapshot(ResourceRef("stripe", "main", "balance_transaction", name), body, status="available")
        entries: Sequence[Entry] = stripe_entries(snapshot)
        return name, PageRow(snapshot, entries)

    def _payout(self, at: datetime) -> Iterator[PageRow]:
        """Everything but the last two days' entries."""
        some = self._unpaid[: max(0, len(self._unpaid) * 2 // 3)]
        self._unpaid = self._unpaid[len(some) :]
        total = sum(net for _, net in some)
        if total <= 0:
            return
        name = f"po_{next(self._numbers):09d}"
        entry, row = self._entry("payout", -total, at, name, paid=True)
        yield row
        yield self._thing("payout", name, total, at, entry, status="paid", automatic=True,
                          arrival_date=int(at.timestamp()) + 86_400, reconciliation_status="completed")  # fmt: skip
        self._ledger.record_payout_members(
            ResourceRef("stripe", "main", "payout", name),
            [ResourceRef("stripe", "main", "balance_transaction", each) for each, _ in some],
            complete=True,
            now=at + timedelta(hours=12),
        )


def measured(config: Path, month: date, out: Path, server: Cluster | None) -> tuple[float, float, float, float, int]:
    """(seconds, CPU seconds, the server's, MB, exit code) of the command that an operator would type."""
    last = month_after(month) - timedelta(days=1)
    command = [
        sys.executable, "-m", "reconciler", "--config", str(config), "report", "--from", str(month), "--to", str(last),
        "--as-of", (midnight(month_after(month)) + timedelta(days=1)).isoformat(), "--format", "json",
    ]  # fmt: skip
    before = 0.0 if server is None else server.cpu_seconds()
    began = time.monotonic()
    with out.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    served = 0.0 if server is None else server.cpu_seconds() - before
    return seconds, usage.ru_utime + usage.ru_stime, served, usage.ru_maxrss / 1024, process.returncode


def curve(
    url: str,
    folder: Path,
    at: Sequence[int],
    orders: int,
    past_orders: int,
    entries: int,
    console: Console,
    server: Cluster | None,
) -> list[Point]:
    config = folder / "config.toml"
    config.write_text(_CONFIG.format(url=url))
    ledger = open_ledger(url)
    ledger.require_current_schema()
    trade = Trade(ledger, entries)
    points = []
    first = BEGINNING.date()
    for number in range(1, max(at) + 1):
        month = month_after(first, number - 1)
        began = time.monotonic()
        trade.month(month, orders if number in at else past_orders)
        told = time.monotonic()
        SettingAside(TERMS, ("stripe",)).run(ledger)
        kept = time.monotonic()
        console.print(
            f"month {number}: told in {told - began:.1f} s, set aside in {kept - told:.1f} s", highlight=False
        )
        if number in at:
            runs = [measured(config, month, folder / "report.json", server) for _ in range(2)]
            best = min(runs, key=lambda each: each[1] + each[2])
            points.append(Point(number, trade.entries, *best))
            console.print(f"  {points[-1]}", highlight=False)
    ledger.close()
    return points


def intake_beside_reports(url: str, folder: Path, month: date) -> float:
    """How many times the intake's p99 at 300/s is what it is without reports, medians of three rounds."""
    alone, beside = [], []
    with Receiver("receiver", url) as intake:
        load(intake, "warm", connections=16, seconds=1)
        for number in range(3):
            alone.append(_steady(intake, f"alone{number}"))
            with _reports_without_end(folder, month):
                load(intake, f"starting{number}", connections=1, seconds=3, rate=10)
                beside.append(_steady(intake, f"beside{number}"))
    return statistics.median(beside) / statistics.median(alone)


def _steady(intake: Receiver, run: str) -> float:
    return load(intake, run, connections=64, seconds=8, rate=STEADY_RATE).p99_ms


@contextmanager
def _reports_without_end(folder: Path, month: date) -> Iterator[None]:
    """Each in a process of its own, the next as soon as one has ended."""
    over = threading.Event()

    def follow() -> None:
        while not over.is_set():
            *_, code = measured(folder / "config.toml", month, folder / "beside.json", None)
            if code not in (0, 1, 3):
                raise RuntimeError(f"the report failed with exit code {code}; its reason is above")

    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(follow)
        try:
            yield
        finally:
            over.set()
        following.result()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.report", description=__doc__)
    parser.add_argument("--at", default="1,3,6,12", help="after which months to report, with commas")
    parser.add_argument("--orders", type=int, default=5000, help="orders a month")
    parser.add_argument("--past-orders", type=int, help="orders in months that are not reported; default: as many")
    parser.add_argument("--entries", type=int, default=84_000, help="entries a month, those of the orders included")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--intake", action="store_true", help="then also the intake's p99 while reports are made")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--note", default="", help="beside what it runs: goes into the JSON, and below the picture")
    asked = parser.parse_args()
    if asked.past_orders is None:
        asked.past_orders = asked.orders
    console = Console(width=110)
    at = [int(text) for text in asked.at.split(",")]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reconciler-bench-")))
        url, spent = f"sqlite:///{folder}/ledger.db", None
        if asked.database == "postgres":
            server = stack.enter_context(postgres(folder))
            server.psql("CREATE DATABASE books")
            url, spent = server.get_uri("books"), Cluster.of(server)
        points = curve(url, folder, at, asked.orders, asked.past_orders, asked.entries, console, spent)
        figures = []
        if asked.intake:
            oldest = month_after(BEGINNING.date(), points[-1].months - 1)
            figures.append(beside_report(asked.database, intake_beside_reports(url, folder, oldest)))
    table = Table(
        title=f"a month's report on {asked.database}: {asked.entries:,} entries, {asked.orders:,} orders a month"
    )
    for heading in (
        "months in the ledger",
        "entries in the ledger",
        "seconds",
        "CPU seconds",
        "server's",
        "memory",
        "exit code",
    ):
        table.add_column(heading, justify="right")
    for each in points:
        table.add_row(f"{each.months}", f"{each.entries:,}", f"{each.seconds:.1f}", f"{each.cpu_seconds:.1f}",
                      f"{each.server_seconds:.1f}", f"{each.megabytes:.0f} MB", f"{each.exit_code}")  # fmt: skip
    console.print(table)
    if figures:
        show_figures(console, figures)
    if asked.json:
        content = {
            "note": noted(asked.note),
            "reports": {asked.database: [asdict(each) for each in points]},
            "figures": [asdict(each) | {"verdict": each.verdict} for each in figures],
        }
        asked.json.write_text(json.dumps(content, indent=2) + "\n")
    last = points[-1]
    missed = last.cpu_seconds + last.server_seconds > SECONDS or last.megabytes > MEGABYTES
    return 1 if missed or any(each.fails for each in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
