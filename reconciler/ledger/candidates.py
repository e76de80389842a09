"""Which resources sweeps and deadlines should look at again: bounded questions, answered from indexes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import bindparam, text

from reconciler.clock import from_micros, span_micros, to_micros
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef, Snapshot, Window

_UNSEEN = text(
    """
    SELECT provider, account, kind, remote_id FROM resource
    WHERE account = :account AND kind = :kind AND state = 'present' AND fetched_at < :before
      AND generation = settled_generation AND created_at >= :since AND created_at < :until
    ORDER BY fetched_at LIMIT :limit
    """
)
_UNSEEN_UNDATED = text(
    """
    SELECT provider, account, kind, remote_id FROM resource
    WHERE account = :account AND kind = :kind AND state = 'present' AND fetched_at < :before
      AND generation = settled_generation AND created_at IS NULL
    ORDER BY fetched_at LIMIT :limit
    """
)


def unseen(
    tx: Transaction, account: str, kind: str, *, window: Window, before: datetime, limit: int
) -> list[ResourceRef]:
    """Present and clean resources, created in the window, that no read since `before` has shown.

    In a window from the beginning of time also those of which nobody says when they were created.
    """
    asked = {"account": account, "kind": kind, "before": to_micros(before), "limit": limit}
    bounds = {"since": to_micros(window.since), "until": to_micros(window.until)}
    found = [_ref(row) for row in tx.run(_UNSEEN, asked | bounds)]
    if bounds["since"] <= 0:
        found += [_ref(row) for row in tx.run(_UNSEEN_UNDATED, asked)]
    return found[:limit]


_LONGEST_KNOWN = text(
    """
    SELECT resource.id, provider, account, kind, remote_id FROM resource
    JOIN version ON version.resource_id = resource.id AND version.version = 1 AND recorded_at <= :before
    WHERE account = :account AND kind = :kind AND resource.state = 'present' AND created_at >= :since
    ORDER BY resource.id LIMIT :each
    """
)


def longest_known(
    tx: Transaction, account: str, kinds: Collection[str], *, since: datetime, before: datetime, each: int, limit: int
) -> list[ResourceRef]:
    """Of present resources created since then, and known `before`, those that the ledger has had for longest: at most
    `each` of a kind."""
    asked = {"account": account, "since": to_micros(since), "before": to_micros(before), "each": each}
    rows = [row for kind in kinds for row in tx.run(_LONGEST_KNOWN, asked | {"kind": kind})]
    return [_ref(row) for row in sorted(rows, key=lambda row: row.id)[:limit]]


_SHARED = text(
    """
    SELECT r.provider, o.account, r.kind, r.remote_id
    FROM (SELECT provider, kind, remote_id, content_hash FROM resource
          WHERE account = :account AND kind = :kind AND state = 'present' AND created_at IS NOT NULL
          ORDER BY created_at DESC LIMIT :each) r
    JOIN resource o ON o.account IN :others AND o.kind = r.kind AND o.remote_id = r.remote_id
                   AND o.provider = r.provider AND o.state = 'present' AND o.content_hash = r.content_hash
    """
).bindparams(bindparam("others", expanding=True))


def shared(
    tx: Transaction, account: str, others: Collection[str], kinds: Collection[str], *, each: int
) -> dict[str, ResourceRef]:
    """By other account: a resource, among the `each` newest of a kind of this one, that it holds too, with the same
    body: a provider may number each account's resources from one."""
    asked = {"account": account, "others": sorted(others), "each": each}
    found = [_ref(row) for kind in kinds for row in tx.run(_SHARED, asked | {"kind": kind})] if others else []
    return {ref.account: ref for ref in found}


_STALE_OPEN = text(
    """
    SELECT provider, account, kind, remote_id FROM resource
    WHERE account = :account AND kind = :kind AND status IN :statuses AND state = 'present'
      AND generation = settled_generation
      AND fetched_at + CASE WHEN (fetched_at - created_at) / 2 < :least THEN :least
                            ELSE (fetched_at - created_at) / 2 END <= :now
      AND created_at >= :oldest
    ORDER BY fetched_at LIMIT :limit
    """
).bindparams(bindparam("statuses", expanding=True))


def stale_open(
    tx: Transaction,
    account: str,
    kind: str,
    statuses: Sequence[str],
    *,
    least: timedelta,
    oldest: datetime,
    now: datetime,
    limit: int,
) -> list[ResourceRef]:
    """Open resources whose next look is due: each wait is half the age at the last read, and at least `least`."""
    rows = tx.run(
        _STALE_OPEN,
        {
            "account": account,
            "kind": kind,
            "statuses": list(statuses),
            "least": span_micros(least),
            "oldest": to_micros(oldest),
            "now": to_micros(now),
            "limit": limit,
        },
    )
    return [_ref(row) for row in rows]


