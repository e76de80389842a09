"""The objects of one account with their recent past: the present to serve, the past to serve from a lagging replica."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from reconciler.clock import Clock, span_micros, to_micros

Body = dict[str, Any]
"""A Stripe object as served. Treated as immutable: a change makes a new one, so that events may share it."""

RowKey = tuple[int, int, str]
"""(created in Unix seconds, order of arrival, id): ascending is oldest first."""

_REMEMBER = span_micros(timedelta(minutes=10))
"""How far back a stale read can reach; older versions are forgotten."""

RELATIONS: Mapping[str, tuple[str, ...]] = {
    "charge": ("payment_intent", "customer"),
    "payment_intent": ("customer",),
    "refund": ("charge", "payment_intent"),
    "dispute": ("charge", "payment_intent"),
    "balance_transaction": ("source",),
    "invoice": ("subscription", "customer"),
    "invoice_payment": ("invoice",),
    "subscription": ("customer",),
    "price": ("product",),
    "application_fee": ("charge",),
    "transfer": ("destination",),
}
"""Fields that never change after creation and that lists filter on: indexed, so that a big world stays quick."""


@dataclass(slots=True)
class Row:
    """One object: `versions` are (micros since the epoch from which it holds, body), oldest first; None: not served."""

    kind: str
    key: RowKey
    versions: list[tuple[int, Body | None]]
    deleted: bool = False
    born_micros: int = 0

    @property
    def body(self) -> Body | None:
        return self.versions[-1][1]

    def at(self, micros: int | None) -> Body | None:
        """As a replica showed it at that instant; None: it did not exist there."""
        if micros is None:
            return self.versions[-1][1]
        if micros < self.born_micros:
            return None
        for since, body in reversed(self.versions):
            if since <= micros:
                return body
        return self.versions[0][1]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of a kind a list wants, and from where."""

    low: int | None = None
    """Created at or after, Unix seconds."""
    high: int | None = None
    """Created before or at, Unix seconds."""
    after: str | None = None
    """Stripe's `starting_after`: only older rows."""
    before: str | None = None
    """Stripe's `ending_before`: only newer rows."""
    relation: tuple[str, str] | None = None
    where: Callable[[Body], bool] = field(default=lambda _body: True)
    at_micros: int | None = None
    """Serve from this instant; None: from now."""


class Store:
    """All objects of one account by id, and by kind in order of creation."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[str, Row] = {}
        self._order: dict[str, list[RowKey]] = {}
        self._related: dict[tuple[str, str, str], list[RowKey]] = {}
        self._arrivals = 0

    def add(self, kind: str, body: Body) -> None:
        self._arrivals += 1
        key = (int(body["created"]), self._arrivals, str(body["id"]))
        now = to_micros(self._clock.now())
        self._rows[body["id"]] = Row(kind, key, [(now, body)], born_micros=now)
        insort(self._order.setdefault(kind, []), key)
        for name in RELATIONS.get(kind, ()):
            if value := body.get(name):
                insort(self._related.setdefault((kind, name, value), []), key)

    def replace(self, body: Body) -> None:
        self._append(self._rows[body["id"]], body)

    def remove(self, object_id: str, stub: Body | None) -> None:
        """The object leaves every list; a retrieve answers `stub`, or "no such object" where there is none."""
        row = self._rows[object_id]
        row.deleted = True
        self._append(row, stub)

    def row(self, object_id: str) -> Row | None:
        return self._rows.get(object_id)

    def get(self, object_id: str) -> Body:
        """The present body. Raises KeyError for an id that is not there (a deleted one without a stub included)."""
        body = self._rows[object_id].body
        if body is None:
            raise KeyError(object_id)
        return body

    def of_kind(self, kind: str) -> Iterator[tuple[str, Row]]:
        """Every object of a kind, deleted ones included, oldest first."""
        return ((key[2], self._rows[key[2]]) for key in self._order.get(kind, ()))

    def kinds(self) -> list[str]:
        return sorted(self._order)

    def select(self, kind: str, wanted: Selection, limit: int) -> tuple[list[Body], bool]:
        """Up to `limit` bodies, newest first, and whether there are more in the direction of travel."""
        keys = self._order.get(kind, [])
        if wanted.relation is not None:
            keys = self._related.get((kind, *wanted.relation), [])
        start, stop = 0, len(keys)
        if wanted.low is not None:
            start = bisect_left(keys, (wanted.low, -1, ""))
        if wanted.high is not None:
            stop = bisect_left(keys, (wanted.high + 1, -1, ""))
        if wanted.after is not None:
            stop = min(stop, bisect_left(keys, self._rows[wanted.after].key))
        if wanted.before is not None:
            start = max(start, bisect_right(keys, self._rows[wanted.before].key))
        backwards = wanted.before is None
        found: list[Body] = []
        for position in range(stop - 1, start - 1, -1) if backwards else range(start, stop):
            row = self._rows[keys[position][2]]
            body = row.at(wanted.at_micros)
            if body is None or body.get("deleted") or not wanted.where(body):
                continue
            if len(found) == limit:
                return (found if backwards else found[::-1]), True
            found.append(body)
        return (found if backwards else found[::-1]), False

    def _append(self, row: Row, body: Body | None) -> None:
        now = to_micros(self._clock.now())
        row.versions.append((now, body))
        while len(row.versions) > 2 and row.versions[1][0] < now - _REMEMBER:
            del row.versions[0]
