"""What to do after a failed read. Long waits go back to the ledger; tenacity makes only a short retry inside the lease.

One owner of retries: the SDKs' own are off, and nothing sleeps through a Retry-After while it holds a claim.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_base

from reconciler.errors import (
    AccessDenied,
    AccessScope,
    OutOfSight,
    ProviderError,
    Throttled,
    ThrottleScope,
    Unavailable,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    attempts: int = 8
    """Failed reads of one resource before it is a dead letter."""
    first_wait: timedelta = timedelta(seconds=2)
    max_wait: timedelta = timedelta(minutes=30)
    parked: timedelta = timedelta(hours=24)
    """A dead letter is still tried this often: a resource that stopped for ever would be a silent lie."""
    gate_max: timedelta = timedelta(minutes=15)
    """A closed account or kind is probed again at least this often."""
    brief_attempts: int = 2
    brief_wait: timedelta = timedelta(seconds=1)
    """The longest wait that is made in place, with the claim held."""

    def backoff(self, attempts: int, jitter: float) -> timedelta:
        """Doubling from `first_wait`, capped, with equal jitter: `jitter` in [0, 1) spreads the upper half."""
        doublings = min(max(attempts - 1, 0), 30)
        full: timedelta = min(self.max_wait, self.first_wait * (1 << doublings))
        return full / 2 + full / 2 * jitter


# --- decisions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Release the claim, due again after `wait`. `counted`: whether the failure was the resource's own."""

    wait: timedelta
    counted: bool


@dataclass(frozen=True, slots=True)
class SlowDown:
    """The provider throttles: nothing in `scope` is asked before `wait` is over, and the rate is halved."""

    wait: timedelta
    scope: ThrottleScope


@dataclass(frozen=True, slots=True)
class CloseGate:
    """Stop reading the account, or the kind, until `wait` is over; the resource is not to blame."""

    wait: timedelta
    scope: AccessScope
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A dead letter: still dirty, parked for `wait`, and named in the report."""

    wait: timedelta
    reason: str


Decision = TryAgain | SlowDown | CloseGate | GiveUp


def decide(error: Exception, *, attempts: int, policy: RetryPolicy, jitter: float, closed_before: int = 0) -> Decision:
    """The policy, pure. `attempts` counts this one; `closed_before` is how often the gate closed in a row already."""
    if isinstance(error, Throttled):
        wait = error.retry_after or policy.backoff(1, jitter)
        if error.scope is ThrottleScope.RESOURCE:
            return TryAgain(max(wait, policy.backoff(1, jitter)), counted=False)
        return SlowDown(wait, error.scope)
    if isinstance(error, AccessDenied):
        wait = min(policy.gate_max, policy.max_wait, policy.backoff(closed_before + 3, jitter))
        return CloseGate(wait, error.scope, "permission" if error.scope is AccessScope.KIND else "credentials")
    if isinstance(error, OutOfSight):
        return GiveUp(policy.parked, f"scope: {error}")
    if attempts >= policy.attempts:
        return GiveUp(policy.parked, describe(error))
    return TryAgain(policy.backoff(attempts, jitter), counted=True)


def describe(error: Exception) -> str:
    """One bounded line for the ledger and for people."""
    name = type(error).__name__
    words = " ".join(str(error).split())[:500]
    return words if isinstance(error, ProviderError) and words else f"{name}: {words}"


def is_evidence_of_outage(error: Exception) -> bool:
    """Whether the error speaks of the provider's health rather than of one resource."""
    return isinstance(error, Unavailable)


# --- the short retry ------------------------------------------------------------------------------


class _Wait(wait_base):
    """A short doubling backoff, and never less than what the provider asked for."""

    def __init__(self, longest: timedelta) -> None:
        self._longest = longest.total_seconds()

    def __call__(self, retry_state: RetryCallState) -> float:
        backoff: float = self._longest / 8 * 2 ** (retry_state.attempt_number - 1)
        error = retry_state.outcome.exception() if retry_state.outcome is not None else None
        asked = error.retry_after.total_seconds() if isinstance(error, Throttled) and error.retry_after else 0.0
        return min(self._longest, max(backoff, asked))


async def briefly(
    call: Callable[[], Awaitable[T]], policy: RetryPolicy, sleep: Callable[[float], Awaitable[None]]
) -> T:
    """Await `call`, once more after a short wait if the failure may pass that soon; raises the last error.

    A call that succeeds at once, as nearly all do, never meets tenacity: to set it up cost 0.1 ms of CPU.
    """

    def worth_it(error: BaseException) -> bool:
        if isinstance(error, Throttled):
            return error.scope is ThrottleScope.RESOURCE and (error.retry_after or timedelta(0)) <= policy.brief_wait
        return isinstance(error, Unavailable)

    try:
        return await call()
    except ProviderError as error:
        if not worth_it(error):
            raise
        failed = [error]

    async def again() -> T:
        if failed:
            raise failed.pop()
        return await call()

    retrying = AsyncRetrying(
        stop=stop_after_attempt(policy.brief_attempts),
        retry=retry_if_exception(worth_it),
        wait=_Wait(policy.brief_wait),
        sleep=sleep,
        reraise=True,
    )
    return await retrying(again)