def _is_overdue(at: str = "") -> str:
    return f"""account = :account{at} AND kind = :kind{at} AND status IN :statuses{at} AND state = 'present'
      AND created_at < :deadline{at} AND fetched_at < created_at + :after{at} AND generation = settled_generation"""


_OVERDUE = text(
    f"SELECT provider, account, kind, remote_id FROM resource WHERE {_is_overdue()} ORDER BY created_at LIMIT :limit"
).bindparams(bindparam("statuses", expanding=True))


@dataclass(frozen=True, slots=True)
class Deadline:
    """A resource of `kind` still in one of `statuses` this long after its creation is overdue."""

    account: str
    kind: str
    statuses: Sequence[str]
    after: timedelta

    def parameters(self, now: datetime, at: str = "") -> dict[str, Any]:
        return {
            f"account{at}": self.account,
            f"kind{at}": self.kind,
            f"statuses{at}": self.statuses,
            f"deadline{at}": to_micros(now - self.after),
            f"after{at}": span_micros(self.after),
        }


def overdue(tx: Transaction, deadline: Deadline, *, now: datetime, limit: int) -> list[ResourceRef]:
    """Resources past their deadline that have not been looked at since it passed."""
    return [_ref(row) for row in tx.run(_OVERDUE, deadline.parameters(now) | {"limit": limit})]


_ACCOUNTS_AT_ONCE = 50
"""In one question: SQLite takes 500 parts of a union."""


class LateAccounts:
    """Which accounts have anything that is overdue or still expected, asked for many of them at once."""

    def __init__(self, deadlines: Mapping[str, Sequence[Deadline]]) -> None:
        """By account; one without a deadline may have expectations still."""
        names = sorted(deadlines)
        self._questions = [
            _Question(names[start : start + _ACCOUNTS_AT_ONCE], deadlines)
            for start in range(0, len(names), _ACCOUNTS_AT_ONCE)
        ]

    def find(self, tx: Transaction, now: datetime) -> frozenset[str]:
        return frozenset(account for question in self._questions for account in question.ask(tx, now))


class _Question:
    def __init__(self, accounts: Sequence[str], deadlines: Mapping[str, Sequence[Deadline]]) -> None:
        self._accounts = accounts
        self._deadlines = {
            f"_{number}_{nth}": each
            for number, account in enumerate(accounts)
            for nth, each in enumerate(deadlines[account])
        }
        self._asked = text(" UNION ALL ".join(map(self._part, range(len(accounts))))).bindparams(
            *(bindparam(f"statuses{at}", expanding=True) for at in self._deadlines)
        )

    def _part(self, number: int) -> str:
        ways = [f"SELECT 1 FROM expectation WHERE account = :account_{number} AND confirmed_at IS NULL"]
        ways += [
            f"SELECT 1 FROM resource WHERE {_is_overdue(at)}"
            for at, each in self._deadlines.items()
            if each.account == self._accounts[number]
        ]
        return f"SELECT {number} AS number WHERE {' OR '.join(f'EXISTS ({way})' for way in ways)}"

    def ask(self, tx: Transaction, now: datetime) -> list[str]:
        bounds: dict[str, Any] = {f"account_{number}": account for number, account in enumerate(self._accounts)}
        for at, deadline in self._deadlines.items():
            bounds |= deadline.parameters(now, at)
        return [self._accounts[row.number] for row in tx.run(self._asked, bounds)]


_MEMBERLESS = text(
    """
    SELECT r.provider, r.account, r.kind, r.remote_id, v.body, v.status, v.api_version
    FROM resource r JOIN version v ON v.resource_id = r.id AND v.version = r.version
    WHERE r.account = :account AND r.kind = :kind AND r.state = 'present' AND r.remote_id > :after
      AND v.recorded_at <= :changed_before
      AND (r.created_at IS NULL OR r.created_at >= :oldest)
      AND NOT EXISTS (SELECT 1 FROM payout_members m
                      WHERE m.account = r.account AND m.payout_id = r.remote_id AND m.complete)
    ORDER BY r.remote_id LIMIT :limit
    """
)


def memberless(
    tx: Transaction,
    account: str,
    kind: str,
    *,
    oldest: datetime,
    changed_before: datetime,
    after: ResourceRef | None,
    limit: int,
) -> list[Snapshot]:
    """Resources whose members have not been listed completely yet, as they stand in the ledger, in order of their ids.

    Only those that we knew as they are before `changed_before`: a list of members lags behind what made it final, and
    nothing would ever ask for it again.

    Some never will be (a manual payout is not itemised), so ask on `after` the last one instead of asking again.
    """
    bounds = {
        "account": account,
        "kind": kind,
        "oldest": to_micros(oldest),
        "changed_before": to_micros(changed_before),
        "after": "" if after is None else after.id,
    }
    return [
        Snapshot(
            _ref(row), orjson.loads(tx.unpack(row.body, Place.VERSION)), status=row.status, api_version=row.api_version
        )
        for row in tx.run(_MEMBERLESS, bounds | {"limit": limit})
    ]


