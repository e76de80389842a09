"""The ledger's tables, declared with SQLModel. Statements on them are SQLAlchemy Core, never the ORM.

Every instant is a BIGINT of microseconds since 1970-01-01 UTC, the same on both databases (docs/decisions/0002).
`resource` is the hot table: one narrow row per remote thing and no bodies. Everything else only grows.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "pk": "pk_%(table_name)s",
}
SQLModel.metadata.naming_convention = NAMING

_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")
"""In SQLite a primary key typed INTEGER *is* the row's place in the table."""


def _identity() -> Any:
    """A row's id, given by the ledger clock, so that it is known before the row is written."""
    return Field(default=None, sa_column=Column(_ROW_ID, primary_key=True, autoincrement=False))


def _whole(*, key: bool = False, optional: bool = False, default: int | None = None) -> Any:
    """A 64-bit integer: counters, instants in microseconds, minor units of money."""
    server_default = None if default is None else str(default)
    column: Column[int] = Column(
        BigInteger, primary_key=key, autoincrement=False, nullable=optional, server_default=server_default
    )
    return Field(default=default, sa_column=column)


def _words(*, key: bool = False, optional: bool = False, default: str | None = None) -> Any:
    return Field(default=default, sa_column=Column(Text, primary_key=key, nullable=optional, server_default=default))


def _packed(*, optional: bool = False) -> Any:
    """Bytes as `reconciler.ledger.codec` packs them."""
    return Field(default=None, sa_column=Column(LargeBinary, nullable=optional))


class ResourceRow(SQLModel, table=True):
    """One remote thing. Dirty is `generation > settled_generation`: a comparison, never a stored boolean."""

    __tablename__: ClassVar[Any] = "resource"
    __table_args__ = (
        UniqueConstraint("account", "kind", "remote_id"),
        CheckConstraint("settled_generation <= generation", name="settled_is_seen"),
        CheckConstraint("generation = settled_generation OR due_at IS NOT NULL", name="dirty_has_wake_up"),
        CheckConstraint("lease_until IS NULL OR due_at IS NOT NULL", name="leased_has_reclaim"),
        CheckConstraint("state IN ('unknown', 'present', 'deleted')", name="state_known"),
        CheckConstraint("(version = 0) = (state = 'unknown')", name="known_has_version"),
        Index(
            "ix_resource_lane",
            "account",
            "kind",
            "priority",
            "due_at",
            sqlite_where=text("due_at IS NOT NULL"),
            postgresql_where=text("due_at IS NOT NULL"),
        ),
        Index("ix_resource_status", "account", "kind", "status", "created_at"),
        Index("ix_resource_created", "account", "kind", "created_at"),
        Index("ix_resource_fetched", "account", "kind", "fetched_at"),
        Index("ix_resource_dead", "dead_at", sqlite_where=text("dead_at IS NOT NULL"),
              postgresql_where=text("dead_at IS NOT NULL")),
        {"postgresql_with": {"fillfactor": "75", "autovacuum_vacuum_scale_factor": "0.01"}},
    )  # fmt: skip

    id: int | None = _identity()
    provider: str = _words()
    account: str = _words()
    kind: str = _words()
    remote_id: str = _words()

    generation: int = _whole(default=0)
    settled_generation: int = _whole(default=0)
    priority: int = Field(default=3, sa_column=Column(Integer, nullable=False, server_default="3"))
    cause: str = _words(default="webhook")
    due_at: int | None = _whole(optional=True)
    not_before: int = _whole(default=0)
    first_marked_at: int | None = _whole(optional=True)
    last_marked_at: int | None = _whole(optional=True)
    settle_at: int = _whole(default=0)
    """A read that starts before this instant is provisional, unless it satisfies every pending hint."""
    hints: str | None = _words(optional=True)
    """What the pending marks announced, one JSON line each; NULL when at least one of them announced nothing."""

    lease_token: int = _whole(default=0)
    lease_until: int | None = _whole(optional=True)
    lease_owner: str | None = _words(optional=True)
    attempts: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    last_error: str | None = _words(optional=True)
    dead_at: int | None = _whole(optional=True)
    discarded_at: int | None = _whole(optional=True)

    state: str = _words(default="unknown")
    version: int = _whole(default=0)
    content_hash: str | None = _words(optional=True)
    applied_seq: int = _whole(default=0)
    fetched_at: int | None = _whole(optional=True)
    """When the last accepted read began: what we know is at least as new as this."""

    status: str | None = _words(optional=True)
    created_at: int | None = _whole(optional=True)
    provider_updated_at: int | None = _whole(optional=True)


