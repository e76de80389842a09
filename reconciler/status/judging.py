"""The status of a ledger: what is true, what is late, and what was not looked at. Pure; every front end shares it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.config import Sweep, format_duration
from reconciler.ledger import Gate, Holding, JobState, OpenFinding
from reconciler.ledger.alerts import Alert
from reconciler.ledger.findings import HOLES, NOBODYS
from reconciler.ledger.jobs import account_of
from reconciler.model import Cause, ResourceRef
from reconciler.provider import FEED, DeadlineRule, Kind
from reconciler.status.coverage import Gap, Reach, last_reason, reaches
from reconciler.status.observing import LIMIT, Late, Observed, Tally
from reconciler.status.reading import ReadBudget, read_budget

EVERY_KIND = "*"
"""Stands for all kinds of an account."""

BRIEF_THROTTLE = timedelta(minutes=15)
"""A throttle is part of every busy day; one that lasts longer than this leaves things unseen and is named."""

SINGLETON_ALLOWANCE = timedelta(hours=2)
"""The one resource of its kind (a balance) is read at least hourly; one reading may be late."""


@dataclass(frozen=True, slots=True)
class Counts:
    total: int
    dirty: int
    dead: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Covered:
    """Through when a configured kind was looked at; None: never."""

    account: str
    kind: str
    through: datetime | None
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    ref: ResourceRef
    since: datetime
    """When its deadline passed."""
    rule: str


@dataclass(frozen=True, slots=True)
class NotLookedAt:
    account: str
    kind: str
    """`*` for the whole account."""
    reason: str


@dataclass(frozen=True, slots=True)
class Health:
    """How many changes of a kind there were, and how many of them a webhook did not tell."""

    account: str
    kind: str
    changes_hour: int
    untold_hour: int
    changes_day: int
    untold_day: int

    @property
    def share_day(self) -> float:
        """Of the day's changes, the part first seen by our own looking; 0 to 1."""
        return round(self.untold_day / self.changes_day, 4) if self.changes_day else 0.0

    @property
    def share_hour(self) -> float:
        return round(self.untold_hour / self.changes_hour, 4) if self.changes_hour else 0.0


@dataclass(frozen=True, slots=True)
class Drift:
    """Changes of known resources that no webhook told of, by what found them."""

    account: str
    kind: str
    found_by: Mapping[Cause, int]


@dataclass(frozen=True, slots=True)
class Status:
    as_of: datetime
    resources: Counts
    oldest_dirty: timedelta | None
    kinds: tuple[Holding, ...]
    followed: tuple[Holding, ...]
    """Of `kinds` those that are configured: what waits or is dead among the others waits for ever."""
    coverage: tuple[Covered, ...]
    deliveries: Mapping[str, int]
    missed_deliveries: int
    missed_by_type: tuple[tuple[str, str, int], ...]
    unconfirmed: tuple[Unconfirmed, ...]
    more_unconfirmed: bool
    """There are more than are named."""
    not_looked_at: tuple[NotLookedAt, ...]
    findings: tuple[OpenFinding, ...]
    """What was seen when somebody last looked: of accounts that nobody looks at any more nothing."""
    alerts: tuple[Alert, ...]
    """What the alarm has open, as of its last look; a finding is among them, if it is more than a note."""
    health: tuple[Health, ...]
    drift: tuple[Drift, ...]
    gates: tuple[Gate, ...]
    jobs: tuple[JobState, ...]
    budgets: tuple[ReadBudget, ...]

    @property
    def broken(self) -> bool:
        """Something is known to be wrong: a payment past its deadline, or a resource that could not be read."""
        return bool(self.unconfirmed or self.resources.dead)

    @property
    def unproven(self) -> bool:
        """Something was not looked at, so that its being fine is not known."""
        return bool(self.not_looked_at) or any(covered.gaps for covered in self.coverage)


