"""For each promise of docs/guarantees.md a product without one of its guards. The simulation must notice every one.

Ledgers that lack a guard are those of the swarm (`tests.ledger.mutants`) and of the change feed (`feed_mutants`); here
are the others, and the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from providers.stripe import Stripe
from reconciler.errors import AccessDenied, LedgerError, ProviderError, Unavailable
from reconciler.ledger import (
    Answer,
    Applied,
    GroupCommit,
    Job,
    Ledger,
    PageRow,
    Receipt,
    Verdict,
)
from reconciler.model import Notice, Page, Reading, ResourceRef, Tombstone, Window
from tests.ledger import mutants as swarm
from tests.simulation import feed_mutants, shopify_mutants
from tests.simulation.nodes import Mutant

FEED: Final = 13
"""Behind the invariants: what whoever follows the changes is promised (docs/guarantees.md)."""

Done = Callable[[Verdict | None, BaseException | None], None]


class AnswersBeforeItStores(GroupCommit):
    """2xx first, the commit when it comes."""

    def submit(self, receipt: Receipt, done: Done) -> None:
        super().submit(receipt, lambda _verdict, _error: None)
        done(Verdict.STORED, None)


class EveryReadIsAVersion(Ledger):
    """A version for each read, whether or not anything changed."""

    def apply(self, answers: Sequence[Answer], **more: Any) -> list[Applied]:
        with self.together() as tx:
            for each in answers:
                swarm.put(tx, "content_hash = ''", each.claim.resource_id)
            return super().apply(answers, **more)


class ForgetsWhatWasMissed(Ledger):
    """The feed is compared with the deliveries, and what never arrived is counted; nobody reads it."""

    def note_missed(self, account: str, notices: Sequence[Notice], now: datetime) -> list[Notice]:
        super().note_missed(account, notices, now)
        return []


class WatermarkAtTheWindowsEnd(Ledger):
    """The watermark moves to now: the overlap, in which late events appear, is never read again."""

    def finish_job(self, job: Job, *, now: datetime, watermark: datetime | None = None, **more: Any) -> None:
        super().finish_job(job, now=now, watermark=None if watermark is None else now, **more)


class WatermarkBeforeItsMarks(Ledger):
    """The watermark moves with the first page: a run that dies has looked at the rest, as far as anybody knows."""

    def renew_job(self, job: Job, *, now: datetime, watermark: datetime | None = None, **more: Any) -> None:
        super().renew_job(job, now=now, watermark=now if job.watermark is not None else watermark, **more)


class EntriesOfTheFirstVersion(Ledger):
    """Entries are written once, and not anew with each version."""

    def apply(self, answers: Sequence[Answer], **more: Any) -> list[Applied]:
        known = [each.claim.resource_id for each in answers]
        with self.together() as tx:
            versions = swarm.column(tx, "version", known)
            kept = [replace(each, entries=()) if versions[each.claim.resource_id] else each for each in answers]
            return super().apply(kept, **more)

    def apply_page(self, rows: Sequence[PageRow], **more: Any) -> list[Applied]:
        return super().apply_page([replace(row, entries=()) for row in rows], **more)


class WorkIsDeduplicated(Ledger):
    """An event id that was seen is dropped before the log: no row, no mark."""

    def receive(self, receipts: Sequence[Receipt], now: datetime) -> list[Verdict]:
        with self.together() as tx:
            seen = {row.event_id for row in tx.run(text("SELECT event_id FROM delivery WHERE event_id IS NOT NULL"))}
            fresh = [each for each in receipts if each.event_id not in seen]
            verdicts = iter(super().receive(fresh, now))
            return [Verdict.DUPLICATE if each.event_id in seen else next(verdicts) for each in receipts]


class UnmarkedDeliveries(Ledger):
    """The delivery is stored, and its mark is left to a later act that never comes."""

    def receive(self, receipts: Sequence[Receipt], now: datetime) -> list[Verdict]:
        with self.together() as tx:
            verdicts = super().receive(receipts, now)
            for ref in {mark.ref for receipt in receipts for mark in receipt.marks}:
                tx.run(
                    text(
                        "UPDATE resource SET settled_generation = generation WHERE version > 0"
                        " AND account = :account AND kind = :kind AND remote_id = :id"
                    ),
                    {"account": ref.account, "kind": ref.kind, "id": ref.id},
                )
            return verdicts


class RefusedMeansGone(Stripe):
    """403 and 5xx are taken for "does not exist"."""

    async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
        try:
            return await super().fetch(refs)
        except (AccessDenied, Unavailable):
            return [Tombstone(ref) for ref in refs]


class FailedPagesAreEmpty(Stripe):
    """A list that could not be read counts as one without rows."""

    async def page(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        try:
            return await super().page(kind, window, cursor)
        except ProviderError:
            return Page((), None)


class PagesBringBackTheDead(Ledger):
    """A page row revives what a later read called deleted."""

    def apply_page(self, rows: Sequence[PageRow], *, start: int, **more: Any) -> list[Applied]:
        with self.together() as tx:
            for row in rows:
                ref = row.snapshot.ref
                tx.run(
                    text(
                        "UPDATE resource SET applied_seq = 0, fetched_at = 0, settle_at = 0 WHERE state = 'deleted'"
                        " AND account = :account AND kind = :kind AND remote_id = :id"
                    ),
                    {"account": ref.account, "kind": ref.kind, "id": ref.id},
                )
            return super().apply_page(rows, start=start, **more)


class DeliveriesBringBackTheDead(Ledger):
    """A delivery's body is taken for the state: an old event that is sent again revives what was deleted since."""

    def receive(self, receipts: Sequence[Receipt], now: datetime) -> list[Verdict]:
        with self.together() as tx:
            verdicts = super().receive(receipts, now)
            for ref in {mark.ref for receipt in receipts for mark in receipt.marks}:
                tx.run(_REVIVE_VERSION, {"kind": ref.kind, "id": ref.id, "seq": tx.tick()})
                tx.run(_REVIVE, {"kind": ref.kind, "id": ref.id})
            return verdicts


