"""Carrying out a plan: ask the provider, apply what it said, and send back to the ledger what it did not say."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, assert_never

import orjson
import structlog

from reconciler.clock import Clock
from reconciler.errors import AccessScope, BadReply, LedgerError, OutOfSight, ProviderError, ThrottleScope
from reconciler.ledger import Answer, Applied, Claim, GroupCommit, Ledger, Outcome, PageRow, Release
from reconciler.model import (
    Cause,
    Finding,
    Priority,
    Reading,
    ResourceRef,
    Severity,
    Snapshot,
    State,
    Tombstone,
    Window,
)
from reconciler.provider import ACCOUNT_LIMIT, Kind, Provider
from reconciler.retry import (
    CloseGate,
    GiveUp,
    RetryPolicy,
    SlowDown,
    TryAgain,
    briefly,
    decide,
    describe,
    is_evidence_of_outage,
)

log = structlog.get_logger(__name__)

OUTAGE_AFTER = 5
"""Reads in a row that found the provider away before the whole account waits instead of each resource."""

STORM_PERIOD = timedelta(minutes=10)
STORM_LEAST = 20
STORM_SHARE = 0.02
"""More than max(20, 2 %) of the resources last known as present, answered "missing" within ten minutes, are no
deletions: a key of the wrong mode or account answers so for everything."""

STORM_WAIT = timedelta(minutes=15)

GATE_STORM = "missing-storm"
GATE_OUTAGE = "unavailable"


@dataclass(frozen=True, slots=True)
class FetchSettings:
    lease: timedelta = timedelta(seconds=60)
    least_interval: timedelta = timedelta(seconds=1)
    """The least time between two reads of one resource."""

    @property
    def deadline_seconds(self) -> float:
        """A read that has not ended by then is given up while its claim is still ours."""
        return self.lease.total_seconds() * 0.8


@dataclass(slots=True)
class _Health:
    """What this process remembers of an account between reads."""

    outages: int = 0
    gate_closed: dict[str, int] = field(default_factory=dict)
    missing: deque[tuple[datetime, ResourceRef]] = field(default_factory=deque)


class Fetcher:
    """Reads for one account. Never raises for what a provider or a resource did; only for a bug or a lost ledger."""

    def __init__(
        self,
        account: str,
        provider: Provider,
        ledger: GroupCommit,
        clock: Clock,
        *,
        policy: RetryPolicy,
        settings: FetchSettings,
        rng: random.Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_applied: Callable[[Sequence[Applied]], None] = lambda _: None,
        on_failed: Callable[[str, str, Exception], None] = lambda _account, _kind, _error: None,
    ) -> None:
        self.account = account
        self.provider = provider
        self._ledger = ledger
        self._clock = clock
        self._policy = policy
        self._settings = settings
        self._rng = rng
        self._sleep = sleep
        self._on_applied = on_applied
        self._on_failed = on_failed
        self._health = _Health()
        self._settle: Mapping[str, timedelta] = {name: kind.settle for name, kind in provider.kinds.items()}

    # --- by ids ---

    async def fetch(self, kind: Kind, claims: Sequence[Claim]) -> None:
        """One request for up to `id_batch` claims. Its token has been drawn already."""
        refs = [claim.ref for claim in claims]
        began = self._clock.now()

        async def ask() -> Sequence[Reading]:
            nonlocal began
            began = self._clock.now()
            return await self.provider.fetch(refs)

        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                readings = await briefly(ask, self._policy, self._sleep)
            await self._conclude(kind, claims, readings, began)
        except LedgerError:
            raise
        except Exception as error:
            await self.failed(kind, claims, error)

    # --- by a list window ---

    async def walk(
        self, kind: Kind, claims: Sequence[Claim], window: Window, draw: Callable[[str], Awaitable[bool]]
    ) -> None:
        """List a window page by page; claimed rows are answered, the others are applied as page rows.

        The first page's token has been drawn already; `draw` asks for each further one, by endpoint. A claim that the
        complete list did not name is read by its id at once: released, it would be planned as a walk again, and a
        deleted resource is in no list.
        """
        waiting = {claim.ref: claim for claim in claims}
        cursor: str | None = None
        listed = False
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                while waiting:
                    start = await self._ledger.call(lambda ledger: ledger.tick())
                    began = self._clock.now()
                    page = await self.provider.page(kind.name, window, cursor)
                    answered = [row for row in page.rows if row.ref in waiting]
                    others = [row for row in (*page.rows, *page.along) if row.ref not in waiting]
                    pairs = [(waiting.pop(row.ref), row) for row in answered]
                    await self._apply(kind, pairs, others, began, start=start)
                    cursor = page.cursor
                    listed = cursor is None
                    if listed or not await draw(str(kind.list_endpoint)):
                        break
            self._recovered()
        except LedgerError:
            raise
        except Exception as error:
            await self.failed(kind, list(waiting.values()), error, endpoint=kind.list_endpoint)
            return
        left = list(waiting.values())
        while listed and left and await draw(kind.endpoint):
            batch, left = left[: kind.id_batch], left[kind.id_batch :]
            await self.fetch(kind, batch)
        await self.release(left)

    # --- after an answer ---

    async def _conclude(
        self, kind: Kind, claims: Sequence[Claim], readings: Sequence[Reading], began: datetime
    ) -> None:
        by_ref = {claim.ref: claim for claim in claims}
        brought = [(by_ref.pop(reading.ref), reading) for reading in readings if reading.ref in by_ref]
        claimed = {claim.ref for claim in claims}
        others = [row for row in readings if row.ref not in claimed and isinstance(row, Snapshot)]
        pairs = await self._without_storm(await self._within_sight(kind, brought))
        if by_ref and len(claims) > 1:
            # The attempt counts, so that each is read alone now: only such a read may say that it does not exist.
            now = self._clock.now()
            left_out = [Release(claim, now) for claim in by_ref.values()]
            await self._ledger.call(lambda ledger: ledger.release(left_out, now))
        elif by_ref:
            missing = ", ".join(str(ref) for ref in by_ref)
            await self.failed(kind, list(by_ref.values()), BadReply(f"the answer left out {missing}"))
        if any(isinstance(reading, Snapshot) for _, reading in pairs):
            self._recovered()
        await self._apply(kind, pairs, others, began, start=claims[0].token)

    async def _apply(
        self,
        kind: Kind,
        pairs: Sequence[tuple[Claim, Reading]],
        others: Sequence[Snapshot],
        began: datetime,
        *,
        start: int,
    ) -> None:
        """One commit: what came along first, so that nothing the answer names is marked as unknown."""
        answers: list[Answer] = []
        broken: list[tuple[Claim, Exception]] = []
        for claim, reading in pairs:
            try:
                answers.append(self._answer(claim, reading, began))
            except (ValueError, ProviderError) as error:
                broken.append((claim, error))
        rows = self.page_rows(others)
        seen = any(isinstance(answer.reading, Snapshot) for answer in answers)
        opened = [gated for gated in ("", kind.name) if seen and gated in self._health.gate_closed]
        gone = {answer.claim.ref for answer in answers if isinstance(answer.reading, Tombstone)}
        now = self._clock.now()

        def act(ledger: Ledger) -> list[Applied]:
            if rows:
                ledger.apply_page(
                    rows,
                    start=start,
                    started_at=began,
                    cause=answers[0].claim.cause if answers else Cause.SWEEP,
                    settle=self._settle,
                    now=now,
                )
            for gated in opened:
                ledger.lift(self.account, gated)
            applied = ledger.apply(answers, now=now, least_interval=self._settings.least_interval)
            for each in applied:
                if each.ref in gone and each.outcome is Outcome.CHANGED:
                    ledger.mark_parts(each.ref, kind.covers, each.cause, now)
            return applied

        applied = await self._ledger.call(act)
        for gated in opened:
            self._health.gate_closed.pop(gated, None)
        self._on_applied(applied)
        for each in applied:
            log.debug("applied", ref=str(each.ref), outcome=each.outcome.value, version=each.version, dirty=each.dirty)
            if each.drift:
                log.info("drift found", ref=str(each.ref), cause=each.cause.value, version=each.version)
        for claim, fault in broken:
            await self.failed(kind, [claim], BadReply(f"{claim.ref}: {fault}"))

    def _answer(self, claim: Claim, reading: Reading, began: datetime) -> Answer:
        snapshot = reading if isinstance(reading, Snapshot) else None
        return Answer(
            claim=claim,
            reading=reading,
            started_at=began,
            satisfied=claim.hints is not None
            and all(self.provider.satisfied(_expected(hint), reading) for hint in claim.hints),
            entries=() if snapshot is None else self.provider.entries(snapshot),
            control_totals=() if snapshot is None else self.provider.control_totals(snapshot, began),
        )

    def page_rows(self, snapshots: Sequence[Snapshot]) -> list[PageRow]:
        """Rows with their entries; one whose entries cannot be read is marked by the next sweep, never half applied."""
        rows = []
        for snapshot in snapshots:
            try:
                rows.append(PageRow(snapshot, self.provider.entries(snapshot)))
            except (ValueError, ProviderError) as error:
                log.warning("row cannot be read", ref=str(snapshot.ref), error=describe(error))
        return rows

    async def _within_sight(
        self, kind: Kind, pairs: Sequence[tuple[Claim, Reading]]
    ) -> Sequence[tuple[Claim, Reading]]:
        """The pairs without tombstones of what the credentials would not see even if it existed."""
        seen = [pair for pair in pairs if _is_evidence(*pair)]
        if len(seen) < len(pairs):
            hidden = [claim for claim, reading in pairs if not _is_evidence(claim, reading)]
            since = next(r.sees_since for _, r in pairs if isinstance(r, Tombstone) and r.sees_since is not None)
            names = ", ".join(str(claim.ref) for claim in hidden[:3])
            error = OutOfSight(f"{names}: these credentials see only what was created since {since:%Y-%m-%d}")
            await self.failed(kind, hidden, error)
        return seen

    # --- "missing", for too many at once ---

    async def _without_storm(self, pairs: Sequence[tuple[Claim, Reading]]) -> Sequence[tuple[Claim, Reading]]:
        """The pairs without those tombstones that cannot be believed; their claims go back uncounted."""
        gone = [(claim, r) for claim, r in pairs if isinstance(r, Tombstone) and claim.state is State.PRESENT]
        if not gone:
            return pairs
        now = self._clock.now()
        missing = self._health.missing
        seen = {ref for _, ref in missing}
        missing.extend((now, claim.ref) for claim, _ in gone if claim.ref not in seen)
        while missing and missing[0][0] < now - STORM_PERIOD:
            missing.popleft()
        gates = await self._ledger.read(lambda ledger: ledger.gates())
        raging = any(gate.account == self.account and gate.reason == GATE_STORM for gate in gates)
        if not raging and len(missing) <= await self._storm_limit(len(missing)):
            return pairs
        await self._close_for_storm(len(missing), now)
        await self.release([claim for claim, _ in gone], wait=STORM_WAIT)
        refused = {claim.ref for claim, _ in gone}
        return [(claim, reading) for claim, reading in pairs if claim.ref not in refused]

    async def _storm_limit(self, missing: int) -> int:
        if missing <= STORM_LEAST:
            return STORM_LEAST

        def present(ledger: Ledger) -> int:
            with ledger.view() as view:
                return sum(holding.present for holding in view.holdings() if holding.account == self.account)

        return max(STORM_LEAST, int(await self._ledger.read(present) * STORM_SHARE))

    async def _close_for_storm(self, missing: int, now: datetime) -> None:
        text = f"{missing} resources that were present answered 'missing' within ten minutes; none is believed"
        finding = Finding(
            code="missing-storm",
            severity=Severity.ERROR,
            account=self.account,
            text=text,
            remedy="check that the key belongs to this account and mode (live or test); reading resumes by itself",
        )

        def act(ledger: Ledger) -> None:
            ledger.gate(self.account, "", reason=GATE_STORM, note=text, until=now + STORM_WAIT, now=now)
            ledger.note_findings(self.account, [finding], codes=frozenset({finding.code}), now=now)

        await self._ledger.call(act)
        self._health.gate_closed[""] = self._health.gate_closed.get("", 0) + 1
        log.error("too many resources missing at once", account=self.account, missing=missing)

    # --- after a failure ---

    async def failed(
        self, kind: Kind, claims: Sequence[Claim], error: Exception, *, endpoint: str | None = None
    ) -> None:
        """Classify, and send every claim back to the ledger with the wait that the policy says."""
        now = self._clock.now()
        self._on_failed(self.account, kind.name, error)
        log.warning("read failed", account=self.account, kind=kind.name, claims=len(claims), error=describe(error))
        self._health.outages = self._health.outages + 1 if is_evidence_of_outage(error) else 0
        outage = self._health.outages >= OUTAGE_AFTER
        releases: list[Release] = []
        acts: list[Callable[[Ledger], Any]] = []
        closed_before = max(self._health.gate_closed.values(), default=0)
        decisions = {
            claim.resource_id: decide(
                error,
                attempts=claim.attempts,
                policy=self._policy,
                jitter=self._rng.random(),
                closed_before=closed_before,
            )
            for claim in claims
        }
        if not claims:
            alone = decide(
                error, attempts=1, policy=self._policy, jitter=self._rng.random(), closed_before=closed_before
            )
            self._shut(alone, kind, error, now, acts, endpoint or kind.endpoint)
        for claim in claims:
            decision = decisions[claim.resource_id]
            match decision:
                case TryAgain(wait, counted):
                    releases.append(Release(claim, now + wait, error=describe(error), counted=counted and not outage))
                case SlowDown(wait) | CloseGate(wait):
                    releases.append(Release(claim, now + wait, error=describe(error), counted=False))
                case GiveUp(wait, reason):
                    bury = not outage
                    again = wait if bury else self._policy.backoff(claim.attempts, self._rng.random())
                    releases.append(Release(claim, now + again, error=reason, counted=bury, bury=bury))
                case _:
                    assert_never(decision)
        if claims:
            self._shut(decisions[claims[0].resource_id], kind, error, now, acts, endpoint or kind.endpoint)
        if outage:
            acts.append(self._outage_gate(error, now))
        buried = [release for release in releases if release.bury]

        def act(ledger: Ledger) -> None:
            for each in acts:
                each(ledger)
            ledger.release(releases, now)

        await self._ledger.call(act)
        for release in buried:
            log.error("dead letter", ref=str(release.claim.ref), error=release.error, attempts=release.claim.attempts)

    def _shut(
        self,
        decision: TryAgain | SlowDown | CloseGate | GiveUp,
        kind: Kind,
        error: Exception,
        now: datetime,
        acts: list[Callable[[Ledger], Any]],
        endpoint: str,
    ) -> None:
        """What a failure closes beyond its own resources."""
        match decision:
            case SlowDown(wait, scope):
                door = ACCOUNT_LIMIT if scope is ThrottleScope.ACCOUNT else endpoint
                acts.append(
                    lambda ledger: ledger.throttle_requests(
                        self.account, door, self.provider.limits, until=now + wait, now=now
                    )
                )
            case CloseGate(wait, scope, reason):
                gated = kind.name if scope is AccessScope.KIND else ""
                note = describe(error)
                self._health.gate_closed[gated] = self._health.gate_closed.get(gated, 0) + 1
                acts.append(
                    lambda ledger: ledger.gate(self.account, gated, reason=reason, note=note, until=now + wait, now=now)
                )
            case _:
                pass

    def _outage_gate(self, error: Exception, now: datetime) -> Callable[[Ledger], None]:
        times = self._health.gate_closed.get("", 0) + 1
        self._health.gate_closed[""] = times
        until = now + min(self._policy.gate_max, self._policy.backoff(times, self._rng.random()))
        note = describe(error)
        return lambda ledger: ledger.gate(self.account, "", reason=GATE_OUTAGE, note=note, until=until, now=now)

    def _recovered(self) -> None:
        self._health.outages = 0

    async def release(self, claims: Sequence[Claim], *, wait: timedelta = timedelta(0)) -> None:
        """Give claims back untouched."""
        if not claims:
            return
        now = self._clock.now()
        releases = [Release(claim, now + wait, counted=False) for claim in claims]
        await self._ledger.call(lambda ledger: ledger.release(releases, now))

    async def draw(self, endpoint: str, priority: Priority, *, want: int = 1) -> tuple[int, timedelta]:
        """Requests that may be sent now, and with none how long to wait."""
        now = self._clock.now()
        limits = self.provider.limits
        return await self._ledger.call(
            lambda ledger: ledger.draw_requests(self.account, endpoint, limits, want=want, priority=priority, now=now)
        )

    def know_gates(self, gated: Sequence[str]) -> None:
        """Gates of the ledger that this process did not close itself: the next success lifts them too."""
        for name in gated:
            self._health.gate_closed.setdefault(name, 1)


def _is_evidence(claim: Claim, reading: Reading) -> bool:
    if not isinstance(reading, Tombstone) or reading.sees_since is None:
        return True
    return claim.created_at is not None and claim.created_at >= reading.sees_since


def _expected(hint: str) -> Mapping[str, Any]:
    expected: Mapping[str, Any] = orjson.loads(hint)
    return expected
