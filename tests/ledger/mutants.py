"""Ledgers that lack one guard each. They show that every guard is needed, and that the swarm would notice its absence.

A mutant is the real ledger with one method wrapped: it feeds the method what an implementation without the guard
would see, or undoes what the guard did, in the same transaction. Most of them were seen in the wild.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, text

from reconciler.ledger import Answer, Applied, Claim, Ledger, Mark, Outcome, Receipt, Release, Verdict
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef
from tests.ledger.factories import NOON

LONG_AGO = NOON - timedelta(days=365)
NEVER = 1 << 60
_LEASED = "lease_until IS NOT NULL"


def column(tx: Transaction, name: str, ids: Sequence[int]) -> dict[int, Any]:
    statement = text(f"SELECT id, {name} FROM resource WHERE id IN :ids").bindparams(bindparam("ids", expanding=True))
    return {row.id: getattr(row, name) for row in tx.run(statement, {"ids": list(ids)})}


def put(tx: Transaction, assignments: str, resource_id: int, **values: object) -> None:
    tx.run(text(f"UPDATE resource SET {assignments} WHERE id = :id"), {"id": resource_id, **values})


class NoFence(Ledger):
    """A completion by row id alone (the shape of most database queues)."""

    def apply(self, answers: Sequence[Answer], **more: Any) -> list[Applied]:
        with self.together() as tx:
            for each in answers:
                put(
                    tx,
                    "lease_token = :token, lease_until = COALESCE(lease_until, 0), due_at = COALESCE(due_at, 0)",
                    each.claim.resource_id,
                    token=each.claim.token,
                )
            return super().apply(answers, **more)


class NoFenceNoOrder(Ledger):
    """The last writer wins."""

    def apply(self, answers: Sequence[Answer], **more: Any) -> list[Applied]:
        with self.together() as tx:
            tokens = column(tx, "lease_token", [each.claim.resource_id for each in answers])
            for each in answers:
                put(
                    tx,
                    "applied_seq = 0, lease_until = COALESCE(lease_until, 0), due_at = COALESCE(due_at, 0)",
                    each.claim.resource_id,
                )
            current = [
                replace(each, claim=replace(each.claim, token=tokens[each.claim.resource_id])) for each in answers
            ]
            return super().apply(current, **more)


class FailureWithoutFence(Ledger):
    """A release by row id alone: a late worker ends somebody else's lease."""

    def release(self, releases: Sequence[Release], now: datetime) -> int:
        with self.together() as tx:
            tokens = column(tx, "lease_token", [each.claim.resource_id for each in releases])
            current = [
                replace(each, claim=replace(each.claim, token=tokens[each.claim.resource_id])) for each in releases
            ]
            return super().release(current, now)


class SettlesWhatItFinds(Ledger):
    """`clean = true`: the completion settles the generation that it finds, not the one that its claim saw."""

    def apply(self, answers: Sequence[Answer], **more: Any) -> list[Applied]:
        with self.together() as tx:
            found = column(tx, "generation", [each.claim.resource_id for each in answers])
            current = [
                replace(each, claim=replace(each.claim, generation=found[each.claim.resource_id])) for each in answers
            ]
            return super().apply(current, **more)


class ClearedAtClaim(Ledger):
    """The dirty flag goes when the work is handed out, and with the worker when it dies."""

    def claim(self, *place: Any, **more: Any) -> list[Claim]:
        with self.together() as tx:
            claims = super().claim(*place, **more)
            for each in claims:
                put(tx, "settled_generation = generation", each.resource_id)
            return claims


class DeafUnderLease(Ledger):
    """Unique while running: a mark on a resource that is being read is taken for a duplicate."""

    def mark(self, wanted: Iterable[Mark], now: datetime) -> int:
        kept = list(wanted)
        with self.together() as tx:
            leased = _columns(tx, "generation", [each.ref for each in kept], _LEASED)
            marked = super().mark(kept, now)
            _put_columns(tx, "generation", leased)
            return marked

    def receive(self, receipts: Sequence[Receipt], now: datetime) -> list[Verdict]:
        with self.together() as tx:
            named = [mark.ref for receipt in receipts for mark in receipt.marks]
            leased = _columns(tx, "generation", named, _LEASED)
            verdicts = super().receive(receipts, now)
            _put_columns(tx, "generation", leased)
            return verdicts


def _columns(
    tx: Transaction, name: str, refs: Iterable[ResourceRef], condition: str = "1 = 1"
) -> dict[ResourceRef, int]:
    statement = text(
        f"SELECT {name} FROM resource WHERE account = :account AND kind = :kind AND remote_id = :id AND {condition}"
    )
    found = {of: tx.run(statement, _key(of)).scalar_one_or_none() for of in refs}
    return {of: value for of, value in found.items() if value is not None}


def _put_columns(tx: Transaction, name: str, values: Mapping[ResourceRef, int]) -> None:
    statement = text(
        f"UPDATE resource SET {name} = :value WHERE account = :account AND kind = :kind AND remote_id = :id"
    )
    for of, value in values.items():
        tx.run(statement, {"value": value, **_key(of)})