def status_of(observed: Observed) -> Status:
    reached = reaches(observed.coverage)
    held = tuple(each for each in observed.holdings if (each.account, each.kind) in _configured(observed))
    oldest = [each.oldest_dirty_at for each in held if each.oldest_dirty_at is not None]
    unconfirmed = _unconfirmed(observed)
    accounts = [each.account for each in observed.followed]
    budgets = tuple(
        read_budget(followed.account, followed.monthly_reads, observed.reads, observed.now, kinds=len(followed.kinds))
        for followed in observed.followed
    )
    return Status(
        as_of=observed.now,
        resources=Counts(
            total=sum(holding.total for holding in observed.holdings),
            dirty=sum(holding.dirty for holding in observed.holdings),
            dead=sum(holding.dead for holding in observed.holdings),
            deleted=sum(holding.deleted for holding in observed.holdings),
        ),
        oldest_dirty=max(observed.now - min(oldest), timedelta(0)) if oldest else None,
        kinds=observed.holdings,
        followed=held,
        coverage=tuple(_coverage(observed, reached)),
        deliveries=observed.deliveries,
        missed_deliveries=observed.missed,
        missed_by_type=observed.missed_by_type,
        unconfirmed=unconfirmed[:LIMIT],
        more_unconfirmed=len(unconfirmed) > LIMIT or len(observed.late) >= LIMIT or len(observed.overdue) >= LIMIT,
        not_looked_at=tuple(dict.fromkeys(_not_looked_at(observed, reached, budgets))),
        findings=tuple(each for each in observed.findings if each.account in (NOBODYS, *accounts)),
        alerts=observed.alerts,
        health=_health(observed),
        drift=_drift(observed.drift),
        gates=_gates(observed),
        jobs=tuple(each for each in observed.jobs if account_of(each.name) in (None, *accounts)),
        budgets=budgets,
    )


def _configured(observed: Observed) -> frozenset[tuple[str, str]]:
    return frozenset((followed.account, kind) for followed in observed.followed for kind in followed.kinds)


def _gates(observed: Observed) -> tuple[Gate, ...]:
    """Of what somebody reads. What the configuration holds no more nobody does: that it is not looked at is said."""
    read = {each.account: {"", FEED, *each.kinds} for each in observed.followed}
    return tuple(each for each in observed.gates if each.kind in read.get(each.account, ()))


# --- coverage -------------------------------------------------------------------------------------


def _coverage(observed: Observed, reached: Mapping[tuple[str, str], Reach | None]) -> Iterable[Covered]:
    for followed in observed.followed:
        for kind in followed.kinds:
            key = (followed.account, kind)
            reach = reached.get(key)
            through = observed.singletons.get(key) if reach is None else reach.through
            yield Covered(*key, through, () if reach is None else reach.gaps)


def allowance(kind: Kind, sweep: Sweep, *, covered: bool = False) -> timedelta:
    """How far behind now a healthy kind's coverage may be: its lag, and one sweep that was missed. `covered`: another
    kind's list shows it."""
    if kind.list_endpoint is None and not covered:
        # What was read within half of it is not read again.
        return sweep.lag + 2 * sweep.full_every + sweep.full_every / 2
    return sweep.lag + 2 * (sweep.every if kind.windowed or covered else sweep.full_every)


def _not_looked_at(
    observed: Observed, reached: Mapping[tuple[str, str], Reach | None], budgets: Sequence[ReadBudget]
) -> Iterable[NotLookedAt]:
    for gate in _gates(observed):
        if gate.reason == "throttled" and observed.now - gate.opened_at < BRIEF_THROTTLE:
            continue
        yield NotLookedAt(gate.account, gate.kind or EVERY_KIND, _gate_reason(gate))
    for followed, budget in zip(observed.followed, budgets, strict=True):
        covered = {name for kind in followed.kinds.values() for name in kind.covers}
        slowed: list[datetime] = []
        for kind in followed.kinds.values():
            reach = reached.get((followed.account, kind.name))
            if kind.singleton is not None and reach is None:
                reason = _why_not_read(observed, followed.account, kind)
            else:
                sweep, late = followed.sweeps[kind.name], kind.name in covered
                allowed, paced = (allowance(kind, each, covered=late) for each in (sweep, _paced(sweep, budget)))
                if reach is not None and allowed < observed.now - reach.through <= paced:
                    slowed.append(reach.through)
                    continue
                reason = _why_not(observed, followed.account, kind, allowed, reach)
            if reason:
                yield NotLookedAt(followed.account, kind.name, reason)
        if slowed:
            yield NotLookedAt(followed.account, EVERY_KIND, _why_slowed(budget, slowed))
    configured = _configured(observed)
    for finding in observed.findings:
        if finding.code in HOLES:
            yield NotLookedAt(finding.account, EVERY_KIND, finding.text)
    for (account, name), number in sorted(observed.expected.items()):
        if (account, name) not in configured:
            were = "was" if number == 1 else "were"
            yield NotLookedAt(
                account, name, f"{number:,} {were} expected and never confirmed, and it is not in the configuration"
            )
    for holding in observed.holdings:
        if (holding.account, holding.kind) not in configured:
            yield NotLookedAt(holding.account, holding.kind, "in the ledger, but not in the configuration")
        if holding.discarded:
            noun = "resource" if holding.discarded == 1 else "resources"
            yield NotLookedAt(holding.account, holding.kind, f"{holding.discarded} {noun} discarded by an operator")


