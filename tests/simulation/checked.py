"""A ledger whose every act is looked at before and after; a mixin, so that it also stands before a mutant's acts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from reconciler.clock import to_micros
from reconciler.errors import LedgerUnavailable
from reconciler.ledger import Answer, Applied, Claim, Coverage, Job, JobLost, Ledger, Outcome, PageRow, Release, Store
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef
from tests.simulation.oracle import Oracle


class Checked(Ledger):
    """One node's door to the shared database. `forget` makes its next commits look failed although they are stored."""

    def __init__(self, store: Store, oracle: Oracle) -> None:
        super().__init__(store)
        self._oracle = oracle
        self._depth = 0
        self.forget = False

    @contextmanager
    def together(self, *, alone: bool = False) -> Iterator[Transaction]:
        self._depth += 1
        try:
            with super().together(alone=alone) as tx:
                yield tx
        finally:
            self._depth -= 1
        if self.forget and self._depth == 0:
            raise LedgerUnavailable("the connection broke off before the answer to COMMIT came")

    # --- reading for provider state ---

    def claim(self, *place: Any, now: datetime, **more: Any) -> list[Claim]:
        leased = self._oracle.leased()
        claims = super().claim(*place, now=now, **more)
        for each in claims:
            if leased.get(each.resource_id, 0) > to_micros(now):
                self._oracle.broken(f"two live leases on {each.ref}")
        return claims

    def apply(self, answers: Sequence[Answer], **more: Any) -> list[Applied]:
        before = {answer.claim.resource_id: self._oracle.row(answer.claim.resource_id) for answer in answers}
        applied = super().apply(answers, **more)
        for answer, result in zip(answers, applied, strict=True):
            was = before[answer.claim.resource_id]
            assert was is not None
            if was["lease_token"] != answer.claim.token or was["lease_until"] is None:
                self._oracle.expect_unchanged(was, "invariant 5: a late worker changed something")
            elif was["applied_seq"] >= answer.claim.token and result.outcome in (Outcome.CHANGED, Outcome.UNCHANGED):
                self._oracle.broken(f"invariant 6: {answer.claim.ref}: an answer replaced a read that began later")
        return applied

    def apply_page(self, rows: Sequence[PageRow], *, start: int, started_at: datetime, **more: Any) -> list[Applied]:
        before = {row.snapshot.ref: self._oracle.row_of(row.snapshot.ref) for row in rows}
        applied = super().apply_page(rows, start=start, started_at=started_at, **more)
        for ref, was in before.items():
            now = self._oracle.row_of(ref)
            if was is None or now is None:
                continue
            if was["applied_seq"] >= start and (was["version"], was["applied_seq"]) != (
                now["version"],
                now["applied_seq"],
            ):
                self._oracle.broken(f"invariants 6, 7: {ref}: a page row replaced a read that began later")
            if (was["state"], now["state"]) == ("deleted", "present"):
                self._oracle.revived(ref, started_at)
            if now["settled_generation"] != was["settled_generation"]:
                self._oracle.broken(f"invariant 2: {ref}: a page row settled a generation")
        return applied

    def release(self, releases: Sequence[Release], now: datetime) -> int:
        before = [self._oracle.row(each.claim.resource_id) for each in releases]
        touched = super().release(releases, now)
        for each, was in zip(releases, before, strict=True):
            assert was is not None
            if was["lease_token"] != each.claim.token or was["lease_until"] is None:
                self._oracle.expect_unchanged(was, "invariant 5: a late release did something")
        return touched

    # --- sweeps ---

    def record_coverage(self, coverages: Iterable[Coverage], now: datetime) -> int:
        kept = list(coverages)
        recorded = super().record_coverage(kept, now)
        for each in kept:
            if each.complete:
                self._oracle.coverage_recorded(each.kind, each.window.since, each.window.until)
        return recorded

    def record_payout_members(
        self, payout: ResourceRef, members: Sequence[ResourceRef], *, complete: bool, now: datetime
    ) -> int:
        written = super().record_payout_members(payout, members, complete=complete, now=now)
        if complete:
            self._oracle.members_recorded(payout, members)
        return written

    def renew_job(self, job: Job, *, now: datetime, watermark: datetime | None = None, **more: Any) -> None:
        with self._fenced(job):
            super().renew_job(job, now=now, watermark=watermark, **more)
        self._oracle.watermark_moved(job.name, watermark, now)

    def finish_job(self, job: Job, *, now: datetime, watermark: datetime | None = None, **more: Any) -> None:
        with self._fenced(job):
            super().finish_job(job, now=now, watermark=watermark, **more)
        self._oracle.watermark_moved(job.name, watermark, now)

    @contextmanager
    def _fenced(self, job: Job) -> Iterator[None]:
        token, held = self._oracle.job_token(job.name)
        lost = token != job.token or not held
        try:
            yield
        except JobLost:
            return self._check_lost(job, lost)
        if lost:
            self._oracle.broken(f"invariant 5: a run of {job.name} whose lease was lost recorded something")

    def _check_lost(self, job: Job, lost: bool) -> None:
        if not lost:
            self._oracle.broken(f"a run of {job.name} that holds its lease was refused")
        raise JobLost(f"the lease of job {job.name} has ended")


def checked(mutant: type[Ledger], store: Store, oracle: Oracle) -> Checked:
    """The real ledger, or one that lacks a guard, under the same eyes."""
    if mutant is Ledger:
        return Checked(store, oracle)
    made: type[Checked] = type(f"Checked{mutant.__name__}", (Checked, mutant), {})
    return made(store, oracle)
