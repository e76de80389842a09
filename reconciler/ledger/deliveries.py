"""The delivery log: every webhook request with its verdict, and the marks of the accepted ones, in one commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Any

import orjson

from reconciler.clock import to_micros
from reconciler.ledger import redaction
from reconciler.ledger.bulk import BYTES, TRUTH, WHOLE, WORDS, Bulk, Given, insert_into
from reconciler.ledger.links import ERA, LATELY, LINKS, deliveries_naming
from reconciler.ledger.marks import MARK_GIVEN, Mark, given_marks, mark
from reconciler.ledger.packing import Packing, Place
from reconciler.ledger.transaction import POSTGRES, Transaction
from reconciler.model import Delivery, Redaction, ResourceRef, value

_DAY = 86_400 * 1_000_000

REJECTED_BODY_BYTES = 512
"""How much of a rejected body is kept: enough to recognise what it was, too little to fill a disk."""

_HEADER_LIMIT = 200
_HEADERS_LIMIT = 64
_UNLOGGED = frozenset({"authorization", "cookie", "proxy-authorization"})


NAMELESS = "names_nothing"
"""The reason in the log of a delivery that is of a type which we follow, and in which nothing is named."""


class Verdict(StrEnum):
    STORED = "stored"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    IGNORED = "ignored"


def announced_by(tx: Transaction, ref: ResourceRef, *, before: datetime, limit: int) -> list[str]:
    """The event ids of those of the last deliveries that named it, the newest first, each once."""
    rows = deliveries_naming(tx, ref, "d.event_id", as_of=to_micros(before), limit=limit, eras=LATELY)
    return list(dict.fromkeys(row.event_id for row in rows))


@value
class Receipt:
    """A delivery that was verified, and the marks that it makes."""

    provider: str
    delivery: Delivery
    event_id: str
    type: str
    occurred_at: datetime | None
    marks: tuple[Mark, ...]
    redact: tuple[Redaction, ...] = ()
    packed: bytes | None = field(default=None, compare=False)
    """The body as it is stored, once it was packed: before the commit, or in it."""
    nameless: bool = False
    """As `Notice.nameless`."""

    def pack(self, packing: Packing) -> None:
        """Raises ConfigurationError for a key that cannot be read. The delivery stays what it is."""
        object.__setattr__(self, "packed", packing.pack(self.delivery.body, Place.DELIVERY))


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


_JUDGED = {"id": WHOLE, "verdict": WORDS, "reason": WORDS}
_RECEIVED = {
    "provider": WORDS,
    "account": WORDS,
    "event_id": WORDS,
    "type": WORDS,
    "received_at": WHOLE,
    "occurred_at": WHOLE,
    "source": WORDS,
    "headers": WORDS,
    "size": WHOLE,
    "body": BYTES,
}
_INSERT_DELIVERY = insert_into("delivery", _JUDGED | _RECEIVED)
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
    SELECT given.account, given.event_id
    FROM (SELECT json_extract(value, '$[0]') AS account, json_extract(value, '$[1]') AS event_id
          FROM json_each(?)) AS given
    WHERE EXISTS (SELECT 1 FROM delivery
                  WHERE delivery.account = given.account AND delivery.event_id = given.event_id
                        AND delivery.verdict <> 'rejected')
"""
"""SQLite: which of the given have been accepted before, by one look into the index for each."""

_GIVEN = Given({"n": WHOLE, "again": TRUTH, "is_known": TRUTH, "reason": WORDS, "day": WHOLE} | _RECEIVED)
_NAMED = Given({"n": WHOLE, "account": WORDS, "kind": WORDS, "remote_id": WORDS})
# Parts that write run from the last to the first (ExecInitModifyTable): the tally's row, which every node wants, is
# locked last, and the resources in the order of their keys. A subquery with a limit, because the planner would turn
# EXISTS into a look at the whole table while that is small, and keep to it. The judged ones are made once, in the order
# in which they came, so that a later delivery has a later reading of the ledger clock.
_AT_ONCE = f"""
    WITH judged AS MATERIALIZED (
      SELECT nextval('ledger_clock') AS id, given.*,
             CASE WHEN NOT given.is_known THEN 'ignored'
                  WHEN given.again
                    OR (SELECT 1 FROM delivery
                        WHERE delivery.account = given.account AND delivery.event_id = given.event_id
                              AND delivery.verdict <> 'rejected' LIMIT 1) IS NOT NULL THEN 'duplicate'
                  ELSE 'stored' END AS verdict
      FROM {_GIVEN.source}),
    tallied AS ({
    _TALLY.insert_from(
        POSTGRES,
        '''SELECT account, day, verdict, COALESCE(reason, ''), count(*) FROM judged
           GROUP BY account, day, verdict, reason
           ORDER BY account COLLATE "C", day, verdict COLLATE "C", COALESCE(reason, '') COLLATE "C" ''',
    )
}),
    linked AS ({
    LINKS.insert_from(
        POSTGRES,
        f"SELECT judged.id / {ERA}, given.account, given.kind, given.remote_id, judged.id"
        f" FROM {_NAMED.source} JOIN judged USING (n)",
    )
}),
    marked AS ({MARK_GIVEN}),
    inserted AS ({
    _INSERT_DELIVERY.insert_from(POSTGRES, f"SELECT id, verdict, reason, {', '.join(_RECEIVED)} FROM judged")
})
    SELECT verdict FROM judged ORDER BY n
"""
"""Postgres: receipts, their marks and their tally in one statement, and so in one round trip with its commit."""


