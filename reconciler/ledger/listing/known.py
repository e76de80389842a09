"""Resources, in the order of their references, by what they are; and by the beginning of an id."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import text

from reconciler.ledger.listing.stretch import FOREVER, Stretch, instant, micros
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef, State

SCANNED: Final = 20_000
SCANNED_AS_OF: Final = 5_000
"""Resources, where each needs a look at its versions too."""
_FEW_ARE: Final = 5_000
"""Of what an index finds, so many are put into order for each page; of more, a walk meets the next ones soon."""


@dataclass(frozen=True, slots=True)
class ListedResource:
    """As it is known; or, as of an instant, as it was known then: then nothing that only the present has is told."""

    ref: ResourceRef
    state: State
    status: str | None
    version: int
    changed_at: datetime | None
    """When the version was recorded."""
    created_at: datetime | None
    dirty: bool
    dead: bool
    fetched_at: datetime | None


@dataclass(frozen=True, slots=True)
class ResourceFilter:
    account: str = ""
    kind: str = ""
    status: str = ""
    condition: str = ""
    """`dirty`, `dead`, `deleted`, `present`, `unknown`, or nothing."""
    as_of: datetime | None = None


_LAST: Final = "\U0010ffff"
"""Behind every name."""
_CONDITIONS: Final = {
    "dirty": "r.generation > r.settled_generation",
    "dead": "r.dead_at IS NOT NULL AND r.discarded_at IS NULL",
    "deleted": "{state} = 'deleted'",
    "present": "{state} = 'present'",
    "unknown": "{state} = 'unknown'",
}
CONDITIONS: Final = tuple(_CONDITIONS)
_COLUMNS: Final = """
  r.id, r.provider, r.account, r.kind, r.remote_id, r.state, r.status, r.version, r.created_at, r.generation,
  r.settled_generation, r.dead_at, r.discarded_at, r.fetched_at
"""
_FEW: Final = {
    # A dirty row has a wake-up time, and both have a partial index: what is rare is found without a walk.
    "dirty": "SELECT {columns} FROM resource r WHERE r.due_at IS NOT NULL LIMIT :few",
    "dead": "SELECT {columns} FROM resource r WHERE r.dead_at IS NOT NULL LIMIT :few",
}
_FEW_OF_STATUS: Final = """
  SELECT {columns} FROM {pairs} CROSS JOIN resource r
  WHERE r.account = p.account AND r.kind = p.kind AND r.status = :status LIMIT :few
"""
_WALK: Final = f"""
  SELECT {_COLUMNS} FROM resource r WHERE {{place}} ORDER BY r.account, r.kind, r.remote_id LIMIT :scan
"""
_NOW: Final = """
  SELECT p.*, p.state AS then_state, p.status AS then_status, p.version AS then_version, v.recorded_at
  FROM (SELECT * FROM ({inner}) r {where} ORDER BY r.account, r.kind, r.remote_id LIMIT :limit) p
  LEFT JOIN version v ON v.resource_id = p.id AND v.version = p.version
  ORDER BY p.account, p.kind, p.remote_id
"""
"""Filtered first, then joined: a version is looked up for the rows of the page alone."""
_THEN: Final = """
  SELECT r.*, COALESCE(v.state, 'unknown') AS then_state, v.status AS then_status,
    COALESCE(v.version, 0) AS then_version, v.recorded_at
  FROM ({inner}) r LEFT JOIN version v ON v.resource_id = r.id AND v.version =
    (SELECT max(w.version) FROM version w WHERE w.resource_id = r.id AND w.recorded_at <= :as_of)
  {where} ORDER BY r.account, r.kind, r.remote_id LIMIT :limit
