"""Lists for people, page by page: every statement has a bound, and goes on by key, never by offset.

Where no index answers a filter, a page looks at a bounded number of rows and says how far it came: going on is one more
page. So no filter makes a page slow, and none costs the intake an index more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.packing import Place
from reconciler.ledger.store import Transaction
from reconciler.model import Cause, ResourceRef, State

SCANNED_DELIVERIES: Final = 20_000
SCANNED_RESOURCES: Final = 50_000
SCANNED_AS_OF: Final = 5_000
"""Resources, where each needs a look at its versions too."""

_FOREVER: Final = to_micros(datetime.fromisoformat("9999-12-31T00:00:00+00:00"))
_NEVER: Final = 0


def _micros(at: datetime | None, default: int) -> int:
    return default if at is None else to_micros(at)


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


# --- resources ------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class Stretch:
    """A page of a list: its rows, and where the next page begins."""

    rows: tuple[Any, ...]
    after: tuple[Any, ...] | None
    """The key to go on from; None: this was all."""
    cut: bool = False
    """Not the rows, but the rows that were looked at have reached their bound: there may be more."""


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
    scan = (SCANNED_AS_OF if past else SCANNED_RESOURCES) if filters else limit
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
        "as_of": _micros(wanted.as_of, _FOREVER),
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
        changed_at=_instant(row.recorded_at),
        created_at=_instant(row.created_at),
        dirty=not past and row.generation > row.settled_generation,
        dead=not past and row.dead_at is not None and row.discarded_at is None,
        fetched_at=None if past else _instant(row.fetched_at),
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


# --- one resource ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredVersion:
    version: int
    state: State
    status: str | None
    body: bytes | None
    """Canonical JSON; None: a tombstone."""
    cause: Cause
    recorded_at: datetime
    fetched_at: datetime
    api_version: str
    content_hash: str


_VERSIONS = text(
    """
    SELECT version, state, status, body, cause, recorded_at, fetched_at, api_version, content_hash FROM version
    WHERE resource_id = :id AND version < :before AND recorded_at <= :as_of ORDER BY version DESC LIMIT :limit
    """
)
_COUNT_VERSIONS = text("SELECT count(*) FROM version WHERE resource_id = :id AND recorded_at <= :as_of")


def versions(
    tx: Transaction, resource_id: int, *, as_of: datetime | None, before: int | None, limit: int
) -> list[StoredVersion]:
    """Newest first."""
    given = {"id": resource_id, "before": before or 2**62, "as_of": _micros(as_of, _FOREVER), "limit": limit}
    return [
        StoredVersion(
            row.version,
            State(row.state),
            row.status,
            None if row.body is None else tx.unpack(row.body, Place.VERSION),
            Cause(row.cause),
            from_micros(row.recorded_at),
            from_micros(row.fetched_at),
            row.api_version,
            row.content_hash,
        )
        for row in tx.run(_VERSIONS, given)
    ]


@dataclass(frozen=True, slots=True)
class EntryOf:
    """A money line, with the resource that it was read out of."""

    ref: ResourceRef
    version: int
    balance_type: str
    category: str
    currency: str
    gross: int
    fee: int
    net: int
    effective_at: datetime
    available_on: datetime | None
    source_id: str | None
    payout_id: str | None


_ENTRY_COLUMNS: Final = """
  r.provider, e.account, e.kind, e.remote_id, e.version, e.ordinal, e.resource_id, e.balance_type, e.category,
  e.currency, e.gross, e.fee, e.net, e.effective_at, e.available_on, e.source_id, e.payout_id
