"""People's work on the report: notes and resolutions of breaks, sign-offs, and the audit log that remembers both.

Everything here only grows. The audit log is a hash chain: each row's hash covers the row before it, so that a row
that was changed, removed or put in between is found by `verify_audit`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import bindparam, text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.bulk import BYTES, WHOLE, WORDS, insert_into
from reconciler.ledger.codec import pack, unpack
from reconciler.ledger.transaction import Transaction


class BreakAction(StrEnum):
    NOTE = "note"
    ASSIGN = "assign"
    RESOLVE = "resolve"
    REOPEN = "reopen"
    ATTACH = "attach"


class LockState(StrEnum):
    PREPARED = "prepared"
    LOCKED = "locked"
    REOPENED = "reopened"


class LockPolicy(StrEnum):
    ROLL_FORWARD = "roll_forward"
    """The next period opens with what was signed; what became known later is its own line."""
    RESTATE = "restate"
    """The next period opens with what is known now."""


@dataclass(frozen=True, slots=True)
class BreakEvent:
    """One act on a break. A resolution remembers the difference it was given for: another one reopens the break."""

    break_id: str
    at: datetime
    actor: str
    action: BreakAction
    reason: str | None = None
    text: str = ""
    """The note; the new owner for `assign`."""
    difference: int | None = None
    """Minor units that a resolution accepted."""
    evidence_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class PeriodLock:
    """One step of a sign-off of one account's period. The last row of a period says how it stands."""

    account: str
    from_day: date
    to_day: date
    start: datetime
    end: datetime
    timezone: str
    as_of: datetime
    report_id: str
    digest: str
    state: LockState
    actor: str
    policy: LockPolicy
    at: datetime
    override_reason: str = ""


@dataclass(frozen=True, slots=True)
class AuditRow:
    seq: int
    previous: str
    hash: str
    actor: str
    action: str
    subject: str
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AuditFault:
    """Where the chain does not hold, and what is wrong there."""

    seq: int
    text: str


# --- breaks ---------------------------------------------------------------------------------------

_INSERT_EVENT = insert_into(
    "break_event",
    {
        "id": WHOLE,
        "break_id": WORDS,
        "at": WHOLE,
        "actor": WORDS,
        "action": WORDS,
        "reason": WORDS,
        "text": WORDS,
        "difference": WHOLE,
        "evidence_sha256": WORDS,
    },
)
_EVENTS = "SELECT break_id, at, actor, action, reason, text, difference, evidence_sha256 FROM break_event"
_ALL_EVENTS = text(f"{_EVENTS} WHERE at <= :as_of ORDER BY at, id")
_EVENTS_OF = text(f"{_EVENTS} WHERE break_id = :break_id AND at <= :as_of ORDER BY at, id")
_EVER = 2**63 - 1


def record_break_event(tx: Transaction, event: BreakEvent) -> None:
    """Keep one act on a break, and its line in the audit log, in the same transaction."""
    _INSERT_EVENT.run(
        tx,
        [
            {
                "id": tx.tick(),
                "break_id": event.break_id,
                "at": to_micros(event.at),
                "actor": event.actor,
                "action": event.action.value,
                "reason": event.reason,
                "text": event.text,
                "difference": event.difference,
                "evidence_sha256": event.evidence_sha256,
            }
        ],
    )
    detail = {
        "reason": event.reason,
        "text": event.text,
        "difference": event.difference,
        "evidence_sha256": event.evidence_sha256,
    }
    append_audit(
        tx, actor=event.actor, action=f"break.{event.action}", subject=event.break_id, detail=detail, at=event.at
    )


def break_events(tx: Transaction, as_of: datetime) -> list[BreakEvent]:
    """Every act known then, oldest first."""
    return [_break_event(row) for row in tx.run(_ALL_EVENTS, {"as_of": to_micros(as_of)})]


def events_of_break(tx: Transaction, break_id: str, as_of: datetime | None = None) -> list[BreakEvent]:
    """Those on one break, oldest first. None: all that are stored, also those of a clock that is ahead of ours."""
    until = _EVER if as_of is None else to_micros(as_of)
    return [_break_event(row) for row in tx.run(_EVENTS_OF, {"break_id": break_id, "as_of": until})]


def _break_event(row: Any) -> BreakEvent:
    return BreakEvent(
        break_id=row.break_id,
        at=from_micros(row.at),
        actor=row.actor,
        action=BreakAction(row.action),
        reason=row.reason,
        text=row.text,
        difference=row.difference,
        evidence_sha256=row.evidence_sha256,
    )


