"""Sign-off: one person prepares a report, another one reviews and locks it; from then on it is reproduced, not edited.

A lock keeps the report's digest and speaks for the report's own `as_of`, whenever the command was run. Facts that
become known later never change it: they show as exceptions, and as an adjustment in the period after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from unicodedata import normalize

from reconciler.errors import Conflict, UsageError
from reconciler.ledger.breaks import (
    BreakAction,
    BreakEvent,
    LockPolicy,
    LockState,
    PeriodLock,
    events_of_break,
    keep_report,
    locked_periods,
    period_locks,
    record_break_event,
    record_lock,
    take_turn,
)
from reconciler.ledger.transaction import Transaction
from reconciler.report import canonical
from reconciler.report.model import OpenItem, Report, Standing
from reconciler.report.work import Worklist

REASONS = (
    "timing_cleared",
    "refunded_duplicate",
    "provider_correction",
    "order_cancelled",
    "manual_payment",
    "fee_agreed",
    "fx_rounding",
    "write_off",
    "data_entry",
    "false_positive",
)
_WRITE_OFF = "write_off"


# --- locks ----------------------------------------------------------------------------------------


def prepare(tx: Transaction, report: Report, *, by: str, now: datetime, policy: LockPolicy) -> str:
    """Keep the report, and who stands behind its figures; its digest. Raises UsageError where it cannot be signed."""
    _require_signable(tx, report, by)
    digest = _keep(tx, report, now)
    for account in report.params.accounts:
        record_lock(tx, _step(report, account, LockState.PREPARED, digest, by, policy, now))
    return digest


def lock(
    tx: Transaction, report: Report, *, by: str, now: datetime, policy: LockPolicy, override_reason: str = ""
) -> str:
    """Review and lock what somebody else prepared; the digest. Raises UsageError, and then nothing is locked.

    The report given must be the prepared one, byte for byte. One that is not balanced needs a reason.
    """
    _require_signable(tx, report, by)
    digest = canonical.digest(report)
    for account in report.params.accounts:
        prepared = _prepared(tx, report, account)
        if prepared is None:
            raise UsageError(f"nobody has prepared this report of {account}; run the same command with --prepare first")
        if prepared.digest != digest:
            raise UsageError(
                f"the report of {account} is not the one that {prepared.actor} prepared ({prepared.report_id});"
                " prepare it again"
            )
        if _is_one_person(prepared.actor, by):
            raise UsageError(f"{by} prepared this report; another person has to review it")
    standings = {verdict.standing for verdict in report.verdicts}
    if standings & {Standing.UNPROVEN, Standing.BREAKS} and not override_reason:
        raise UsageError("the report is not balanced; locking it needs a reason")
    for account in report.params.accounts:
        record_lock(tx, _step(report, account, LockState.LOCKED, digest, by, policy, now, override_reason))
    return digest


def reopen(tx: Transaction, locked: PeriodLock, *, by: str, reason: str, now: datetime) -> None:
    """Take a lock back; the log keeps it. Raises UsageError without a reason, or where a later period builds on it."""
    if not reason:
        raise UsageError("reopening a signed period needs a reason")
    take_turn(tx)
    if locked not in _locked(tx, [locked.account]):
        raise UsageError(f"{locked.account} {locked.from_day} to {locked.to_day} is not locked any more")
    later = [each for each in _locked(tx, [locked.account]) if each.start >= locked.end]
    if later:
        raise UsageError(f"{later[0].from_day} to {later[0].to_day} is locked and builds on it; reopen that one first")
    record_lock(
        tx,
        PeriodLock(
            account=locked.account,
            from_day=locked.from_day,
            to_day=locked.to_day,
            start=locked.start,
            end=locked.end,
            timezone=locked.timezone,
            as_of=locked.as_of,
            report_id=locked.report_id,
            digest=locked.digest,
            state=LockState.REOPENED,
            actor=by,
            policy=locked.policy,
            at=now,
            override_reason=reason,
        ),
    )


def _is_one_person(one: str, other: str) -> bool:
    """Names are typed: `ann`, `Ann ` and `ANN` are not two pairs of eyes."""
    first, second = (" ".join(normalize("NFKC", each).casefold().split()) for each in (one, other))
    return first == second


def _require_signable(tx: Transaction, report: Report, by: str) -> None:
    params = report.params
    if not by.strip():
        raise UsageError("a sign-off needs a name; pass --by")
    if params.currency is not None:
        raise UsageError("a sign-off speaks for every currency; leave --currency out")
    if params.compare is not None:
        raise UsageError("a sign-off speaks for one instant; leave --compare out")
    take_turn(tx)
    if params.as_of < report.header.end:
        raise UsageError(f"the period ends at {report.header.end}, after --as-of; it cannot be signed yet")
    for each in _locked(tx, params.accounts):
        same = (each.start, each.end) == (report.header.start, report.header.end)
        if same:
            raise UsageError(f"{each.account} {each.from_day} to {each.to_day} is locked already ({each.report_id})")
        if each.start < report.header.end and report.header.start < each.end:
            raise UsageError(
                f"the period overlaps {each.from_day} to {each.to_day}, which is locked for {each.account}"
            )
        if each.start >= report.header.end:
            raise UsageError(
                f"{each.from_day} to {each.to_day} is locked for {each.account} and rests on this period as it was"
                " known then; periods are locked in their order"
            )


def _locked(tx: Transaction, accounts: Sequence[str]) -> list[PeriodLock]:
    steps = period_locks(tx, accounts)
    if not steps:
        return []
    return locked_periods(steps, max(step.as_of for step in steps))


def _prepared(tx: Transaction, report: Report, account: str) -> PeriodLock | None:
    """The last preparation of this account's period, unless it was made for another instant."""
    same = [
        each
        for each in period_locks(tx, [account])
        if each.state is LockState.PREPARED
        and (each.start, each.end, each.as_of) == (report.header.start, report.header.end, report.params.as_of)
    ]
    return same[-1] if same else None


