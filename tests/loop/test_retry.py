"""What follows from a failure, as a table; and how short the short retry is."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import (
    AccessDenied,
    AccessScope,
    BadReply,
    OutOfSight,
    ProviderError,
    Throttled,
    ThrottleScope,
    Unavailable,
)
from reconciler.retry import CloseGate, Decision, GiveUp, RetryPolicy, SlowDown, TryAgain, briefly, decide, describe

POLICY = RetryPolicy()
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def throttled(scope: ThrottleScope, seconds: float | None) -> Throttled:
    return Throttled("429", retry_after=None if seconds is None else timedelta(seconds=seconds), scope=scope)


@pytest.mark.parametrize(
    ("error", "attempts", "decision"),
    [
        (Unavailable("503"), 1, TryAgain(2 * SECOND, counted=True)),
        (Unavailable("503"), 7, TryAgain(128 * SECOND, counted=True)),
        (Unavailable("503"), 8, GiveUp(POLICY.parked, "503")),
        (BadReply("no JSON"), 1, TryAgain(2 * SECOND, counted=True)),
        (BadReply("no JSON"), 8, GiveUp(POLICY.parked, "no JSON")),
        (ValueError("ours"), 3, TryAgain(8 * SECOND, counted=True)),
        (ValueError("ours"), 8, GiveUp(POLICY.parked, "ValueError: ours")),
        (OutOfSight("hidden"), 1, GiveUp(POLICY.parked, "scope: hidden")),
        (throttled(ThrottleScope.ACCOUNT, 30), 8, SlowDown(30 * SECOND, ThrottleScope.ACCOUNT)),
        (throttled(ThrottleScope.ENDPOINT, 3600), 1, SlowDown(3600 * SECOND, ThrottleScope.ENDPOINT)),
        (throttled(ThrottleScope.ENDPOINT, None), 1, SlowDown(2 * SECOND, ThrottleScope.ENDPOINT)),
        (throttled(ThrottleScope.ACCOUNT, 0), 1, SlowDown(2 * SECOND, ThrottleScope.ACCOUNT)),
        (throttled(ThrottleScope.RESOURCE, 0.5), 8, TryAgain(2 * SECOND, counted=False)),
        (throttled(ThrottleScope.RESOURCE, 60), 8, TryAgain(60 * SECOND, counted=False)),
        (
            AccessDenied("401", scope=AccessScope.ACCOUNT),
            8,
            CloseGate(8 * SECOND, AccessScope.ACCOUNT, "credentials"),
        ),
        (AccessDenied("403", scope=AccessScope.KIND), 1, CloseGate(8 * SECOND, AccessScope.KIND, "permission")),
    ],
)
def test_decide(error: Exception, attempts: int, decision: Decision) -> None:
    """With the jitter at its top, so that waits are whole numbers."""
    assert decide(error, attempts=attempts, policy=POLICY, jitter=1.0) == decision


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_jitter_spreads_the_upper_half_and_the_wait_stays_bounded(attempts: int, jitter: float) -> None:
    full = min(POLICY.max_wait, POLICY.first_wait * 2 ** min(attempts - 1, 40))
    assert full / 2 <= POLICY.backoff(attempts, jitter) <= full


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True), st.integers(1, 3600))
def test_a_closed_gate_is_probed_within_its_bound(closed_before: int, jitter: float, max_wait_seconds: int) -> None:
    policy = RetryPolicy(max_wait=max_wait_seconds * SECOND)
    error = AccessDenied("403", scope=AccessScope.KIND)
    decision = decide(error, attempts=1, policy=policy, jitter=jitter, closed_before=closed_before)
    assert isinstance(decision, CloseGate)
    assert decision.wait <= min(15 * MINUTE, policy.max_wait)


def test_a_description_is_one_bounded_line() -> None:
    assert describe(Unavailable("a\n  b")) == "a b"
    assert describe(ValueError("")) == "ValueError: "
    assert len(describe(BadReply("x" * 10_000))) == 500


# --- the short retry ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "calls", "waits"),
    [
        ([], 1, []),
        ([Unavailable("reset")], 2, [0.125]),
        ([Unavailable("reset"), Unavailable("reset")], 2, [0.125]),
        ([throttled(ThrottleScope.RESOURCE, None)], 2, [0.125]),
        ([throttled(ThrottleScope.RESOURCE, 0.7)], 2, [0.7]),
        ([throttled(ThrottleScope.RESOURCE, 1.5)], 1, []),
        ([throttled(ThrottleScope.ENDPOINT, 0.1)], 1, []),
        ([throttled(ThrottleScope.ACCOUNT, None)], 1, []),
        ([BadReply("no JSON")], 1, []),
        ([AccessDenied("401", scope=AccessScope.ACCOUNT)], 1, []),
        ([OutOfSight("hidden")], 1, []),
    ],
    ids=str,
)
def test_only_what_may_pass_at_once_is_tried_again_in_place(
    errors: list[ProviderError], calls: int, waits: list[float]
) -> None:
    made, slept = 0, []

    async def call() -> str:
        nonlocal made
        made += 1
        if made <= len(errors):
            raise errors[made - 1]
        return "read"

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def story() -> None:
        if calls <= len(errors):
            with pytest.raises(type(errors[calls - 1])):
                await briefly(call, POLICY, sleep)
        else:
            assert await briefly(call, POLICY, sleep) == "read"

    asyncio.run(story())
    assert (made, slept) == (calls, waits)
