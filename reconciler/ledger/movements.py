"""What versions say about money: read from their bodies, or from the rows that somebody kept of an earlier reading.

The rows are a projection. A version is `unread` from the commit that stored it until its reading was kept in a commit
of its own; whoever asks meanwhile is given the body's word, so that the answer never depends on how far that got
(docs/decisions/0043).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import bindparam, text
from sqlalchemy.sql.elements import TextClause

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef, Snapshot
from reconciler.money import Money
from reconciler.movements import Clue, Condition, Key, Movement, Role

_CHUNK = 1000
"""Ids that one statement names, rows that are fetched at once."""

Read = Callable[[Snapshot], tuple[Movement, ...]]

GROUPED = frozenset({Role.SALE, Role.CHARGE, Role.REFUND, Role.INTENT, Role.INVOICE, Role.PRICE})
"""Roles whose movements belong to each other, and can be set aside together once they are settled."""
UNGROUPED = -1
OPEN = 0


@dataclass(frozen=True, slots=True)
class Known:
    """A movement, and when the version that says so was recorded."""

    movement: Movement
    recorded_at: datetime


def chunks(ids: Collection[Any]) -> Iterator[list[Any]]:
    """In order, so that the same question is the same statements."""
    named = sorted(ids)
    for at in range(0, len(named), _CHUNK):
        yield named[at : at + _CHUNK]


# --- from bodies ----------------------------------------------------------------------------------

_COLUMNS = "r.id, r.provider, r.account, r.kind, r.remote_id, v.body, v.recorded_at, v.api_version"
_AS_KNOWN = f"""
    SELECT {_COLUMNS} FROM resource r JOIN version v ON v.resource_id = r.id
      AND v.version = (SELECT max(w.version) FROM version w WHERE w.resource_id = r.id AND w.recorded_at <= :as_of)
    WHERE r.account = :account AND r.kind = :kind AND v.state = 'present'
"""
_IN_UNREAD = "r.id IN (SELECT u.resource_id FROM unread u)"
_ALL = text(_AS_KNOWN)
_UNREAD = text(f"{_AS_KNOWN} AND {_IN_UNREAD}")
_BY_ID = text(f"{_AS_KNOWN} AND r.remote_id IN :ids").bindparams(bindparam("ids", expanding=True))
_HISTORY = f"""
    SELECT {_COLUMNS} FROM resource r JOIN version v ON v.resource_id = r.id
    WHERE r.account = :account AND r.kind = :kind AND v.state = 'present' AND v.recorded_at <= :as_of {{where}}
    ORDER BY r.remote_id, v.version
