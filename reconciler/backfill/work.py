"""One backfill from question to answer: every kind, the feeds, and then whatever all of that marked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

from reconciler.backfill.asking import Estimate, Request, Result
from reconciler.backfill.estimating import estimates
from reconciler.backfill.events import Events, close_holes
from reconciler.backfill.listing import Listing
from reconciler.backfill.places import Places
from reconciler.backfill.stretches import MOST_AT_ONCE
from reconciler.clock import Clock
from reconciler.health import GATE_OUTAGE
from reconciler.ledger import Gate, GroupCommit, Ledger, Pending
from reconciler.model import Cause
from reconciler.provider import Kind
from reconciler.retry import RetryPolicy
from reconciler.sweeps import Sweeper

KINDS_AT_ONCE = 4
_FIRST_POLL_SECONDS = 0.2
_LAST_POLL_SECONDS = 5.0

PATIENCE = timedelta(minutes=5)
"""How long nothing at all may be settled before what is left is named: a resource that alone keeps failing never
becomes a dead letter, because nothing else says whose fault it is, and nobody waits for ever at a terminal."""

_PATIENT_GATES = 3
"""How often an outage may close the account before what waits behind it is named as not verified."""

_NAMED = 1000
"""How many drifted resources of a kind are named."""


class Backfill:
    """The backfill of one request over several accounts. `watch` is called whenever a result moved."""

    def __init__(
        self,
        sweepers: Mapping[str, Sweeper],
        ledger: GroupCommit,
        clock: Clock,
        *,
        owner: str,
        policy: RetryPolicy,
        lag: Callable[[str], timedelta],
        watch: Callable[[Result], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sweepers = sweepers
        self._ledger = ledger
        self._clock = clock
        self._watch = watch
        self._sleep = sleep
        self._places = Places(ledger, clock, owner=owner, sleep=sleep)
        self._listing = Listing(
            self._places, ledger, clock, policy=policy, lag=lag, watch=watch, sleep=sleep,
            room=asyncio.Semaphore(MOST_AT_ONCE),
        )  # fmt: skip
        self._events = Events(self._places, ledger, clock, policy=policy, sleep=sleep)
        self._asked: Request | None = None

    async def preview(self, request: Request) -> list[Estimate]:
        """What it will cost, without asking the provider anything."""
        return await estimates(self._scope(request), self._ledger, request, self._clock.now())

    async def run(self, request: Request) -> list[Result]:
        """Everything asked for, a few kinds at a time. Never raises for what a provider did: that is in the results."""
        self._asked = request
        room = asyncio.Semaphore(KINDS_AT_ONCE)

        async def one(sweeper: Sweeper, kind: Kind) -> Result:
            async with room:
                return await self._listing.read(sweeper, kind, request)

        scope = self._scope(request)
        results = await asyncio.gather(*(one(sweeper, kind) for sweeper, kind in scope))
        for sweeper in {sweeper.account: sweeper for sweeper, _ in scope}.values():
            of_account = [result for result in results if result.account == sweeper.account]
            await self._events.read(sweeper, request, of_account)
        return list(results)

    async def settle(self, results: Sequence[Result]) -> None:
        """Wait until everything that was dirty when the lists had been read is read; what could not be is named.

        Also what somebody else had marked: a window with a dead letter in it is not verified.
        """
        now = moved_at = self._clock.now()
        by_key = {
            (result.account, name): result
            for result in results
            for name in (result.kind, *self._sweepers[result.account].provider.kinds[result.kind].covers)
        }
        poll_seconds, least = _FIRST_POLL_SECONDS, math.inf
        while True:
            waiting = await self._ledger.read(
                lambda ledger: [
                    each for account, kind in by_key for each in ledger.pending(account, kind, marked_before=now)
                ]
            )
            gates = await self._ledger.read(lambda ledger: ledger.gates())
            closed = {(gate.account, gate.kind): gate for gate in gates if _is_final(gate)}
            if len(waiting) < least:
                least, moved_at = len(waiting), self._clock.now()
            patient = self._clock.now() - moved_at < PATIENCE
            reasons = [(each, _why(each, closed, patient=patient)) for each in waiting]
            if all(reason is not None for _, reason in reasons):
                break
            await self._sleep(poll_seconds)
            poll_seconds = min(1.5 * poll_seconds, _LAST_POLL_SECONDS)
        for each, reason in reasons:
            by_key[each.ref.account, each.ref.kind].reasons.append(f"{each.ref}: {reason}")
        await self._ledger.read(lambda ledger: _count(ledger, results))
        if all(result.verified for result in results):
            await self._conclude(results)

    # --- inside ---

    def _scope(self, request: Request) -> list[tuple[Sweeper, Kind]]:
        return [
            (sweeper, kind)
            for account, sweeper in sorted(self._sweepers.items())
            if not request.accounts or account in request.accounts
            for kind in sweeper.provider.kinds.values()
            if kind.list_endpoint is not None and (not request.kinds or kind.name in request.kinds)
        ]

    async def _conclude(self, results: Sequence[Result]) -> None:
        """Everything was verified: the same question begins anew next time, and old gaps in the feed are closed."""
        assert self._asked is not None
        request, now = self._asked, self._clock.now()
        accounts = sorted({result.account for result in results})
        names = [request.job(result.account, result.kind) for result in results]
        names += [request.job(account, "event") for account in accounts]

        def act(ledger: Ledger) -> None:
            for name in names:
                self._places.forget(ledger, name, now)
            for account in accounts if not request.kinds and request.until is None else ():
                close_holes(ledger, account, request.since, now)

        await self._ledger.call(act)


def _count(ledger: Ledger, results: Sequence[Result]) -> None:
    """What came of it, by its pages and by the single reads that it asked for, whoever made them."""
    for result in results:
        if result.began is None:
            continue
        stored = ledger.caused(result.account, result.kind, Cause.BACKFILL, since=result.began, limit=_NAMED)
        result.changed, result.drift, result.drifted = stored.versions, stored.drift, list(stored.drifted)


def _is_final(gate: Gate) -> bool:
    """Whether to stop waiting for what lies behind a gate: an outage passes, a missing permission does not."""
    return gate.reason != GATE_OUTAGE or gate.times > _PATIENT_GATES


def _why(waiting: Pending, closed: Mapping[tuple[str, str], Gate], *, patient: bool) -> str | None:
    """Why a resource will not be read any time soon; None: it will."""
    gate = closed.get((waiting.ref.account, "")) or closed.get((waiting.ref.account, waiting.ref.kind))
    if gate is not None:
        return gate.text
    return waiting.error if waiting.dead or not patient else None
