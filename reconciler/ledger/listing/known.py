"""Resources, in the order of their references, by what they are; and by the beginning of an id."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import text

from reconciler.ledger.listing.stretch import FOREVER, Stretch, instant, micros
from reconciler.ledger.store import Transaction
from reconciler.model import ResourceRef, State

SCANNED: Final = 50_000
SCANNED_AS_OF: Final = 5_000
"""Resources, where each needs a look at its versions too."""


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


_CONDITIONS: Final = {
    "dirty": "r.generation > r.settled_generation",
    "dead": "r.dead_at IS NOT NULL AND r.discarded_at IS NULL",
    "deleted": "{state} = 'deleted'",
    "present": "{state} = 'present'",
    "unknown": "{state} = 'unknown'",
}
CONDITIONS: Final = tuple(_CONDITIONS)
_PAGE_OF_RESOURCES: Final = """
  SELECT r.id, r.provider, r.account, r.kind, r.remote_id, r.state, r.status, r.version, r.created_at, r.generation,
    r.settled_generation, r.dead_at, r.discarded_at, r.fetched_at
  FROM resource r WHERE (r.account, r.kind, r.remote_id) > (:account, :kind, :remote_id) {within}
  ORDER BY r.account, r.kind, r.remote_id LIMIT :scan
"""


def resources(tx: Transaction, wanted: ResourceFilter, *, after: tuple[str, str, str] | None, limit: int) -> Stretch:
    """In the order of their references."""
    past = wanted.as_of is not None
    state, status = ("COALESCE(v.state, 'unknown')", "v.status") if past else ("r.state", "r.status")
    filters = []
    if wanted.status:
        filters.append(f"{status} = :status")
    if wanted.condition:
        filters.append(_CONDITIONS[wanted.condition].format(state=state))
    if past:
        filters.append("v.version IS NOT NULL")
    scan = (SCANNED_AS_OF if past else SCANNED) if filters else limit
    within = "".join(f" AND r.{name} = :only_{name}" for name in ("account", "kind") if getattr(wanted, name))
    where = f"WHERE {' AND '.join(filters)}" if filters else ""
    then = "AND w.recorded_at <= :as_of" if past else ""
    version = f"(SELECT max(w.version) FROM version w WHERE w.resource_id = r.id {then})" if past else "r.version"
    inner = _PAGE_OF_RESOURCES.format(within=within)
    start = after or ("", "", "")
    given = {
        "account": start[0],
        "kind": start[1],
        "remote_id": start[2],
        "only_account": wanted.account,
        "only_kind": wanted.kind,
        "status": wanted.status,
        "as_of": micros(wanted.as_of, FOREVER),
        "scan": scan,
        "limit": limit,
    }
    if past:
        statement = f"""
          SELECT r.*, {state} AS then_state, {status} AS then_status, COALESCE(v.version, 0) AS then_version,
            v.recorded_at
          FROM ({inner}) r LEFT JOIN version v ON v.resource_id = r.id AND v.version = {version}
          {where} ORDER BY r.account, r.kind, r.remote_id LIMIT :limit
        """
    else:
        # Filtered first, then joined: a version is looked up for the rows of the page alone.
        statement = f"""
          SELECT p.*, p.state AS then_state, p.status AS then_status, p.version AS then_version, v.recorded_at
          FROM (SELECT * FROM ({inner}) r {where} ORDER BY r.account, r.kind, r.remote_id LIMIT :limit) p
          LEFT JOIN version v ON v.resource_id = p.id AND v.version = p.version
          ORDER BY p.account, p.kind, p.remote_id
        """
    rows = tx.run(text(statement), given).all()
    found = tuple(_listed(row, past=past) for row in rows)
    if len(rows) == limit:
        return Stretch(found, (rows[-1].account, rows[-1].kind, rows[-1].remote_id))
    if not filters:
        return Stretch(found, None)
    # Where the look ended, not where a page begins: an index is stepped along, no row is read.
    edge = inner.replace("LIMIT :scan", "LIMIT 1 OFFSET :last")
    last = tx.run(text(edge), given | {"last": scan - 1}).one_or_none()
    if last is None:
        return Stretch(found, None)
    return Stretch(found, (last.account, last.kind, last.remote_id), cut=True)


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


_FIND_SQLITE = text(
    """
    SELECT r.provider, r.account, r.kind, r.remote_id
    FROM (SELECT json_extract(value, '$[0]') AS account, json_extract(value, '$[1]') AS kind FROM json_each(:pairs)) p
    JOIN resource r ON r.account = p.account AND r.kind = p.kind AND r.remote_id >= :low AND r.remote_id < :high
    ORDER BY r.remote_id <> :low, r.account, r.kind, r.remote_id LIMIT :limit
    """
)
_FIND_POSTGRES = text(
    """
    SELECT r.provider, r.account, r.kind, r.remote_id
    FROM (SELECT value ->> 0 AS account, value ->> 1 AS kind FROM json_array_elements(CAST(:pairs AS json))) p
    JOIN resource r ON r.account = p.account AND r.kind = p.kind AND r.remote_id >= :low AND r.remote_id < :high
    ORDER BY r.remote_id <> :low, r.account, r.kind, r.remote_id LIMIT :limit
    """
)


def find(tx: Transaction, beginning: str, pairs: Collection[tuple[str, str]], *, limit: int) -> list[ResourceRef]:
    """Resources of these (account, kind) whose ids begin so; one of exactly this id comes first."""
    statement = _FIND_POSTGRES if tx.dialect.is_postgres else _FIND_SQLITE
    given = {
        "pairs": orjson.dumps(sorted(pairs)).decode(),
        "low": beginning,
        "high": f"{beginning}\U0010ffff",
        "limit": limit,
    }
    return [ResourceRef(row.provider, row.account, row.kind, row.remote_id) for row in tx.run(statement, given)]
