"""What follows from a failed read: which claims go back and when, what is closed, and whose fault it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

import structlog

from reconciler.clock import Clock
from reconciler.errors import AccessDenied, AccessScope, BadReply, ThrottleScope
from reconciler.health import GATE_OUTAGE, Health
from reconciler.ledger import GATE_STORM, Claim, Gate, GroupCommit, Ledger, Release
from reconciler.provider import ACCOUNT_LIMIT, Kind, Provider
from reconciler.retry import (
    CloseGate,
    GiveUp,
    RetryPolicy,
    SlowDown,
    TryAgain,
    decide,
    describe,
    is_evidence_of_outage,
)

log = structlog.get_logger(__name__)


class Failures:
    """Of one account."""

    def __init__(
        self,
        account: str,
        provider: Provider,
        ledger: GroupCommit,
        clock: Clock,
        health: Health,
        *,
        policy: RetryPolicy,
        rng: random.Random,
    ) -> None:
        self._account = account
        self._provider = provider
        self._ledger = ledger
        self._clock = clock
        self._health = health
        self._policy = policy
        self._rng = rng
        self._gates: dict[str, Gate] = {}

    # --- gates, as far as this process knows ---

    def know_gates(self, gates: Sequence[Gate]) -> None:
        """The account's gates as the ledger has them, whoever closed or lifted them."""
        self._gates = {gate.kind: gate for gate in gates}

    def gates_of(self, kind: Kind) -> list[Gate]:
        """The gates that a read of `kind` is made behind."""
        return [self._gates[name] for name in ("", kind.name) if name in self._gates]

    def lifted(self, gates: Iterable[Gate]) -> None:
        for gate in gates:
            self._gates.pop(gate.kind, None)

    # --- one failure ---

    async def failed(
        self, kind: Kind, claims: Sequence[Claim], error: Exception, *, endpoint: str | None = None
    ) -> None:
        """Classify, close what has to be closed, and send every claim back. Without claims a list failed."""
        now = self._clock.now()
        log.warning("read failed", account=self._account, kind=kind.name, claims=len(claims), error=describe(error))
        subjects = [str(claim.ref) for claim in claims] or [f"list of {kind.name}"]
        self._health.failed(subjects)
        outage = is_evidence_of_outage(error) and self._health.away(subjects)
        own = {claim.ref for claim in claims if self._is_its_own_fault(claim, error)}
        releases = [self._returned(claim, error, now, own=claim.ref in own, outage=outage) for claim in claims]
        closing = None
        if not claims or len(own) < len(claims) or not isinstance(error, AccessDenied):
            closing = self._closing(kind, error, now, outage=outage, endpoint=endpoint or kind.endpoint)

        def act(ledger: Ledger) -> None:
            if closing is not None:
                closing(ledger)
            ledger.release(releases, now)

        await self._ledger.call(act)
        for release in releases:
            if release.bury:
                ref, attempts = str(release.claim.ref), release.claim.attempts
                log.error("dead letter", ref=ref, error=release.error, attempts=attempts)

    def _is_its_own_fault(self, claim: Claim, error: Exception) -> bool:
        """Whether the failure speaks of this resource alone: others were read meanwhile, of its kind if refused."""
        if isinstance(error, AccessDenied):
            refused_alone = self._health.is_its_own_fault(str(claim.ref), claim.ref.kind)
            return error.scope is AccessScope.KIND and refused_alone
        return not is_evidence_of_outage(error) or self._health.is_its_own_fault(str(claim.ref))

    def _returned(self, claim: Claim, error: Exception, now: datetime, *, own: bool, outage: bool) -> Release:
        """How one claim goes back. What the provider's absence did is not held against a resource."""
        if own and isinstance(error, AccessDenied):
            error = BadReply(describe(error))
        decision = decide(error, attempts=claim.attempts, policy=self._policy, jitter=self._rng.random())
        match decision:
            case TryAgain(wait, counted):
                return Release(claim, now + wait, error=describe(error), counted=counted and not outage)
            case SlowDown(wait) | CloseGate(wait):
                return Release(claim, now + wait, error=describe(error), counted=False)
            case GiveUp(wait, reason):
                if outage or not own:
                    wait = self._policy.backoff(claim.attempts, self._rng.random())
                    return Release(claim, now + wait, error=reason, counted=False)
                return Release(claim, now + wait, error=reason, bury=True)
            case _:
                assert_never(decision)

    def _closing(
        self, kind: Kind, error: Exception, now: datetime, *, outage: bool, endpoint: str
    ) -> Callable[[Ledger], None] | None:
        """What a failure closes beyond its own resources; None for nothing, or for what is closed already."""
        if outage:
            wait = self._policy.backoff(self._times_closed("") + 1, self._rng.random())
            return self._gate("", GATE_OUTAGE, error, now, min(self._policy.gate_max, wait))
        gated = kind.name if isinstance(error, AccessDenied) and error.scope is AccessScope.KIND else ""
        jitter = self._rng.random()
        decision = decide(
            error, attempts=1, policy=self._policy, jitter=jitter, closed_before=self._times_closed(gated)
        )
        if isinstance(decision, SlowDown):
            until = now + decision.wait
            door = ACCOUNT_LIMIT if decision.scope is ThrottleScope.ACCOUNT else endpoint
            return lambda ledger: ledger.requests.throttle(
                self._account, door, self._provider.limits, until=until, now=now
            )
        if isinstance(decision, CloseGate):
            return self._gate(gated, decision.reason, error, now, decision.wait)
        return None

    def _gate(
        self, kind: str, reason: str, error: Exception, now: datetime, wait: timedelta
    ) -> Callable[[Ledger], None] | None:
        """Close a gate, unless it is closed: reads that were under way then are no further evidence."""
        known = self._gates.get(kind)
        if known is not None and known.until > now:
            return None
        until, note = now + wait, describe(error)
        times = self._times_closed(kind) + 1
        if known is not None and known.reason == GATE_STORM:
            # As in the ledger: reads that are under way may not lift it by being answered, only by being witnesses.
            self._gates[kind] = replace(known, until=until, times=times)
        else:
            self._gates[kind] = Gate(self._account, kind, reason, note, now, until, times)
        return lambda ledger: ledger.gate(self._account, kind, reason=reason, note=note, until=until, now=now)

    def _times_closed(self, kind: str) -> int:
        known = self._gates.get(kind)
        return 0 if known is None else known.times
