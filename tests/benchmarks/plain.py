"""Entries that belong to nothing else, by the hundred thousand: one statement for each table, not by the loop.

What a ledger holds of them after they were told, read and looked at, is a resource, a version with its body and an
entry (and a place in the change feed, which no report reads). To tell a million of them one by one took an hour
beside other work, and what is measured here is reading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.ledger.moving.facts import raise_clock
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction

_NUMBERS = "WITH RECURSIVE c(n) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT n + 1 FROM c WHERE n < :count - 1)"
_SECOND = "n % 80000"
_NAME = "'txn_' || substr(CAST(1000000000 + :number + n AS TEXT), 2)"
_AT = f"(:start + {_SECOND} * 1000000)"
_NET = "(2000 + n % 500)"
_TABLES = {
    "resource": {
        "id": ":id + n", "provider": "'stripe'", "account": "'main'", "kind": "'balance_transaction'",
        "remote_id": _NAME, "state": "'present'", "status": "'available'", "version": "1", "cause": "'sweep'",
        "content_hash": "CAST(:id + n AS TEXT)", "applied_seq": ":id + n", "fetched_at": ":known", "created_at": _AT,
    },
    "version": {
        "resource_id": ":id + n", "version": "1", "state": "'present'", "content_hash": "CAST(:id + n AS TEXT)",
        "body": ":body", "status": "'available'", "cause": "'sweep'", "recorded_at": ":known", "fetched_at": ":known",
        "applied_seq": ":id + n", "api_version": "''",
    },
    "entry": {
        "resource_id": ":id + n", "version": "1", "ordinal": "0", "account": "'main'", "kind": "'balance_transaction'",
        "remote_id": _NAME, "balance_type": "'payments'", "category": "'charge'", "currency": "'USD'", "gross": _NET,
        "fee": "0", "net": _NET, "effective_at": _AT, "available_on": f"{_AT} + 172800000000", "source_id": "''",
        "fee_details": "'[]'", "recorded_at": ":known",
    },
}  # fmt: skip
_FILL = {
    table: f"{_NUMBERS} INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM c"
    for table, columns in _TABLES.items()
}


def tell_plain(tx: Transaction, *, number: int, count: int, start: datetime, known: datetime) -> list[tuple[str, int]]:
    """(name, net) of each. Their numbers begin with `number`, their day with `start`; they become known at `known`.

    They share one body, which nobody reads: it says nothing that a report looks for.
    """
    first = tx.tick()
    raise_clock(tx, first + count)
    given = {
        "id": first, "number": number, "count": count, "start": to_micros(start), "known": to_micros(known),
        "body": tx.pack(json.dumps(_body(start)).encode(), Place.VERSION),
    }  # fmt: skip
    for statement in _FILL.values():
        tx.run(text(statement), _named(statement, given))
    return [(f"txn_{number + n:09d}", 2000 + n % 500) for n in range(count)]


def _named(statement: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if f":{name}" in statement}


def _body(at: datetime) -> dict[str, Any]:
    return {
        "id": "txn_000000000", "object": "balance_transaction", "amount": 2000, "fee": 0, "net": 2000,
        "currency": "usd", "created": int(at.timestamp()),
        "available_on": int((at + timedelta(days=2)).timestamp()), "reporting_category": "charge", "source": "",
        "balance_type": "payments", "status": "available", "fee_details": [],
    }  # fmt: skip
