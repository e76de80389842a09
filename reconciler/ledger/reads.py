"""What people and sweeps read out of the ledger. Nothing here writes; every list has a bound."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import bindparam, text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger import alerts, anomalies, buckets, claims, expectations, gates, jobs
from reconciler.ledger.coverage import Coverage, coverage
from reconciler.ledger.gates import Gate
from reconciler.ledger.links import deliveries_naming
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, ResourceRef, State, changed_fields


@dataclass(frozen=True, slots=True)
class Resource:
    """One row of the ledger, as people see it."""

    id: int
    ref: ResourceRef
    state: State
    generation: int
    settled_generation: int
    version: int
    priority: int
    attempts: int
    last_error: str | None
    leased: bool
    first_marked_at: datetime | None
    last_marked_at: datetime | None
    due_at: datetime | None
    dead_at: datetime | None
    discarded_at: datetime | None
    fetched_at: datetime | None
    status: str | None
    created_at: datetime | None
    content_hash: str | None

    @property
    def dirty(self) -> bool:
        return self.generation > self.settled_generation


@dataclass(frozen=True, slots=True)
class Version:
    version: int
    state: State
    body: Mapping[str, Any] | None
    content_hash: str
    cause: Cause
    recorded_at: datetime
    fetched_at: datetime
    api_version: str
    changed: tuple[str, ...]
    """Dotted paths that differ from the version before; `*` where the whole object came or went."""


@dataclass(frozen=True, slots=True)
class LoggedDelivery:
    id: int
    account: str
    event_id: str | None
    type: str | None
    received_at: datetime
    verdict: str
    reason: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Holding:
    """How many resources of a kind there are, and in which condition."""

    account: str
    kind: str
    total: int
    present: int
    deleted: int
    dirty: int
    dead: int
    discarded: int
    oldest_dirty_at: datetime | None
    """Since when the oldest mark waits to be read. What a dead letter waits for is somebody to mend it."""


@dataclass(frozen=True, slots=True)
class Open:
    """A resource whose status is not final."""

    ref: ResourceRef
    status: str
    created_at: datetime
    fetched_at: datetime | None
    dirty: bool


@dataclass(frozen=True, slots=True)
class OpenFinding:
    account: str
    code: str
    subject: str
    severity: str
    text: str
    remedy: str
    first_seen_at: datetime


_RESOURCE_COLUMNS = """
  id, provider, account, kind, remote_id, state, generation, settled_generation, version, priority, attempts,
  last_error, lease_until, first_marked_at, last_marked_at, due_at, dead_at, discarded_at, fetched_at, status,
  created_at, content_hash
"""
_RESOURCE = text(
    f"SELECT {_RESOURCE_COLUMNS} FROM resource WHERE account = :account AND kind = :kind AND remote_id = :remote_id"
)
_RESOURCES_AFTER = """
  SELECT {columns} FROM resource
  WHERE (account, kind, remote_id) > (:account, :kind, :remote_id) {more}
  ORDER BY account, kind, remote_id LIMIT :limit
