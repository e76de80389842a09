"""The values that cross every border in the project: what a resource is called and what a read of it said."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, Final, Self, TypeVar, dataclass_transform

import orjson

from reconciler.clock import require_utc
from reconciler.errors import BadReply
from reconciler.money import Money

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """A frozen dataclass with slots that only the type checker keeps frozen: for what is made for every delivery.

    A frozen one sets each field through `object.__setattr__`, which made the eight values of a delivery cost six times
    as much: 9 us of its 140.
    """
    own_hash = "__hash__" in cls.__dict__
    return dataclass(slots=True, unsafe_hash=not own_hash)(cls)


@dataclass_transform(frozen_default=True, order_default=True)
def ordered_value(cls: type[T]) -> type[T]:
    """The same for what can be sorted."""
    own_hash = "__hash__" in cls.__dict__
    return dataclass(slots=True, order=True, unsafe_hash=not own_hash)(cls)


@ordered_value
class ResourceRef:
    """One remote thing: `provider/account/kind/id`. The id may itself hold slashes; the others may not."""

    provider: str
    account: str
    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.account}/{self.kind}/{self.id}"

    def __hash__(self) -> int:
        """Of the id alone, which hardly two share: a page's refs are looked up twenty times each."""
        return hash(self.id)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, with the form that was expected."""
        parts = text.strip().split("/", 3)
        if len(parts) != 4 or not all(parts):
            raise ValueError(f"{text!r} is not a resource reference; write provider/account/kind/id, "
                             "for example stripe/main/payment_intent/pi_123")  # fmt: skip
        return cls(*parts)


class State(StrEnum):
    """What the last accepted read said; `unknown` until there was one."""

    UNKNOWN = "unknown"
    PRESENT = "present"
    DELETED = "deleted"


class Cause(StrEnum):
    """What first made us look: the honest origin of a version."""

    WEBHOOK = "webhook"
    SWEEP = "sweep"
    DEADLINE = "deadline"
    BACKFILL = "backfill"
    MANUAL = "manual"


class Priority(IntEnum):
    """Who goes first when reads are scarce; smaller is more urgent, and a mark only ever makes it more so."""

    LIVE = 0
    """Webhooks and deadlines: somebody is waiting for this one."""
    MANUAL = 1
    SWEEP = 2
    BACKFILL = 3


PRIORITY_OF: Mapping[Cause, Priority] = {
    Cause.WEBHOOK: Priority.LIVE,
    Cause.DEADLINE: Priority.LIVE,
    Cause.MANUAL: Priority.MANUAL,
    Cause.SWEEP: Priority.SWEEP,
    Cause.BACKFILL: Priority.BACKFILL,
}


@dataclass(frozen=True, slots=True)
class Window:
    """`since <= t < until`, UTC."""

    since: datetime
    until: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "since", require_utc(self.since))
        object.__setattr__(self, "until", require_utc(self.until))
        if self.until < self.since:
            raise ValueError(f"the window ends ({self.until}) before it begins ({self.since})")

    def __contains__(self, instant: datetime) -> bool:
        return self.since <= instant < self.until


# --- what comes in --------------------------------------------------------------------------------


@value
class Delivery:
    """One webhook request as received. A hint, never a fact."""

    account: str
    received_at: datetime
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    source: str = ""
    """The peer's address, for the audit row."""


@value
class Hint:
    """Names a resource that may have changed.

    `expected` is what the sender says became true, in the provider's own terms; a read that visibly shows it
    settles at once (`Provider.satisfied`). None means that nothing can be checked, so that only a read which
    starts after the settle window settles.
    """

    ref: ResourceRef
    expected: Mapping[str, Any] | None = None
    created_at: datetime | None = None
    """When the sender says that the resource was created: it helps to plan the read, and is never believed."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What must be forgotten of one resource: every stored body of it and of its parts (`kind/ID/...`), and the
    deliveries that named them. No kind and no id: everything that was stored of the account."""

    kind: str = ""
    id: str = ""


@value
class Notice:
    """What a verified delivery (or one row of the provider's event feed) says. No hints: a type we do not follow, or
    something of one that we do which has no state of its own here."""

    event_id: str
    type: str
    occurred_at: datetime | None
    hints: tuple[Hint, ...]
    redact: tuple[Redaction, ...] = ()
    """What the sender, in a person's name, wants to be forgotten."""
    nameless: bool = False
    """Of a type that we follow, and yet no object could be found in it: it does not look as we know it."""