"""
_ALL_HISTORY = text(_HISTORY.format(where=""))
_UNREAD_HISTORY = text(_HISTORY.format(where=f"AND {_IN_UNREAD}"))


def from_bodies(
    tx: Transaction, account: str, kind: str, as_of: datetime, read: Read, *, unread: bool = False
) -> Iterator[Known]:
    """What the last version known then says, of every resource of a kind (`unread`: that has an unread version);
    tombstones say nothing."""
    given = {"account": account, "kind": kind, "as_of": to_micros(as_of)}
    yield from _read_all(tx, _UNREAD if unread else _ALL, given, read)


def from_bodies_by_id(
    tx: Transaction, account: str, kind: str, ids: Collection[str], as_of: datetime, read: Read
) -> Iterator[Known]:
    for some in chunks(ids):
        given = {"account": account, "kind": kind, "ids": some, "as_of": to_micros(as_of)}
        yield from _read_all(tx, _BY_ID, given, read)


_BORN = text(f"{_AS_KNOWN} AND r.created_at >= :start AND r.created_at < :end")


def snapshots_born(
    tx: Transaction, account: str, kind: str, start: datetime, end: datetime, as_of: datetime
) -> Iterator[Snapshot]:
    """Resources that the provider made in `start <= t < end`, as the last version known then has them."""
    given = {"account": account, "kind": kind, "start": to_micros(start), "end": to_micros(end)}
    for row in tx.run(_BORN, given | {"as_of": to_micros(as_of)}).yield_per(_CHUNK):
        yield snapshot_of(tx, row)


def history_from_bodies(
    tx: Transaction, account: str, kind: str, as_of: datetime, read: Read, *, unread: bool = False
) -> Iterator[Known]:
    """What every version known then says, in order."""
    given = {"account": account, "kind": kind, "as_of": to_micros(as_of)}
    yield from _read_all(tx, _UNREAD_HISTORY if unread else _ALL_HISTORY, given, read)


def _read_all(tx: Transaction, statement: TextClause, given: Mapping[str, Any], read: Read) -> Iterator[Known]:
    for row in tx.run(statement, given).yield_per(_CHUNK):
        recorded_at = from_micros(row.recorded_at)
        for movement in read(snapshot_of(tx, row)):
            yield Known(movement, recorded_at)


def snapshot_of(tx: Transaction, row: Any) -> Snapshot:
    ref = ResourceRef(row.provider, row.account, row.kind, row.remote_id)
    return Snapshot(ref, orjson.loads(tx.unpack(row.body, Place.VERSION)), api_version=row.api_version)


# --- from rows ------------------------------------------------------------------------------------

ROW = "m.resource_id, m.provider, m.account, m.kind, m.remote_id, m.reading, m.recorded_at"
KNOWN = "m.recorded_at <= :as_of AND (m.superseded_at IS NULL OR m.superseded_at > :as_of)"
_READ = "NOT EXISTS (SELECT 1 FROM unread u WHERE u.resource_id = m.resource_id)"
_ROWS = f"SELECT {ROW} FROM movement m WHERE m.account = :account AND m.kind = :kind AND {KNOWN} AND {_READ}"
_ALL_ROWS = text(_ROWS)
_OPEN_ROWS = text(f"{_ROWS} AND (m.group_id IS NULL OR m.group_id <= {OPEN})")
_EVER_KNOWN = (
    f"SELECT {ROW} FROM movement m WHERE m.account = :account AND m.kind = :kind AND m.recorded_at <= :as_of"
    f" AND {_READ}"
)
_ROW_HISTORY = text(f"{_EVER_KNOWN} ORDER BY m.remote_id, m.version")
_OPEN_HISTORY = text(f"{_EVER_KNOWN} AND (m.group_id IS NULL OR m.group_id <= {OPEN}) ORDER BY m.remote_id, m.version")
_GROUP_HISTORY = text(f"{_EVER_KNOWN} AND m.group_id IN :ids").bindparams(bindparam("ids", expanding=True))
_GROUP_ROWS = text(f"SELECT {ROW} FROM movement m WHERE m.group_id IN :ids AND {KNOWN} AND {_READ}").bindparams(
    bindparam("ids", expanding=True)
)


def from_rows(tx: Transaction, account: str, kind: str, as_of: datetime, *, only_open: bool) -> Iterator[Known]:
    """As `from_bodies`, of resources without an unread version; `only_open` leaves out what is set aside."""
    given = {"account": account, "kind": kind, "as_of": to_micros(as_of)}
    for row in tx.run(_OPEN_ROWS if only_open else _ALL_ROWS, given).yield_per(_CHUNK):
        yield known(row)


def history_from_rows(
    tx: Transaction, account: str, kind: str, as_of: datetime, *, groups: Collection[int] | None = None
) -> Iterator[Known]:
    """What every version said, in order; with `groups` of what is in none that is set aside, and of these."""
    given = {"account": account, "kind": kind, "as_of": to_micros(as_of)}
    for row in tx.run(_ROW_HISTORY if groups is None else _OPEN_HISTORY, given).yield_per(_CHUNK):
        yield known(row)
    for some in chunks(groups or ()):
        for row in tx.run(_GROUP_HISTORY, given | {"ids": some}):
            yield known(row)


def of_groups(tx: Transaction, groups: Collection[int], as_of: datetime) -> Iterator[Known]:
    """The members of groups that are set aside, as they were known then."""
    for some in chunks(groups):
        for row in tx.run(_GROUP_ROWS, {"ids": some, "as_of": to_micros(as_of)}):
            yield known(row)


def known(row: Any) -> Known:
    return Known(decoded(ResourceRef(row.provider, row.account, row.kind, row.remote_id), row.reading),
                 from_micros(row.recorded_at))  # fmt: skip


_NAMED = f"""
    SELECT {ROW} FROM movement m WHERE m.resource_id IN (SELECT n.resource_id FROM movement_name n WHERE n.name IN :ids)
      AND m.account = :account AND {_READ}