"""
_VERSIONS = text(
    """
    SELECT version, state, body, content_hash, cause, recorded_at, fetched_at, api_version FROM version
    WHERE resource_id = :id AND recorded_at <= :as_of ORDER BY version
    """
).execution_options(stream_results=True, yield_per=8)
_OF_RESOURCE = "d.account, d.event_id, d.type, d.received_at, d.verdict, d.reason, d.size"
_NEXT_KIND = text(
    "SELECT account, kind, provider FROM resource"
    " WHERE (account, kind) > (:account, :kind) ORDER BY account, kind LIMIT 1"
)
_HOLDINGS = text(
    """
    SELECT account, kind, count(*) AS total,
      sum(CASE WHEN state = 'present' THEN 1 ELSE 0 END) AS present,
      sum(CASE WHEN state = 'deleted' THEN 1 ELSE 0 END) AS deleted,
      sum(CASE WHEN generation > settled_generation THEN 1 ELSE 0 END) AS dirty,
      sum(CASE WHEN dead_at IS NOT NULL AND discarded_at IS NULL THEN 1 ELSE 0 END) AS dead,
      sum(CASE WHEN discarded_at IS NOT NULL THEN 1 ELSE 0 END) AS discarded,
      min(CASE WHEN generation > settled_generation AND dead_at IS NULL THEN first_marked_at END) AS oldest
    FROM resource GROUP BY account, kind ORDER BY account, kind
    """
)
_TALLY = text("SELECT verdict, sum(count) AS how_many FROM delivery_tally GROUP BY verdict")
_NEVER_CAME = (
    "NOT EXISTS (SELECT 1 FROM delivery d WHERE d.account = m.account AND d.event_id = m.event_id"
    " AND d.verdict <> 'rejected')"
)
_MISSED = text(f"SELECT count(*) FROM missed_event m WHERE m.noticed_at >= :since AND {_NEVER_CAME}")
_MISSED_BY_TYPE = text(
    f"SELECT m.account, m.type, count(*) AS how_many FROM missed_event m WHERE m.noticed_at >= :since AND {_NEVER_CAME}"
    " GROUP BY m.account, m.type ORDER BY m.account, m.type"
)
_FINDINGS = text(
    """
    SELECT account, code, subject, severity, text, remedy, first_seen_at FROM finding
    WHERE cleared_at IS NULL ORDER BY account, code, subject
    """
)
_OPEN = text(
    """
    SELECT provider, account, kind, remote_id, status, created_at, fetched_at, generation, settled_generation
    FROM resource
    WHERE account = :account AND kind = :kind AND status IN :statuses AND created_at < :before
    ORDER BY created_at LIMIT :limit
    """
).bindparams(bindparam("statuses", expanding=True))
_CAUSES = text(
    """
    SELECT r.account, r.kind, v.cause, count(*) AS how_many
    FROM version v JOIN resource r ON r.id = v.resource_id
    WHERE v.recorded_at >= :since
    GROUP BY r.account, r.kind, v.cause ORDER BY r.account, r.kind, v.cause
    """
)
_DRIFT = text(
    """
    SELECT r.account, r.kind, v.cause, count(*) AS how_many
    FROM version v JOIN resource r ON r.id = v.resource_id
    WHERE v.recorded_at >= :since AND v.version > 1 AND v.cause <> 'webhook'
    GROUP BY r.account, r.kind, v.cause ORDER BY r.account, r.kind, v.cause
    """
)
_FOREVER = to_micros(datetime.fromisoformat("9999-12-31T00:00:00+00:00"))


_BACKLOG = text(
    """
    SELECT account, kind, priority, count(*) AS n FROM resource
    WHERE due_at IS NOT NULL AND generation > settled_generation AND dead_at IS NULL
    GROUP BY account, kind, priority ORDER BY account, kind, priority
    """
)
_SIZE_SQLITE = text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
_SIZE_POSTGRES = text("SELECT pg_database_size(current_database())")


class View:
    """One consistent view of the ledger."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    # --- one resource ---

    def resource(self, ref: ResourceRef) -> Resource | None:
        row = self._tx.run(_RESOURCE, {"account": ref.account, "kind": ref.kind, "remote_id": ref.id}).one_or_none()
        return None if row is None else _resource(row)

    def versions(self, resource: Resource, as_of: datetime | None = None) -> Iterator[Version]:
        """Every version known then, oldest first, each with what it changed. They are read while they are taken: a
        resource may have tens of thousands, and their bodies need not fit into memory together."""
        before: Mapping[str, Any] | None = None
        with self._tx.run(_VERSIONS, {"id": resource.id, "as_of": _limit(as_of)}) as rows:
            for row in rows:
                body = None if row.body is None else orjson.loads(self._tx.unpack(row.body, Place.VERSION))
                yield Version(
                    version=row.version,
                    state=State(row.state),
                    body=body,
                    content_hash=row.content_hash,
                    cause=Cause(row.cause),
                    recorded_at=from_micros(row.recorded_at),
                    fetched_at=from_micros(row.fetched_at),
                    api_version=row.api_version,
                    changed=tuple(changed_fields(before, body)),
                )
                before = body

    def deliveries_of(
        self, ref: ResourceRef, as_of: datetime | None = None, *, limit: int = 1000
    ) -> list[LoggedDelivery]:
        """Oldest first."""
        rows = deliveries_naming(self._tx, ref, _OF_RESOURCE, as_of=_limit(as_of), limit=limit, newest_first=False)
        return [
            LoggedDelivery(
                row.id,
                row.account,
                row.event_id,
                row.type,
                from_micros(row.received_at),
                row.verdict,
                row.reason,
                row.size,
            )
            for row in rows
        ]

    # --- all of them ---

    def resources(self, *, only_dirty: bool = False, page: int = 1000) -> Iterator[Resource]:
        """Every resource in key order, read page by page."""
        more = "AND generation > settled_generation" if only_dirty else ""
        statement = text(_RESOURCES_AFTER.format(columns=_RESOURCE_COLUMNS, more=more))
        after = {"account": "", "kind": "", "remote_id": ""}
        while True:
            rows = self._tx.run(statement, {**after, "limit": page}).all()
            yield from (_resource(row) for row in rows)
            if len(rows) < page:
                return
            last = rows[-1]
            after = {"account": last.account, "kind": last.kind, "remote_id": last.remote_id}

    def held(self) -> list[tuple[str, str]]:
        """Every account with each of its kinds of which the ledger has any: a step over an index for each of them,
        where `holdings` counts every row."""
        return [(account, kind) for account, kind, _ in self._held()]

    def providers(self) -> set[tuple[str, str]]:
        """Accounts of which the ledger holds anything, each with its provider: with several, where its name stood for
        an account at another one before."""
        return {(account, provider) for account, _, provider in self._held()}

    def _held(self) -> Iterator[tuple[str, str, str]]:
        account = kind = ""
        while (row := self._tx.run(_NEXT_KIND, {"account": account, "kind": kind}).one_or_none()) is not None:
            account, kind = str(row.account), str(row.kind)
            yield account, kind, str(row.provider)

    def holdings(self) -> list[Holding]:
        return [
            Holding(
                row.account,
                row.kind,
                int(row.total),
                int(row.present),
                int(row.deleted),
                int(row.dirty),
                int(row.dead),
                int(row.discarded),
                None if row.oldest is None else from_micros(row.oldest),
            )
            for row in self._tx.run(_HOLDINGS)
        ]

    def delivery_counts(self) -> dict[str, int]:
        """Deliveries by verdict since the ledger began, floods included."""
        counted = {row.verdict: int(row.how_many) for row in self._tx.run(_TALLY)}
        return {verdict: counted.get(verdict, 0) for verdict in ("stored", "duplicate", "rejected", "ignored")}

    def missed_events(self, since: datetime) -> int:
        return int(self._tx.run(_MISSED, {"since": to_micros(since)}).scalar_one())

    def missed_events_by_type(self, since: datetime) -> list[tuple[str, str, int]]:
        """(account, type, how many)."""
        rows = self._tx.run(_MISSED_BY_TYPE, {"since": to_micros(since)})
        return [(row.account, row.type, int(row.how_many)) for row in rows]

    def open_findings(self) -> list[OpenFinding]:
        return [
            OpenFinding(
                row.account, row.code, row.subject, row.severity, row.text, row.remedy, from_micros(row.first_seen_at)
            )
            for row in self._tx.run(_FINDINGS)
        ]

    def open_resources(
        self, account: str, kind: str, statuses: Sequence[str], *, created_before: datetime, limit: int
    ) -> list[Open]:
        """Resources in one of these statuses that were created before then, oldest first."""
        rows = self._tx.run(
            _OPEN,
            {
                "account": account,
                "kind": kind,
                "statuses": list(statuses),
                "before": to_micros(created_before),
                "limit": limit,
            },
        )
        return [
            Open(
                ResourceRef(row.provider, row.account, row.kind, row.remote_id),
                row.status,
                from_micros(row.created_at),
                None if row.fetched_at is None else from_micros(row.fetched_at),
                row.generation > row.settled_generation,
            )
            for row in rows
        ]

    def changes_by_cause(self, since: datetime) -> list[tuple[str, str, Cause, int]]:
        """(account, kind, cause, how many versions) recorded since then."""
        rows = self._tx.run(_CAUSES, {"since": to_micros(since)})
        return [(row.account, row.kind, Cause(row.cause), int(row.how_many)) for row in rows]

    def drift_by_cause(self, since: datetime) -> list[tuple[str, str, Cause, int]]:
        """Changes to resources we already knew that no webhook told us of: (account, kind, cause, how many)."""
        rows = self._tx.run(_DRIFT, {"since": to_micros(since)})
        return [(row.account, row.kind, Cause(row.cause), int(row.how_many)) for row in rows]

    # --- what other modules read through the same view ---

    def coverage(self, as_of: datetime) -> list[Coverage]:
        return coverage(self._tx, as_of)

    def gates(self) -> list[Gate]:
        return gates.gates(self._tx)

    def jobs(self) -> list[jobs.JobState]:
        return jobs.jobs(self._tx)

    def dead_letters(self, *, limit: int = 1000, with_discarded: bool = False) -> list[claims.DeadLetter]:
        return claims.dead_letters(self._tx, limit=limit, with_discarded=with_discarded)

    def read_tallies(self, since: datetime) -> list[buckets.ReadTally]:
        return buckets.read_tallies(self._tx, since)

    def backlog(self) -> list[tuple[str, str, int, int]]:
        """Account, kind, priority, and how many resources wait there to be read."""
        return [(row.account, row.kind, row.priority, row.n) for row in self._tx.run(_BACKLOG)]

    def size_bytes(self) -> int:
        """Of the database; on SQLite without its journal."""
        size = _SIZE_POSTGRES if self._tx.dialect.is_postgres else _SIZE_SQLITE
        return int(self._tx.run(size).scalar_one())

    def alerts(self) -> list[alerts.Alert]:
        """Conditions that somebody was or will be told of."""
        return alerts.alerts(self._tx)

    def anomalies(self, now: datetime) -> anomalies.Anomalies:
        """What is unusual about the deliveries of the last minutes."""
        return anomalies.anomalies(self._tx, now)

    def unconfirmed_expectations(
        self, account: str, kinds: Collection[str], now: datetime, *, limit: int = 1000
    ) -> list[expectations.Expectation]:
        return expectations.unconfirmed_expectations(self._tx, account, kinds, now, limit=limit)

    def unconfirmed_by_kind(self, now: datetime) -> dict[tuple[str, str], int]:
        return expectations.unconfirmed_by_kind(self._tx, now)


def _limit(as_of: datetime | None) -> int:
    return _FOREVER if as_of is None else to_micros(as_of)


def _resource(row: Any) -> Resource:
    return Resource(
        id=row.id,
        ref=ResourceRef(row.provider, row.account, row.kind, row.remote_id),
        state=State(row.state),
        generation=row.generation,
        settled_generation=row.settled_generation,
        version=row.version,
        priority=row.priority,
        attempts=row.attempts,
        last_error=row.last_error,
        leased=row.lease_until is not None,
        first_marked_at=_instant(row.first_marked_at),
        last_marked_at=_instant(row.last_marked_at),
        due_at=_instant(row.due_at),
        dead_at=_instant(row.dead_at),
        discarded_at=_instant(row.discarded_at),
        fetched_at=_instant(row.fetched_at),
        status=row.status,
        created_at=_instant(row.created_at),
        content_hash=row.content_hash,
    )


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