# --- what a read says -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the provider said that a resource is.

    `status`, `created_at` and `updated_at` are read out of the body for queries (deadlines, open states,
    windows); they never order anything.
    """

    ref: ResourceRef
    body: Mapping[str, Any]
    status: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    api_version: str = ""
    volatile: frozenset[str] = frozenset()
    """Top-level fields that change without meaning; stored, but left out of the content hash."""
    related: tuple[ResourceRef, ...] = ()
    """Resources that this one names; whichever of them the ledger has never seen is marked."""
    affects: tuple[ResourceRef, ...] = ()
    """Resources whose own state changes when this one comes to be or changes (a refund's charge): where a sweep is
    the first to see this one, they are read again."""
    parts: tuple[ResourceRef, ...] = ()
    """Resources that belong to this one and are read by a request of their own (an order's transactions): whenever
    this one has changed, whoever saw it, they are read again."""
    part_of: ResourceRef | None = None
    """The resource without which this one does not exist (a refund's order)."""
    _hash: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    _canonical: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def content_hash(self) -> str:
        if not self._hash:
            bare = self.volatile.isdisjoint(self.body)
            self._hash.append(
                hashlib.sha256(self.canonical).hexdigest() if bare else content_hash(self.body, self.volatile)
            )
        return self._hash[0]

    @property
    def canonical(self) -> bytes:
        """The body as it is stored. Made once: a page's rows are hashed and then stored. Raises BadReply."""
        if not self._canonical:
            self._canonical.append(canonical(self.body))
        return self._canonical[0]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The provider said that the resource does not exist: a value like any other, kept as a version."""

    ref: ResourceRef
    reason: str = ""
    sees_since: datetime | None = None
    """The credentials see only what was created since then. For anything older, or of unknown age, "missing" is no
    evidence: "not looked at: scope". None: they see everything."""


Reading = Snapshot | Tombstone


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row of a list that the ledger cannot hold: it names nothing, or something else than what was listed."""

    said: str
    """What is wrong with it, for people."""
    created_at: datetime | None = None
    """As the row itself says, where it can be read."""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a list, and where the next one starts. Its rows are as authoritative as single reads."""

    rows: tuple[Snapshot, ...]
    cursor: str | None
    """None: this was the last page."""
    along: tuple[Snapshot, ...] = ()
    """Resources of other kinds that the same answer carried (an order's refunds), as authoritative as the rows."""
    reach: datetime | None = None
    """How far back in creation time these credentials let the list go; None: to the beginning."""
    broken: tuple[BrokenRow, ...] = ()
    """Rows of the same answer beside those: what one of them hides is not looked at, and keeps no other from being."""


@dataclass(frozen=True, slots=True)
class NoticePage:
    """One answer of the provider's own event feed."""

    notices: tuple[Notice, ...]
    cursor: str | None


# --- what finance reads ---------------------------------------------------------------------------


LONGEST_WORD: Final = 255
"""Characters of a name that entries are found by: Postgres indexes no row of more than 2,704 bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One money line read out of a snapshot; a pure function of the version that it came from."""

    ref: ResourceRef
    balance_type: str
    """Which of the account's balances moves: `payments`, `risk_reserved`, ..."""
    category: str
    """The provider's reporting category, unknown ones included."""
    gross: Money
    fee: Money
    """Positive when charged, negative when returned."""
    net: Money
    effective_at: datetime
    available_on: datetime | None = None
    source_id: str | None = None
    payout_id: str | None = None
    fee_details: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        if self.gross - self.fee != self.net:
            raise ValueError(f"{self.ref}: gross {self.gross.minor} - fee {self.fee.minor} is not net {self.net.minor}")
        for said in (self.balance_type, self.category, self.source_id or "", self.payout_id or ""):
            if len(said) > LONGEST_WORD:
                raise ValueError(f"{self.ref}: {said[:40]!r}... has {len(said)} characters, and no index holds that")


@dataclass(frozen=True, slots=True)
class ControlTotal:
    """A balance that the provider states by another path than our entries. Never computed from them."""

    account: str
    balance_type: str
    amount: Money
    as_at: datetime


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know, with what to do about it. A row, not an exception."""

    code: str
    severity: Severity
    account: str
    text: str
    remedy: str
    subject: str = ""
    """What it is about (a kind, an endpoint), so that the same finding about two subjects is two findings."""


# --- canonical form -------------------------------------------------------------------------------


def canonical(body: Mapping[str, Any]) -> bytes:
    """The one byte form of a JSON object: keys sorted, no white space, UTF-8. Raises BadReply for what has none: only
    a quarter of the levels that orjson reads can be written again."""
    try:
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise BadReply(f"the body is nested too deep to be kept, or holds what is no JSON: {error}") from error


def content_hash(body: Mapping[str, Any], volatile: frozenset[str] = frozenset()) -> str:
    """SHA-256 of the canonical JSON without the volatile fields, in hex."""
    if volatile and not volatile.isdisjoint(body):
        body = {name: value for name, value in body.items() if name not in volatile}
    return hashlib.sha256(canonical(body)).hexdigest()


def changed_fields(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[str]:
    """Dotted paths of what differs, sorted; lists are compared as wholes, and so is what lies below a path of more than
    255 characters: it would be repeated before each of its fields. A whole object that came or went is `*`."""
    if before is None or after is None:
        return [] if before is after else ["*"]
    paths: list[str] = []
    _collect_changes(before, after, "", paths)
    return sorted(paths)


def _collect_changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str, paths: list[str]) -> None:
    for name in before.keys() | after.keys():
        old, new = before.get(name, ABSENT), after.get(name, ABSENT)
        if old == new and type(old) is type(new):
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping) and len(prefix) + len(name) <= _LONGEST_PATH:
            _collect_changes(old, new, f"{prefix}{name}.", paths)
            continue
        paths.append(f"{prefix}{name}")


ABSENT = object()
_LONGEST_PATH: Final = 255


def at_path(body: object, path: str) -> Any:
    """What stands at a dotted path; ABSENT: nothing. A name may itself hold dots, so the longest one that fits is
    taken."""
    while isinstance(body, Mapping):
        if path in body:
            return body[path]
        name = max((each for each in body if path.startswith(f"{each}.")), key=len, default=None)
        if name is None:
            break
        body, path = body[name], path[len(name) + 1 :]
    return ABSENT
