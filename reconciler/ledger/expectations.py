"""Expectations: an application said that a resource will come to be, so its absence is a signal too."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef


@dataclass(frozen=True, slots=True)
class Expectation:
    ref: ResourceRef
    registered_at: datetime
    due_at: datetime
    note: str
    looked_at: datetime | None
    confirmed_at: datetime | None


_EXPECT = text(
    """
    INSERT INTO expectation (id, provider, account, kind, remote_id, registered_at, due_at, note)
    VALUES (:id, :provider, :account, :kind, :remote_id, :now, :due_at, :note)
    ON CONFLICT (account, kind, remote_id) DO UPDATE SET
      due_at = excluded.due_at, note = excluded.note, looked_at = NULL, confirmed_at = NULL
    """
)
_DUE = text(
    """
    SELECT provider, account, kind, remote_id FROM expectation
    WHERE account = :account AND due_at <= :now AND looked_at IS NULL AND confirmed_at IS NULL
    ORDER BY due_at LIMIT :limit
    """
)
_LOOKED = text(
    """
    UPDATE expectation SET looked_at = :now
    WHERE account = :account AND due_at <= :now AND looked_at IS NULL AND kind = :kind AND remote_id = :remote_id
    """
)
_CONFIRM = text(
    """
    UPDATE expectation SET confirmed_at = :now
    WHERE account = :account AND kind = :kind AND confirmed_at IS NULL AND EXISTS (
      SELECT 1 FROM resource r
      WHERE r.account = expectation.account AND r.kind = expectation.kind AND r.remote_id = expectation.remote_id
        AND r.state = 'present' AND (r.status IS NULL OR r.status NOT IN :open))
    """
).bindparams(bindparam("open", expanding=True))
_UNCONFIRMED = text(
    """
    SELECT provider, account, kind, remote_id, registered_at, due_at, note, looked_at, confirmed_at FROM expectation
    WHERE account = :account AND kind IN :kinds AND confirmed_at IS NULL AND due_at <= :now
    ORDER BY due_at LIMIT :limit
    """
).bindparams(bindparam("kinds", expanding=True))
_HOW_MANY = text(
    "SELECT account, kind, count(*) AS total FROM expectation WHERE confirmed_at IS NULL AND due_at <= :now"
    " GROUP BY account, kind"
)


def expect(tx: Transaction, ref: ResourceRef, *, due_at: datetime, note: str, now: datetime) -> None:
    """Register, or renew, that `ref` will be confirmed by `due_at`."""
    tx.run(
        _EXPECT,
        {
            "id": tx.tick(),
            "provider": ref.provider,
            "account": ref.account,
            "kind": ref.kind,
            "remote_id": ref.id,
            "now": to_micros(now),
            "due_at": to_micros(due_at),
            "note": note,
        },
    )


def due_expectations(tx: Transaction, account: str, now: datetime, *, limit: int) -> list[ResourceRef]:
    """Expected resources whose time is up and that were not read for it yet."""
    rows = tx.run(_DUE, {"account": account, "now": to_micros(now), "limit": limit})
    return [ResourceRef(row.provider, row.account, row.kind, row.remote_id) for row in rows]


def note_looked(tx: Transaction, refs: Sequence[ResourceRef], now: datetime) -> None:
    """Their deadline had them marked for a read."""
    tx.run_many(
        _LOOKED,
        [{"account": ref.account, "kind": ref.kind, "remote_id": ref.id, "now": to_micros(now)} for ref in refs],
    )


_KINDS = text("SELECT DISTINCT kind FROM expectation WHERE account = :account AND confirmed_at IS NULL ORDER BY kind")


def open_kinds(tx: Transaction, account: str) -> list[str]:
    """The kinds of which something is still expected."""
    return [row.kind for row in tx.run(_KINDS, {"account": account})]


def confirm_expectations(tx: Transaction, account: str, kind: str, open_states: Sequence[str], now: datetime) -> int:
    """Close the expectations of a kind whose resource is present and no longer open; how many."""
    parameters = {"account": account, "kind": kind, "open": sorted(open_states) or [""], "now": to_micros(now)}
    return tx.run(_CONFIRM, parameters).rowcount


def unconfirmed_expectations(
    tx: Transaction, account: str, kinds: Collection[str], now: datetime, *, limit: int
) -> list[Expectation]:
    """An account's expectations whose time is up without a confirmation, oldest first."""
    bounds = {"account": account, "kinds": sorted(kinds), "now": to_micros(now), "limit": limit}
    return [
        Expectation(
            ResourceRef(row.provider, row.account, row.kind, row.remote_id),
            from_micros(row.registered_at),
            from_micros(row.due_at),
            row.note,
            None if row.looked_at is None else from_micros(row.looked_at),
            None,
        )
        for row in tx.run(_UNCONFIRMED, bounds)
    ]


def unconfirmed_by_kind(tx: Transaction, now: datetime) -> dict[tuple[str, str], int]:
    """How many of them there are of each account and kind, of those that nobody reads any more too."""
    return {(row.account, row.kind): int(row.total) for row in tx.run(_HOW_MANY, {"now": to_micros(now)})}