"""
_KNOWN: Final = "e.recorded_at <= :as_of AND (e.superseded_at IS NULL OR e.superseded_at > :as_of)"
_ENTRIES_OF = text(
    f"""
    SELECT * FROM (
    SELECT {_ENTRY_COLUMNS} FROM entry e JOIN resource r ON r.id = e.resource_id
    WHERE e.resource_id = :id AND {_KNOWN}
    UNION ALL
    SELECT {_ENTRY_COLUMNS} FROM entry e JOIN resource r ON r.id = e.resource_id
    WHERE e.account = :account AND e.source_id = :remote_id AND e.resource_id <> :id AND {_KNOWN}
    ) both_ways
    ORDER BY effective_at, resource_id, version, ordinal LIMIT :limit
    """
)


def entries_of(
    tx: Transaction, resource_id: int, ref: ResourceRef, *, as_of: datetime | None, limit: int
) -> list[EntryOf]:
    """The money lines that a resource is, and those that name it as their source."""
    given = {
        "id": resource_id,
        "account": ref.account,
        "remote_id": ref.id,
        "as_of": _micros(as_of, _FOREVER - 1),
        "limit": limit,
    }
    return [_entry(row) for row in tx.run(_ENTRIES_OF, given)]


def _entry(row: Any) -> EntryOf:
    return EntryOf(
        ResourceRef(row.provider, row.account, row.kind, row.remote_id),
        row.version,
        row.balance_type,
        row.category,
        row.currency,
        row.gross,
        row.fee,
        row.net,
        from_micros(row.effective_at),
        _instant(row.available_on),
        row.source_id,
        row.payout_id,
    )


_ENTRIES_BEHIND: Final = f"""
  SELECT {_ENTRY_COLUMNS} FROM entry e JOIN resource r ON r.id = e.resource_id
  WHERE e.account = :account AND e.balance_type = :balance_type AND e.currency = :currency
    AND e.effective_at >= :since AND e.effective_at < :until
    AND (e.effective_at > :since OR (e.resource_id, e.version, e.ordinal) > (:resource_id, :version, :ordinal))
    AND {_KNOWN} {{category}}
  ORDER BY e.effective_at, e.resource_id, e.version, e.ordinal LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """What a figure of the balance proof is the sum of."""

    account: str
    balance_type: str
    currency: str
    category: str
    """Empty: of every category."""
    since: datetime
    until: datetime
    as_of: datetime


def entries_behind(tx: Transaction, figure: Figure, *, after: tuple[int, int, int, int] | None, limit: int) -> Stretch:
    """The entries that a figure is the sum of, oldest first."""
    start = after or (to_micros(figure.since), -(2**62), 0, -1)
    statement = _ENTRIES_BEHIND.format(category="AND e.category = :category" if figure.category else "")
    given = {
        "account": figure.account,
        "balance_type": figure.balance_type,
        "currency": figure.currency,
        "category": figure.category,
        "since": start[0],
        "resource_id": start[1],
        "version": start[2],
        "ordinal": start[3],
        "until": to_micros(figure.until),
        "as_of": to_micros(figure.as_of),
        "limit": limit,
    }
    rows = tx.run(text(statement), given).all()
    last = rows[-1] if len(rows) == limit else None
    key = None if last is None else (last.effective_at, last.resource_id, last.version, last.ordinal)
    return Stretch(tuple(_entry(row) for row in rows), key)


# --- deliveries -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListedDelivery:
    id: int
    provider: str
    account: str
    event_id: str | None
    type: str | None
    received_at: datetime
    occurred_at: datetime | None
    verdict: str
    reason: str | None
    source: str
    size: int


