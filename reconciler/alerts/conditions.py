"""What is worth telling somebody, judged from a status of the ledger. Pure: one function for each rule, and a table.

A condition is a state and not an event: it is true or it is not, so that it can be told once, and taken back. Nothing
here looks at a provider, and nothing that handles a request or a read comes here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from reconciler.config import format_duration
from reconciler.health import GATE_OUTAGE
from reconciler.ledger import GATE_STORM
from reconciler.ledger.anomalies import Anomalies
from reconciler.model import Severity
from reconciler.status import Status

_OF_THE_CLOCK = ("too_old", "in_the_future")
"""Reasons that providers give only where the signature is right."""

_NAMED = 5
"""How many of something a message names; the console and `reconcile status` have them all."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now, with what to do about it."""

    code: str
    subject: str
    """What it is about, so that the same code about two accounts is two conditions."""
    severity: Severity
    text: str
    remedy: str
    patience: timedelta = timedelta(0)
    """How long it has to stay true before anybody is told."""


@dataclass(frozen=True, slots=True)
class Rules:
    """From where on something is worth telling."""

    oldest_dirty: timedelta = timedelta(minutes=10)
    not_looked_at: timedelta = timedelta(minutes=30)
    untold_share: float = 0.2
    untold_least: int = 20
    """A share of fewer changes than this says nothing."""
    rejected: int = 100
    """Rejected deliveries of one account within ten minutes."""
    job_tries: timedelta = timedelta(hours=1)
    outage: timedelta = timedelta(minutes=15)
    """How long a provider may be away, or tell us to wait, before anybody is told: it happens, and passes."""


def conditions(status: Status, anomalies: Anomalies, rules: Rules) -> tuple[Condition, ...]:
    """Everything that is wrong now, each once, the worst first."""
    found = [each for rule in _RULES for each in rule(status, rules)]
    found.extend(_anomalies(anomalies, rules))
    once = {(each.code, each.subject): each for each in found}
    return tuple(sorted(once.values(), key=lambda each: (each.severity is not Severity.ERROR, each.code, each.subject)))


# --- the rules ------------------------------------------------------------------------------------


def _backlog(status: Status, rules: Rules) -> Iterator[Condition]:
    if status.oldest_dirty is not None and status.oldest_dirty > rules.oldest_dirty:
        yield Condition(
            "backlog",
            "",
            Severity.WARNING,
            f"{sum(each.dirty - each.dead - each.discarded for each in status.followed):,} resources wait to be read, "
            f"the oldest for {format_duration(timedelta(seconds=round(status.oldest_dirty.total_seconds())))}",
            "look at the gates and the budget in `reconcile status`: a closed gate or an exhausted read budget holds "
            "reads back; else raise worker.concurrency or start another node",
        )


def _dead_letters(status: Status, _: Rules) -> Iterator[Condition]:
    dead = sum(each.dead for each in status.followed)
    if dead:
        yield Condition(
            "dead-letters",
            "",
            Severity.ERROR,
            f"{dead:,} resources could not be read after every attempt",
            "`reconcile dead-letters` says why; mend it, then `reconcile dead-letters retry --all`",
        )


def _unconfirmed(status: Status, _: Rules) -> Iterator[Condition]:
    if status.unconfirmed:
        named = ", ".join(str(each.ref) for each in status.unconfirmed[:_NAMED])
        more = len(status.unconfirmed) - _NAMED
        count = f"{len(status.unconfirmed):,}{'+' if status.more_unconfirmed else ''}"
        yield Condition(
            "unconfirmed",
            "",
            Severity.ERROR,
            f"{count} payments are past their deadline: {named}" + (f" and {more:,} more" if more > 0 else ""),
            "`reconcile show REF` has each one's story; ask the customer or the provider about those still open",
        )


def _findings(status: Status, _: Rules) -> Iterator[Condition]:
    for each in status.findings:
        if each.severity != Severity.INFO:
            subject = f"{each.account}/{each.subject}" if each.subject else each.account
            words = f"{each.account}: {each.text}" if each.account else each.text
            yield Condition(each.code, subject, Severity(each.severity), words, each.remedy)


GATES = {
    "permission": (Severity.ERROR, "give the key the permission that `reconcile check` names"),
    "credentials": (Severity.ERROR, "put a valid key where the configuration points, then `reconcile check`"),
    GATE_STORM: (Severity.ERROR, "see whether the key belongs to this account and mode: `reconcile check`"),
    GATE_OUTAGE: (Severity.WARNING, "look at the provider's status page; reading goes on by itself"),
    "throttled": (Severity.WARNING, "another program may use the same limits; reading goes on by itself"),
}


def _gates(status: Status, rules: Rules) -> Iterator[Condition]:
    for gate in status.gates:
        severity, remedy = GATES.get(gate.reason, (Severity.WARNING, "`reconcile status` names the gate"))
        where = f"{gate.account}/{gate.kind}" if gate.kind else gate.account
        patience = timedelta(0) if severity is Severity.ERROR else rules.outage
        yield Condition(f"gate-{gate.reason}", where, severity, f"{where} is not read: {gate.text}", remedy, patience)


