"""Marking: "this may have changed". The statement that every trigger of the product ends in.

A mark adds 1 to the generation under the row's own lock. A timestamp, or a sequence read before the commit, would
let a stalled webhook transaction commit a mark that looks older than a fetch which ran meanwhile, and the update
would be lost (`tests/ledger/test_stress.py` shows it on a real Postgres).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any, Final

import orjson
from sqlalchemy import text

from reconciler.clock import span_micros, to_micros
from reconciler.ledger.bulk import WHOLE, WORDS, Bulk, Given
from reconciler.ledger.transaction import POSTGRES, Transaction
from reconciler.model import PRIORITY_OF, Cause, Hint, ResourceRef, value

ROLL_LIMIT = 6
"""A resource that is marked without pause is read at the latest after this many settle windows."""

_HINTS_LIMIT = 4000
"""Characters of pending hints kept; beyond it the settle window decides instead."""

EXISTS: Final = '{"exists":true}'
"""What a resource announces of another one that it names: a read that shows it settles at once, and "missing" is
believed only when reads no longer lag behind the change that named it."""


@value
class Mark:
    """One resource to look at.

    `settle` is how long the provider's reads may lag behind the change that caused the mark; zero where no change
    was announced (a deadline, an operator), so that any read answers it. `priority` defaults to the cause's own.
    """

    ref: ResourceRef
    cause: Cause
    settle: timedelta = timedelta(0)
    delay: timedelta = timedelta(0)
    expected: str | None = None
    """The hint's expectation as one line of JSON; None when nothing can be checked."""
    priority: int | None = None
    created_at: datetime | None = None
    """When the resource is said to have been created; kept only until a read says so itself."""
    count: int = 1


def mark_of(hint: Hint, cause: Cause, settle: timedelta) -> Mark:
    try:
        expected = None if hint.expected is None else orjson.dumps(hint.expected).decode()
    except orjson.JSONEncodeError:  # nested deeper than anything is written: what was said of it cannot be checked
        expected = None
    return Mark(hint.ref, cause, settle=settle, expected=expected, created_at=hint.created_at)


_COLUMNS = {
    "id": WHOLE,
    "provider": WORDS,
    "account": WORDS,
    "kind": WORDS,
    "remote_id": WORDS,
    "generation": WHOLE,
    "priority": WHOLE,
    "cause": WORDS,
    "due_at": WHOLE,
    "first_marked_at": WHOLE,
    "last_marked_at": WHOLE,
    "settle_at": WHOLE,
    "hints": WORDS,
    "created_at": WHOLE,
}


