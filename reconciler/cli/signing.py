"""Signing a period from the command line: one prepares, another reviews and locks, and a lock can be taken back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from reconciler.cli.printing import talk
from reconciler.desk import Desk
from reconciler.errors import UsageError
from reconciler.ledger.again import AT_LEISURE
from reconciler.ledger.breaks import LockPolicy, PeriodLock, locked_periods, period_locks
from reconciler.ledger.transaction import Transaction
from reconciler.report import signoff
from reconciler.report.canonical import plain
from reconciler.report.formats.words import instant
from reconciler.report.model import Report
from reconciler.status import Status


@dataclass(frozen=True, slots=True)
class Signing:
    """What the command line asks to be signed; nothing at all, mostly."""

    prepare: bool
    review: bool
    lock: bool
    reopen: bool
    by: str
    policy: LockPolicy
    reason: str

    @property
    def asked(self) -> bool:
        return self.prepare or self.review or self.lock or self.reopen

    @property
    def closes(self) -> bool:
        """Whether somebody stands behind the figures with it."""
        return self.prepare or self.lock

    def check(self) -> None:
        """Raises UsageError for a combination that says nothing, before any work is done."""
        if self.review != self.lock:
            raise UsageError("a review is kept by locking the period: say --review --lock")
        if self.prepare + self.lock + self.reopen > 1:
            raise UsageError("--prepare, --review --lock and --reopen are separate steps, by different people")
        if self.asked and not self.by.strip():
            raise UsageError("a sign-off needs a name: add --by NAME")
        if self.by and not self.asked:
            raise UsageError("--by signs: add --prepare, or --review --lock")

    def sign(self, at: Desk, report: Report) -> None:
        """Raises UsageError where it may not be signed; then nothing is stored."""
        if not self.asked:
            return
        now = at.clock.now()
        if report.params.as_of > now:
            raise UsageError("--as-of lies in the future; a report is signed with what is known")
        AT_LEISURE.writing(at.ledger.store, lambda tx: self._write(tx, report, now))
        if self.prepare:
            talk(
                f"prepared; another person reviews and locks it with --as-of {plain(report.params.as_of)}"
                " --review --lock --by NAME"
            )

    def _write(self, tx: Transaction, report: Report, now: datetime) -> None:
        if self.reopen:
            for lock in _locked(tx, report):
                signoff.reopen(tx, lock, by=self.by, reason=self.reason, now=now)
        elif self.lock:
            signoff.lock(tx, report, by=self.by, now=now, policy=self.policy, override_reason=self.reason)
        else:
            signoff.prepare(tx, report, by=self.by, now=now, policy=self.policy)


def tell_of_now(status: Status, accounts: Collection[str]) -> None:
    """What nobody has read yet, to whoever signs: the report speaks for its own instant and cannot say it."""
    waiting = [each for each in status.kinds if each.account in accounts]
    dirty, dead = sum([each.dirty for each in waiting]), sum([each.dead for each in waiting])
    if dirty or dead:
        talk(
            f"at this moment {dirty:,} {'resource is' if dirty == 1 else 'resources are'} dirty and {dead:,}"
            f" {'is' if dead == 1 else 'are'} dead: what they turn out to be is not in this report"
        )


def tell_signatures(at: Desk, report: Report) -> None:
    """Who signed this very period, beside the report: the report itself must not change when somebody signs it."""
    with at.ledger.store.read() as tx:
        steps = [
            each
            for each in period_locks(tx, report.params.accounts)
            if (each.start, each.end) == (report.header.start, report.header.end)
        ]
    for each in steps:
        same = "this report" if each.report_id == report.report_id else each.report_id
        because = f" ({each.override_reason})" if each.override_reason else ""
        talk(f"{each.account}: {each.state.value} by {each.actor} at {instant(each.at)}: {same}{because}")


def _locked(tx: Transaction, report: Report) -> list[PeriodLock]:
    steps = period_locks(tx, report.params.accounts)
    standing = locked_periods(steps, max((step.as_of for step in steps), default=report.params.as_of))
    found = [each for each in standing if (each.start, each.end) == (report.header.start, report.header.end)]
    if not found:
        raise UsageError("this period is not locked, so there is nothing to reopen")
    return found