# --- sign-off -------------------------------------------------------------------------------------

_LOCK_COLUMNS = (
    "account, from_day, to_day, starts_at, ends_at, timezone, as_of, report_id, digest, state, actor, policy, at,"
    " override_reason"
)
_INSERT_LOCK = insert_into(
    "period_lock",
    {
        "id": WHOLE,
        "account": WORDS,
        "from_day": WORDS,
        "to_day": WORDS,
        "starts_at": WHOLE,
        "ends_at": WHOLE,
        "timezone": WORDS,
        "as_of": WHOLE,
        "report_id": WORDS,
        "digest": WORDS,
        "state": WORDS,
        "actor": WORDS,
        "policy": WORDS,
        "at": WHOLE,
        "override_reason": WORDS,
    },
)
_LOCKS = text(
    f"SELECT {_LOCK_COLUMNS} FROM period_lock WHERE account IN :accounts ORDER BY account, ends_at, id"
).bindparams(bindparam("accounts", expanding=True))


def record_lock(tx: Transaction, lock: PeriodLock) -> None:
    """Keep one step of a sign-off, and its line in the audit log."""
    _INSERT_LOCK.run(
        tx,
        [
            {
                "id": tx.tick(),
                "account": lock.account,
                "from_day": lock.from_day.isoformat(),
                "to_day": lock.to_day.isoformat(),
                "starts_at": to_micros(lock.start),
                "ends_at": to_micros(lock.end),
                "timezone": lock.timezone,
                "as_of": to_micros(lock.as_of),
                "report_id": lock.report_id,
                "digest": lock.digest,
                "state": lock.state.value,
                "actor": lock.actor,
                "policy": lock.policy.value,
                "at": to_micros(lock.at),
                "override_reason": lock.override_reason,
            }
        ],
    )
    detail = {
        "as_of": to_micros(lock.as_of),
        "digest": lock.digest,
        "report_id": lock.report_id,
        "policy": lock.policy.value,
        "override_reason": lock.override_reason,
    }
    subject = f"{lock.account} {lock.from_day}..{lock.to_day} {lock.timezone}"
    append_audit(tx, actor=lock.actor, action=f"period.{lock.state}", subject=subject, detail=detail, at=lock.at)


def period_locks(tx: Transaction, accounts: Collection[str]) -> list[PeriodLock]:
    """Every step of every sign-off, in the order in which the periods end and the steps were taken."""
    return [
        PeriodLock(
            account=row.account,
            from_day=date.fromisoformat(row.from_day),
            to_day=date.fromisoformat(row.to_day),
            start=from_micros(row.starts_at),
            end=from_micros(row.ends_at),
            timezone=row.timezone,
            as_of=from_micros(row.as_of),
            report_id=row.report_id,
            digest=row.digest,
            state=LockState(row.state),
            actor=row.actor,
            policy=LockPolicy(row.policy),
            at=from_micros(row.at),
            override_reason=row.override_reason,
        )
        for row in tx.run(_LOCKS, {"accounts": sorted(accounts)})
    ]


def locked_periods(locks: Collection[PeriodLock], as_of: datetime) -> list[PeriodLock]:
    """The periods that stand locked, among those whose lock speaks for an instant at or before `as_of`."""
    last: dict[tuple[str, datetime, datetime], PeriodLock] = {}
    for lock in locks:
        if lock.as_of <= as_of and lock.state is not LockState.PREPARED:
            last[lock.account, lock.start, lock.end] = lock
    return [lock for lock in last.values() if lock.state is LockState.LOCKED]


# --- what was shown -------------------------------------------------------------------------------

_INSERT_SNAPSHOT = insert_into(
    "report_snapshot",
    {
        "report_id": WORDS,
        "digest": WORDS,
        "as_of": WHOLE,
        "params": WORDS,
        "config_hash": WORDS,
        "code_version": WORDS,
        "body": BYTES,
        "stored_at": WHOLE,
    },
    "ON CONFLICT (report_id) DO NOTHING",
)
_SNAPSHOT = text("SELECT body FROM report_snapshot WHERE report_id = :report_id")


