"""Carrying out a plan: ask the provider, apply what it said, and send back to the ledger what it did not say."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog

from reconciler.ahead import Read
from reconciler.clock import Clock
from reconciler.errors import (
    BadReply,
    LedgerError,
    OutOfSight,
    ProviderError,
    Throttled,
    Unavailable,
)
from reconciler.failures import Failures
from reconciler.health import GATE_OUTAGE, Health
from reconciler.ledger import GATE_STORM, Answer, Applied, Claim, Gate, GroupCommit, Ledger, Outcome, PageRow, Release
from reconciler.ledger.marks import EXISTS
from reconciler.model import (
    Cause,
    Priority,
    Reading,
    ResourceRef,
    Snapshot,
    Tombstone,
    Window,
)
from reconciler.provider import Kind, Provider
from reconciler.retry import RetryPolicy, briefly, describe
from reconciler.spending import Spending
from reconciler.storms import STORM_WAIT, Storms

log = structlog.get_logger(__name__)

AT_ONCE = timedelta(0)
"""Nothing is waited for."""

Draw = Callable[[str], Awaitable[bool]]
"""Asks the budget for one more request to an endpoint, at the urgency of what is being read."""


@dataclass(frozen=True, slots=True)
class FetchSettings:
    lease: timedelta = timedelta(seconds=60)
    least_interval: timedelta = timedelta(seconds=1)
    """The least time between two reads of one resource."""

    @property
    def deadline_seconds(self) -> float:
        """A read that has not ended by then is given up while its claim is still ours."""
        return self.lease.total_seconds() * 0.8


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
        on_read: Callable[[datetime, Sequence[Applied]], None] | None = None,
    ) -> None:
        """`on_read` hears when each stored read began; None: nobody traces them."""
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
        self._on_read = on_read
        self._health = Health({part: whole.name for whole in provider.kinds.values() for part in whole.covers})
        self._storms = Storms(account, provider.kinds, ledger, clock, self._health)
        self._failures = Failures(account, provider, ledger, clock, self._health, policy=policy, rng=rng)
        self.budget = Spending(account, provider, ledger, clock, sleep=sleep)
        self._settle: Mapping[str, timedelta] = {name: kind.settle for name, kind in provider.kinds.items()}

    # --- by ids ---

    async def fetch(
        self, kind: Kind, claims: Sequence[Claim], draw: Draw, on_answer: Callable[[], timedelta] = lambda: AT_ONCE
    ) -> None:
        """One request for up to `id_batch` claims. Its token has been drawn already; `draw` asks for a repetition's.

        `on_answer` is called when the provider is no longer asked, before what it said is stored; it says how long that
        may wait for other answers.
        """
        refs = [claim.ref for claim in claims]
        began = self._clock.now()
        failure: ProviderError | None = None

        async def ask() -> Sequence[Reading]:
            nonlocal began, failure
            if failure is not None and not await draw(kind.endpoint):
                raise failure
            began = self._clock.now()
            try:
                return await self.provider.fetch(refs)
            except ProviderError as error:
                failure = error
                raise

        try:
            async with self._in_time(kind):
                readings = await briefly(ask, self._policy, self._sleep)
            patience = on_answer()
            await self.budget.learn()
            await self._conclude(kind, claims, readings, began, patience)
        except LedgerError:
            raise
        except Exception as error:
            await self.failed(kind, claims, error)

    @asynccontextmanager
    async def _in_time(self, kind: Kind) -> AsyncIterator[None]:
        """An answer that has not come while the claim is ours is no answer, and not the resource's fault."""
        seconds = self._settings.deadline_seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise Unavailable(f"{self.account}/{kind.name}: no answer within {seconds:g} s") from error

    # --- by a list window ---

    async def walk(self, kind: Kind, claims: Sequence[Claim], window: Window, draw: Draw) -> None:
        """List a window page by page; claimed rows are answered, the others are applied as page rows.

        The first page's token has been drawn already; `draw` asks for each further one, by endpoint. A claim that the
        complete list did not name is read by its id at once: released, it would be planned as a walk again, and a
        deleted resource is in no list.
        """
        waiting = {claim.ref: claim for claim in claims}
        cursor: str | None = None
        listed = False
        try:
            async with self._in_time(kind):
                while waiting:
                    start = await self._ledger.call(lambda ledger: ledger.tick())
                    began = self._clock.now()
                    page = await self.provider.page(kind.name, window, cursor)
                    rows = {row.ref: row for row in page.rows}
                    others = [row for row in (*rows.values(), *page.along) if row.ref not in waiting]
                    pairs = [(waiting.pop(ref), row) for ref, row in rows.items() if ref in waiting]
                    self.answered(kind, (claim.ref for claim, _ in pairs))
                    await self._apply(kind, pairs, others, began, start=start)
                    cursor = page.cursor
                    listed = cursor is None
                    if listed or not await draw(str(kind.list_endpoint)):
                        break
        except LedgerError:
            raise
        except Exception as error:
            # The list failed, not the resources that it was walked for: they are read singly, and not one is counted.
            # One that is throttled is as good as before when its time is up; until then its budget is closed.
            if not isinstance(error, Throttled):
                self._health.rest_walks(kind.name, self._clock.now())
            await self.failed(kind, [], error, endpoint=kind.list_endpoint)
        left = list(waiting.values())
        if listed and len(left) > len(claims) / 2:
            self._health.rest_walks(kind.name, self._clock.now())
        elif listed or not left:
            self._health.walked(kind.name)
        in_time = claims[0].lease_until - self._settings.lease / 2
        while listed and left and self._clock.now() < in_time and await draw(kind.endpoint):
            batch, left = left[: kind.id_batch], left[kind.id_batch :]
            await self.fetch(kind, batch, draw)
        await self.release(left)

    def may_walk(self, kind: Kind, now: datetime) -> bool:
        """Whether lists of this kind have been worth their requests lately."""
        return self._health.may_walk(kind.name, now)

    def answered(self, kind: Kind, refs: Iterable[ResourceRef] = ()) -> None:
        """The provider answered a read of this kind: it is not away."""
        self._health.answered(kind.name, map(str, refs))

    # --- after an answer ---

    async def _conclude(
        self, kind: Kind, claims: Sequence[Claim], readings: Sequence[Reading], began: datetime, patience: timedelta
    ) -> None:
        by_ref = {claim.ref: claim for claim in claims}
        brought = [(by_ref.pop(reading.ref), reading) for reading in readings if reading.ref in by_ref]
        claimed = {claim.ref for claim in claims}
        others = [row for row in readings if row.ref not in claimed and isinstance(row, Snapshot)]
        pairs = await self._believed(await self._within_sight(kind, brought))
        if by_ref and len(claims) > 1:
            # Where the attempt counts each is read alone now: only such a read may say that it does not exist.
            now, counted = self._clock.now(), kind.batch_reaches or not brought
            left_out = [Release(claim, now, counted=counted) for claim in by_ref.values()]
            await self._ledger.call(lambda ledger: ledger.release(left_out, now))
        elif by_ref:
            missing = ", ".join(str(ref) for ref in by_ref)
            await self.failed(kind, list(by_ref.values()), BadReply(f"the answer left out {missing}"))
        self.answered(kind, (claim.ref for claim, _ in pairs))
        await self._apply(kind, pairs, others, began, start=claims[0].token, patience=patience)

    async def _apply(
        self,
        kind: Kind,
        pairs: Sequence[tuple[Claim, Reading]],
        others: Sequence[Snapshot],
        began: datetime,
        *,
        start: int,
        patience: timedelta = AT_ONCE,
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
        seen = [answer.claim.ref for answer in answers if isinstance(answer.reading, Snapshot)]
        behind = self._failures.gates_of(kind)
        opened = [
            gate
            for gate in behind
            if (await self._storms.ended_by(seen, gate) if gate.reason == GATE_STORM else seen)
            or (answers and gate.reason == GATE_OUTAGE)
        ]
        gone = {answer.claim.ref for answer in answers if isinstance(answer.reading, Tombstone)}
        along: Sequence[Applied] = ()
        if rows or opened or gone:
            along, applied = await self._apply_together(kind, answers, rows, opened, gone, began, start=start)
        else:
            applied = await self._ledger.apply(answers, least_interval=self._settings.least_interval, patience=patience)
        self._failures.lifted(opened)
        self._on_applied([*along, *applied])
        if self._on_read is not None:
            self._on_read(began, applied)
        for each in applied:
            log.debug("applied", ref=str(each.ref), outcome=each.outcome.value, version=each.version, dirty=each.dirty)
            if each.drift:
                log.info("drift found", ref=str(each.ref), cause=each.cause.value, version=each.version)
        for claim, fault in broken:
            await self.failed(kind, [claim], BadReply(f"{claim.ref}: {fault}"))

    async def _apply_together(
        self,
        kind: Kind,
        answers: Sequence[Answer],
        rows: Sequence[PageRow],
        opened: Sequence[Gate],
        gone: Collection[ResourceRef],
        began: datetime,
        *,
        start: int,
    ) -> tuple[list[Applied], list[Applied]]:
        """Answers with what they bring about beside their own resources. What became of the rows, and of answers."""
        now = self._clock.now()

        def act(ledger: Ledger) -> tuple[list[Applied], list[Applied]]:
            along: list[Applied] = []
            if rows:
                along = ledger.apply_page(
                    rows,
                    start=start,
                    started_at=began,
                    cause=answers[0].claim.cause if answers else Cause.SWEEP,
                    settle=self._settle,
                    now=now,
                )
            for gate in opened:
                if ledger.lift(gate) and gate.reason == GATE_STORM:
                    ledger.note_findings(self.account, [], codes=frozenset({GATE_STORM}), now=now)
            applied = ledger.apply(answers, now=now, least_interval=self._settings.least_interval)
            for each in applied:
                if each.ref in gone and each.outcome is Outcome.CHANGED:
                    ledger.mark_parts(each.ref, kind.covers, each.cause, settle=kind.settle, now=now)
            return along, applied

        return await self._ledger.call(act)

    def _answer(self, claim: Claim, reading: Reading, began: datetime) -> Answer:
        snapshot = reading if isinstance(reading, Snapshot) else None
        if snapshot is not None:
            snapshot.canonical  # noqa: B018 - what cannot be kept is refused here, and not in the commit of all answers
        return Answer(
            claim=claim,
            reading=reading,
            started_at=began,
            satisfied=claim.hints is not None and all(self._is_shown(hint, reading) for hint in claim.hints),
            entries=() if snapshot is None else self.provider.entries(snapshot),
            control_totals=() if snapshot is None else self.provider.control_totals(snapshot, began),
            settle=self._settle[claim.ref.kind],
            listed=self.provider.kinds[claim.ref.kind].list_endpoint is not None,
        )

    def _is_shown(self, hint: str, reading: Reading) -> bool:
        if hint == EXISTS:
            return isinstance(reading, Snapshot)
        return self.provider.satisfied(_expected(hint), reading)

    def page_rows(self, snapshots: Sequence[Snapshot]) -> list[PageRow]:
        """Rows with their entries; one that cannot be kept, or whose entries cannot be read, is marked instead, and its
        own read names it."""
        return [self._page_row(snapshot) for snapshot in snapshots]

    def _page_row(self, snapshot: Snapshot) -> PageRow:
        try:
            snapshot.canonical  # noqa: B018 - made once, when it is asked for first
        except BadReply as error:
            # What has no canonical form is unlike all that is stored, and so is an empty body.
            return _unreadable(replace(snapshot, body={}), error)
        try:
            return PageRow(snapshot, self.provider.entries(snapshot))
        except (ValueError, ProviderError) as error:
            return _unreadable(snapshot, error)

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

    async def _believed(self, pairs: Sequence[tuple[Claim, Reading]]) -> Sequence[tuple[Claim, Reading]]:
        """The pairs without tombstones of a storm; their claims go back uncounted."""
        refused = await self._storms.refused(pairs)
        if not refused:
            return pairs
        await self.release(refused, wait=STORM_WAIT)
        names = {claim.ref for claim in refused}
        return [(claim, reading) for claim, reading in pairs if claim.ref not in names]

    # --- after a failure, and between reads ---

    async def failed(
        self, kind: Kind, claims: Sequence[Claim], error: Exception, *, endpoint: str | None = None
    ) -> None:
        """Send every claim back with the wait that the policy says, and close what has to be closed.

        Without claims it was a list that failed.
        """
        self._on_failed(self.account, kind.name, error)
        await self._failures.failed(kind, claims, error, endpoint=endpoint)

    async def release(self, claims: Sequence[Claim], *, wait: timedelta = timedelta(0)) -> None:
        """Give claims back untouched."""
        if not claims:
            return
        now = self._clock.now()
        releases = [Release(claim, now + wait, counted=False) for claim in claims]
        await self._ledger.call(lambda ledger: ledger.release(releases, now))

    async def put_back(self, reads: Sequence[Read]) -> None:
        """Give claims back for which no request was sent, and what was paid for them. Twice is as good as once: whoever
        never heard of the commit says it again."""
        now = self._clock.now()
        releases = [Release(claim, now, counted=False) for read in reads for claim in read.claims]
        unused = Counter((read.endpoint, Priority(read.priority)) for read in reads)

        def act(ledger: Ledger) -> None:
            # All resources before all of the budget, as a page's commit has them: what others wait for most comes last.
            if ledger.release(releases, now):
                for (endpoint, priority), count in sorted(unused.items()):
                    ledger.requests.give_back(
                        self.account, endpoint, self.budget.limits, unused=count, priority=priority, now=now
                    )

        await self._ledger.call(act)

    def know_gates(self, gates: Sequence[Gate]) -> None:
        """The account's gates as the ledger has them, whoever closed or lifted them."""
        self._failures.know_gates(gates)


def _unreadable(snapshot: Snapshot, error: Exception) -> PageRow:
    log.warning("row cannot be read", ref=str(snapshot.ref), error=describe(error))
    return PageRow(snapshot, readable=False)


def _is_evidence(claim: Claim, reading: Reading) -> bool:
    if not isinstance(reading, Tombstone) or reading.sees_since is None:
        return True
    return claim.created_at is not None and claim.created_at >= reading.sees_since


def _expected(hint: str) -> Mapping[str, Any]:
    expected: Mapping[str, Any] = orjson.loads(hint)
    return expected