def receive(tx: Transaction, receipts: Sequence[Receipt], now: datetime) -> list[Verdict]:
    """Store verified deliveries and make their marks; the verdict of each, in order.

    A repeated delivery is a second row and another mark: receipts are de-duplicated in the accounts, work is not,
    because the repetition may be the one that arrives after the failure it repairs.
    """
    if not receipts:
        return []
    for receipt in receipts:
        if receipt.redact:
            redaction.ask(tx, receipt.delivery.account, receipt.redact, event_id=receipt.event_id, now=now)
    return _at_once(tx, receipts, now) if tx.dialect.is_postgres else _in_steps(tx, receipts, now)


def _at_once(tx: Transaction, receipts: Sequence[Receipt], now: datetime) -> list[Verdict]:
    seen: set[tuple[str, str]] = set()
    rows, links, marks = [], [], []
    for n, receipt in enumerate(receipts):
        key = (receipt.delivery.account, receipt.event_id)
        received = _received(tx, receipt)
        rows.append((n, key in seen, _is_known(receipt), _reason(receipt), _day(received[_RECEIVED_AT]), *received))
        seen.add(key)
        for each in receipt.marks:
            marks.append(each)
            links.append((n, each.ref.account, each.ref.kind, each.ref.id))
    given = (*_GIVEN.parameters(rows), *_NAMED.parameters(links), *given_marks(marks, now))
    return [_VERDICTS[word] for (word,) in tx.ask_last(_AT_ONCE, given)]


def _in_steps(tx: Transaction, receipts: Sequence[Receipt], now: datetime) -> list[Verdict]:
    count = len(receipts) + sum([len(receipt.marks) for receipt in receipts])
    wanted = {(receipt.delivery.account, receipt.event_id) for receipt in receipts}
    ticks, (found,) = tx.ticks_and(count, [(_SEEN, (orjson.dumps(list(wanted)).decode(),))])
    seen = {(account, event_id) for account, event_id in found}
    verdicts: list[Verdict] = []
    rows, links, marks, tally = [], [], [], Counter[_Tallied]()
    row_ids = iter(ticks)
    for receipt, row_id in zip(receipts, row_ids, strict=False):
        key = (receipt.delivery.account, receipt.event_id)
        word = "ignored" if not _is_known(receipt) else "duplicate" if key in seen else "stored"
        seen.add(key)
        verdicts.append(_VERDICTS[word])
        received = _received(tx, receipt)
        reason = _reason(receipt)
        rows.append((row_id, word, reason, *received))
        tally[key[0], _day(received[_RECEIVED_AT]), word, reason or ""] += 1
        for each in receipt.marks:
            marks.append(each)
            links.append((row_id // ERA, each.ref.account, each.ref.kind, each.ref.id, row_id))
    _INSERT_DELIVERY.run_rows(tx, rows)
    mark(tx, marks, now, row_ids)
    LINKS.run_rows(tx, links)
    _tally(tx, tally)
    return verdicts


def reject(tx: Transaction, rejections: Sequence[Rejection]) -> None:
    """Audit rows, truncated, for rejected deliveries; those past the flood limit are counted only."""
    audited = [each for each in rejections if each.audited]
    rows = [
        (
            row_id,
            Verdict.REJECTED.value,
            each.reason,
            each.provider,
            each.delivery.account,
            None,
            None,
            to_micros(each.delivery.received_at),
            None,
            each.delivery.source,
            _logged(each.delivery),
            each.size,
            tx.pack(each.delivery.body[:REJECTED_BODY_BYTES], Place.DELIVERY),
        )
        for row_id, each in zip(tx.ticks(len(audited)), audited, strict=True)
    ]
    _INSERT_DELIVERY.run_rows(tx, rows)
    _tally(
        tx,
        Counter(
            (
                each.delivery.account,
                _day(to_micros(each.delivery.received_at)),
                Verdict.REJECTED.value,
                each.reason,
            )
            for each in rejections
        ),
    )


_VERDICTS = {verdict.value: verdict for verdict in Verdict}
_RECEIVED_AT = [*_RECEIVED].index("received_at")


def _received(tx: Transaction, receipt: Receipt) -> tuple[Any, ...]:
    """In the order of `_RECEIVED`."""
    delivery = receipt.delivery
    return (
        receipt.provider,
        delivery.account,
        receipt.event_id,
        receipt.type,
        to_micros(delivery.received_at),
        None if receipt.occurred_at is None else to_micros(receipt.occurred_at),
        delivery.source,
        _logged(delivery),
        len(delivery.body),
        tx.pack(delivery.body, Place.DELIVERY) if receipt.packed is None else receipt.packed,
    )


def _is_known(receipt: Receipt) -> bool:
    """What names nothing at all is of a type that we do not follow, unless its provider says otherwise."""
    return bool(receipt.marks or receipt.redact) or receipt.nameless


def _reason(receipt: Receipt) -> str | None:
    return NAMELESS if receipt.nameless else None


def _day(received_at: int) -> int:
    return received_at // _DAY * _DAY


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
