"""The ledger: every statement of the product behind one object, one transaction per method, named after the verb."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

from reconciler.ledger import (
    alerts,
    candidates,
    causes,
    claims,
    deliveries,
    expectations,
    facts,
    findings,
    gates,
    jobs,
    lanes,
    marks,
    pages,
    sealing,
    secrets,
    tokens,
)
from reconciler.ledger import apply as applying
from reconciler.ledger.alerts import Alert
from reconciler.ledger.candidates import Pending
from reconciler.ledger.causes import Caused
from reconciler.ledger.changes import Changes
from reconciler.ledger.claims import Claim, DeadLetter, Release
from reconciler.ledger.coverage import Coverage, record_coverage
from reconciler.ledger.deciding import Answer, Applied, PageRow
from reconciler.ledger.deliveries import Receipt, Rejection, Verdict
from reconciler.ledger.gates import Gate
from reconciler.ledger.jobs import Job
from reconciler.ledger.lanes import Density, Lane
from reconciler.ledger.marks import Mark
from reconciler.ledger.packing import Place
from reconciler.ledger.reads import View
from reconciler.ledger.redactions import Redactions
from reconciler.ledger.requests import Requests
from reconciler.ledger.schema import require_current
from reconciler.ledger.store import Store
from reconciler.ledger.telling import Telling
from reconciler.ledger.tokens import KeptToken
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, ControlTotal, Finding, Notice, ResourceRef, Snapshot, Window

T = TypeVar("T")


class Ledger:
    """Synchronous; call it from one thread at a time (`GroupCommit` does), read through `view` from any.

    Every method raises LedgerUnavailable, and has then stored nothing, when the database cannot be reached.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.changes = Changes(store)
        """The feed that other systems follow."""
        self.telling = Telling(store)
        """Subscriptions, and what each of them is still to be told."""
        self.redactions = Redactions(store)
        """What people asked to be forgotten."""
        self.requests = Requests(store)
        """What may be asked of providers now."""

    @property
    def store(self) -> Store:
        return self._store

    def require_current_schema(self) -> None:
        """Raises SchemaMismatch unless the schema is exactly this program's; an empty ledger gets it."""
        require_current(self._store)

    def require_keys(self) -> None:
        """Raises ConfigurationError unless every key that stored bodies may be sealed with is at hand."""
        with self._store.read() as tx:
            sealing.require_keys(tx)

    def close(self) -> None:
        self._store.close()

    def looked(self, look: Callable[[Transaction], T]) -> T:
        """What `look` finds in one consistent view."""
        with self._store.read() as tx:
            return look(tx)

    @contextmanager
    def together(self, *, alone: bool = False) -> Iterator[Transaction]:
        """Calls inside share one commit; each is still all or nothing. Nothing is durable before the end of it.

        `alone`: they are parts of one act, which is undone whole when one of them fails.
        """
        with self._store.write(alone=alone) as tx:
            yield tx

    # --- deliveries and marks ---

    def receive(self, receipts: Sequence[Receipt], now: datetime) -> list[Verdict]:
        with self._store.write(at_once=True) as tx:
            return deliveries.receive(tx, receipts, now)

    def reject(self, rejections: Sequence[Rejection]) -> None:
        with self._store.write() as tx:
            deliveries.reject(tx, rejections)

    def mark(self, wanted: Iterable[Mark], now: datetime) -> int:
        with self._store.write() as tx:
            return marks.mark(tx, wanted, now)

    def mark_parts(
        self, ref: ResourceRef, kinds: Sequence[str], cause: Cause, *, settle: timedelta, now: datetime
    ) -> int:
        with self._store.write() as tx:
            return marks.mark_parts(tx, ref, kinds, cause, settle, now)

    # --- tokens ---

    def token(self, account: str) -> KeptToken:
        with self._store.read() as tx:
            return tokens.current(tx, account)

    def lease_token(self, account: str, *, seen: int, lease: timedelta, now: datetime) -> int | None:
        with self._store.write() as tx:
            return tokens.lease(tx, account, seen=seen, lease=lease, now=now)

    def keep_token(self, account: str, sealed: bytes, *, fence: int, now: datetime) -> None:
        with self._store.write() as tx:
            tokens.keep(tx, account, sealed, fence=fence, now=now)

    def free_token(self, account: str, *, fence: int) -> None:
        with self._store.write() as tx:
            tokens.free(tx, account, fence=fence)

    # --- reading for provider state ---

    def lanes(self) -> tuple[list[Lane], list[Gate]]:
        """Everything pending, by lane, and what may not be read now."""
        with self._store.write() as tx:
            return lanes.lanes(tx)

    def claim(
        self,
        account: str,
        kind: str,
        priority: int,
        *,
        owner: str,
        count: int,
        lease: timedelta,
        now: datetime,
        window: Window | None = None,
        newest: bool = False,
    ) -> list[Claim]:
        with self._store.write() as tx:
            return claims.claim(
                tx,
                account,
                kind,
                priority,
                owner=owner,
                count=count,
                lease=lease,
                now=now,
                window=window,
                newest=newest,
            )

    def density(self, account: str, kind: str, priority: int, *, page_size: int, now: datetime) -> Density | None:
        with self._store.write() as tx:
            return lanes.density(tx, account, kind, priority, page_size=page_size, now=now)

    def release(self, releases: Sequence[Release], now: datetime) -> int:
        with self._store.write() as tx:
            return claims.release(tx, releases, now)

    def void_leases(self, owner: str, now: datetime) -> int:
        with self._store.write() as tx:
            return claims.void_leases(tx, owner, now)

    def unsettled(self) -> list[tuple[str, str]]:
        with self._store.read() as tx:
            return claims.unsettled(tx)

    def lease_owners(self) -> list[str]:
        with self._store.write() as tx:
            return claims.lease_owners(tx)

    def tick(self) -> int:
        """A reading of the ledger clock, to be taken before a page is requested."""
        with self._store.write() as tx:
            return tx.tick()

    def apply(self, answers: Sequence[Answer], *, now: datetime, least_interval: timedelta) -> list[Applied]:
        with self._store.write() as tx:
            return applying.apply_answers(tx, answers, now=now, least_interval=least_interval)

    def apply_page(
        self,
        rows: Sequence[PageRow],
        *,
        start: int,
        started_at: datetime,
        cause: Cause,
        settle: Mapping[str, timedelta],
        now: datetime,
    ) -> list[Applied]:
        with self._store.write() as tx:
            return pages.apply_page(tx, rows, start=start, started_at=started_at, cause=cause, settle=settle, now=now)

    def packed_version(self, body: bytes) -> bytes:
        """A body as it is to be stored; from any thread, before the commit that stores it."""
        return self._store.packing.pack(body, Place.VERSION)

    # --- dead letters and gates ---

    def discard(self, ref: ResourceRef, now: datetime) -> bool:
        with self._store.write() as tx:
            return claims.discard(tx, ref, now)

    def gate(self, account: str, kind: str, *, reason: str, note: str, until: datetime, now: datetime) -> None:
        with self._store.write() as tx:
            gates.gate(tx, account, kind, reason=reason, note=note, until=until, now=now)

    def gates(self) -> list[Gate]:
        with self._store.read() as tx:
            return gates.gates(tx)

    def lift(self, gate: Gate) -> bool:
        with self._store.write() as tx:
            return gates.lift(tx, gate)

    def dead_letters(self, *, limit: int = 1000, with_discarded: bool = False) -> list[DeadLetter]:
        with self._store.read() as tx:
            return claims.dead_letters(tx, limit=limit, with_discarded=with_discarded)

    # --- facts ---

    def record_control_totals(self, totals: Iterable[ControlTotal], now: datetime) -> int:
        with self._store.write() as tx:
            return facts.record_control_totals(tx, totals, now)

    def record_coverage(self, coverages: Iterable[Coverage], now: datetime) -> int:
        with self._store.write() as tx:
            return record_coverage(tx, coverages, now)

    def record_payout_members(
        self, payout: ResourceRef, members: Sequence[ResourceRef], *, complete: bool, now: datetime
    ) -> int:
        with self._store.write() as tx:
            return facts.record_payout_members(tx, payout, members, complete=complete, now=now)

    # --- findings, missed events ---

    def note_findings(self, account: str, found: Sequence[Finding], *, codes: frozenset[str], now: datetime) -> None:
        with self._store.write() as tx:
            findings.note_findings(tx, account, found, codes=codes, now=now)

    def note_missed(self, account: str, notices: Sequence[Notice], now: datetime) -> list[Notice]:
        with self._store.write() as tx:
            return findings.note_missed(tx, account, notices, now)

    # --- deliveries, afterwards ---

    def announced_by(self, ref: ResourceRef, *, before: datetime, limit: int) -> list[str]:
        """The event ids of the deliveries that named it until then, the newest first, each once."""
        with self._store.read() as tx:
            return deliveries.announced_by(tx, ref, before=before, limit=limit)

    # --- secrets ---

    def note_secrets(self, account: str, fingerprints: Collection[str], now: datetime) -> None:
        """These are in use now."""
        with self._store.write() as tx:
            secrets.note_secrets(tx, account, fingerprints, now)

    def secrets_since(self, account: str, fingerprints: Collection[str]) -> Mapping[str, datetime]:
        """When each of those that were noted was first seen."""
        with self._store.read() as tx:
            return secrets.secrets_since(tx, account, fingerprints)

    # --- what to look at again ---

    def unseen(
        self, account: str, kind: str, *, window: Window, before: datetime, limit: int = 10_000
    ) -> list[ResourceRef]:
        with self._store.read() as tx:
            return candidates.unseen(tx, account, kind, window=window, before=before, limit=limit)

    def stale_open(
        self,
        account: str,
        kind: str,
        statuses: Sequence[str],
        *,
        least: timedelta,
        oldest: datetime,
        now: datetime,
        limit: int = 1000,
    ) -> list[ResourceRef]:
        with self._store.read() as tx:
            return candidates.stale_open(tx, account, kind, statuses, least=least, oldest=oldest, now=now, limit=limit)

    def memberless(
        self,
        account: str,
        kind: str,
        *,
        oldest: datetime,
        changed_before: datetime,
        after: ResourceRef | None = None,
        limit: int = 100,
    ) -> list[Snapshot]:
        with self._store.read() as tx:
            return candidates.memberless(
                tx, account, kind, oldest=oldest, changed_before=changed_before, after=after, limit=limit
            )

    def known_counts(self, account: str, kind: str, *, window: Window, reach: datetime) -> tuple[int, int, int]:
        with self._store.read() as tx:
            return candidates.known_counts(tx, account, kind, window=window, reach=reach)

    def longest_known(
        self, account: str, kinds: Collection[str], *, since: datetime, before: datetime, each: int, limit: int
    ) -> list[ResourceRef]:
        with self._store.read() as tx:
            return candidates.longest_known(tx, account, kinds, since=since, before=before, each=each, limit=limit)

    def shared(
        self, account: str, others: Collection[str], kinds: Collection[str], *, each: int
    ) -> dict[str, ResourceRef]:
        with self._store.read() as tx:
            return candidates.shared(tx, account, others, kinds, each=each)

    def known_count(self, account: str, kind: str, window: Window) -> candidates.KnownCount:
        with self._store.read() as tx:
            return candidates.known_count(tx, account, kind, window)

    def oldest_known(self, account: str, kind: str, *, reach: datetime) -> datetime | None:
        with self._store.read() as tx:
            return candidates.oldest_known(tx, account, kind, reach=reach)

    def still_open(
        self,
        account: str,
        kind: str,
        statuses: Sequence[str],
        *,
        created_before: datetime,
        read_before: datetime,
        limit: int = 10_000,
    ) -> list[ResourceRef]:
        with self._store.read() as tx:
            return candidates.still_open(
                tx, account, kind, statuses, created_before=created_before, read_before=read_before, limit=limit
            )

    def pending(self, account: str, kind: str, *, marked_before: datetime, limit: int = 10_000) -> list[Pending]:
        with self._store.read() as tx:
            return candidates.pending(tx, account, kind, marked_before=marked_before, limit=limit)

    def caused(self, account: str, kind: str, cause: Cause, *, since: datetime, limit: int = 1000) -> Caused:
        """What was stored because of it since then, and which known resources turned out to have changed."""
        with self._store.read() as tx:
            return causes.caused(tx, account, kind, cause, since=since, limit=limit)

    # --- expectations ---

    def expect(self, ref: ResourceRef, *, due_at: datetime, note: str, now: datetime) -> None:
        with self._store.write() as tx:
            expectations.expect(tx, ref, due_at=due_at, note=note, now=now)

    def look_at_expected(self, refs: Sequence[ResourceRef], now: datetime) -> int:
        """Mark expected resources whose time is up, each once; how many."""
        with self._store.write() as tx:
            expectations.note_looked(tx, refs, now)
            return marks.mark(tx, [Mark(ref, Cause.DEADLINE) for ref in refs], now)

    def confirm_expectations(self, account: str, kind: str, open_states: Sequence[str], now: datetime) -> int:
        with self._store.write() as tx:
            return expectations.confirm_expectations(tx, account, kind, open_states, now)

    # --- jobs ---

    def take_job(self, name: str, *, owner: str, lease: timedelta, now: datetime) -> Job | None:
        with self._store.write() as tx:
            return jobs.take(tx, name, owner=owner, lease=lease, now=now)

    def renew_job(
        self,
        job: Job,
        *,
        progress: Mapping[str, Any],
        now: datetime,
        watermark: datetime | None = None,
    ) -> None:
        with self._store.write() as tx:
            jobs.renew(tx, job, progress=progress, now=now, watermark=watermark)

    def move_job(self, job: Job, change: Callable[[Mapping[str, Any]], Mapping[str, Any]], *, now: datetime) -> None:
        """Renew a run with what `change` makes of its progress: for several who move it at once. Raises JobLost."""
        with self._store.write() as tx:
            jobs.renew(tx, job, progress=change(jobs.progress_of(tx, job.name, lock=True)), now=now)

    def finish_job(
        self,
        job: Job,
        *,
        due_at: datetime,
        now: datetime,
        complete: bool,
        watermark: datetime | None = None,
        error: str | None = None,
    ) -> None:
        with self._store.write() as tx:
            jobs.finish(tx, job, due_at=due_at, now=now, complete=complete, watermark=watermark, error=error)

    def job_progress(self, name: str) -> Mapping[str, Any]:
        with self._store.read() as tx:
            return jobs.progress_of(tx, name)

    def hurry_job(self, name: str, now: datetime) -> None:
        with self._store.write() as tx:
            jobs.hurry(tx, name, now)

    # --- alerts ---

    def keep_alerts(self, kept: Sequence[Alert]) -> None:
        with self._store.write() as tx:
            alerts.keep_alerts(tx, kept)

    # --- what people read ---

    @contextmanager
    def view(self) -> Iterator[View]:
        """One consistent view for reports and pages. Keep it short on SQLite: it holds back the checkpoint."""
        with self._store.read() as tx:
            yield View(tx)