"""
_NAMED_ROWS = text(f"{_NAMED} AND {KNOWN}").bindparams(bindparam("ids", expanding=True))
_NAMED_HISTORY = text(
    f"{_NAMED} AND m.kind = :kind AND m.recorded_at <= :as_of ORDER BY m.remote_id, m.version"
).bindparams(bindparam("ids", expanding=True))


def named_in_rows(tx: Transaction, account: str, names: Collection[str], as_of: datetime) -> Iterator[Known]:
    """Of resources without an unread version, those that may go by one of these names: who asks looks again."""
    for some in chunks({name_of(name) for name in names}):
        for row in tx.run(_NAMED_ROWS, {"account": account, "ids": some, "as_of": to_micros(as_of)}):
            yield known(row)


def named_history_in_rows(
    tx: Transaction, account: str, kind: str, names: Collection[str], as_of: datetime
) -> Iterator[Known]:
    """As `named_in_rows`, of one kind, what every version said."""
    for some in chunks({name_of(name) for name in names}):
        given = {"account": account, "kind": kind, "ids": some, "as_of": to_micros(as_of)}
        for row in tx.run(_NAMED_HISTORY, given):
            yield known(row)


# --- one reading as text --------------------------------------------------------------------------

FORMAT = 2
"""Of `encoded`; another one makes every reading be kept anew."""


_ALWAYS = 6
"""Places that are never left out: the last of them is when it happened, and the first instant of 1970 is 0."""


def encoded(each: Movement) -> str:
    """Everything but the ref, by place; what is mostly absent comes last, and is left out from the first absence on."""
    values: list[Any] = [
        each.role.value,
        each.condition.value,
        each.status,
        each.amount.minor,
        each.amount.currency,
        to_micros(each.occurred_at),
        each.entry_id,
        [part for clue in each.clues for part in (clue.key.value, clue.value)],
        each.parent,
        each.order,
        each.gateway,
        each.country,
        each.traits,
        [part for payment in each.payments for part in payment],
        None if each.arrives_at is None else to_micros(each.arrives_at),
        int(each.automatic),
        int(each.itemised),
        each.trace,
        each.return_entry_id,
        None if each.rate is None else str(each.rate),
        None if each.counts_as is None else each.counts_as.minor,
        None if each.counts_as is None else each.counts_as.currency,
        each.destination,
    ]
    while len(values) > _ALWAYS and values[-1] in (None, [], (), 0):  # an empty text is not absent
        values.pop()
    return orjson.dumps(values).decode()


def decoded(ref: ResourceRef, reading: str) -> Movement:
    values = orjson.loads(reading)
    values += [None] * (23 - len(values))
    (role, condition, status, minor, currency, occurred_at, entry_id, clues, parent, order, gateway, country, traits,
     payments, arrives_at, automatic, itemised, trace, return_entry_id, rate, counted, counted_in,
     destination) = values  # fmt: skip
    return Movement(
        ref=ref,
        role=_ROLES[role],
        condition=_CONDITIONS[condition],
        status=status,
        amount=Money(minor, currency),
        occurred_at=from_micros(occurred_at or 0),  # which was left out once
        entry_id=entry_id,
        clues=tuple([Clue(_KEYS[key], value) for key, value in _twos(clues)]) if clues else (),
        parent=parent,
        order=order,
        gateway=gateway,
        country=country,
        traits=tuple(traits or ()),
        payments=tuple(_twos(payments)) if payments else (),
        arrives_at=None if arrives_at is None else from_micros(arrives_at),
        automatic=bool(automatic),
        itemised=bool(itemised),
        trace=trace,
        return_entry_id=return_entry_id,
        rate=None if rate is None else Decimal(rate),
        counts_as=None if counted_in is None else Money(counted, counted_in),
        destination=destination,
    )


def _twos(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


_ROLES = {each.value: each for each in Role}
_CONDITIONS = {each.value: each for each in Condition}
_KEYS = {each.value: each for each in Key}


# --- names ----------------------------------------------------------------------------------------


def names_of(each: Movement) -> set[int]:
    """Under which names others may mean this one, or it them."""
    named = {each.ref.id, *(clue.value for clue in each.clues), *(payment for payment, _ in each.payments)}
    if each.parent:
        named.add(each.parent)
    return {name_of(text) for text in named}


def name_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True)
