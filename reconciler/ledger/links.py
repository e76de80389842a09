"""Which resources a delivery named: kept by resource, within an era of the ledger clock.

By resource alone, as they lay before schema 0013, each link of a busy hour went to a page of its own of a growing
tree: of 139 pages that a commit of 64 deliveries wrote on SQLite, 82 were theirs. Within an era they share a few.
Who asks for one resource looks into one era after the other until he has what he wants; nothing that a webhook waits
for asks. The links of before stay where they are until their deliveries go; every question is put to both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import bindparam, text
from sqlalchemy.sql.elements import TextClause

from reconciler.ledger.bulk import WHOLE, WORDS, insert_into
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef

ERA: Final = 4096
"""Readings of the ledger clock. A delivery takes one, and one for each of its marks; a read takes some as well, so an
era holds 2,000 deliveries at most."""

ALL_ERAS: Final = 2**31 - 1
LATELY: Final = 32
"""Eras, for who asks at every read: the last 60,000 deliveries, or fewer where much was read between them."""

_AT_FIRST: Final = 2
_AT_ONCE: Final = 512
"""Eras that one statement looks into: a few for what is named all the time, and twice as many each time after."""

_COLUMNS: Final = {"era": WHOLE, "account": WORDS, "kind": WORDS, "remote_id": WORDS, "delivery_id": WHOLE}
LINKS: Final = insert_into("delivery_link", _COLUMNS, "ON CONFLICT DO NOTHING")

EVERY: Final = """(
  SELECT account, kind, remote_id, delivery_id FROM delivery_mark
  UNION ALL
  SELECT account, kind, remote_id, delivery_id FROM delivery_link
)"""
"""All there are, for who reads through all of them."""


def era_of(delivery_id: int) -> int:
    return delivery_id // ERA


def deliveries_naming(
    tx: Transaction,
    ref: ResourceRef,
    columns: str,
    *,
    as_of: int,
    before: int = 2**62,
    limit: int,
    newest_first: bool = True,
    eras: int = ALL_ERAS,
) -> list[Any]:
    """`columns` (of `delivery d`) of the first `limit` deliveries that named it, in the order of their ids.

    Received by `as_of` (microseconds), with ids below `before`; at most so many `eras` are looked into.
    """
    by_resource, by_era = _statements(columns, newest_first=newest_first)
    given = {
        "account": ref.account,
        "kind": ref.kind,
        "remote_id": ref.id,
        "before": before,
        "as_of": as_of,
        "limit": limit,
    }
    rows: list[Any] = []
    for some in _in_stretches(tx, before, eras, newest_first=newest_first):
        rows += tx.run(by_era, given | {"eras": some, "limit": limit - len(rows)})
        if len(rows) == limit:
            break
    older = tx.run(by_resource, given).all()
    return sorted([*rows, *older], key=lambda row: row.id, reverse=newest_first)[:limit]


@lru_cache(maxsize=8)
def _statements(columns: str, *, newest_first: bool) -> tuple[TextClause, TextClause]:
    """By resource alone, and in some eras."""
    order = "DESC" if newest_first else "ASC"
    end = f"d.received_at <= :as_of ORDER BY m.delivery_id {order} LIMIT :limit"
    of = "m.account = :account AND m.kind = :kind AND m.remote_id = :remote_id AND m.delivery_id < :before"
    joined = "JOIN delivery d ON d.id = m.delivery_id"
    return (
        text(f"SELECT d.id, {columns} FROM delivery_mark m {joined} WHERE {of} AND {end}"),
        text(
            f"SELECT d.id, {columns} FROM delivery_link m {joined} WHERE m.era IN :eras AND {of} AND {end}"
        ).bindparams(bindparam("eras", expanding=True)),
    )


_NEXT: Final = """
  WITH RECURSIVE eras(era, so_far) AS (
    SELECT {first}(era), 1 FROM delivery_link WHERE era {beyond} :place
    UNION ALL
    SELECT (SELECT {first}(further.era) FROM delivery_link further WHERE further.era {beyond} eras.era), so_far + 1
    FROM eras WHERE eras.era IS NOT NULL AND so_far < :count)
  SELECT era FROM eras WHERE era IS NOT NULL
"""
"""Stepped along, as no database does by itself."""
_NEXT_OLDER: Final = text(_NEXT.format(first="max", beyond="<"))
_NEXT_NEWER: Final = text(_NEXT.format(first="min", beyond=">"))


def _in_stretches(tx: Transaction, before: int, most: int, *, newest_first: bool) -> Iterator[list[int]]:
    """The eras that any delivery before that one is of."""
    statement, place = (_NEXT_OLDER, era_of(before) + 1) if newest_first else (_NEXT_NEWER, -1)
    count = _AT_FIRST
    while most > 0:
        asked = min(count, most)
        found = [row.era for row in tx.run(statement, {"place": place, "count": asked})]
        if found:
            yield found
        if len(found) < asked:
            return
        place, most, count = found[-1], most - asked, min(2 * count, _AT_ONCE)


# --- all of them, by delivery -----------------------------------------------------------------------

_OF_SOME: Final = text(
    """
    SELECT delivery_id, account, kind, remote_id FROM delivery_link
    WHERE era BETWEEN :first_era AND :last_era AND delivery_id BETWEEN :first AND :last
    """
)
_OF_BEFORE: Final = text(
    "SELECT delivery_id, account, kind, remote_id FROM delivery_mark ORDER BY delivery_id"
).execution_options(stream_results=True, yield_per=500)


class NamedInOrder:
    """What deliveries named, for who reads all of them in the order of their ids, some at once."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._before = iter(tx.run(_OF_BEFORE))
        self._next = next(self._before, None)

    def __call__(self, first: int, last: int) -> Mapping[tuple[int, str], list[tuple[str, str]]]:
        """By delivery and account, for those between these two, inclusive: (kind, id) of what each named, in order."""
        given = {"first": first, "last": last, "first_era": era_of(first), "last_era": era_of(last)}
        rows = [*self._tx.run(_OF_SOME, given), *self._older(last)]
        named: dict[tuple[int, str], list[tuple[str, str]]] = {}
        for delivery_id, account, kind, remote_id in sorted(set(map(tuple, rows))):
            named.setdefault((delivery_id, account), []).append((kind, remote_id))
        return named

    def _older(self, last: int) -> Iterator[Any]:
        while self._next is not None and self._next.delivery_id <= last:
            yield self._next
            self._next = next(self._before, None)
