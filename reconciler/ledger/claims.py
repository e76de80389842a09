"""Claiming, releasing and giving up: temporary ownership of dirty resources, ended by a fenced statement.

A claim's token comes fresh from the ledger clock and is never a worker's name: a worker that slept past its lease
holds an old token, and every statement below that carries one changes nothing then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

from sqlalchemy import text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.bulk import WHOLE, WORDS, Bulk
from reconciler.ledger.question import Question
from reconciler.ledger.transaction import Dialect, Transaction
from reconciler.model import Cause, ResourceRef, State, Window


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's temporary ownership of one resource."""

    resource_id: int
    ref: ResourceRef
    token: int
    """The fence, and at the same time the reading of the ledger clock at which this read began."""
    generation: int
    """The generation that a settling read of this claim answers."""
    attempts: int
    """Claims since the last accepted read, this one included: counted here, so that a poison resource that kills
    the process counts too."""
    lease_until: datetime
    settle_at: datetime
    hints: tuple[str, ...] | None
    cause: Cause
    created_at: datetime | None
    state: State


class _Claimed(NamedTuple):
    """A row of the claim."""

    id: int
    provider: str
    account: str
    kind: str
    remote_id: str
    generation: int
    attempts: int
    settle_at: int
    hints: str | None
    cause: str
    created_at: int | None
    state: str
    lease_token: int


@cache
def _claiming(dialect: Dialect, *, windowed: bool, newest: bool) -> Question:
    """On Postgres the choice is materialised first: a planner that inlines it may update more than LIMIT. So is the
    token, in the same round trip."""
    created = "AND created_at >= :since AND created_at < :until" if windowed else ""
    unread = "AND (fetched_at IS NULL OR fetched_at < first_marked_at)" if newest else ""
    choice = f"""
      SELECT id FROM resource
      WHERE account = :account AND kind = :kind AND priority = :priority AND due_at <= :now {created} {unread}
      ORDER BY due_at{" DESC" if newest else ""} LIMIT :count {dialect.skip_locked}
    """
    head, chosen, token = (
        (
            f"""
            WITH chosen AS MATERIALIZED ({choice}), fresh AS MATERIALIZED (SELECT nextval('ledger_clock') AS token)
            """,
            "SELECT id FROM chosen",
            "(SELECT token FROM fresh)",
        )
        if dialect.is_postgres
        else ("", choice, ":token")
    )
    return Question(
        f"""
        {head}
        UPDATE resource SET
          lease_token = {token}, lease_owner = :owner, lease_until = :lease_until, due_at = :lease_until,
          attempts = attempts + 1
        WHERE id IN ({chosen})
        RETURNING {", ".join(_Claimed._fields)}
        """
    )


def claim(
    tx: Transaction,
    account: str,
    kind: str,
    priority: int,
    *,
    owner: str,
    count: int,
    lease: timedelta,
    now: datetime,
    window: Window | None,
    newest: bool,
) -> list[Claim]:
    """Up to `count` resources of one lane that are due, longest due first. Send no request before this commits.

    With a window, only those that were created in it; `newest`: those that fell due last first, and only what was not
    read at all since it was marked: the second reads of a burst fall due late, and are no news.
    """
    lease_until = now + lease
    statement = _claiming(tx.dialect, windowed=window is not None, newest=newest)
    values = {
        "account": account,
        "kind": kind,
        "priority": priority,
        "now": to_micros(now),
        "count": count,
        "token": None if tx.dialect.is_postgres else tx.tick(),
        "owner": owner,
        "lease_until": to_micros(lease_until),
    }
    if window is not None:
        values |= {"since": to_micros(window.since), "until": to_micros(window.until)}
    return [
        Claim(
            resource_id=row.id,
            ref=ResourceRef(row.provider, row.account, row.kind, row.remote_id),
            token=row.lease_token,
            generation=row.generation,
            attempts=row.attempts,
            lease_until=lease_until,
            settle_at=from_micros(row.settle_at),
            hints=None if row.hints is None else tuple(row.hints.split("\n")),
            cause=Cause(row.cause),
            created_at=None if row.created_at is None else from_micros(row.created_at),
            state=State(row.state),
        )
        for row in map(_Claimed._make, statement.ask(tx, values))
    ]


_FENCED = {"id": WHOLE, "token": WHOLE}

_RELEASE = Bulk(
    """
    UPDATE resource SET
      lease_until = NULL, lease_owner = NULL,
      attempts = resource.attempts - CASE WHEN {counted} = 1 OR resource.attempts = 0 THEN 0 ELSE 1 END,
      last_error = COALESCE({error}, resource.last_error),
      not_before = {_greatest}(resource.not_before, {due_at}),
      due_at = {due_at},
      dead_at = CASE WHEN {dead_at} IS NULL THEN resource.dead_at ELSE COALESCE(resource.dead_at, {dead_at}) END
    {_rows}
    WHERE resource.id = {id} AND resource.lease_token = {token} AND resource.lease_until IS NOT NULL
    """,
    _FENCED | {"error": WORDS, "due_at": WHOLE, "counted": WHOLE, "dead_at": WHOLE},
)


