"""Keeping readings as rows, and setting groups of them aside that are settled among themselves.

All of it is a projection that may lag behind, be thrown away and be made anew: reports ask `movements` and here for
whatever is unread, open, or cut by their period, and get the same answer at any state of it (docs/decisions/0043).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text

from reconciler.clock import to_micros
from reconciler.ledger import carried
from reconciler.ledger.apply import INSERT_UNREAD
from reconciler.ledger.bulk import WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.movements import GROUPED, OPEN, ROW, UNGROUPED, Known, chunks, encoded, known, names_of
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef
from reconciler.movements import Movement


def _ids(sql: str) -> Any:
    return text(sql).bindparams(bindparam("ids", expanding=True))


# --- reading ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unread:
    """A version to read; `superseded_at` is when the next one was recorded."""

    resource_id: int
    version: int
    row: Any
    superseded_at: int | None

    @property
    def ref(self) -> ResourceRef:
        return ResourceRef(self.row.provider, self.row.account, self.row.kind, self.row.remote_id)


_UNREAD = text(
    """
    SELECT u.resource_id, u.version, r.provider, r.account, r.kind, r.remote_id, v.body, v.api_version, v.recorded_at,
      w.recorded_at AS superseded_at
    FROM unread u JOIN resource r ON r.id = u.resource_id
      JOIN version v ON v.resource_id = u.resource_id AND v.version = u.version
      LEFT JOIN version w ON w.resource_id = u.resource_id AND w.version = u.version + 1
    WHERE (u.resource_id, u.version) > (:resource_id, :version)
    ORDER BY u.resource_id, u.version LIMIT :limit
    """
)
_COUNT_UNREAD = text("SELECT count(*) FROM unread")
_SOURCES = _ids("SELECT DISTINCT resource_id, source_id FROM entry WHERE resource_id IN :ids AND source_id IS NOT NULL")
_INSERT_MOVEMENT = insert_into(
    "movement",
    {
        "resource_id": WHOLE,
        "version": WHOLE,
        "ordinal": WHOLE,
        "provider": WORDS,
        "account": WORDS,
        "kind": WORDS,
        "remote_id": WORDS,
        "reading": WORDS,
        "recorded_at": WHOLE,
        "superseded_at": WHOLE,
        "group_id": WHOLE,
    },
)
_INSERT_NAME = insert_into(
    "movement_name", {"name": WHOLE, "resource_id": WHOLE}, "ON CONFLICT (name, resource_id) DO NOTHING"
)
_DELETE_MOVEMENT = text("DELETE FROM movement WHERE resource_id = :resource_id AND version = :version")
_DELETE_UNREAD = text("DELETE FROM unread WHERE resource_id = :resource_id AND version = :version")
_SUPERSEDE = text(
    "UPDATE movement SET superseded_at = :at WHERE resource_id = :resource_id AND version = :version"
    " AND superseded_at IS NULL"
)


def behind(tx: Transaction) -> int:
    """How many versions nobody has read yet."""
    return int(tx.run(_COUNT_UNREAD).scalar_one())


def unread(tx: Transaction, *, after: tuple[int, int], limit: int) -> list[Unread]:
    given = {"resource_id": after[0], "version": after[1], "limit": limit}
    return [Unread(row.resource_id, row.version, row, row.superseded_at) for row in tx.run(_UNREAD, given)]


def sources(tx: Transaction, resource_ids: Collection[int]) -> dict[int, set[str]]:
    """Resource -> what its entries say caused them."""
    found: dict[int, set[str]] = {}
    for some in chunks(resource_ids):
        for row in tx.run(_SOURCES, {"ids": some}):
            found.setdefault(row.resource_id, set()).add(row.source_id)
    return found


def keep(tx: Transaction, read: Sequence[tuple[Unread, Sequence[Movement]]], met: Collection[int]) -> None:
    """Keep readings as rows; from now on the entries of these versions belong to the spans that carry them.

    `met`: names under which they may mean something kept earlier, to be looked at anew.
    """
    carried.forget_of_resources(tx, {each.resource_id for each, _ in read})
    keys = [{"resource_id": each.resource_id, "version": each.version} for each, _ in read]
    tx.run_many(_DELETE_MOVEMENT, [key for key, (_, movements) in zip(keys, read, strict=True) if movements])
    _INSERT_MOVEMENT.run(
        tx,
        [
            {
                "resource_id": each.resource_id,
                "version": each.version,
                "ordinal": ordinal,
                "provider": movement.ref.provider,
                "account": movement.ref.account,
                "kind": movement.ref.kind,
                "remote_id": movement.ref.id,
                "reading": encoded(movement),
                "recorded_at": each.row.recorded_at,
                "superseded_at": each.superseded_at,
                "group_id": None if movement.role in GROUPED else UNGROUPED,
            }
            for each, movements in read
            for ordinal, movement in enumerate(movements)
        ],
    )
    later = [
        {"resource_id": each.resource_id, "version": each.version - 1, "at": each.row.recorded_at}
        for each, _ in read
        if each.version > 1
    ]
    tx.run_many(_SUPERSEDE, later)
    named = {
        (name, each.resource_id)
        for each, movements in read
        for movement in movements
        if movement.role in GROUPED
        for name in names_of(movement)
    }
    release(tx, met)
    _INSERT_NAME.run(tx, [{"name": name, "resource_id": resource_id} for name, resource_id in sorted(named)])
    tx.run_many(_DELETE_UNREAD, keys)


def read_again(tx: Transaction, versions: Sequence[tuple[int, int]]) -> None:
    """After bodies changed: what was kept of them is forgotten in the same commit.

    Their groups are given up here, while their rows still tell which they are: a group whose every row is gone would be
    found by nobody, and count beside what is read anew. Whoever is setting them aside right now loses the turn.
    """
    if not versions:
        return
    carried.take_turn(tx)
    ids = sorted({resource_id for resource_id, _ in versions})
    release_groups(tx, {row.group_id for row in tx.run(_GROUPS_OF, {"ids": ids})})
    keys = [{"resource_id": resource_id, "version": version} for resource_id, version in versions]
    tx.run_many(_DELETE_MOVEMENT, keys)
    INSERT_UNREAD.run(tx, keys)


# --- who belongs to whom --------------------------------------------------------------------------

_MEETING = _ids("SELECT DISTINCT resource_id FROM movement_name WHERE name IN :ids")
_MET_GROUPS = _ids(
    "SELECT DISTINCT m.group_id FROM movement_name n JOIN movement m ON m.resource_id = n.resource_id"
    f" WHERE n.name IN :ids AND m.group_id > {OPEN}"
)
_GROUPS_OF = _ids(f"SELECT DISTINCT group_id FROM movement WHERE resource_id IN :ids AND group_id > {OPEN}")
_LOOK_AGAIN = _ids(
    "UPDATE movement SET group_id = NULL WHERE group_id = 0"
    " AND resource_id IN (SELECT resource_id FROM movement_name WHERE name IN :ids)"
)
_RELEASE = (
    _ids("UPDATE movement SET group_id = NULL WHERE group_id IN :ids"),
    _ids("DELETE FROM aside_flow WHERE group_id IN :ids"),
    _ids("DELETE FROM aside_group WHERE id IN :ids"),
)


def met_groups(tx: Transaction, names: Collection[int]) -> set[int]:
    """Groups set aside that have something to do with any of these names."""
    return {row.group_id for some in chunks(names) for row in tx.run(_MET_GROUPS, {"ids": some})}


def release(tx: Transaction, names: Collection[int]) -> None:
    """Whatever goes by one of these names, and its whole group, is to be looked at anew."""
    release_groups(tx, met_groups(tx, names))
    for some in chunks(names):
        tx.run(_LOOK_AGAIN, {"ids": some})


def release_groups(tx: Transaction, groups: Collection[int]) -> None:
    for some in chunks(groups):
        for statement in _RELEASE:
            tx.run(statement, {"ids": some})


_UNLOOKED = text("SELECT DISTINCT resource_id FROM movement WHERE group_id IS NULL LIMIT :limit")
_OF_RESOURCES = _ids(f"SELECT {ROW}, m.superseded_at, m.group_id FROM movement m WHERE m.resource_id IN :ids")


@dataclass(frozen=True, slots=True)
class Kept:
    """One reading as it is kept."""

    resource_id: int
    known: Known
    superseded_at: int | None
    group_id: int | None


def unlooked(tx: Transaction, limit: int) -> set[int]:
    """Resources that nobody looked at since they were read."""
    return {row.resource_id for row in tx.run(_UNLOOKED, {"limit": limit})}


def kept(tx: Transaction, resource_ids: Collection[int]) -> Iterator[Kept]:
    """Every reading of these resources, superseded ones included."""
    for some in chunks(resource_ids):
        for row in tx.run(_OF_RESOURCES, {"ids": some}):
            if row.group_id != UNGROUPED:
                yield Kept(row.resource_id, known(row), row.superseded_at, row.group_id)


def meeting(tx: Transaction, names: Collection[int]) -> set[int]:
    """Resources that go by any of these names."""
    return {row.resource_id for some in chunks(names) for row in tx.run(_MEETING, {"ids": some})}


_CHANGED = text(
    """
    SELECT source_id, max(recorded_at) AS recorded_at, max(superseded_at) AS superseded_at
    FROM entry WHERE account = :account AND source_id IN :ids GROUP BY source_id
    """
).bindparams(bindparam("ids", expanding=True))


def entries_changed(tx: Transaction, account: str, source_ids: Collection[str]) -> dict[str, int]:
    """Source -> when the last word about its entries became known."""
    return {
        row.source_id: max(row.recorded_at, row.superseded_at or 0)
        for some in chunks(source_ids)
        for row in tx.run(_CHANGED, {"account": account, "ids": some})
    }


# --- setting aside --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flow:
    """What a plain group's two legs say in a report; both are `minor`, in the unit that all accounts share."""

    code: str
    key: str
    currency: str
    minor: int
    left_ref: str
    right_ref: str
    country: str | None
    earlier: datetime
    later: datetime
    group_id: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    resource_ids: tuple[int, ...]
    first_at: datetime
    last_at: datetime
    changed_at: int
    flows: tuple[Flow, ...] | None
    """None: what it says in a period that cuts into it is only seen from its members."""