class VersionRow(SQLModel, table=True):
    """The n-th different state that was stored of a resource. Never rewritten."""

    __tablename__: ClassVar[Any] = "version"
    __table_args__ = (
        Index("ix_version_recorded", "recorded_at"),
        CheckConstraint("state IN ('present', 'deleted')", name="state_known"),
        CheckConstraint("(body IS NULL) = (state = 'deleted')", name="tombstone_has_no_body"),
    )

    resource_id: int = _whole(key=True)
    version: int = _whole(key=True)
    state: str = _words()
    content_hash: str = _words()
    body: bytes | None = _packed(optional=True)
    status: str | None = _words(optional=True)
    cause: str = _words()
    recorded_at: int = _whole()
    fetched_at: int = _whole()
    applied_seq: int = _whole()
    api_version: str = _words(default="")


class DeliveryRow(SQLModel, table=True):
    """One webhook request as received, valid or not, with its verdict."""

    __tablename__: ClassVar[Any] = "delivery"
    __table_args__ = (
        Index("ix_delivery_event", "account", "event_id"),
        Index("ix_delivery_received", "received_at"),
        CheckConstraint("verdict IN ('stored', 'duplicate', 'rejected', 'ignored')", name="verdict_known"),
    )

    id: int | None = _identity()
    provider: str = _words()
    account: str = _words()
    event_id: str | None = _words(optional=True)
    type: str | None = _words(optional=True)
    received_at: int = _whole()
    occurred_at: int | None = _whole(optional=True)
    verdict: str = _words()
    reason: str | None = _words(optional=True)
    source: str = _words(default="")
    headers: str = _words(default="{}")
    body: bytes | None = _packed(optional=True)
    size: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))


class DeliveryMarkRow(SQLModel, table=True):
    """Which resources a delivery named."""

    __tablename__: ClassVar[Any] = "delivery_mark"
    __table_args__ = ({"sqlite_with_rowid": False},)

    account: str = _words(key=True)
    kind: str = _words(key=True)
    remote_id: str = _words(key=True)
    delivery_id: int = _whole(key=True)


class DeliveryTallyRow(SQLModel, table=True):
    """How many deliveries got which verdict, per day: exact even where a flood was not stored row by row."""

    __tablename__: ClassVar[Any] = "delivery_tally"

    account: str = _words(key=True)
    day: int = _whole(key=True)
    verdict: str = _words(key=True)
    reason: str = _words(key=True, default="")
    count: int = _whole(default=0)


class MissedEventRow(SQLModel, table=True):
    """An event in the provider's own feed that had not reached us when we looked."""

    __tablename__: ClassVar[Any] = "missed_event"
    __table_args__ = (Index("ix_missed_event_noticed", "noticed_at"),)

    account: str = _words(key=True)
    event_id: str = _words(key=True)
    type: str = _words()
    occurred_at: int | None = _whole(optional=True)
    noticed_at: int = _whole()


