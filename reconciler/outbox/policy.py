"""What an answer of a subscriber means: sent, again later, given up, never again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import assert_never

from reconciler.ledger.outbox import PROBE_AFTER

_GONE = 410
_ASKED_TO_WAIT = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Policy:
    """How long to try. The defaults are what `[outbox]` says where it says nothing."""

    attempts: int = 10
    """A change is given up on only after so many requests for it ..."""
    give_up_after: timedelta = timedelta(days=3)
    """... and only so long after the first of them."""
    first_wait: timedelta = timedelta(seconds=1)
    max_wait: timedelta = timedelta(minutes=60)
    probe_wait: timedelta = timedelta(minutes=5)
    """A subscriber that fails is asked at least this often whether it is back."""
    longest_retry_after: timedelta = timedelta(days=1)
    """What a subscriber may ask for at most."""

    def backoff(self, failures: int, jitter: float) -> timedelta:
        """Doubling from `first_wait`, capped, with equal jitter: `jitter` in [0, 1) spreads the upper half."""
        full: timedelta = min(self.max_wait, self.first_wait * (1 << min(max(failures - 1, 0), 30)))
        return full / 2 + full / 2 * jitter

    def probe_after(self, failures: int, jitter: float) -> timedelta | None:
        """How long the circuit breaker keeps a subscription shut after so many failures in a row; None: it does not."""
        if failures < PROBE_AFTER:
            return None
        return min(self.backoff(failures - PROBE_AFTER + 2, jitter), self.probe_wait)


# --- answers ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """Any status at all."""

    status: int
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nothing complete came back in time, or it was never sent."""

    error: str


# --- decisions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    pass


@dataclass(frozen=True, slots=True)
class Again:
    """Due again after `wait`; with `hold`, nothing else is sent to the subscriber before it either."""

    wait: timedelta
    error: str
    hold: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    error: str


@dataclass(frozen=True, slots=True)
class NeverAgain:
    """The subscriber says that it is gone (410). What is pending stays pending."""

    error: str


Decision = Sent | Again | GiveUp | NeverAgain


def decide(
    answer: Answered | NoAnswer,
    *,
    attempts: int,
    first_tried_at: datetime,
    policy: Policy,
    jitter: float,
    now: datetime,
) -> Decision:
    """`attempts` counts this one."""
    match answer:
        case Answered(status) if 200 <= status < 300:
            return Sent()
        case Answered(status) if status == _GONE:
            return NeverAgain("answered 410: the subscriber wants nothing more")
        case Answered(status, retry_after):
            error = f"answered {status}" + (": redirects are not followed" if 300 <= status < 400 else "")
        case NoAnswer(error):
            status, retry_after = 0, None
        case _:
            assert_never(answer)
    if attempts >= policy.attempts and now - first_tried_at >= policy.give_up_after:
        return GiveUp(error)
    wait = policy.backoff(attempts, jitter)
    if retry_after is None:
        return Again(wait, error)
    asked = min(retry_after, policy.longest_retry_after)
    return Again(max(wait, asked), error, hold=status in _ASKED_TO_WAIT)


def read_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Seconds or an HTTP date; None for anything else, and for the past."""
    if value is None:
        return None
    words = value.strip()
    if words.isascii() and words.isdigit():
        return timedelta(seconds=min(int(words[:10]), 10**9))
    try:
        at = parsedate_to_datetime(words)
    except ValueError:
        return None
    wait = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - now
    return wait if wait > timedelta(0) else None