def _keep(tx: Transaction, report: Report, now: datetime) -> str:
    body = canonical.encode(report)
    digest = canonical.digest(report)
    keep_report(
        tx,
        report_id=report.report_id,
        digest=digest,
        as_of=report.params.as_of,
        params=canonical.tree(report)["params"],
        config_hash=report.params.config_hash,
        code_version=report.params.code_version,
        body=body,
        now=now,
    )
    return digest


def _step(
    report: Report,
    account: str,
    state: LockState,
    digest: str,
    by: str,
    policy: LockPolicy,
    now: datetime,
    override_reason: str = "",
) -> PeriodLock:
    return PeriodLock(
        account=account,
        from_day=report.params.from_day,
        to_day=report.params.to_day,
        start=report.header.start,
        end=report.header.end,
        timezone=report.params.timezone,
        as_of=report.params.as_of,
        report_id=report.report_id,
        digest=digest,
        state=state,
        actor=by,
        policy=policy,
        at=now,
        override_reason=override_reason,
    )


# --- work on breaks -------------------------------------------------------------------------------


def find(report: Report, break_id: str) -> OpenItem:
    """A break of the report, open, waiting or resolved, by its id or the beginning of it. Raises UsageError where none
    or several begin like that."""
    every = [*report.breaks, *report.timing, *(each.item for each in report.resolved)]
    found = [each for each in every if each.break_id.startswith(break_id)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"this report has no break {break_id}; `reconcile breaks list` shows them")
    raise UsageError(f"{break_id} is the beginning of {len(found)} breaks; write more of it")


def note(tx: Transaction, break_id: str, words: str, *, by: str, now: datetime) -> None:
    if not words.strip():
        raise UsageError("a note needs words")
    record_break_event(tx, BreakEvent(break_id, now, by, BreakAction.NOTE, text=words))


