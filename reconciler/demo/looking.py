"""What the demo reads out of the daemon's ledger, through the same views as every other reader."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.demo.comparing import BALANCE, Held
from reconciler.errors import LedgerError
from reconciler.ledger import JobState, Ledger
from reconciler.ledger.reads import View
from reconciler.model import Cause, State

_BEGINNING = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_WINDOWED = ("feed/", "recent/", "complete/")
_SWEEPS = (*_WINDOWED, "open/", "members/", "known/")
"""The jobs that look for what no webhook told; each must have run after the last change, or nothing is proven."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The ledger at one moment."""

    payments: int = 0
    orders: int = 0
    resources: int = 0
    dirty: int = 0
    dead: int = 0
    oldest: timedelta | None = None
    """How long the oldest dirty resource has been so."""
    verdicts: Mapping[str, int] | None = None
    missed: int = 0
    drift: int = 0


@dataclass(frozen=True, slots=True)
class Findings:
    """How changes came to be known, over the whole day."""

    verdicts: Mapping[str, int]
    missed: Mapping[str, int]
    """Missed deliveries by type of event."""
    causes: Mapping[str, int]
    """Versions by what made us look."""
    drift: Mapping[str, int]
    """Changes of known resources that no webhook told of, by what found them."""
    covered: int
    """Kinds whose lists were looked at completely."""
    dead: int


def backlog(ledger: Ledger, now: datetime) -> Backlog:
    """Raises LedgerUnavailable."""
    with ledger.view() as view:
        holdings = view.holdings()
        oldest = [each.oldest_dirty_at for each in holdings if each.oldest_dirty_at is not None]
        return Backlog(
            payments=sum(each.total for each in holdings if each.kind == "payment_intent"),
            orders=sum(each.total for each in holdings if each.kind == "order"),
            resources=sum(each.total for each in holdings),
            dirty=sum(each.dirty for each in holdings),
            dead=sum(each.dead for each in holdings),
            oldest=max(now - min(oldest), timedelta(0)) if oldest else None,
            verdicts=view.delivery_counts(),
            missed=view.missed_events(_BEGINNING),
            drift=sum(count for *_, count in view.drift_by_cause(_BEGINNING)),
        )


def looked_once(ledger: Ledger, account: str) -> bool:
    """Whether the provider's feed was read once, and its balance: from then on the feed tells of every webhook that
    does not come, and the balance is where finance begins."""
    try:
        with ledger.view() as view:
            feed = any(job.finished_at is not None for job in view.jobs() if job.name == f"feed/{account}")
            balances = sum(each.present for each in view.holdings() if (each.account, each.kind) == (account, BALANCE))
            return feed and balances > 0
    except LedgerError:
        return False


class Rest:
    """Whether the ledger is at rest: every sweep has looked at all that was there at `still_at`, and nothing is dirty.

    That a sweep began and ended after that is no proof by itself: it may have gone on with a run that a fault or the
    kill interrupted, over a window that ended long before. How far it looked is its watermark and the overlap that
    the watermark stays behind. A sweep without a window looks at everything there is when it begins.

    Sweeps commit their marks with their end, so that one view of both cannot miss any. Each look adds to what the looks
    before it saw, because on a small machine some sweep is always running.
    """

    def __init__(self, still_at: datetime, *, lag: timedelta, overlap: timedelta) -> None:
        self._still_at = still_at
        self._lag = lag
        self._overlap = overlap
        self._begun: dict[str, datetime] = {}
        self._ended: set[str] = set()

    def unrest(self, ledger: Ledger) -> str:
        """Why it is not at rest yet; empty at rest."""
        try:
            with ledger.view() as view:
                jobs = [job for job in view.jobs() if job.name.startswith(_SWEEPS)]
                dirty = sum(each.dirty for each in view.holdings())
        except LedgerError as error:
            return str(error)
        for job in jobs:
            self._see(job)
        waiting = [job.name for job in jobs if job.name not in self._ended]
        reasons = []
        if not jobs:
            reasons.append("no sweep has run yet")
        if waiting:
            reasons.append(f"{len(waiting)} of {len(jobs)} sweeps have yet to run once more ({waiting[0]} ...)")
        if dirty:
            reasons.append(f"{dirty} resources are dirty")
        return "; ".join(reasons)

    def _see(self, job: JobState) -> None:
        if job.started_at is not None and job.started_at >= self._still_at + self._lag:
            self._begun.setdefault(job.name, job.started_at)
        begun = self._begun.get(job.name)
        if begun is not None and job.finished_at is not None and job.finished_at >= begun and self._looked(job):
            self._ended.add(job.name)

    def _looked(self, job: JobState) -> bool:
        if not job.name.startswith(_WINDOWED):
            return True
        return job.watermark is not None and job.watermark + self._overlap >= self._still_at


def findings(ledger: Ledger, now: datetime) -> Findings:
    with ledger.view() as view:
        covered = {each.kind for each in view.coverage(now) if each.complete}
        return Findings(
            verdicts=view.delivery_counts(),
            missed={type_: count for _, type_, count in view.missed_events_by_type(_BEGINNING)},
            causes=_by_cause(view.changes_by_cause(_BEGINNING)),
            drift=_by_cause(view.drift_by_cause(_BEGINNING)),
            covered=len(covered),
            dead=sum(each.dead for each in view.holdings()),
        )


def held(ledger: Ledger) -> list[Held]:
    """All resources with their latest bodies."""
    with ledger.view() as view:
        return list(_held(view))


def _held(view: View) -> Iterator[Held]:
    for resource in view.resources():
        latest = deque(view.versions(resource) if resource.version else (), maxlen=1)
        body = latest[0].body if latest and resource.state is State.PRESENT else None
        yield Held(resource.ref, resource.state, resource.status, body)


def _by_cause(rows: list[tuple[str, str, Cause, int]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, _, cause, count in rows:
        counts[cause.value] = counts.get(cause.value, 0) + count
    return counts
