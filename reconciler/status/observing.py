"""Everything that a status is judged from, read out of one consistent view of the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reconciler.budget import ALLOCATION_PERIOD
from reconciler.config import Sweep
from reconciler.ledger import Coverage, Gate, Holding, JobState, Open, OpenFinding, ReadTally, View
from reconciler.ledger.alerts import Alert
from reconciler.ledger.expectations import Expectation
from reconciler.model import Cause, ResourceRef
from reconciler.provider import DeadlineRule, Kind

LIMIT = 1000
"""How many unconfirmed resources are named; that there are more is said."""

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Followed:
    """One configured account: what should be looked at, and how often."""

    provider: str
    account: str
    kinds: Mapping[str, Kind]
    rules: tuple[DeadlineRule, ...]
    sweeps: Mapping[str, Sweep]
    monthly_reads: int | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """A resource in a deadline's states, past its deadline."""

    resource: Open
    rule: DeadlineRule


Tally = tuple[str, str, Cause, int]
"""Account, kind, cause, how many."""


@dataclass(frozen=True, slots=True)
class Observed:
    now: datetime
    followed: tuple[Followed, ...]
    holdings: tuple[Holding, ...]
    deliveries: Mapping[str, int]
    missed: int
    missed_by_type: tuple[tuple[str, str, int], ...]
    """Over the last day."""
    coverage: tuple[Coverage, ...]
    singletons: Mapping[tuple[str, str], datetime]
    """By account and kind: when the one resource of its kind was last read."""
    gates: tuple[Gate, ...]
    findings: tuple[OpenFinding, ...]
    alerts: tuple[Alert, ...]
    late: tuple[Late, ...]
    overdue: tuple[Expectation, ...]
    """Of what is configured."""
    expected: Mapping[tuple[str, str], int]
    """By account and kind: how many were expected by now and never confirmed, of what is configured no more too."""
    jobs: tuple[JobState, ...]
    changes_hour: tuple[Tally, ...]
    changes_day: tuple[Tally, ...]
    drift: tuple[Tally, ...]
    reads: tuple[ReadTally, ...]


def observe(
    view: View, followed: Sequence[Followed], now: datetime, *, drift_since: datetime | None = None
) -> Observed:
    """Drift is only looked for when asked, since then: it is the one part whose cost grows with the history."""
    return Observed(
        now=now,
        followed=tuple(followed),
        holdings=tuple(view.holdings()),
        deliveries=view.delivery_counts(),
        missed=view.missed_events(BEGINNING),
        missed_by_type=tuple(view.missed_events_by_type(now - DAY)),
        coverage=tuple(view.coverage(now)),
        singletons=dict(each for account in followed for each in _singletons(view, account)),
        gates=tuple(view.gates()),
        findings=tuple(view.open_findings()),
        alerts=tuple(alert for alert in view.alerts() if alert.ended_at is None),
        late=tuple(late for account in followed for late in _late(view, account, now)),
        overdue=tuple(
            each
            for account in followed
            for each in view.unconfirmed_expectations(account.account, account.kinds, now, limit=LIMIT)
        ),
        expected=view.unconfirmed_by_kind(now),
        jobs=tuple(view.jobs()),
        changes_hour=tuple(view.changes_by_cause(now - HOUR)),
        changes_day=tuple(view.changes_by_cause(now - DAY)),
        drift=() if drift_since is None else tuple(view.drift_by_cause(drift_since)),
        reads=tuple(view.read_tallies(now - ALLOCATION_PERIOD)),
    )


def _late(view: View, followed: Followed, now: datetime) -> list[Late]:
    return [
        Late(resource, rule)
        for rule in followed.rules
        for resource in view.open_resources(
            followed.account, rule.kind, sorted(rule.states), created_before=now - rule.after, limit=LIMIT
        )
    ]


def _singletons(view: View, followed: Followed) -> Iterator[tuple[tuple[str, str], datetime]]:
    for kind in followed.kinds.values():
        if kind.singleton is not None:
            found = view.resource(ResourceRef(followed.provider, followed.account, kind.name, kind.singleton))
            if found is not None and found.fetched_at is not None:
                yield (followed.account, kind.name), found.fetched_at
