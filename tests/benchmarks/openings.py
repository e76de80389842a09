"""`python -m tests.benchmarks.openings [--at 3,6,12] [--entries 84000]`: what a report's openings and payouts cost.

Entries are written straight into a SQLite ledger, as many each month, one payout a day with its list. For the month
that ended last, the two questions that look back over the whole ledger are asked once with nothing carried forward
and once with everything; CPU seconds of the better of two. Exit code 1 when their answers differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from datetime import timedelta

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.openings import Opened, Openings, PaidOut
from reconciler.report.aside import SettingAside
from tests.benchmarks.report import BEGINNING, TERMS, midnight, month_after

_NUMBERS = "WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < :count - 1)"
_PLACE = ":start + n * (:length / :count)"
_PAYOUT = f"'po_' || (({_PLACE}) / 86400000000)"
_FILL = (
    f"""
    {_NUMBERS} INSERT INTO entry (resource_id, version, ordinal, account, kind, remote_id, balance_type, category,
      currency, gross, fee, net, effective_at, source_id, fee_details, recorded_at)
    SELECT :first + n, 1, 0, 'main', 'balance_transaction', 'txn_' || (:first + n), 'payments', 'charge', 'USD',
      1000 + n % 500, 30, 970 + n % 500, {_PLACE}, 'ch_' || (:first + n), '[]', {_PLACE} + 3600000000 FROM c
    """,
    f"""
    {_NUMBERS} INSERT INTO payout_member (account, remote_id, payout_id, recorded_at)
    SELECT 'main', 'txn_' || (:first + n), {_PAYOUT}, {_PLACE} + 172800000000 FROM c
    """,
    "INSERT INTO version (resource_id, version, state, content_hash, cause, recorded_at, fetched_at, applied_seq)"
    " VALUES (-:first - 1, 1, 'deleted', '', 'sweep', :start + :length, :start + :length, 0)",
)


def fill(ledger: Ledger, month: int, entries: int) -> None:
    start = midnight(month_after(BEGINNING.date(), month - 1))
    end = midnight(month_after(BEGINNING.date(), month))
    given = {
        "start": to_micros(start),
        "length": to_micros(end) - to_micros(start),
        "count": entries,
        "first": month * 1_000_000,
    }
    with ledger.together() as tx:
        for statement in _FILL:
            named = {name: value for name, value in given.items() if f":{name}" in statement}
            tx.run(text(statement), named)


def asked(ledger: Ledger, month: int) -> tuple[float, tuple[list[Opened], list[PaidOut]]]:
    """(CPU seconds, what was answered)."""
    start = midnight(month_after(BEGINNING.date(), month - 1))
    end = midnight(month_after(BEGINNING.date(), month))
    with ledger.store.read() as tx:
        began = time.process_time()
        openings = Openings(tx)
        as_of = end + timedelta(days=20)
        found = (openings.opened(["main"], start, end, as_of), openings.paid_out("main", end, as_of))
        return time.process_time() - began, found


def best(ledger: Ledger, month: int) -> tuple[float, tuple[list[Opened], list[PaidOut]]]:
    return min((asked(ledger, month) for _ in range(2)), key=lambda each: each[0])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.openings", description=__doc__)
    parser.add_argument("--at", default="3,6,12", help="after which months to ask, with commas")
    parser.add_argument("--entries", type=int, default=84_000, help="entries a month")
    given = parser.parse_args()
    at = [int(number) for number in given.at.split(",")]
    table = Table(title=f"openings and payouts of a month, {given.entries:,} entries a month, CPU seconds")
    for heading in ("months", "entries", "all entries", "carried forward", "to carry it all"):
        table.add_column(heading, justify="right")
    is_same = True
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="reconciler-bench-"))
        ledger = stack.enter_context(closing(open_ledger(f"sqlite:///{folder}/ledger.db")))
        ledger.require_current_schema()
        for month in range(1, max(at) + 1):
            fill(ledger, month, given.entries)
            if month not in at:
                continue
            with ledger.together() as tx:
                for name in ("carried_span", "carried_balance", "carried_paid"):
                    tx.run(text(f"DELETE FROM {name}"))
            plain, expected = best(ledger, month)
            began = time.process_time()
            SettingAside(TERMS, ("stripe",)).run(ledger)
            carrying = time.process_time() - began
            fast, found = best(ledger, month)
            is_same = is_same and found == expected
            figures = (f"{each:.2f}" for each in (plain, fast, carrying))
            table.add_row(f"{month}", f"{month * given.entries:,}", *figures)
    Console(width=110).print(table)
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())