_REVIVE_VERSION = text(
    """
    INSERT INTO version (resource_id, version, state, content_hash, body, status, cause, recorded_at, fetched_at,
      applied_seq, api_version)
    SELECT v.resource_id, r.version + 1, v.state, v.content_hash, v.body, v.status, v.cause, v.recorded_at,
      v.fetched_at, :seq, v.api_version
    FROM resource r JOIN version v ON v.resource_id = r.id
    WHERE r.kind = :kind AND r.remote_id = :id AND r.state = 'deleted' AND v.state = 'present'
    ORDER BY v.version DESC LIMIT 1
    """
)
_REVIVE = text(
    """
    UPDATE resource SET (state, version, content_hash, applied_seq) = (
      SELECT v.state, v.version, v.content_hash, v.applied_seq FROM version v WHERE v.resource_id = resource.id
      ORDER BY v.version DESC LIMIT 1)
    WHERE kind = :kind AND remote_id = :id AND state = 'deleted'
    """
)


class MarksThatAreForgotten(GroupCommit):
    """An error of the database is swallowed, and the delivery answered as if it were stored."""

    def submit(self, receipt: Receipt, done: Done) -> None:
        def after(verdict: Verdict | None, error: BaseException | None) -> None:
            if isinstance(error, LedgerError):
                verdict, error = Verdict.STORED, None
            done(verdict, error)

        super().submit(receipt, after)


class RunsTheJobsOfOthers(Ledger):
    """The end of a job by its name alone: a run that lost its lease ends its successor's."""

    def finish_job(self, job: Job, **more: Any) -> None:
        with self.together() as tx:
            token = tx.run(text("SELECT lease_token FROM job WHERE name = :name"), {"name": job.name}).scalar_one()
            tx.run(text("UPDATE job SET lease_until = COALESCE(lease_until, 1) WHERE name = :name"), {"name": job.name})
            super().finish_job(replace(job, token=token), **more)


