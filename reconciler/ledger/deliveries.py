"""The delivery log: every webhook request with its verdict, and the marks of the accepted ones, in one commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import orjson

from reconciler.clock import to_micros
from reconciler.ledger import redaction
from reconciler.ledger.bulk import BYTES, WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.marks import Mark, mark
from reconciler.ledger.packing import Place
from reconciler.ledger.store import Transaction
from reconciler.model import Delivery, Redaction

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


@dataclass(frozen=True, slots=True)
class Receipt:
    """A delivery that was verified, and the marks that it makes. `known` says whether we follow its type."""

    provider: str
    delivery: Delivery
    event_id: str
    type: str
    occurred_at: datetime | None
    marks: tuple[Mark, ...]
    redact: tuple[Redaction, ...] = ()


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
_SEEN_POSTGRES = _SEEN.format(given="unnest(%s::text[], %s::text[]) AS given(account, event_id)")
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
    seen = _seen(tx, {(receipt.delivery.account, receipt.event_id) for receipt in receipts})
    verdicts: list[Verdict] = []
    rows, links, marks, tally = [], [], [], Counter[_Tallied]()
    row_ids = iter(tx.ticks(len(receipts) + sum([len(receipt.marks) for receipt in receipts])))
    for receipt, row_id in zip(receipts, row_ids, strict=False):
        delivery = receipt.delivery
        account = delivery.account
        key = (account, receipt.event_id)
        verdict = _judge(receipt, repeated=key in seen)
        seen.add(key)
        verdicts.append(verdict)
        received_at = to_micros(delivery.received_at)
        rows.append(
            (
                row_id,
                receipt.provider,
                account,
                receipt.event_id,
                receipt.type,
                received_at,
                None if receipt.occurred_at is None else to_micros(receipt.occurred_at),
                verdict.value,
                None,
                delivery.source,
                _logged(delivery),
                tx.pack(delivery.body, Place.DELIVERY),
                len(delivery.body),
            )
        )
        tally[account, received_at // _DAY * _DAY, verdict.value, ""] += 1
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


def _seen(tx: Transaction, wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those (account, event id) of which a delivery was accepted before."""
    pairs = list(wanted)
    if tx.dialect.is_postgres:
        accounts, event_ids = [account for account, _ in pairs], [event_id for _, event_id in pairs]
        return {(row[0], row[1]) for row in tx.ask_driver(_SEEN_POSTGRES, (accounts, event_ids))}
    return {(row[0], row[1]) for row in tx.ask_driver(_SEEN_SQLITE, (orjson.dumps(pairs).decode(),))}


def _judge(receipt: Receipt, *, repeated: bool) -> Verdict:
    if not receipt.marks and not receipt.redact:
        return Verdict.IGNORED
    return Verdict.DUPLICATE if repeated else Verdict.STORED


def _logged(delivery: Delivery) -> str:
    """The headers worth keeping, bounded; credentials are not."""
    kept = delivery.headers.items()
    if len(kept) > _HEADERS_LIMIT:
        kept = dict([each for each in kept if each[0] not in _UNLOGGED][:_HEADERS_LIMIT]).items()
    return orjson.dumps(
        {name[:_HEADER_LIMIT]: value[:_HEADER_LIMIT] for name, value in kept if name not in _UNLOGGED}
    ).decode()


def _tally(tx: Transaction, counts: Counter[_Tallied]) -> None:
    _TALLY.run_rows(tx, [(*key, count) for key, count in sorted(counts.items())])