def keep_report(
    tx: Transaction,
    *,
    report_id: str,
    digest: str,
    as_of: datetime,
    params: Mapping[str, Any],
    config_hash: str,
    code_version: str,
    body: bytes,
    now: datetime,
) -> bool:
    """Store a report's canonical JSON once; False where it was stored already."""
    written = _INSERT_SNAPSHOT.run(
        tx,
        [
            {
                "report_id": report_id,
                "digest": digest,
                "as_of": to_micros(as_of),
                "params": orjson.dumps(params, option=orjson.OPT_SORT_KEYS).decode(),
                "config_hash": config_hash,
                "code_version": code_version,
                "body": pack(body),
                "stored_at": to_micros(now),
            }
        ],
    )
    return written == 1


def kept_report(tx: Transaction, report_id: str) -> bytes | None:
    """The canonical JSON of a stored report, byte for byte."""
    row = tx.run(_SNAPSHOT, {"report_id": report_id}).one_or_none()
    return None if row is None else unpack(row.body)


# --- the audit log --------------------------------------------------------------------------------

GENESIS = "0" * 64
"""What the first row's hash builds on."""

_AUDIT_COLUMNS = "seq, prev_hash, hash, actor, action, subject, detail, at"
_LOCK_AUDIT = text("SELECT pg_advisory_xact_lock(:key)")
_AUDIT_KEY = 0x7265636F6E617564
"""`reconaud`. A lock on the table itself takes the right to change its rows, which the daemon's role must not have."""
_AUDIT_HEAD = text(f"SELECT {_AUDIT_COLUMNS} FROM audit_log ORDER BY seq DESC LIMIT 1")
_AUDIT = text(f"SELECT {_AUDIT_COLUMNS} FROM audit_log ORDER BY seq")
_INSERT_AUDIT = insert_into(
    "audit_log",
    {
        "seq": WHOLE,
        "prev_hash": WORDS,
        "hash": WORDS,
        "actor": WORDS,
        "action": WORDS,
        "subject": WORDS,
        "detail": WORDS,
        "at": WHOLE,
    },
)


def take_turn(tx: Transaction) -> None:
    """Until this transaction ends nobody else signs or audits: what it reads from here on is what it decides on."""
    if tx.dialect.is_postgres:
        tx.run(_LOCK_AUDIT, {"key": _AUDIT_KEY})


def append_audit(
    tx: Transaction, *, actor: str, action: str, subject: str, detail: Mapping[str, Any], at: datetime
) -> str:
    """One more row; the new head's hash. Writers take turns: two rows can never follow the same one."""
    take_turn(tx)
    head = tx.run(_AUDIT_HEAD).one_or_none()
    previous, seq = (GENESIS, 1) if head is None else (head.hash, head.seq + 1)
    shown = orjson.dumps(detail, option=orjson.OPT_SORT_KEYS).decode()
    row = {
        "seq": seq,
        "prev_hash": previous,
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": shown,
        "at": to_micros(at),
    }
    row["hash"] = _audit_hash(row)
    _INSERT_AUDIT.run(tx, [row])
    return str(row["hash"])


def audit_rows(tx: Transaction) -> list[AuditRow]:
    return [
        AuditRow(row.seq, row.prev_hash, row.hash, row.actor, row.action, row.subject, row.detail, from_micros(row.at))
        for row in tx.run(_AUDIT)
    ]


def audit_length(tx: Transaction) -> int:
    """The number of the last row: what comes later has a higher one."""
    row = tx.run(_AUDIT_HEAD).one_or_none()
    return 0 if row is None else int(row.seq)


def audit_head(tx: Transaction) -> str:
    """The hash to write down elsewhere: whoever has it can prove that nothing before it was changed."""
    row = tx.run(_AUDIT_HEAD).one_or_none()
    return GENESIS if row is None else str(row.hash)


def verify_audit(tx: Transaction) -> list[AuditFault]:
    """Where the chain is broken; empty when every row is as it was written and none is missing in between."""
    faults: list[AuditFault] = []
    previous, expected = GENESIS, 1
    for row in tx.run(_AUDIT):
        if row.seq != expected:
            faults.append(AuditFault(expected, f"row {expected} is missing: the next one is {row.seq}"))
        if row.prev_hash != previous:
            faults.append(AuditFault(row.seq, "does not follow the row before it"))
        if row.hash != _audit_hash(dict(row._mapping)):
            faults.append(AuditFault(row.seq, "was changed after it was written"))
        previous, expected = row.hash, row.seq + 1
    return faults


def _audit_hash(row: Mapping[str, Any]) -> str:
    named = ("seq", "prev_hash", "actor", "action", "subject", "detail", "at")
    content = orjson.dumps([row[name] for name in named])
    return hashlib.sha256(content).hexdigest()