@dataclass(frozen=True, slots=True)
class Release:
    """The end of a claim without a reading: due again at `due_at`, and not before it even if marked meanwhile.

    `counted` False gives the attempt back: the failure was the account's, not the resource's. `bury` names it a
    dead letter: still dirty, parked until `due_at`, revived by any mark.
    """

    claim: Claim
    due_at: datetime
    error: str | None = None
    counted: bool = True
    bury: bool = False


def release(tx: Transaction, releases: Sequence[Release], now: datetime) -> int:
    """End claims unanswered; how many were still ours. The generation is never touched, so dirty stays dirty."""
    ordered = sorted(releases, key=lambda each: each.claim.ref)
    return _RELEASE.run(
        tx,
        [
            {
                "id": each.claim.resource_id,
                "token": each.claim.token,
                "error": each.error,
                "due_at": to_micros(each.due_at),
                "counted": int(each.counted),
                "dead_at": to_micros(now) if each.bury else None,
            }
            for each in ordered
        ],
    )


_VOID = text(
    """
    UPDATE resource SET lease_until = NULL, lease_owner = NULL, lease_token = :token, due_at = :now
    WHERE lease_until IS NOT NULL AND due_at IS NOT NULL AND lease_owner = :owner
    """
)


_VOID_JOBS = text(
    "UPDATE job SET lease_until = NULL, lease_owner = NULL, lease_token = :token WHERE lease_owner = :owner"
)


def void_leases(tx: Transaction, owner: str, now: datetime) -> int:
    """End every claim and job of an owner that is known to be gone; its late answers find a token not their own."""
    claims = tx.run(_VOID, {"token": tx.tick(), "owner": owner, "now": to_micros(now)}).rowcount
    return claims + tx.run(_VOID_JOBS, {"token": tx.tick(), "owner": owner}).rowcount


_UNSETTLED = text("SELECT DISTINCT account, kind FROM resource WHERE due_at IS NOT NULL AND dead_at IS NULL")


def unsettled(tx: Transaction) -> list[tuple[str, str]]:
    """The accounts and kinds that still have something pending which is not a dead letter."""
    return [(row.account, row.kind) for row in tx.run(_UNSETTLED)]


_OWNERS = text(
    """
    SELECT lease_owner FROM resource WHERE lease_until IS NOT NULL AND due_at IS NOT NULL
    UNION SELECT lease_owner FROM job WHERE lease_until IS NOT NULL
    """
)


def lease_owners(tx: Transaction) -> list[str]:
    """Who holds claims or jobs now, dead or alive."""
    return [row.lease_owner for row in tx.run(_OWNERS)]


# --- dead letters ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeadLetter:
    ref: ResourceRef
    attempts: int
    error: str
    dead_at: datetime
    marked_at: datetime | None
    discarded_at: datetime | None


_DEAD = """
  SELECT provider, account, kind, remote_id, attempts, last_error, dead_at, first_marked_at, discarded_at
  FROM resource WHERE dead_at IS NOT NULL {more} ORDER BY dead_at, id LIMIT :limit
"""


def dead_letters(tx: Transaction, *, limit: int, with_discarded: bool) -> list[DeadLetter]:
    """Resources that the retry policy gave up on, longest dead first."""
    rows = tx.run(text(_DEAD.format(more="" if with_discarded else "AND discarded_at IS NULL")), {"limit": limit})
    return [
        DeadLetter(
            ref=ResourceRef(row.provider, row.account, row.kind, row.remote_id),
            attempts=row.attempts,
            error=row.last_error or "",
            dead_at=from_micros(row.dead_at),
            marked_at=None if row.first_marked_at is None else from_micros(row.first_marked_at),
            discarded_at=None if row.discarded_at is None else from_micros(row.discarded_at),
        )
        for row in rows
    ]


_DISCARD = text(
    """
    UPDATE resource SET discarded_at = :now, due_at = :never
    WHERE account = :account AND kind = :kind AND remote_id = :remote_id
      AND dead_at IS NOT NULL AND lease_until IS NULL
    """
)

_NEVER = datetime.fromisoformat("9999-01-01T00:00:00+00:00")


def discard(tx: Transaction, ref: ResourceRef, now: datetime) -> bool:
    """Stop retrying a dead letter, on an operator's word. It stays dirty and is reported as not looked at.

    False when it is not a dead letter, or is being read right now.
    """
    touched = tx.run(
        _DISCARD,
        {
            "account": ref.account,
            "kind": ref.kind,
            "remote_id": ref.id,
            "now": to_micros(now),
            "never": to_micros(_NEVER),
        },
    )
    return touched.rowcount == 1
