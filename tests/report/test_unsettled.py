"""The list of what no payout paid out yet costs what it shows, whatever the ledger's age."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, text

from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.finance import BalanceKey, unsettled
from tests.benchmarks.plain import tell_plain

KEY = BalanceKey("main", "payments", "USD")
BEGINNING, DAY = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)
KNOWN = BEGINNING + 400 * DAY
EACH_DAY = 100
_PAY = text("UPDATE entry SET payout_id = 'po_1' WHERE effective_at < :until")


def told(url: str, days: int, *, unpaid: int) -> Ledger:
    """Entries of so many days, of which all but those of the last `unpaid` days were paid out."""
    ledger = open_ledger(url)
    ledger.require_current_schema()
    with ledger.store.write() as tx:
        for day in range(days):
            tell_plain(tx, number=day * EACH_DAY, count=EACH_DAY, start=BEGINNING + day * DAY, known=KNOWN)
        tx.run(_PAY, {"until": int((BEGINNING + (days - unpaid) * DAY).timestamp() * 1_000_000)})
        # Two of one instant: their order is that of their names.
        tx.run(text("UPDATE entry SET effective_at = effective_at + 1000000 WHERE effective_at % 80000000000 = 0"))
    return ledger


@contextmanager
def counting(ledger: Ledger) -> Iterator[list[int]]:
    """Grows by one for each hundred steps of SQLite's machine."""
    steps = [0]

    def count() -> None:
        steps[0] += 1

    def watch(connection: sqlite3.Connection, *_: object) -> None:
        connection.set_progress_handler(count, 100)

    engine = ledger.store._reader
    event.listen(engine, "checkout", watch)
    try:
        yield steps
    finally:
        event.remove(engine, "checkout", watch)


@pytest.mark.parametrize("limit", [50, 200, 1000])
def test_the_newest_are_listed_in_one_order(ledger_url: str, limit: int) -> None:
    with closing(told(ledger_url, 4, unpaid=2)) as ledger, ledger.store.read() as tx:
        found = unsettled(tx, KEY, {"po_1"}, BEGINNING + 4 * DAY, KNOWN, count=2 * EACH_DAY, limit=limit)
    assert len(found) == min(limit, 2 * EACH_DAY)
    places = [(-each.effective_at.timestamp(), each.id) for each in found]
    assert places == sorted(places)
    assert found[0].effective_at >= found[-1].effective_at > BEGINNING + 2 * DAY - timedelta(seconds=1)


@pytest.mark.parametrize("limit", [50, 1000])
def test_what_was_paid_out_long_ago_is_not_walked(tmp_path: Path, limit: int) -> None:
    took = []
    for days in (10, 60):
        url = f"sqlite:///{tmp_path}/{days}.db"
        with closing(told(url, days, unpaid=1)) as ledger, counting(ledger) as steps, ledger.store.read() as tx:
            found = unsettled(tx, KEY, {"po_1"}, BEGINNING + days * DAY, KNOWN, count=EACH_DAY, limit=limit)
            assert len(found) == min(limit, EACH_DAY)
        took.append(steps[0])
    young, old = took
    assert 0 < old < 1.5 * young
