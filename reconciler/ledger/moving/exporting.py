"""A ledger as JSON lines, from one consistent view, row by row: memory does not grow with the ledger.

The order is the same on both databases (by key, compared byte by byte), so that two exports of the same ledger are
the same text, wherever it lies.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import text

from reconciler.ledger.links import NamedInOrder
from reconciler.ledger.moving.fields import iso
from reconciler.ledger.moving.sorts import FACTS
from reconciler.ledger.packing import Place
from reconciler.ledger.store import Store
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef

_CHUNK = 500

_VERSIONS = """
  SELECT r.provider, r.account, r.kind, r.remote_id, v.version, v.recorded_at, v.cause, v.state, v.body, v.status,
    v.fetched_at, v.api_version, v.content_hash
  FROM resource r JOIN version v ON v.resource_id = r.id
  ORDER BY r.account{c}, r.kind{c}, r.remote_id{c}, v.version
"""
_RESOURCES = """
  SELECT provider, account, kind, remote_id, generation, settled_generation, priority, cause, due_at, not_before,
    first_marked_at, last_marked_at, settle_at, attempts, last_error, dead_at, discarded_at, fetched_at, created_at,
    provider_updated_at
  FROM resource ORDER BY account{c}, kind{c}, remote_id{c}
"""
_DELIVERIES = """
  SELECT d.id, d.provider, d.account, d.event_id, d.type, d.received_at, d.occurred_at, d.verdict, d.reason, d.source,
    d.headers, d.body, d.size
  FROM delivery d ORDER BY d.id
"""

_OUTBOX = """
  SELECT o.subscription, o.version, o.created_at, o.outcome, o.ended_at, o.last_error,
    r.provider, r.account, r.kind, r.remote_id
  FROM outbox o JOIN resource r ON r.id = o.resource_id
  WHERE o.outcome IS NULL OR o.outcome = 'dead'
  ORDER BY o.subscription{c}, r.account{c}, r.kind{c}, r.remote_id{c}, o.version
"""


def export_lines(store: Store) -> Iterator[bytes]:
    """Every line, each with its line feed. On SQLite the view holds back checkpoints: the journal grows meanwhile."""
    with store.read() as tx:
        tx.be_patient()
        collate = ' COLLATE "C"' if tx.dialect.is_postgres else ""
        for row in _rows(tx, _VERSIONS, collate):
            yield _line(_version(tx, row))
        for row in _rows(tx, _RESOURCES, collate):
            yield _line({"resource": _resource(row)})
        for fact in FACTS.values():
            for row in _stream(tx, fact.select(collate)):
                yield _line({fact.name: fact.write(row)})
        for row in _rows(tx, _OUTBOX, collate):
            yield _line({"outbox": _outbox(row)})
        named, deliveries = NamedInOrder(tx), _rows(tx, _DELIVERIES, collate)
        while some := [*islice(deliveries, _CHUNK)]:
            marks = named(some[0].id, some[-1].id)
            for row in some:
                yield _line({"delivery": _delivery(tx, row, marks.get((row.id, row.account), ()))})


def _rows(tx: Transaction, statement: str, collate: str) -> Iterator[Any]:
    return _stream(tx, text(statement.format(c=collate)))


def _stream(tx: Transaction, statement: Any) -> Iterator[Any]:
    yield from tx.run(statement.execution_options(stream_results=True, yield_per=_CHUNK))


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def _version(tx: Transaction, row: Any) -> dict[str, Any]:
    return {
        "ref": _ref(row),
        "version": row.version,
        "recorded_at": iso(row.recorded_at),
        "cause": row.cause,
        "state": row.state,
        "body": None if row.body is None else orjson.Fragment(tx.unpack(row.body, Place.VERSION)),
        "status": row.status,
        "fetched_at": iso(row.fetched_at),
        "api_version": row.api_version,
        "content_hash": row.content_hash,
    }


def _resource(row: Any) -> dict[str, Any]:
    """What the versions do not tell: marks, failures, and when it was last read. A lease is not moved."""
    dirty = row.generation > row.settled_generation
    return {
        "ref": _ref(row),
        "generation": row.generation,
        "settled_generation": row.settled_generation,
        "priority": row.priority,
        "cause": row.cause,
        "due_at": iso(row.due_at) if dirty else None,
        "not_before": iso(row.not_before) if row.not_before else None,
        "first_marked_at": iso(row.first_marked_at),
        "last_marked_at": iso(row.last_marked_at),
        "settle_at": iso(row.settle_at) if row.settle_at else None,
        "attempts": row.attempts,
        "last_error": row.last_error,
        "dead_at": iso(row.dead_at),
        "discarded_at": iso(row.discarded_at),
        "fetched_at": iso(row.fetched_at),
        "created_at": iso(row.created_at),
        "updated_at": iso(row.provider_updated_at),
    }


def _outbox(row: Any) -> dict[str, Any]:
    """What a subscription is still to be told, and what was given up on. What it was told is its own to know."""
    return {
        "subscription": row.subscription,
        "ref": _ref(row),
        "version": row.version,
        "created_at": iso(row.created_at),
        "dead_at": iso(row.ended_at),
        "error": row.last_error,
    }


def _delivery(tx: Transaction, row: Any, marked: Iterable[tuple[str, str]]) -> dict[str, Any]:
    return {
        "id": row.id,
        "provider": row.provider,
        "account": row.account,
        "event_id": row.event_id,
        "type": row.type,
        "received_at": iso(row.received_at),
        "occurred_at": iso(row.occurred_at),
        "verdict": row.verdict,
        "reason": row.reason,
        "source": row.source,
        "headers": orjson.loads(row.headers),
        "size": row.size,
        "marks": [str(ResourceRef(row.provider, row.account, kind, name)) for kind, name in marked],
        "body": None if row.body is None else base64.b64encode(tx.unpack(row.body, Place.DELIVERY)).decode(),
    }


def _ref(row: Any) -> str:
    return str(ResourceRef(row.provider, row.account, row.kind, row.remote_id))