_INSERT_GROUP = insert_into(
    "aside_group", {"id": WHOLE, "first_at": WHOLE, "last_at": WHOLE, "changed_at": WHOLE, "plain": WHOLE}
)
_INSERT_FLOW = insert_into(
    "aside_flow",
    {
        "group_id": WHOLE,
        "ordinal": WHOLE,
        "code": WORDS,
        "key": WORDS,
        "currency": WORDS,
        "minor": WHOLE,
        "left_ref": WORDS,
        "right_ref": WORDS,
        "country": WORDS,
        "earlier": WHOLE,
        "later": WHOLE,
        "changed_at": WHOLE,
    },
)
_JOIN = Bulk(
    "UPDATE movement SET group_id = {group_id} {_rows} WHERE movement.resource_id = {resource_id}"
    f" AND COALESCE(movement.group_id, {OPEN}) <> {UNGROUPED}",
    {"group_id": WHOLE, "resource_id": WHOLE},
)


def set_aside(tx: Transaction, groups: Sequence[Group], open_ids: Collection[int]) -> None:
    """Write down what was found: groups, and what stays open until something new comes."""
    ids = tx.ticks(len(groups))
    _INSERT_GROUP.run(
        tx,
        [
            {
                "id": group_id,
                "first_at": to_micros(group.first_at),
                "last_at": to_micros(group.last_at),
                "changed_at": group.changed_at,
                "plain": 0 if group.flows is None else 1,
            }
            for group_id, group in zip(ids, groups, strict=True)
        ],
    )
    _INSERT_FLOW.run(
        tx,
        [
            {
                "group_id": group_id,
                "ordinal": ordinal,
                "code": flow.code,
                "key": flow.key,
                "currency": flow.currency,
                "minor": flow.minor,
                "left_ref": flow.left_ref,
                "right_ref": flow.right_ref,
                "country": flow.country,
                "earlier": to_micros(flow.earlier),
                "later": to_micros(flow.later),
                "changed_at": group.changed_at,
            }
            for group_id, group in zip(ids, groups, strict=True)
            for ordinal, flow in enumerate(group.flows or ())
        ],
    )
    places = [
        *(
            {"group_id": group_id, "resource_id": resource_id}
            for group_id, group in zip(ids, groups, strict=True)
            for resource_id in group.resource_ids
        ),
        *({"group_id": OPEN, "resource_id": resource_id} for resource_id in sorted(open_ids)),
    ]
    _JOIN.run(tx, places)
