"""The delivery log: every webhook request with its verdict, and the marks of the accepted ones, in one commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Any

import orjson
from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.ledger import redaction
from reconciler.ledger.bulk import BYTES, WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.marks import Mark, mark
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Dialect, Transaction
from reconciler.model import Delivery, Redaction, ResourceRef, value

_DAY = 86_400 * 1_000_000

REJECTED_BODY_BYTES = 512
"""How much of a rejected body is kept: enough to recognise what it was, too little to fill a disk."""

_HEADER_LIMIT = 200
_HEADERS_LIMIT = 64
_UNLOGGED = frozenset({"authorization", "cookie", "proxy-authorization"})


class Verdict(StrEnum):
    STORED = "stored"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    IGNORED = "ignored"


_ANNOUNCED_BY = text(
    """
    SELECT d.event_id FROM delivery_mark m JOIN delivery d ON d.id = m.delivery_id
    WHERE m.account = :account AND m.kind = :kind AND m.remote_id = :remote_id AND d.received_at <= :before
    ORDER BY m.delivery_id DESC LIMIT :limit
    """
)


def announced_by(tx: Transaction, ref: ResourceRef, *, before: datetime, limit: int) -> list[str]:
    """The event ids of the deliveries that named it, the newest first, each once."""
    given = {"account": ref.account, "kind": ref.kind, "remote_id": ref.id}
    rows = tx.run(_ANNOUNCED_BY, given | {"before": to_micros(before), "limit": limit})
    return list(dict.fromkeys(row.event_id for row in rows))


@value
class Receipt:
    """A delivery that was verified, and the marks that it makes. `known` says whether we follow its type."""

    provider: str
    delivery: Delivery
    event_id: str
    type: str
    occurred_at: datetime | None
    marks: tuple[Mark, ...]
    redact: tuple[Redaction, ...] = ()
    packed: bytes | None = None
    """The body as it is stored, where whoever made the receipt has packed it (`GroupCommit.pack`)."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A delivery that was not accepted. `audited` is False for the part of a flood that is only counted.

    Whoever makes one cuts the body to REJECTED_BODY_BYTES first: rejections wait in memory for the next commit.
    """

    provider: str
    delivery: Delivery
    reason: str
    size: int
    """Bytes of the body as it was received or announced."""
    audited: bool = True


_DELIVERY_COLUMNS = {
    "id": WHOLE,
    "provider": WORDS,
    "account": WORDS,
    "event_id": WORDS,
    "type": WORDS,
    "received_at": WHOLE,
    "occurred_at": WHOLE,
    "verdict": WORDS,
    "reason": WORDS,
    "source": WORDS,
    "headers": WORDS,
    "body": BYTES,
    "size": WHOLE,
}
_INSERT_DELIVERY = insert_into("delivery", _DELIVERY_COLUMNS)
_INSERT_DELIVERY_MARK = insert_into(
    "delivery_mark",
    {"account": WORDS, "kind": WORDS, "remote_id": WORDS, "delivery_id": WHOLE},
    "ON CONFLICT DO NOTHING",
)
_Tallied = tuple[str, int, str, str]
"""Account, the day's first microsecond, verdict, reason."""
_TALLY_COLUMNS = {"account": WORDS, "day": WHOLE, "verdict": WORDS, "reason": WORDS, "count": WHOLE}
_TALLY = Bulk(
    f"""
    INSERT INTO delivery_tally ({", ".join(_TALLY_COLUMNS)}) {{_source}}
    ON CONFLICT (account, day, verdict, reason) DO UPDATE SET count = delivery_tally.count + excluded.count
    """,
    _TALLY_COLUMNS,
)
_SEEN = """
    SELECT given.account, given.event_id FROM {given}
    WHERE EXISTS (SELECT 1 FROM delivery
                  WHERE delivery.account = given.account AND delivery.event_id = given.event_id
                        AND delivery.verdict <> 'rejected')
"""
"""Which of the given have been accepted before: one look into the index for each, however often it was repeated."""
_SEEN_POSTGRES = _SEEN.format(given="json_to_recordset(%s::json) AS given(account text, event_id text)")
_SEEN_SQLITE = _SEEN.format(
    given="(SELECT json_extract(value, '$[0]') AS account, json_extract(value, '$[1]') AS event_id"
    " FROM json_each(?)) AS given"
)