def assign(tx: Transaction, break_id: str, owner: str, *, by: str, now: datetime) -> None:
    """An empty owner takes the break from whoever had it."""
    record_break_event(tx, BreakEvent(break_id, now, by, BreakAction.ASSIGN, text=owner))


def attach(tx: Transaction, break_id: str, evidence_sha256: str, *, by: str, words: str, now: datetime) -> None:
    event = BreakEvent(break_id, now, by, BreakAction.ATTACH, text=words, evidence_sha256=evidence_sha256)
    record_break_event(tx, event)


def resolve(
    tx: Transaction,
    broken: OpenItem,
    *,
    reason: str,
    by: str,
    now: datetime,
    words: str = "",
    evidence_sha256: str | None = None,
    reviewer: str | None = None,
    item_materiality_minor: int = 0,
    seen: int | None = None,
) -> None:
    """Accept a difference as it is now; another difference later opens the break again by itself.

    `seen`: the difference in minor units that whoever decides was shown; None: this very report is what they look at.
    The same resolution once more changes nothing. Raises UsageError for an unknown reason, without a note or evidence,
    and for a write-off that is too large or that nobody else has reviewed; Conflict where the difference is not the
    one that was seen, or another resolution stands.
    """
    if reason not in REASONS:
        raise UsageError(f"{reason!r} is no reason; use one of {', '.join(REASONS)}")
    if not words.strip() and evidence_sha256 is None:
        raise UsageError("a resolution needs a note or evidence")
    if reason == _WRITE_OFF:
        if abs(broken.difference.minor) >= item_materiality_minor:
            raise UsageError(
                f"{broken.difference.text} {broken.currency} is not below the materiality, so it cannot be written off"
            )
        if not reviewer or not reviewer.strip() or _is_one_person(reviewer, by):
            raise UsageError("a write-off needs a reviewer, who is another person")
    if seen is not None and seen != broken.difference.minor:
        raise Conflict(
            f"the difference is {broken.difference.text} {broken.currency} now ({broken.difference.minor} minor units),"
            " which is not what you were shown; look at it again"
        )
    reviewed = f" (reviewed by {reviewer})" if reviewer else ""
    event = BreakEvent(
        broken.break_id,
        now,
        by,
        BreakAction.RESOLVE,
        reason=reason,
        text=f"{words}{reviewed}".strip(),
        difference=broken.difference.minor,
        evidence_sha256=evidence_sha256,
    )
    take_turn(tx)
    events = events_of_break(tx, broken.break_id)
    standing = Worklist(events).resolution(broken)
    if standing is None:
        record_break_event(tx, _behind(event, events))
    elif replace(standing, at=now) != event:
        raise Conflict(f"{broken.break_id} is resolved already, by {standing.actor}; reopen it first")


def reopen_break(tx: Transaction, broken: OpenItem, *, by: str, words: str, now: datetime) -> None:
    """Take a resolution back. The same once more changes nothing. Raises UsageError without words, Conflict where the
    break is open."""
    if not words.strip():
        raise UsageError("reopening a break needs a note that says why")
    event = BreakEvent(broken.break_id, now, by, BreakAction.REOPEN, text=words)
    take_turn(tx)
    events = events_of_break(tx, broken.break_id)
    if Worklist(events).resolution(broken) is not None:
        record_break_event(tx, _behind(event, events))
        return
    decided = [each for each in events if each.action in (BreakAction.RESOLVE, BreakAction.REOPEN)]
    if not decided or replace(decided[-1], at=now) != event:
        raise Conflict(f"{broken.break_id} is open already")


def _behind(event: BreakEvent, events: Sequence[BreakEvent]) -> BreakEvent:
    """What is decided last counts, also where the clock of whoever decides is behind the one before."""
    return replace(event, at=max([event.at, *(each.at for each in events)]))