# The cause is that of the first pending mark. While a read is under way its claim remembers that one, so that a
# webhook which comes meanwhile may say why the *next* read looks: a change that a webhook told is no drift.
#
# Beside the counter, a mark decides when the resource falls due:
# - leased: due_at is the lease's end; the apply or the release will see the new generation and queue it again.
# - a dead letter: at once. The backoff in which it was parked (hours) ends with the mark that revives it.
# - read within the settle window, or waiting for the end of one; and either that read was provisional or some pending
#   mark announces nothing that can be checked: wait until the window of this mark is over, so that one further read
#   settles the whole burst. The wait rolls with each mark, up to ROLL_LIMIT windows after the first mark or the last
#   read, so that a hot resource neither starves nor is read at every mark.
# - else: now (plus delay), never later than already planned, and never inside a backoff or the least interval
#   between two reads (not_before). With hints that the read satisfies, a burst within that interval costs two reads.
def _marking(also: str = "") -> Bulk:
    return Bulk(
        f"""
        INSERT INTO resource ({", ".join(_COLUMNS)}) {{_source}}
        ON CONFLICT (account, kind, remote_id) DO UPDATE SET
          generation = resource.generation + excluded.generation,
          priority = CASE WHEN resource.generation = resource.settled_generation THEN excluded.priority
                          ELSE {{_least}}(resource.priority, excluded.priority) END,
          cause = CASE WHEN resource.generation = resource.settled_generation
                         OR resource.lease_until > excluded.last_marked_at AND excluded.cause = 'webhook'
                       THEN excluded.cause ELSE resource.cause END,
          hints = CASE WHEN resource.generation = resource.settled_generation THEN excluded.hints
                       WHEN resource.hints = excluded.hints
                         OR {{_place_of}}(chr_newline || resource.hints || chr_newline,
                                          chr_newline || excluded.hints || chr_newline) > 0 THEN resource.hints
                       WHEN length(resource.hints) + length(excluded.hints) <= {_HINTS_LIMIT}
                       THEN resource.hints || chr_newline || excluded.hints
                       ELSE NULL END,
          first_marked_at = CASE WHEN resource.generation = resource.settled_generation THEN excluded.first_marked_at
                                 ELSE resource.first_marked_at END,
          last_marked_at = {{_greatest}}(COALESCE(resource.last_marked_at, 0), excluded.last_marked_at),
          settle_at = {{_greatest}}(resource.settle_at, excluded.settle_at),
          {also}
          attempts = CASE WHEN resource.dead_at IS NULL THEN resource.attempts ELSE 0 END,
          not_before = CASE WHEN resource.dead_at IS NULL THEN resource.not_before ELSE 0 END,
          dead_at = NULL,
          discarded_at = NULL,
          due_at = CASE
            WHEN resource.lease_until > excluded.last_marked_at THEN resource.due_at
            WHEN resource.dead_at IS NOT NULL THEN excluded.due_at
            WHEN resource.fetched_at + (excluded.settle_at - excluded.last_marked_at) > excluded.last_marked_at
                 AND (excluded.hints IS NULL
                      OR resource.generation > resource.settled_generation
                         AND (resource.hints IS NULL OR resource.fetched_at >= resource.first_marked_at))
              OR excluded.settle_at > excluded.last_marked_at
                 AND resource.generation > resource.settled_generation
                 AND resource.due_at > excluded.last_marked_at
                 AND (resource.due_at = resource.settle_at
                      OR resource.due_at < resource.settle_at AND resource.fetched_at >= resource.first_marked_at)
                 AND (excluded.hints IS NULL OR resource.hints IS NULL OR resource.attempts > 0
                      OR resource.fetched_at >= resource.first_marked_at)
            THEN {{_greatest}}(
                   {{_least}}(excluded.settle_at,
                     CASE WHEN resource.generation = resource.settled_generation THEN excluded.settle_at
                          ELSE {{_greatest}}(resource.first_marked_at, COALESCE(resource.fetched_at, 0))
                               + {ROLL_LIMIT} * (excluded.settle_at - excluded.last_marked_at) END),
                   resource.not_before)
            ELSE {{_least}}(COALESCE(resource.due_at, {{_greatest}}(excluded.due_at, resource.not_before)),
                           {{_greatest}}(excluded.due_at, resource.not_before))
            END
        """.replace("chr_newline", "'\n'"),
        _COLUMNS,
    )


_MARK = _marking()
_CREATED = Bulk(
    """
    UPDATE resource SET created_at = {created_at} {_rows}
    WHERE resource.account = {account} AND resource.kind = {kind} AND resource.remote_id = {remote_id}
      AND +resource.created_at IS NULL
    """,
    {"account": WORDS, "kind": WORDS, "remote_id": WORDS, "created_at": WHOLE},
    at_once=True,
)
"""After `_MARK` on SQLite, where an update rewrites every index that holds a column it names, be that as it was."""
_MARK_AND_CREATED = _marking("created_at = COALESCE(resource.created_at, excluded.created_at),")
"""On Postgres, where a new version of a row goes into every index in any case."""


def mark(tx: Transaction, marks: Iterable[Mark], now: datetime, row_ids: Iterable[int] | None = None) -> int:
    """Mark each resource; how many distinct ones. Several marks on one of them are one statement with their sum.

    `row_ids` are ids for new rows, at least one for each mark, from whoever has already asked the ledger clock.

    Rows are written in key order, so that concurrent transactions on Postgres cannot deadlock.
    """
    merged = _merge(marks)
    if not merged:
        return 0
    rows = _rows(merged, tx.ticks(len(merged)) if row_ids is None else row_ids, to_micros(now))
    if tx.dialect.is_postgres:
        _MARK_AND_CREATED.run_rows(tx, rows)
        return len(rows)
    _MARK.run_rows(tx, rows)
    _CREATED.run_rows(tx, [(each.ref.account, each.ref.kind, each.ref.id, to_micros(each.created_at))
                           for each in merged if each.created_at is not None])  # fmt: skip
    return len(rows)


