"""Ledgers of very many payments, filled by statements: to backfill a million takes ten minutes, this half a one.

What such a ledger holds of each is what a backfill leaves: a resource, a version with its body, its place in the feed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from reconciler.clock import SystemClock, to_micros
from reconciler.ledger import Ledger
from reconciler.ledger.moving.facts import raise_clock
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction
from tests.benchmarks.events import ACCOUNT, lone_intent

_SPAN = timedelta(days=180)
_AT_ONCE = 50_000
_NUMBERS = "WITH RECURSIVE c(n) AS (SELECT CAST(:first AS BIGINT) UNION ALL SELECT n + 1 FROM c WHERE n < :last)"
_ID = "(:id + n)"
_TABLES = {
    "resource": {
        "id": _ID, "provider": "'stripe'", "account": f"'{ACCOUNT}'", "kind": "'payment_intent'",
        "remote_id": "'pi_' || substr(CAST(1000000000000000 + n AS TEXT), 2)", "state": "'present'",
        "status": "'succeeded'", "version": "1", "cause": "'backfill'", "content_hash": f"CAST({_ID} AS TEXT)",
        "applied_seq": _ID, "fetched_at": ":known", "created_at": ":start + n * :step",
    },
    "version": {
        "resource_id": _ID, "version": "1", "state": "'present'", "content_hash": f"CAST({_ID} AS TEXT)",
        "body": ":body", "status": "'succeeded'", "cause": "'backfill'", "recorded_at": ":known",
        "fetched_at": ":known", "applied_seq": _ID, "api_version": "''",
    },
    "change": {"resource_id": _ID, "version": "1", "position": "n + 1"},
}  # fmt: skip
_FILL = {
    table: f"{_NUMBERS} INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM c"
    for table, columns in _TABLES.items()
}


def fill(ledger: Ledger, count: int) -> None:
    """Payments `lister.name_of(0)` to `count - 1`, of which nothing is dirty. The ledger is empty before."""
    known = SystemClock().now() - timedelta(days=1)
    with ledger.store.write() as tx:
        first_id = tx.tick()
        raise_clock(tx, first_id + count)
        given = {
            "id": first_id, "known": to_micros(known), "start": to_micros(known - _SPAN),
            "step": int(_SPAN.total_seconds() * 1e6) // count,
            "body": tx.pack(json.dumps(lone_intent()).encode(), Place.VERSION),
        }  # fmt: skip
    for first, last in _stretches(count):
        with ledger.store.write() as tx:
            for statement in _FILL.values():
                _run(tx, statement, given | {"first": first, "last": last})
    with ledger.store.write() as tx:
        tx.run(text("UPDATE feed SET position = :count WHERE id = 1"), {"count": count})
        tx.run(text("ANALYZE"))  # Postgres does so by itself, within a minute of a table's growth
    ledger.store.checkpoint()


def _stretches(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, _AT_ONCE):
        yield first, min(first + _AT_ONCE, count) - 1


def _run(tx: Transaction, statement: str, given: dict[str, Any]) -> None:
    tx.run(text(statement), {name: value for name, value in given.items() if f":{name}" in statement})