@dataclass(frozen=True, slots=True)
class Guarded:
    """An invariant of docs/guarantees.md or `FEED`, and a product without what guards it."""

    invariant: int
    mutant: Mutant
    seed: int | None
    """One that notices, when this was written; None: none was recorded yet."""
    profile: str = "short"
    """Of which seeds are tried."""

    @property
    def name(self) -> str:
        parts = (self.mutant.ledger, self.mutant.commit, self.mutant.provider)
        return next(part.__name__ for part in parts if part not in (Ledger, GroupCommit, None))


def _of(ledger: type[Ledger]) -> Mutant:
    return Mutant(ledger=ledger)


MUTANTS = (
    Guarded(1, Mutant(commit=AnswersBeforeItStores), 0),
    Guarded(1, Mutant(commit=MarksThatAreForgotten), 12),
    Guarded(1, _of(UnmarkedDeliveries), 0),
    Guarded(2, _of(swarm.FailureSettles), 0),
    Guarded(2, _of(swarm.SettlesWhatItFinds), None),
    Guarded(2, _of(swarm.DeafUnderLease), None),
    Guarded(2, _of(swarm.PagesSettle), 0),
    Guarded(3, _of(swarm.ClearedAtClaim), 0),
    Guarded(3, _of(swarm.BelievesTheFirstRead), 3),
    Guarded(3, _of(ForgetsWhatWasMissed), 0),
    Guarded(4, _of(EveryReadIsAVersion), 0),
    Guarded(5, _of(swarm.NoFence), 1),
    Guarded(5, _of(swarm.FailureWithoutFence), 8),
    Guarded(5, _of(RunsTheJobsOfOthers), None),
    Guarded(6, _of(swarm.PagesUnchecked), 2),
    Guarded(7, _of(DeliveriesBringBackTheDead), 2),
    Guarded(7, _of(PagesBringBackTheDead), None),
    Guarded(8, Mutant(provider=RefusedMeansGone), 2),
    Guarded(8, Mutant(provider=FailedPagesAreEmpty), None),
    Guarded(9, _of(swarm.ForgetsToWake), 0),
    Guarded(9, _of(swarm.CrashedClaimsStayOut), 0),
    Guarded(10, _of(WatermarkAtTheWindowsEnd), 3),
    Guarded(10, _of(WatermarkBeforeItsMarks), 3),
    Guarded(11, _of(EntriesOfTheFirstVersion), 1),
    Guarded(12, _of(WorkIsDeduplicated), 3),
    Guarded(FEED, _of(feed_mutants.EndsBeforeItSends), 0),
    Guarded(FEED, _of(feed_mutants.AnnouncesByTheWay), 0),
    Guarded(FEED, _of(feed_mutants.OvertakesWhatFailed), 5),
    Guarded(FEED, _of(feed_mutants.IdOfTheAttempt), 0),
    Guarded(FEED, _of(feed_mutants.NumbersBeforeTheCommit), 0),
    Guarded(3, _of(shopify_mutants.FollowsAtOnce), 7, "shopify-tiny"),
    Guarded(3, _of(swarm.BelievesTheFirstRead), 4, "shopify-tiny"),
    Guarded(3, Mutant(provider=shopify_mutants.AnyReadShowsIt), 4, "shopify-tiny"),
    Guarded(3, _of(shopify_mutants.PartsOfWhatIsGoneLagNot), 11, "shopify-lag"),
    Guarded(3, _of(shopify_mutants.PartsWithoutTheirWhole), 3, "shopify-regrets"),
    Guarded(3, _of(shopify_mutants.MembersAtOnce), 18, "shopify-payouts"),
    Guarded(3, Mutant(provider=shopify_mutants.PartsAreNotCounted), 0, "shopify-refunds"),
)