def _key(of: ResourceRef) -> dict[str, object]:
    return {"account": of.account, "kind": of.kind, "id": of.id}


class BelievesTheFirstRead(Ledger):
    """No settle window: a lagging replica's answer counts as final."""

    def apply(self, answers: Sequence[Answer], **more: Any) -> list[Applied]:
        return super().apply([replace(each, claim=replace(each.claim, settle_at=LONG_AGO)) for each in answers], **more)


class AlwaysSatisfied(Ledger):
    """Takes every hint for satisfied."""

    def apply(self, answers: Sequence[Answer], **more: Any) -> list[Applied]:
        return super().apply([replace(each, satisfied=True) for each in answers], **more)


class NoOpsStandStill(Ledger):
    """A read that found nothing new writes nothing, so that A-B-A goes unnoticed."""

    def apply(self, answers: Sequence[Answer], **more: Any) -> list[Applied]:
        with self.together() as tx:
            ids = [each.claim.resource_id for each in answers]
            before = {name: column(tx, name, ids) for name in ("applied_seq", "fetched_at")}
            applied = super().apply(answers, **more)
            for each, outcome in zip(answers, applied, strict=True):
                if outcome.outcome is Outcome.UNCHANGED:
                    row = each.claim.resource_id
                    values = {name: before[name][row] for name in before}
                    put(tx, "applied_seq = :applied_seq, fetched_at = :fetched_at", row, **values)
            return applied


class PagesUnchecked(Ledger):
    """List results go in as they come, however long ago they were asked for."""

    def apply_page(self, rows: Any, *, start: int, started_at: datetime, now: datetime, **more: Any) -> list[Applied]:
        with self.together() as tx:
            return super().apply_page(rows, start=tx.tick(), started_at=now + timedelta(days=1), now=now, **more)


class PagesTrustTheirReplica(Ledger):
    """A page that began within the settle window of a mark or a read is applied all the same."""

    def apply_page(self, rows: Any, *, settle: Mapping[str, timedelta], **more: Any) -> list[Applied]:
        refs = [row.snapshot.ref for row in rows]
        with self.together() as tx:
            windows = _columns(tx, "settle_at", refs)
            _put_columns(tx, "settle_at", dict.fromkeys(windows, 0))
            applied = super().apply_page(rows, settle=dict.fromkeys(settle, timedelta(0)), **more)
            _put_columns(tx, "settle_at", windows)
            return applied


class PagesSettle(Ledger):
    """A list row answers whatever was marked."""

    def apply_page(self, rows: Any, **more: Any) -> list[Applied]:
        with self.together() as tx:
            applied = super().apply_page(rows, **more)
            for row in rows:
                tx.run(
                    text(
                        "UPDATE resource SET settled_generation = generation WHERE account = :account"
                        " AND kind = :kind AND remote_id = :id AND lease_until IS NULL"
                    ),
                    _key(row.snapshot.ref),
                )
            return applied


class FailureSettles(Ledger):
    """A release without an answer counts as an answer."""

    def release(self, releases: Sequence[Release], now: datetime) -> int:
        with self.together() as tx:
            touched = super().release(releases, now)
            for each in releases:
                put(tx, "settled_generation = generation", each.claim.resource_id)
            return touched


class ForgetsToWake(Ledger):
    """A provisional read plans no second one."""

    def apply(self, answers: Sequence[Answer], **more: Any) -> list[Applied]:
        with self.together() as tx:
            applied = super().apply(answers, **more)
            for each, outcome in zip(answers, applied, strict=True):
                if outcome.dirty and outcome.outcome is not Outcome.CLAIM_LOST:
                    put(tx, "due_at = :never", each.claim.resource_id, never=NEVER)
            return applied


class CrashedClaimsStayOut(Ledger):
    """A lease that nobody ends never ends."""

    def claim(self, *place: Any, **more: Any) -> list[Claim]:
        with self.together() as tx:
            claims = super().claim(*place, **more)
            for each in claims:
                put(tx, "due_at = :never", each.resource_id, never=NEVER)
            return claims


class TokensFromTheWorker(Ledger):
    """The lease names its worker instead of taking a fresh token."""

    def claim(self, *place: Any, **more: Any) -> list[Claim]:
        with self.together() as tx:
            claims = super().claim(*place, **more)
            for each in claims:
                put(tx, "lease_token = :token", each.resource_id, token=NEVER)
            return [replace(each, token=NEVER) for each in claims]


MUTANTS: tuple[type[Ledger], ...] = (
    NoFence,
    NoFenceNoOrder,
    FailureWithoutFence,
    SettlesWhatItFinds,
    ClearedAtClaim,
    DeafUnderLease,
    BelievesTheFirstRead,
    AlwaysSatisfied,
    NoOpsStandStill,
    PagesUnchecked,
    PagesTrustTheirReplica,
    PagesSettle,
    FailureSettles,
    ForgetsToWake,
    CrashedClaimsStayOut,
    TokensFromTheWorker,
)