class EntryRow(SQLModel, table=True):
    """One money line of a version: a projection, rebuilt from the version at any time without a difference."""

    __tablename__: ClassVar[Any] = "entry"
    __table_args__ = (
        # Holds every column that a proof sums, so that openings over years of entries never touch the table.
        Index(
            "ix_entry_proof",
            "account",
            "balance_type",
            "currency",
            "effective_at",
            "recorded_at",
            "superseded_at",
            "category",
            "gross",
            "fee",
            "net",
        ),
        Index("ix_entry_source", "account", "source_id"),
        Index("ix_entry_payout", "account", "payout_id"),
        CheckConstraint("net = gross - fee", name="foots"),
    )

    resource_id: int = _whole(key=True)
    version: int = _whole(key=True)
    ordinal: int = Field(default=0, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    account: str = _words()
    kind: str = _words()
    remote_id: str = _words()
    balance_type: str = _words()
    category: str = _words()
    currency: str = _words()
    gross: int = _whole()
    fee: int = _whole()
    net: int = _whole()
    effective_at: int = _whole()
    available_on: int | None = _whole(optional=True)
    source_id: str | None = _words(optional=True)
    payout_id: str | None = _words(optional=True)
    fee_details: str = _words(default="[]")
    recorded_at: int = _whole()
    superseded_at: int | None = _whole(optional=True)
    """When a later version took its place; NULL while it is current."""


class ControlTotalRow(SQLModel, table=True):
    """A balance that the provider stated itself."""

    __tablename__: ClassVar[Any] = "control_total"
    __table_args__ = (
        UniqueConstraint("account", "balance_type", "currency", "as_at", "recorded_at", name="uq_control_total_once"),
    )

    id: int | None = _identity()
    account: str = _words()
    balance_type: str = _words()
    currency: str = _words()
    minor: int = _whole()
    as_at: int = _whole()
    recorded_at: int = _whole()


class CoverageRow(SQLModel, table=True):
    """A window of a kind that was looked at completely, or could not be, and why."""

    __tablename__: ClassVar[Any] = "coverage"
    __table_args__ = (
        UniqueConstraint("account", "kind", "since", "until", "complete", "recorded_at", name="uq_coverage_once"),
        Index("ix_coverage_standing", "superseded_at", "account", "kind"),
    )

    id: int | None = _identity()
    account: str = _words()
    kind: str = _words()
    since: int = _whole()
    until: int = _whole()
    complete: bool = Field(default=True)
    reason: str = _words(default="")
    recorded_at: int = _whole()
    superseded_at: int | None = _whole(optional=True)
    """When a later fact that contains it was recorded; nothing: it stands."""


class PayoutMembersRow(SQLModel, table=True):
    """Which balance transactions a payout paid out, as the provider listed them."""

    __tablename__: ClassVar[Any] = "payout_members"
    __table_args__ = (UniqueConstraint("account", "payout_id", "recorded_at", name="uq_payout_members_once"),)

    id: int | None = _identity()
    provider: str = _words()
    account: str = _words()
    payout_id: str = _words()
    members: str = _words()
    """A JSON list of references, sorted."""
    complete: bool = Field(default=True)
    recorded_at: int = _whole()


class JobRow(SQLModel, table=True):
    """A periodic job: who runs it now, how far it got, and when it is due. APScheduler only ticks."""

    __tablename__: ClassVar[Any] = "job"

    name: str = _words(key=True)
    due_at: int = _whole(default=0)
    lease_token: int = _whole(default=0)
    lease_until: int | None = _whole(optional=True)
    lease_owner: str | None = _words(optional=True)
    watermark: int | None = _whole(optional=True)
    """The instant up to which the job's windows are complete."""
    progress: str = _words(default="{}")
    """JSON that only the job itself reads: cursors, page counts."""
    started_at: int | None = _whole(optional=True)
    finished_at: int | None = _whole(optional=True)
    last_error: str | None = _words(optional=True)
    tries: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """Runs in a row that did not complete."""


class GateRow(SQLModel, table=True):
    """An account, or one kind of it, that is not read for now; it is probed again at `until`."""

    __tablename__: ClassVar[Any] = "gate"

    account: str = _words(key=True)
    kind: str = _words(key=True, default="")
    """Empty: the whole account."""
    reason: str = _words()
    """`permission`, `credentials`, `throttled`, `missing-storm`, `paused`."""
    text: str = _words(default="")
    opened_at: int = _whole()
    until: int = _whole()
    times: int = Field(default=1, sa_column=Column(Integer, nullable=False, server_default="1"))
    """How often in a row it closed again, for the length of the next wait."""


class FindingRow(SQLModel, table=True):
    """Something a person should know. Kept after it cleared, so that the history stays readable."""

    __tablename__: ClassVar[Any] = "finding"

    account: str = _words(key=True)
    code: str = _words(key=True)
    subject: str = _words(key=True, default="")
    severity: str = _words()
    text: str = _words()
    remedy: str = _words()
    first_seen_at: int = _whole()
    last_seen_at: int = _whole()
    cleared_at: int | None = _whole(optional=True)


class ExpectationRow(SQLModel, table=True):
    """An application said that this resource will come to be: confirmed by then, or named as unconfirmed."""

    __tablename__: ClassVar[Any] = "expectation"
    __table_args__ = (UniqueConstraint("account", "kind", "remote_id"),)

    id: int | None = _identity()
    provider: str = _words()
    account: str = _words()
    kind: str = _words()
    remote_id: str = _words()
    registered_at: int = _whole()
    due_at: int = _whole()
    note: str = _words(default="")
    looked_at: int | None = _whole(optional=True)
    """When its deadline had it read; NULL until then."""
    confirmed_at: int | None = _whole(optional=True)


class ReadTallyRow(SQLModel, table=True):
    """How many requests were sent to a provider, per day: what a read allocation is measured against."""

    __tablename__: ClassVar[Any] = "read_tally"

    account: str = _words(key=True)
    day: int = _whole(key=True)
    endpoint: str = _words(key=True)
    priority: int = _whole(key=True)
    requests: int = _whole(default=0)


class BucketRow(SQLModel, table=True):
    """A token bucket that every process draws from, in millitokens."""

    __tablename__: ClassVar[Any] = "bucket"

    account: str = _words(key=True)
    endpoint: str = _words(key=True)
    """Empty: the account's own limit over all endpoints."""
    level: int = _whole(default=0)
    at: int = _whole(default=0)
    rate: int = _whole(default=0)
    """Millitokens per second, as last adapted to the provider's answers."""
    closed_until: int = _whole(default=0)
    """A Retry-After: nothing is drawn before this instant."""


class LedgerClockRow(SQLModel, table=True):
    """SQLite's monotonic counter, one row. Postgres has a sequence of the same name instead."""

    __tablename__: ClassVar[Any] = "ledger_clock_row"

    id: int = Field(default=1, primary_key=True)
    value: int = _whole(default=0)


class PayoutMemberRow(SQLModel, table=True):
    """The lists of `payout_members` by member, with the time during which each was the latest: a projection of them."""

    __tablename__: ClassVar[Any] = "payout_member"
    __table_args__ = (Index("ix_payout_member_payout", "account", "payout_id"), {"sqlite_with_rowid": False})

    account: str = _words(key=True)
    remote_id: str = _words(key=True)
    """Of the balance transaction."""
    payout_id: str = _words(key=True)
    recorded_at: int = _whole(key=True)
    superseded_at: int | None = _whole(optional=True)


class BreakEventRow(SQLModel, table=True):
    """One act of a person on a break. Never changed: what stands is what the events add up to."""

    __tablename__: ClassVar[Any] = "break_event"
    __table_args__ = (
        Index("ix_break_event_break", "break_id", "at"),
        CheckConstraint("action IN ('note', 'assign', 'resolve', 'reopen', 'attach')", name="action_known"),
        CheckConstraint("action <> 'resolve' OR (reason IS NOT NULL AND difference IS NOT NULL)", name="resolved_why"),
    )

    id: int | None = _identity()
    break_id: str = _words()
    at: int = _whole()
    actor: str = _words()
    action: str = _words()
    reason: str | None = _words(optional=True)
    text: str = _words(default="")
    difference: int | None = _whole(optional=True)
    """Minor units that a resolution accepted."""
    evidence_sha256: str | None = _words(optional=True)


class PeriodLockRow(SQLModel, table=True):
    """One step of the sign-off of an account's period; the last one says how the period stands."""

    __tablename__: ClassVar[Any] = "period_lock"
    __table_args__ = (
        Index("ix_period_lock_account", "account", "ends_at"),
        CheckConstraint("state IN ('prepared', 'locked', 'reopened')", name="state_known"),
        CheckConstraint("policy IN ('roll_forward', 'restate')", name="policy_known"),
        CheckConstraint("starts_at < ends_at", name="has_length"),
    )

    id: int | None = _identity()
    account: str = _words()
    from_day: str = _words()
    to_day: str = _words()
    starts_at: int = _whole()
    ends_at: int = _whole()
    timezone: str = _words()
    as_of: int = _whole()
    report_id: str = _words()
    digest: str = _words()
    state: str = _words()
    actor: str = _words()
    policy: str = _words()
    at: int = _whole()
    override_reason: str = _words(default="")


class ReportSnapshotRow(SQLModel, table=True):
    """A report as it was shown, kept whole, under the hash of its content."""

    __tablename__: ClassVar[Any] = "report_snapshot"

    report_id: str = _words(key=True)
    digest: str = _words()
    as_of: int = _whole()
    params: str = _words()
    config_hash: str = _words()
    code_version: str = _words()
    body: bytes = _packed()
    stored_at: int = _whole()


class AuditLogRow(SQLModel, table=True):
    """Who did what, in a chain: each hash covers the row before it."""

    __tablename__: ClassVar[Any] = "audit_log"

    seq: int = _whole(key=True)
    prev_hash: str = _words()
    hash: str = _words()
    actor: str = _words()
    action: str = _words()
    subject: str = _words()
    detail: str = _words()
    at: int = _whole()


class BankLineRow(SQLModel, table=True):
    """One line of a bank statement whose own totals footed."""

    __tablename__: ClassVar[Any] = "bank_line"
    __table_args__ = (
        UniqueConstraint("bank_account", "statement_id", "ordinal"),
        Index("ix_bank_line_booked", "booked_on", "currency"),
    )

    id: int | None = _identity()
    bank_account: str = _words()
    statement_id: str = _words()
    ordinal: int = _whole()
    currency: str = _words()
    minor: int = _whole()
    exponent: int = _whole()
    booked_on: str = _words()
    value_on: str | None = _words(optional=True)
    reference: str = _words()
    recorded_at: int = _whole()


class TokenRow(SQLModel, table=True):
    """An account's token where tokens end, sealed with a key that is not in the ledger; and who renews it now."""

    __tablename__: ClassVar[Any] = "token"

    account: str = _words(key=True)
    sealed: bytes | None = _packed(optional=True)
    version: int = _whole(default=0)
    """How many tokens were kept: who renews says which one it saw."""
    lease_token: int = _whole(default=0)
    lease_until: int | None = _whole(optional=True)
    kept_at: int | None = _whole(optional=True)


class RedactionRow(SQLModel, table=True):
    """What a person asked to be forgotten, and when it was. The audit log says the same when it is done."""

    __tablename__: ClassVar[Any] = "redaction"

    account: str = _words(key=True)
    kind: str = _words(key=True)
    """Empty: everything of the account."""
    remote_id: str = _words(key=True)
    event_id: str = _words(key=True)
    """Of the delivery that asked: it names the person too, and is redacted last."""
    asked_at: int = _whole()
    done_at: int | None = _whole(optional=True)


class UnreadRow(SQLModel, table=True):
    """A version whose money movements are not kept as rows yet: reports read its body, until somebody has read it."""

    __tablename__: ClassVar[Any] = "unread"
    __table_args__ = ({"sqlite_with_rowid": False},)

    resource_id: int = _whole(key=True)
    version: int = _whole(key=True)


class MovementRow(SQLModel, table=True):
    """What a version says about money, as `FinanceReader.read` said it: a projection that spares reports its body."""

    __tablename__: ClassVar[Any] = "movement"
    __table_args__ = (
        Index("ix_movement_kind", "account", "kind", "group_id"),
        Index("ix_movement_group", "group_id"),
    )

    resource_id: int = _whole(key=True)
    version: int = _whole(key=True)
    ordinal: int = Field(default=0, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    provider: str = _words()
    account: str = _words()
    kind: str = _words()
    remote_id: str = _words()
    reading: str = _words()
    """JSON, as `reconciler.ledger.movements` writes it."""
    recorded_at: int = _whole()
    superseded_at: int | None = _whole(optional=True)
    """When a later version took its place; NULL while it is current."""
    group_id: int | None = _whole(optional=True)
    """The group it is set aside with; NULL: nobody looked since it came; 0: open; -1: of a role that has no groups."""


class MovementNameRow(SQLModel, table=True):
    """Under which names a thing can be met by others, as 64-bit hashes: two that share none have nothing to do with
    each other. A collision only makes a report read more than it needs."""

    __tablename__: ClassVar[Any] = "movement_name"
    __table_args__ = ({"sqlite_with_rowid": False},)

    name: int = _whole(key=True)
    resource_id: int = _whole(key=True)


class AsideGroupRow(SQLModel, table=True):
    """Movements that are settled among themselves: a report reads them only where its period or instant cuts them."""

    __tablename__: ClassVar[Any] = "aside_group"
    __table_args__ = (
        Index("ix_aside_group_last", "plain", "last_at", "first_at"),
        Index("ix_aside_group_changed", "changed_at", "first_at"),
    )

    id: int | None = _identity()
    first_at: int = _whole()
    last_at: int = _whole()
    """Everything that it did lies between these instants, both included."""
    changed_at: int = _whole()
    """When the last of it became known: as of any earlier instant it looked different."""
    plain: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """1: its flows say everything that a period around them has to know."""


class AsideFlowRow(SQLModel, table=True):
    """A flow of a plain group, complete: what its two legs say in a report."""

    __tablename__: ClassVar[Any] = "aside_flow"
    __table_args__ = (Index("ix_aside_flow_later", "later", "earlier"),)

    group_id: int = _whole(key=True)
    ordinal: int = Field(default=0, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    code: str = _words()
    """The line of the match; empty: a charge that nothing is matched with, kept for its country."""
    key: str = _words(default="")
    currency: str = _words()
    minor: int = _whole()
    left_ref: str = _words(default="")
    right_ref: str = _words(default="")
    country: str | None = _words(optional=True)
    earlier: int = _whole()
    later: int = _whole()
    changed_at: int = _whole()


class AsideStateRow(SQLModel, table=True):
    """One row: under which terms movements were read and set aside, and the turn of whoever does it."""

    __tablename__: ClassVar[Any] = "aside_state"

    id: int = Field(default=1, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    readings: str = _words()
    terms: str = _words()
    turn: int = _whole(default=0)


class CarriedSpanRow(SQLModel, table=True):
    """Whole UTC days of an account whose entries are summed up: a projection that spares reports to read them."""

    __tablename__: ClassVar[Any] = "carried_span"

    account: str = _words(key=True)
    since: int = _whole(key=True)
    until: int = _whole()
    known_at: int = _whole()
    """When the last of what it holds became known: as of any earlier instant it looked different."""


class CarriedBalanceRow(SQLModel, table=True):
    """What the entries of a span add up to, by balance."""

    __tablename__: ClassVar[Any] = "carried_balance"

    account: str = _words(key=True)
    since: int = _whole(key=True)
    balance_type: str = _words(key=True)
    currency: str = _words(key=True)
    first_at: int = _whole()
    net: int = _whole()


class CarriedPaidRow(SQLModel, table=True):
    """What the entries of a span add up to, by category and by who paid them out; an empty name is nobody."""

    __tablename__: ClassVar[Any] = "carried_paid"

    account: str = _words(key=True)
    since: int = _whole(key=True)
    balance_type: str = _words(key=True)
    currency: str = _words(key=True)
    category: str = _words(key=True)
    paid_by: str = _words(key=True)
    pays: str = _words(key=True)
    entries: int = _whole()
    net: int = _whole()


class ChangeRow(SQLModel, table=True):
    """A version's place in the change feed: 1, 2, 3 and so on in the order of commits, given after the commit.

    NULL until then. A position is visible only together with every smaller one, so that no reader passes by a change
    that commits late (docs/decisions/0070).
    """

    __tablename__: ClassVar[Any] = "change"
    __table_args__ = (
        UniqueConstraint("position"),
        Index(
            "ix_change_unplaced",
            "resource_id",
            "version",
            sqlite_where=text("position IS NULL"),
            postgresql_where=text("position IS NULL"),
        ),
        {"sqlite_with_rowid": False},
    )

    resource_id: int = _whole(key=True)
    version: int = _whole(key=True)
    position: int | None = _whole(optional=True)


class FeedRow(SQLModel, table=True):
    """The change feed's head, one row. Whoever gives positions holds its lock until they are committed."""

    __tablename__: ClassVar[Any] = "feed"

    id: int = Field(default=1, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    position: int = _whole(default=0)
    epoch: str = _words()
    """Which ledger counted: a cursor of another one means nothing here."""


class AlertRow(SQLModel, table=True):
    """A condition that somebody was or will be told of; kept until its end has been told too."""

    __tablename__: ClassVar[Any] = "alert"

    code: str = _words(key=True)
    subject: str = _words(key=True, default="")
    severity: str = _words()
    text: str = _words()
    remedy: str = _words()
    opened_at: int = _whole()
    told_at: int | None = _whole(optional=True)
    """When it was last told; NULL while nobody knows."""
    ended_at: int | None = _whole(optional=True)


class ConsoleUserRow(SQLModel, table=True):
    """A person who may look at the console, and what they may do there."""

    __tablename__: ClassVar[Any] = "console_user"
    __table_args__ = (CheckConstraint("role IN ('viewer', 'finance', 'operator')", name="role_known"),)

    name: str = _words(key=True)
    role: str = _words()
    password_hash: str = _words()
    """Argon2id, with its own salt and costs in it."""
    created_at: int = _whole()
    changed_at: int = _whole()


class ConsoleSessionRow(SQLModel, table=True):
    """Somebody who is logged in. The cookie's token stands here only as its hash; without the row it is worthless."""

    __tablename__: ClassVar[Any] = "console_session"
    __table_args__ = (
        Index("ix_console_session_user", "user_name"),
        CheckConstraint("role IN ('viewer', 'finance', 'operator')", name="role_known"),
    )

    token_hash: str = _words(key=True)
    user_name: str = _words()
    role: str = _words()
    """As it was given at the login. Somebody with a row in `console_user` has the role of that row."""
    method: str = _words()
    """`password` or `oidc`: how they proved who they are."""
    created_at: int = _whole()
    expires_at: int = _whole()
    seen_at: int = _whole()
    address: str = _words(default="")


class ConsoleKeyRow(SQLModel, table=True):
    """What the console signs cookies and forms with: one row, made by the first process that needs it."""

    __tablename__: ClassVar[Any] = "console_key"

    id: int = Field(default=1, sa_column=Column(Integer, primary_key=True, autoincrement=False))
    secret: bytes = _packed()
    made_at: int = _whole()


class MachineTokenRow(SQLModel, table=True):
    """A program that may use the HTTP API, within its scopes. Kept when it is revoked, so that its name stays known."""

    __tablename__: ClassVar[Any] = "machine_token"

    id: str = _words(key=True)
    name: str = _words()
    secret_hash: str = _words()
    scopes: str = _words()
    """Sorted, with spaces between."""
    created_by: str = _words()
    created_at: int = _whole()
    expires_at: int | None = _whole(optional=True)
    revoked_at: int | None = _whole(optional=True)
    used_at: int | None = _whole(optional=True)


class SubscriptionRow(SQLModel, table=True):
    """Somebody who is told of changes, and how that goes."""

    __tablename__: ClassVar[Any] = "subscription"
    __table_args__ = (
        CheckConstraint("origin IN ('configuration', 'api')", name="origin_known"),
        CheckConstraint("form IN ('thin', 'full')", name="form_known"),
        CheckConstraint("ordering IN ('every', 'newest')", name="ordering_known"),
        CheckConstraint("state IN ('active', 'paused', 'disabled', 'removed')", name="state_known"),
    )

    name: str = _words(key=True)
    origin: str = _words()
    url: str = _words()
    wanted: str = _words(default="{}")
    """JSON: which accounts, kinds, causes and fields; what is left out is not narrowed."""
    form: str = _words(default="thin")
    ordering: str = _words(default="every")
    concurrency: int = _whole(default=4)
    spacing: int = _whole(default=0)
    """Least microseconds between two requests on average; 0: no limit."""
    state: str = _words(default="active")
    note: str = _words(default="")
    """Why it does not get anything now."""
    failures: int = _whole(default=0)
    """Requests in a row that failed."""
    failing_since: int | None = _whole(optional=True)
    shut_until: int = _whole(default=0)
    """The circuit breaker, or a Retry-After: nothing is sent before this instant."""
    paced_at: int = _whole(default=0)
    """When the next request is in its time, by `spacing`."""
    created_at: int = _whole()
    changed_at: int = _whole()


class SubscriptionSecretRow(SQLModel, table=True):
    """A signing secret of a subscription that was made by command or API, sealed with a key outside the ledger."""

    __tablename__: ClassVar[Any] = "subscription_secret"
    __table_args__ = (Index("ix_subscription_secret_of", "subscription"),)

    id: int | None = _identity()
    subscription: str = _words()
    sealed: bytes = _packed()
    created_at: int = _whole()
    retires_at: int | None = _whole(optional=True)
    """NULL: it signs until it is replaced."""


class OutboxRow(SQLModel, table=True):
    """A change that a subscription is told of, or was. What it is told is read from the version when it is sent."""

    __tablename__: ClassVar[Any] = "outbox"
    __table_args__ = (
        CheckConstraint("(due_at IS NULL) = (outcome IS NOT NULL)", name="pending_has_wake_up"),
        CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="ended_says_when"),
        CheckConstraint(
            "outcome IS NULL OR outcome IN ('delivered', 'filtered', 'skipped', 'dead')", name="outcome_known"
        ),
        Index("ix_outbox_due", "subscription", "due_at", sqlite_where=text("due_at IS NOT NULL"),
              postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_outbox_pending", "subscription", "resource_id", "version", sqlite_where=text("due_at IS NOT NULL"),
              postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_outbox_leased", "subscription", "lease_until", sqlite_where=text("lease_until IS NOT NULL"),
              postgresql_where=text("lease_until IS NOT NULL")),
        Index("ix_outbox_dead", "subscription", "ended_at", sqlite_where=text("outcome = 'dead'"),
              postgresql_where=text("outcome = 'dead'")),
        Index("ix_outbox_ended", "ended_at", sqlite_where=text("ended_at IS NOT NULL"),
              postgresql_where=text("ended_at IS NOT NULL")),
        {"sqlite_with_rowid": False},
    )  # fmt: skip

    subscription: str = _words(key=True)
    resource_id: int = _whole(key=True)
    version: int = _whole(key=True)
    created_at: int = _whole()
    due_at: int | None = _whole(optional=True)
    attempts: int = _whole(default=0)
    first_tried_at: int | None = _whole(optional=True)
    lease_token: int = _whole(default=0)
    lease_until: int | None = _whole(optional=True)
    lease_owner: str | None = _words(optional=True)
    last_error: str | None = _words(optional=True)
    outcome: str | None = _words(optional=True)
    ended_at: int | None = _whole(optional=True)


class OutboxAttemptRow(SQLModel, table=True):
    """One request to a subscriber, with what came back: the log that both sides can compare."""

    __tablename__: ClassVar[Any] = "outbox_attempt"
    __table_args__ = (
        Index("ix_outbox_attempt_of", "subscription", "at"),
        Index("ix_outbox_attempt_at", "at"),
        Index("ix_outbox_attempt_resource", "resource_id"),
    )

    id: int | None = _identity()
    subscription: str = _words()
    resource_id: int = _whole()
    """0: a test event, which is about no resource."""
    version: int = _whole()
    message_id: str = _words()
    at: int = _whole()
    duration: int = _whole()
    """Microseconds."""
    status: int | None = _whole(optional=True)
    error: str = _words(default="")
    answer: bytes | None = _packed(optional=True)
    """The beginning of what the subscriber answered."""


metadata = SQLModel.metadata