_KNOWN = """
  SELECT count(*) FROM resource
  WHERE account = :account AND kind = :kind AND state = 'present' AND created_at >= :since AND created_at < :until
"""
_OLDEST = text(
    """
    SELECT min(created_at) FROM resource WHERE account = :account AND kind = :kind AND created_at >= :reach
    """
)


def known_counts(tx: Transaction, account: str, kind: str, *, window: Window, reach: datetime) -> tuple[int, int, int]:
    """Present resources created in the window, before it (back to `reach`), and in the stretch before it as long."""
    length = window.until - window.since

    def count(since: datetime, until: datetime) -> int:
        bounds = {"account": account, "kind": kind, "since": to_micros(since), "until": to_micros(until)}
        return int(tx.run(text(_KNOWN), bounds).scalar_one())

    return (
        count(window.since, window.until),
        count(min(reach, window.since), window.since),
        count(max(window.since - length, EARLIEST), window.since),
    )


@dataclass(frozen=True, slots=True)
class KnownCount:
    """What we hold of a kind's window."""

    number: int
    middle: datetime | None
    """When the one in the middle of them was created; None where there is none."""


_MIDDLE = text(
    """
    SELECT created_at FROM resource
    WHERE account = :account AND kind = :kind AND state = 'present' AND created_at >= :since AND created_at < :until
    ORDER BY created_at LIMIT 1 OFFSET :half
    """
)


def known_count(tx: Transaction, account: str, kind: str, window: Window) -> KnownCount:
    """Present resources created in the window."""
    bounds = {"account": account, "kind": kind, "since": to_micros(window.since), "until": to_micros(window.until)}
    number = int(tx.run(text(_KNOWN), bounds).scalar_one())
    middle = tx.run(_MIDDLE, bounds | {"half": number // 2}).scalar_one_or_none()
    return KnownCount(number, None if middle is None else from_micros(middle))


EARLIEST = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def oldest_known(tx: Transaction, account: str, kind: str, *, reach: datetime) -> datetime | None:
    """When the oldest known resource since `reach` was created."""
    micros = tx.run(_OLDEST, {"account": account, "kind": kind, "reach": to_micros(reach)}).scalar_one()
    return None if micros is None else from_micros(micros)


_STILL_OPEN = text(
    """
    SELECT provider, account, kind, remote_id FROM resource
    WHERE account = :account AND kind = :kind AND status IN :statuses AND state = 'present'
      AND generation = settled_generation AND created_at < :created_before AND fetched_at < :read_before
    ORDER BY created_at LIMIT :limit
    """
).bindparams(bindparam("statuses", expanding=True))


def still_open(
    tx: Transaction,
    account: str,
    kind: str,
    statuses: Sequence[str],
    *,
    created_before: datetime,
    read_before: datetime,
    limit: int,
) -> list[ResourceRef]:
    """Clean resources in one of these states, created and last read before then."""
    bounds = {
        "account": account,
        "kind": kind,
        "statuses": list(statuses) or [""],
        "created_before": to_micros(created_before),
        "read_before": to_micros(read_before),
        "limit": limit,
    }
    return [_ref(row) for row in tx.run(_STILL_OPEN, bounds)]


@dataclass(frozen=True, slots=True)
class Pending:
    """A resource that was marked and that no read has settled since."""

    ref: ResourceRef
    dead: bool
    error: str
    discarded: bool = False
    """A dead letter of which an operator said to leave it."""


_PENDING = text(
    """
    SELECT provider, account, kind, remote_id, dead_at, discarded_at, last_error FROM resource
    WHERE account = :account AND kind = :kind AND generation > settled_generation AND first_marked_at <= :before
    ORDER BY id LIMIT :limit
    """
)


def pending(tx: Transaction, account: str, kind: str, *, marked_before: datetime, limit: int) -> list[Pending]:
    """What still waits for a read that was asked for by then, by whomever."""
    rows = tx.run(_PENDING, {"account": account, "kind": kind, "before": to_micros(marked_before), "limit": limit})
    return [
        Pending(
            _ref(row), row.dead_at is not None, row.last_error or "not read yet", discarded=row.discarded_at is not None
        )
        for row in rows
    ]


def _ref(row: Any) -> ResourceRef:
    return ResourceRef(row.provider, row.account, row.kind, row.remote_id)