def _not_looked_at(status: Status, rules: Rules) -> Iterator[Condition]:
    by_account: dict[str, list[str]] = defaultdict(list)
    for each in status.not_looked_at:
        by_account[each.account].append(f"{each.kind} ({each.reason})")
    for account, reasons in by_account.items():
        more = len(reasons) - _NAMED
        yield Condition(
            "not-looked-at",
            account,
            Severity.WARNING,
            f"{account}: not looked at: {'; '.join(reasons[:_NAMED])}" + (f"; and {more:,} more" if more > 0 else ""),
            "reports of this account are unproven until it is; `reconcile status` has every reason",
            rules.not_looked_at,
        )


def _untold(status: Status, rules: Rules) -> Iterator[Condition]:
    changes: dict[str, int] = defaultdict(int)
    untold: dict[str, int] = defaultdict(int)
    for each in status.health:
        changes[each.account] += each.changes_hour
        untold[each.account] += each.untold_hour
    for account, count in changes.items():
        if count >= rules.untold_least and untold[account] > rules.untold_share * count:
            yield Condition(
                "webhooks-missing",
                account,
                Severity.WARNING,
                f"{account}: no webhook told of {untold[account]:,} of {count:,} changes within the last hour",
                "`reconcile check` looks at the endpoint and its event types; `--repair-webhooks` mends them",
            )


def _jobs(status: Status, rules: Rules) -> Iterator[Condition]:
    """A job that keeps failing, whatever the reason: its sweep's coverage stands still."""
    for job in status.jobs:
        if job.last_error is None or job.started_at is None:
            continue
        last = job.finished_at
        if last is not None and status.as_of - last < rules.job_tries:
            continue
        yield Condition(
            "job-failing",
            job.name,
            Severity.WARNING,
            f"{job.name} has not completed since {'it was first due' if last is None else f'{last:%Y-%m-%d %H:%M}Z'}: "
            f"{job.last_error}",
            "the reason stands behind it; `reconcile check` looks at credentials, permissions and limits",
            rules.job_tries,
        )


def _budgets(status: Status, _: Rules) -> Iterator[Condition]:
    for budget in status.budgets:
        if budget.runs_out_at is not None:
            yield Condition(
                "read-allocation",
                budget.account,
                Severity.WARNING,
                f"{budget.account}: the read allocation lasts until {budget.runs_out_at:%Y-%m-%d %H:%M}Z",
                "sweeps slow down by themselves; ask the provider for more, or raise sweeps.every",
            )


_RULES: tuple[Callable[[Status, Rules], Iterable[Condition]], ...] = (
    _backlog,
    _dead_letters,
    _unconfirmed,
    _findings,
    _gates,
    _not_looked_at,
    _untold,
    _jobs,
    _budgets,
)


def _anomalies(seen: Anomalies, rules: Rules) -> Iterator[Condition]:
    for account, reasons in _by_account(seen.rejected).items():
        total = sum(reasons.values())
        if total >= rules.rejected:
            skewed = 2 * sum(reasons.get(reason, 0) for reason in _OF_THE_CLOCK) >= total
            why = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
            yield Condition(
                "rejected-burst",
                account,
                Severity.WARNING,
                f"{account}: {total:,} deliveries were rejected within ten minutes ({why})",
                _SKEWED if skewed else _FORGED_OR_ROTATED,
            )
    for account, source, count in seen.new_sources:
        yield Condition(
            "new-source",
            f"{account}/{source}",
            Severity.WARNING,
            f"{account}: {count:,} deliveries within ten minutes from {source}, which sent none the day before",
            "compare it with the addresses that the provider publishes",
        )
    for account, kind, count, usual in seen.surges:
        yield Condition(
            "type-surge",
            f"{account}/{kind}",
            Severity.WARNING,
            f"{account}: {count:,} deliveries of {kind} within ten minutes; the day before had {usual:,.1f} on average",
            "see in the console what they are about; the ledger takes them all",
        )

    nameless: dict[str, dict[str, int]] = defaultdict(dict)
    for account, type_, count in seen.nameless:
        nameless[account][type_] = count
    for account, counts in nameless.items():
        yield Condition(
            "delivery-nameless",
            account,
            Severity.WARNING,
            f"{account}: {sum(counts.values()):,} deliveries within ten minutes are of types that are followed, and "
            f"name nothing: {', '.join(counts)}",
            "look in the console at deliveries of that type; sweeps find what they were about, only later",
        )


_SKEWED = "look at this machine's clock: these were signed with our secret, at another time"
_FORGED_OR_ROTATED = (
    "after a rotation a secret may be missing from webhook_secrets; else somebody forges, which nothing comes of: "
    "limit the sender at the proxy"
)


def _by_account(rejected: Iterable[tuple[str, str, int]]) -> Mapping[str, Mapping[str, int]]:
    gathered: dict[str, dict[str, int]] = defaultdict(dict)
    for account, reason, count in rejected:
        gathered[account][reason] = count
    return gathered