"""


def resources(
    tx: Transaction,
    wanted: ResourceFilter,
    *,
    pairs: Collection[tuple[str, str]],
    after: tuple[str, str, str] | None,
    limit: int,
) -> Stretch:
    """In the order of their references. `pairs`: every (account, kind) that there is, to look for a status in."""
    past = wanted.as_of is not None
    wanted = _with_account(wanted, pairs)
    place, start = _place(wanted, after or ("", "", ""))
    filters = _filters(wanted)
    given: dict[str, Any] = {
        **start,
        "only_account": wanted.account,
        "only_kind": wanted.kind,
        "status": wanted.status,
        "as_of": micros(wanted.as_of, FOREVER),
        "scan": (SCANNED_AS_OF if past else SCANNED) if filters else limit,
        "limit": limit,
        "few": _FEW_ARE,
        "pairs": pairs_json(pairs),
    }
    few = None if past else _few(tx, wanted)
    if few is not None and _count(tx, few, given) < _FEW_ARE:
        inner, walks, filters = few.format(columns=_COLUMNS), False, [*filters, place]
    else:
        inner, walks = _WALK.format(place=place), bool(filters)
    where = f"WHERE {' AND '.join(filters)}" if filters else ""
    rows = tx.run(text((_THEN if past else _NOW).format(inner=inner, where=where)), given).all()
    found = tuple(_listed(row, past=past) for row in rows)
    if len(rows) == limit:
        return Stretch(found, (rows[-1].account, rows[-1].kind, rows[-1].remote_id))
    if not walks:
        return Stretch(found, None)
    # Where the look ended, not where a page begins: an index is stepped along, no row is read.
    edge = inner.replace(_COLUMNS, "r.account, r.kind, r.remote_id").replace("LIMIT :scan", "LIMIT 1 OFFSET :last")
    last = tx.run(text(edge), given | {"last": given["scan"] - 1}).one_or_none()
    return Stretch(found, None if last is None else (last.account, last.kind, last.remote_id), cut=last is not None)


def _with_account(wanted: ResourceFilter, pairs: Collection[tuple[str, str]]) -> ResourceFilter:
    """A kind that only one account has is looked for there, along the index."""
    owners = {account for account, kind in pairs if kind == wanted.kind}
    return replace(wanted, account=owners.pop()) if len(owners) == 1 and not wanted.account else wanted


def _place(wanted: ResourceFilter, start: tuple[str, str, str]) -> tuple[str, dict[str, str]]:
    """What comes behind a place, in the words of the index; and the place."""
    account, kind, remote_id = start
    if not wanted.account:
        where = "(r.account, r.kind, r.remote_id) > (:account, :kind, :remote_id)"
        return where, {"account": account, "kind": kind, "remote_id": remote_id}
    if wanted.account != account:
        kind, remote_id = ("", "") if account < wanted.account else (_LAST, "")
    if not wanted.kind:
        where = "r.account = :only_account AND (r.kind, r.remote_id) > (:kind, :remote_id)"
        return where, {"kind": kind, "remote_id": remote_id}
    if wanted.kind != kind:
        remote_id = "" if kind < wanted.kind else _LAST
    return "r.account = :only_account AND r.kind = :only_kind AND r.remote_id > :remote_id", {"remote_id": remote_id}


def _count(tx: Transaction, few: str, given: Mapping[str, Any]) -> int:
    return int(tx.run(text(f"SELECT count(*) FROM ({few.format(columns='r.id')}) f"), given).scalar_one())


def _filters(wanted: ResourceFilter) -> list[str]:
    past = wanted.as_of is not None
    state, status = ("COALESCE(v.state, 'unknown')", "v.status") if past else ("r.state", "r.status")
    found = []
    if wanted.status:
        found.append(f"{status} = :status")
    if wanted.condition:
        found.append(_CONDITIONS[wanted.condition].format(state=state))
    if wanted.kind and not wanted.account:
        found.append("r.kind = :only_kind")
    if past:
        found.append("v.version IS NOT NULL")
    return found


def _few(tx: Transaction, wanted: ResourceFilter) -> str | None:
    """What an index says of the filter: everything that could pass it, if that is not too much."""
    if wanted.condition in _FEW:
        return _FEW[wanted.condition]
    return _FEW_OF_STATUS.replace("{pairs}", pairs_of(tx)) if wanted.status else None


def _listed(row: Any, *, past: bool) -> ListedResource:
    return ListedResource(
        ref=ResourceRef(row.provider, row.account, row.kind, row.remote_id),
        state=State(row.then_state),
        status=row.then_status,
        version=row.then_version,
        changed_at=instant(row.recorded_at),
        created_at=instant(row.created_at),
        dirty=not past and row.generation > row.settled_generation,
        dead=not past and row.dead_at is not None and row.discarded_at is None,
        fetched_at=None if past else instant(row.fetched_at),
    )


_PAIRS_SQLITE: Final = (
    "(SELECT json_extract(value, '$[0]') AS account, json_extract(value, '$[1]') AS kind FROM json_each(:pairs)) p"
)
_PAIRS_POSTGRES: Final = (
    "(SELECT value ->> 0 AS account, value ->> 1 AS kind FROM json_array_elements(CAST(:pairs AS json))) p"
)
_FIND: Final = """
  SELECT r.provider, r.account, r.kind, r.remote_id FROM {pairs}
  JOIN resource r ON r.account = p.account AND r.kind = p.kind AND r.remote_id >= :low AND r.remote_id < :high
  ORDER BY r.remote_id <> :low, r.account, r.kind, r.remote_id LIMIT :limit
"""


def pairs_of(tx: Transaction) -> str:
    """The (account, kind) of the parameter `pairs`, as a table `p`."""
    return _PAIRS_POSTGRES if tx.dialect.is_postgres else _PAIRS_SQLITE


def pairs_json(pairs: Collection[tuple[str, str]]) -> str:
    return orjson.dumps(sorted(pairs)).decode()


def find(tx: Transaction, beginning: str, pairs: Collection[tuple[str, str]], *, limit: int) -> list[ResourceRef]:
    """Resources of these (account, kind) whose ids begin so; one of exactly this id comes first."""
    given = {"pairs": pairs_json(pairs), "low": beginning, "high": beginning + _LAST, "limit": limit}
    rows = tx.run(text(_FIND.format(pairs=pairs_of(tx))), given)
    return [ResourceRef(row.provider, row.account, row.kind, row.remote_id) for row in rows]