_NEW = Given({name: kind for name, kind in _COLUMNS.items() if name != "id"})
MARK_GIVEN: Final = _MARK_AND_CREATED.insert_from(
    POSTGRES, f"SELECT nextval('ledger_clock'), {', '.join(_NEW.columns)} FROM {_NEW.source}"
)
"""Marking as a part of a larger statement of Postgres's; its parameters: `given_marks`."""


def given_marks(marks: Iterable[Mark], now: datetime) -> tuple[Any, ...]:
    """For `MARK_GIVEN`. In key order, as with `mark`."""
    return _NEW.parameters([row[1:] for row in _rows(_merge(marks), repeat(0), to_micros(now))])


_MEET = Bulk(
    f"INSERT INTO resource ({', '.join(_COLUMNS)}) {{_source}} ON CONFLICT (account, kind, remote_id) DO NOTHING",
    _COLUMNS,
)


def mark_unknown(tx: Transaction, marks: Iterable[Mark], now: datetime) -> int:
    """Mark those that the ledger has never heard of; how many that were."""
    merged = _merge(marks)
    return _MEET.run_rows(tx, _rows(merged, tx.ticks(len(merged)), to_micros(now)))


def follow_up(ref: ResourceRef, cause: Cause, lag: timedelta) -> Mark:
    """Have a resource read because another one, that it moves with, has changed. Nothing announces what it will show,
    so it is read once, when reads no longer lag behind that change."""
    return Mark(ref, cause, settle=lag, delay=lag)


_PARTS = text(
    """
    SELECT provider, account, kind, remote_id FROM resource
    WHERE account = :account AND kind = :kind AND state <> 'deleted'
      AND (remote_id = :id OR remote_id >= :first AND remote_id < :last)
    """
)


def mark_parts(
    tx: Transaction, ref: ResourceRef, kinds: Sequence[str], cause: Cause, settle: timedelta, now: datetime
) -> int:
    """Mark what is known of the parts of a resource that is gone: of `kinds`, under its own id or under ids that begin
    with `ID/`; also one whose first read is under way, which may have seen it before. `settle` is how long they may
    still be shown after it."""
    # '0' follows '/' in every collation that compares bytes; a row too many is only a read too many.
    within = {"account": ref.account, "id": ref.id, "first": f"{ref.id}/", "last": f"{ref.id}0"}
    found = [row for kind in kinds for row in tx.run(_PARTS, within | {"kind": kind})]
    refs = [ResourceRef(row.provider, row.account, row.kind, row.remote_id) for row in found]
    return mark(tx, [follow_up(part, cause, settle) for part in refs], now)


def _rows(marks: Iterable[Mark], row_ids: Iterable[int], at: int) -> list[tuple[Any, ...]]:
    """In the order of `_COLUMNS`, with an id for each that turns out to be new."""
    return [
        (
            row_id,
            each.ref.provider,
            each.ref.account,
            each.ref.kind,
            each.ref.id,
            each.count,
            PRIORITY_OF[each.cause] if each.priority is None else each.priority,
            each.cause.value,
            at + span_micros(each.delay) if each.delay else at,
            at,
            at,
            at + span_micros(each.settle) if each.settle else 0,
            each.expected if each.expected is None or len(each.expected) <= _HINTS_LIMIT else None,
            None if each.created_at is None else to_micros(each.created_at),
        )
        for each, row_id in zip(marks, row_ids, strict=False)
    ]


def _merge(marks: Iterable[Mark]) -> list[Mark]:
    by_key: dict[tuple[str, str, str], Mark] = {}
    for each in marks:
        ref = each.ref
        key = (ref.account, ref.kind, ref.id)
        seen = by_key.get(key)
        by_key[key] = each if seen is None else _both(seen, each)
    return [by_key[key] for key in sorted(by_key)]


def _both(first: Mark, second: Mark) -> Mark:
    """Two marks of one instant as one: the first says why, the more urgent says when, and every hint must hold."""
    announced = None
    if first.expected is not None and second.expected is not None:
        announced = "\n".join(dict.fromkeys(f"{first.expected}\n{second.expected}".split("\n")))
    priorities = [PRIORITY_OF[each.cause] if each.priority is None else each.priority for each in (first, second)]
    return replace(
        first,
        settle=max(first.settle, second.settle),
        delay=min(first.delay, second.delay),
        expected=announced,
        priority=min(priorities),
        created_at=first.created_at or second.created_at,
        count=first.count + second.count,
    )