def _paced(sweep: Sweep, budget: ReadBudget) -> Sweep:
    """As the read allocation lets it go now."""
    slowest = {"every": max(sweep.every, budget.rest), "full_every": max(sweep.full_every, budget.rest)}
    return sweep.model_copy(update=slowest)


def _why_slowed(budget: ReadBudget, slowed: Sequence[datetime]) -> str:
    """Once for all kinds: they have one reason and one remedy."""
    since = f"{min(slowed):%Y-%m-%d %H:%M:%S} UTC"
    kinds = "1 kind was" if len(slowed) == 1 else f"{len(slowed)} kinds were"
    return (
        f"read allocation: {budget.used:,} of the {budget.allocation:,} reads of 30 days are used, so sweeps rest "
        f"{budget.rest / timedelta(hours=1):.1f} hours and {kinds} not looked at in time, one since {since}; "
        "raise sweeps.every so that it lasts, or monthly_reads if the provider grants more"
    )


def _why_not(observed: Observed, account: str, kind: Kind, allowed: timedelta, reach: Reach | None) -> str:
    if reach is None:
        failure = last_reason(observed.coverage, account, kind.name)
        return f"never swept: {failure}" if failure else "never swept"
    if observed.now - reach.through > allowed:
        return f"no complete look since {reach.through:%Y-%m-%d %H:%M:%S} UTC"
    return ""


def _why_not_read(observed: Observed, account: str, kind: Kind) -> str:
    read_at = observed.singletons.get((account, kind.name))
    if read_at is None:
        return "never read"
    if observed.now - read_at > SINGLETON_ALLOWANCE:
        return f"not read since {read_at:%Y-%m-%d %H:%M:%S} UTC"
    return ""


def _gate_reason(gate: Gate) -> str:
    return f"{gate.reason}: {gate.text}" if gate.text else gate.reason


# --- deadlines ------------------------------------------------------------------------------------


def _unconfirmed(observed: Observed) -> tuple[Unconfirmed, ...]:
    """Each resource once, at its earliest deadline."""
    found: dict[ResourceRef, Unconfirmed] = {}
    late = [
        Unconfirmed(each.resource.ref, each.resource.created_at + each.rule.after, _rule_name(each))
        for each in observed.late
    ]
    late += [Unconfirmed(each.ref, each.due_at, "expectation") for each in observed.overdue]
    for each in sorted(late, key=lambda one: (one.since, one.ref)):
        found.setdefault(each.ref, each)
    return tuple(found.values())


def _rule_name(late: Late) -> str:
    return f"{late.rule.kind} still {late.resource.status} after {_span(late.rule)}"


def _span(rule: DeadlineRule) -> str:
    return format_duration(rule.after)


# --- causes ---------------------------------------------------------------------------------------


def _health(observed: Observed) -> tuple[Health, ...]:
    hour, day = _by_kind(observed.changes_hour), _by_kind(observed.changes_day)
    return tuple(
        Health(
            account,
            kind,
            changes_hour=sum(hour.get((account, kind), {}).values()),
            untold_hour=_untold(hour.get((account, kind), {})),
            changes_day=sum(causes.values()),
            untold_day=_untold(causes),
        )
        for (account, kind), causes in sorted(day.items())
    )


def _untold(causes: Mapping[Cause, int]) -> int:
    return sum(count for cause, count in causes.items() if cause in (Cause.SWEEP, Cause.DEADLINE))


def _drift(tallies: Iterable[Tally]) -> tuple[Drift, ...]:
    return tuple(Drift(account, kind, causes) for (account, kind), causes in sorted(_by_kind(tallies).items()))


def _by_kind(tallies: Iterable[Tally]) -> Mapping[tuple[str, str], Mapping[Cause, int]]:
    by_kind: dict[tuple[str, str], dict[Cause, int]] = defaultdict(dict)
    for account, kind, cause, count in tallies:
        by_kind[account, kind][cause] = count
    return by_kind