def receive(tx: Transaction, receipts: Sequence[Receipt], now: datetime) -> list[Verdict]:
    """Store verified deliveries and make their marks; the verdict of each, in order.

    A repeated delivery is a second row and another mark: receipts are de-duplicated in the accounts, work is not,
    because the repetition may be the one that arrives after the failure it repairs.
    """
    if not receipts:
        return []
    count = len(receipts) + sum([len(receipt.marks) for receipt in receipts])
    wanted = {(receipt.delivery.account, receipt.event_id) for receipt in receipts}
    ticks, (found,) = tx.ticks_and(count, [_seen(tx.dialect, wanted)])
    seen = {(account, event_id) for account, event_id in found}
    verdicts: list[Verdict] = []
    rows, links, marks, tally = [], [], [], Counter[_Tallied]()
    row_ids = iter(ticks)
    for receipt, row_id in zip(receipts, row_ids, strict=False):
        delivery = receipt.delivery
        account, event_id, body = delivery.account, receipt.event_id, delivery.body
        verdict, word = _judge(receipt, repeated=(account, event_id) in seen)
        seen.add((account, event_id))
        verdicts.append(verdict)
        received_at = to_micros(delivery.received_at)
        rows.append(
            (
                row_id,
                receipt.provider,
                account,
                event_id,
                receipt.type,
                received_at,
                None if receipt.occurred_at is None else to_micros(receipt.occurred_at),
                word,
                None,
                delivery.source,
                _logged(delivery),
                tx.pack(body, Place.DELIVERY) if receipt.packed is None else receipt.packed,
                len(body),
            )
        )
        tally[account, received_at // _DAY * _DAY, word, ""] += 1
        if receipt.redact:
            redaction.ask(tx, account, receipt.redact, event_id=receipt.event_id, now=now)
        for each in receipt.marks:
            marks.append(each)
            links.append((each.ref.account, each.ref.kind, each.ref.id, row_id))
    with tx.pipelined():
        _INSERT_DELIVERY.run_rows(tx, rows)
        mark(tx, marks, now, row_ids)
        _INSERT_DELIVERY_MARK.run_rows(tx, links)
        _tally(tx, tally)
    return verdicts


def reject(tx: Transaction, rejections: Sequence[Rejection]) -> None:
    """Audit rows, truncated, for rejected deliveries; those past the flood limit are counted only."""
    audited = [each for each in rejections if each.audited]
    rows = [
        (
            row_id,
            each.provider,
            each.delivery.account,
            None,
            None,
            to_micros(each.delivery.received_at),
            None,
            Verdict.REJECTED.value,
            each.reason,
            each.delivery.source,
            _logged(each.delivery),
            tx.pack(each.delivery.body[:REJECTED_BODY_BYTES], Place.DELIVERY),
            each.size,
        )
        for row_id, each in zip(tx.ticks(len(audited)), audited, strict=True)
    ]
    _INSERT_DELIVERY.run_rows(tx, rows)
    _tally(
        tx,
        Counter(
            (
                each.delivery.account,
                to_micros(each.delivery.received_at) // _DAY * _DAY,
                Verdict.REJECTED.value,
                each.reason,
            )
            for each in rejections
        ),
    )


def _seen(dialect: Dialect, wanted: set[tuple[str, str]]) -> tuple[str, tuple[Any, ...]]:
    """The question which (account, event id) were accepted before."""
    if dialect.is_postgres:
        given = [{"account": account, "event_id": event_id} for account, event_id in wanted]
        return _SEEN_POSTGRES, (orjson.dumps(given).decode(),)
    return _SEEN_SQLITE, (orjson.dumps(list(wanted)).decode(),)


_STORED = (Verdict.STORED, Verdict.STORED.value)
_DUPLICATE = (Verdict.DUPLICATE, Verdict.DUPLICATE.value)
_IGNORED = (Verdict.IGNORED, Verdict.IGNORED.value)


def _judge(receipt: Receipt, *, repeated: bool) -> tuple[Verdict, str]:
    """And the word for the column: to ask an enum for its own takes longer than the rest."""
    if not receipt.marks and not receipt.redact:
        return _IGNORED
    return _DUPLICATE if repeated else _STORED


def _logged(delivery: Delivery) -> str:
    """The headers worth keeping, bounded; credentials are not."""
    headers = delivery.headers
    if (
        type(headers) is dict
        and len(headers) <= _HEADERS_LIMIT
        and _UNLOGGED.isdisjoint(headers)
        and max(map(len, chain(headers, headers.values())), default=0) <= _HEADER_LIMIT
    ):
        return orjson.dumps(headers).decode()  # the usual case: all of them, as they are
    kept = [(name, value) for name, value in headers.items() if name not in _UNLOGGED][:_HEADERS_LIMIT]
    return orjson.dumps({name[:_HEADER_LIMIT]: value[:_HEADER_LIMIT] for name, value in kept}).decode()


def _tally(tx: Transaction, counts: Counter[_Tallied]) -> None:
    _TALLY.run_rows(tx, [(*key, count) for key, count in sorted(counts.items())])