@dataclass(frozen=True, slots=True)
class WholeDelivery:
    """With everything that was kept of the request."""

    listed: ListedDelivery
    headers: dict[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    account: str = ""
    verdict: str = ""
    type: str = ""
    """The whole type, or its beginning and a star."""
    event_id: str = ""
    since: datetime | None = None
    until: datetime | None = None


_DELIVERY_COLUMNS: Final = (
    "id, provider, account, event_id, type, received_at, occurred_at, verdict, reason, source, size"
)
_DELIVERY = text(f"SELECT {_DELIVERY_COLUMNS}, headers, body FROM delivery WHERE id = :id")
_BEFORE_DELIVERY: Final = """
  FROM delivery WHERE received_at >= :since AND received_at < :until AND (received_at, id) < (:at, :id)
  ORDER BY received_at DESC, id DESC
"""


def deliveries(tx: Transaction, wanted: DeliveryFilter, *, after: tuple[int, int] | None, limit: int) -> Stretch:
    """Newest first."""
    filters = []
    if wanted.account:
        filters.append("account = :account")
    if wanted.verdict:
        filters.append("verdict = :verdict")
    if wanted.type.endswith("*"):
        filters.append("type >= :type AND type < :type_end")
    elif wanted.type:
        filters.append("type = :type")
    if wanted.event_id:
        filters.append("event_id = :event_id")
    until = _micros(wanted.until, _FOREVER)
    start = after or (until, 2**62)
    beginning = wanted.type.removesuffix("*")
    given = {
        "since": _micros(wanted.since, _NEVER),
        "until": until,
        "at": start[0],
        "id": start[1],
        "account": wanted.account,
        "verdict": wanted.verdict,
        "type": beginning,
        "type_end": f"{beginning}\U0010ffff",
        "event_id": wanted.event_id,
        "scan": SCANNED_DELIVERIES if filters else limit,
        "limit": limit,
    }
    if wanted.event_id and wanted.account:
        # An index knows these: nothing to look through.
        where = " AND ".join([*filters, "received_at >= :since", "received_at < :until"])
        statement = f"""
          SELECT {_DELIVERY_COLUMNS} FROM delivery WHERE {where} AND (received_at, id) < (:at, :id)
          ORDER BY received_at DESC, id DESC LIMIT :limit
        """
    else:
        where = f"WHERE {' AND '.join(filters)}" if filters else ""
        statement = f"""
          SELECT {_DELIVERY_COLUMNS} FROM (SELECT {_DELIVERY_COLUMNS} {_BEFORE_DELIVERY} LIMIT :scan) seen
          {where} ORDER BY received_at DESC, id DESC LIMIT :limit
        """
    rows = tx.run(text(statement), given).all()
    found = tuple(_delivery(row) for row in rows)
    if len(rows) == limit:
        return Stretch(found, (rows[-1].received_at, rows[-1].id))
    if not filters or (wanted.event_id and wanted.account):
        return Stretch(found, None)
    edge = f"SELECT received_at, id {_BEFORE_DELIVERY} LIMIT 1 OFFSET :last"
    last = tx.run(text(edge), given | {"last": SCANNED_DELIVERIES - 1}).one_or_none()
    return Stretch(found, None if last is None else (last.received_at, last.id), cut=last is not None)


def delivery(tx: Transaction, delivery_id: int) -> WholeDelivery | None:
    row = tx.run(_DELIVERY, {"id": delivery_id}).one_or_none()
    if row is None:
        return None
    return WholeDelivery(
        _delivery(row), orjson.loads(row.headers), None if row.body is None else tx.unpack(row.body, Place.DELIVERY)
    )


_DELIVERIES_OF = text(
    """
    SELECT d.id, d.provider, d.account, d.event_id, d.type, d.received_at, d.occurred_at, d.verdict, d.reason,
      d.source, d.size
    FROM delivery_mark m JOIN delivery d ON d.id = m.delivery_id
    WHERE m.account = :account AND m.kind = :kind AND m.remote_id = :remote_id AND m.delivery_id < :before
      AND d.received_at <= :as_of
    ORDER BY m.delivery_id DESC LIMIT :limit
    """
)


def deliveries_of(
    tx: Transaction, ref: ResourceRef, *, as_of: datetime | None, before: int | None, limit: int
) -> list[ListedDelivery]:
    """Newest first."""
    given = {
        "account": ref.account,
        "kind": ref.kind,
        "remote_id": ref.id,
        "before": before or 2**62,
        "as_of": _micros(as_of, _FOREVER),
        "limit": limit,
    }
    return [_delivery(row) for row in tx.run(_DELIVERIES_OF, given)]


_NAMED: Final = """
  SELECT m.account, m.kind, m.remote_id FROM {given}
  JOIN delivery_mark m ON m.account = :account AND m.kind = g.kind AND m.remote_id >= g.low AND m.remote_id <= g.high
  WHERE m.delivery_id = :id ORDER BY m.kind, m.remote_id LIMIT 200
"""
_NAMED_SQLITE = text(
    _NAMED.format(
        given="(SELECT json_extract(value, '$[0]') AS kind, json_extract(value, '$[1]') AS low,"
        " json_extract(value, '$[2]') AS high FROM json_each(:given)) g"
    )
)
_NAMED_POSTGRES = text(
    _NAMED.format(
        given="(SELECT value ->> 0 AS kind, value ->> 1 AS low, value ->> 2 AS high"
        " FROM json_array_elements(CAST(:given AS json))) g"
    )
)


def named_by(
    tx: Transaction, delivery_id: int, provider: str, account: str, kinds: Collection[str], ids: Sequence[str]
) -> list[ResourceRef]:
    """Which of these resources, or of their parts, a delivery named.

    Marks lie by resource, because that is how everybody else asks for them; an index by delivery would cost every
    webhook a write. The ids that a delivery may have named stand in its own body, so they are given here.
    """
    given = [[kind, each, each] for kind in sorted(kinds) for each in ids]
    given += [[kind, f"{each}/", f"{each}/\U0010ffff"] for kind in sorted(kinds) for each in ids]
    statement = _NAMED_POSTGRES if tx.dialect.is_postgres else _NAMED_SQLITE
    rows = tx.run(statement, {"id": delivery_id, "account": account, "given": orjson.dumps(given).decode()})
    return list(dict.fromkeys(ResourceRef(provider, row.account, row.kind, row.remote_id) for row in rows))


def _delivery(row: Any) -> ListedDelivery:
    return ListedDelivery(
        row.id,
        row.provider,
        row.account,
        row.event_id,
        row.type,
        from_micros(row.received_at),
        _instant(row.occurred_at),
        row.verdict,
        row.reason,
        row.source,
        row.size,
    )


@dataclass(frozen=True, slots=True)
class DayTally:
    day: datetime
    account: str
    verdict: str
    count: int


_TALLIES = text(
    """
    SELECT day, account, verdict, sum(count) AS how_many FROM delivery_tally WHERE day >= :since AND day <= :until
    GROUP BY day, account, verdict ORDER BY day DESC, account, verdict
    """
)


def day_tallies(tx: Transaction, since: datetime, until: datetime) -> list[DayTally]:
    """Deliveries by day of UTC, floods included; newest day first."""
    given = {"since": to_micros(since), "until": to_micros(until)}
    return [
        DayTally(from_micros(row.day), row.account, row.verdict, int(row.how_many)) for row in tx.run(_TALLIES, given)
    ]


@dataclass(frozen=True, slots=True)
class MissedEvent:
    account: str
    event_id: str
    type: str
    occurred_at: datetime | None
    noticed_at: datetime


_MISSED: Final = """
  SELECT m.account, m.event_id, m.type, m.occurred_at, m.noticed_at FROM missed_event m
  WHERE m.noticed_at >= :noticed_since AND m.noticed_at <= :as_of
    AND COALESCE(m.occurred_at, m.noticed_at) >= :since AND COALESCE(m.occurred_at, m.noticed_at) < :until
    AND (m.noticed_at, m.account, m.event_id) < (:at, :last_account, :last_event)
    AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.account = m.account AND d.event_id = m.event_id
                    AND d.verdict <> 'rejected' AND d.received_at <= :as_of)
    {account}
  ORDER BY m.noticed_at DESC, m.account DESC, m.event_id DESC LIMIT :limit
"""


def missed_events(
    tx: Transaction,
    *,
    account: str,
    since: datetime | None,
    until: datetime | None,
    as_of: datetime | None,
    after: tuple[int, str, str] | None,
    limit: int,
) -> Stretch:
    """Events that happened in a stretch of time and never reached us, the last noticed first."""
    start = after or (_FOREVER, "", "")
    statement = _MISSED.format(account="AND m.account = :account" if account else "")
    given = {
        "account": account,
        # Nothing is noticed before it happened.
        "noticed_since": _micros(since, _NEVER),
        "since": _micros(since, _NEVER),
        "until": _micros(until, _FOREVER),
        "as_of": _micros(as_of, _FOREVER),
        "at": start[0],
        "last_account": start[1],
        "last_event": start[2],
        "limit": limit,
    }
    rows = tx.run(text(statement), given).all()
    found = tuple(
        MissedEvent(row.account, row.event_id, row.type, _instant(row.occurred_at), from_micros(row.noticed_at))
        for row in rows
    )
    last = rows[-1] if len(rows) == limit else None
    return Stretch(found, None if last is None else (last.noticed_at, last.account, last.event_id))


# --- work -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobDetail:
    name: str
    due_at: datetime
    running_since: datetime | None
    """None: nobody runs it now."""
    owner: str | None
    watermark: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    last_error: str | None
    tries: int
    progress: dict[str, Any]


_JOB_COLUMNS: Final = (
    "name, due_at, lease_until, lease_owner, watermark, started_at, finished_at, last_error, tries, progress"
)
_PERIODIC = text(
    f"SELECT {_JOB_COLUMNS} FROM job WHERE name < 'backfill/' OR name >= 'backfill0' ORDER BY name LIMIT 1000"
)
_BACKFILLS = text(
    f"""
    SELECT {_JOB_COLUMNS} FROM job WHERE name >= 'backfill/' AND name < 'backfill0'
    ORDER BY COALESCE(started_at, 0) DESC, name LIMIT :limit
    """
)


def periodic_jobs(tx: Transaction, now: datetime) -> list[JobDetail]:
    return [_job(row, now) for row in tx.run(_PERIODIC)]


def backfill_jobs(tx: Transaction, now: datetime, *, limit: int) -> list[JobDetail]:
    """The last started first."""
    return [_job(row, now) for row in tx.run(_BACKFILLS, {"limit": limit})]


def _job(row: Any, now: datetime) -> JobDetail:
    running = row.lease_until is not None and from_micros(row.lease_until) > now
    return JobDetail(
        row.name,
        from_micros(row.due_at),
        _instant(row.started_at) if running else None,
        row.lease_owner if running else None,
        _instant(row.watermark),
        _instant(row.started_at),
        _instant(row.finished_at),
        row.last_error,
        row.tries,
        orjson.loads(row.progress),
    )
