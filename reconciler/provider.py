"""The port: what the core asks of a provider, and what it promises in return.

A provider is one folder under `providers/` (or any importable package) and one object per account. It never
retries, sleeps, logs, spends budget on its own, or touches the ledger: the worker does all of that around it, the
same way for everyone. `reconciler.testing.check_provider` says whether an implementation keeps its side.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, IPvAnyNetwork, SecretStr

from reconciler.clock import Clock
from reconciler.errors import BadReply, Unavailable
from reconciler.model import (
    ControlTotal,
    Delivery,
    Entry,
    Finding,
    Notice,
    NoticePage,
    Page,
    Reading,
    ResourceRef,
    Snapshot,
    Window,
)
from reconciler.money import Exponents

# --- what an account's configuration looks like ---------------------------------------------------


class SecretMarker:
    """Marks a configuration field whose text must be `env:NAME` or `file:/path`; the loader resolves it."""


Secret = Annotated[SecretStr, SecretMarker()]
"""A credential. In the file it is only ever a pointer; in memory it prints as asterisks."""


def shaped(pattern: str, words: str) -> AfterValidator:
    """A text of this form; what it says otherwise begins with "expected" and goes on with these words."""
    form = re.compile(pattern)

    def check(text: str) -> str:
        if not form.fullmatch(text):
            raise ValueError(f"expected {words}")
        return text

    return AfterValidator(check)


def network(text: object) -> str:
    """Raises ValueError for what is no network, a number among it."""
    try:
        return str(ipaddress.ip_network(text if isinstance(text, str) else ""))
    except ValueError as error:
        raise ValueError(f'expected a network such as "10.0.0.0/8" ({error})') from None


def _no_truth(value: object) -> object:
    """In TOML `true` is no number; in Python it is 1."""
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    return value


Whole = Annotated[int, BeforeValidator(_no_truth)]
Number = Annotated[float, BeforeValidator(_no_truth)]


class ProviderSettings(BaseModel):
    """What `[accounts.NAME]` may hold; every provider extends it. Unknown keys stop the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: str
    """`stripe`, `shopify`, or `package.module:Class` for one from outside the repository."""
    webhook_secrets: tuple[Secret, ...] = ()
    """All secrets a delivery may be signed with; several while one is being rotated."""
    webhook_url: (
        Annotated[str, shaped(r"https?://[^\s/?#]+\S*", 'an address such as "https://pay.example.com/webhooks/..."')]
        | None
    ) = None
    """The address at which the provider reaches this receiver, for the subscription watch; None: matched by path."""
    deliveries_per_second: Whole = Field(default=0, ge=0)
    """Accepted deliveries of this account; beyond it 429, and the provider comes back. 0: no limit."""
    allowed_sources: tuple[Annotated[IPvAnyNetwork, BeforeValidator(network)], ...] = ()
    """The only networks that deliveries are taken from; none: any, because the signature says who sent them."""
    monthly_reads: Whole | None = Field(default=None, ge=1)
    """The provider's read allocation over 30 days, where there is one; sweeps are planned inside it."""

    @property
    def source(self) -> str | None:
        """What is read, as far as the settings tell: of two accounts with one source everything would be counted twice.
        May hold a secret, so it is compared and never shown. None: they do not tell."""
        return None


# --- HTTP, as a provider sees it ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """Any status at all: what it means is the provider's to say."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes


def json_object(reply: Reply, what: str) -> Mapping[str, Any]:
    """The answer's body, where it is a JSON object; `what` names the question in the errors.

    Raises Unavailable for an answer that was cut off on its way, BadReply for anything else that is no JSON object.
    """
    try:
        body = orjson.loads(reply.content)
    except orjson.JSONDecodeError as error:
        if _is_cut_off(reply.content, error):
            raise Unavailable(f"{what}: the answer ends too early ({len(reply.content)} bytes)") from error
        raise BadReply(f"{what}: the answer is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadReply(f"{what}: the answer is not a JSON object")
    return body


def _is_cut_off(content: bytes, error: orjson.JSONDecodeError) -> bool:
    """Whether JSON began and its end is missing, as a proxy that gave up leaves it; a web page is something else."""
    text = content.strip()
    if not text:
        return True
    return text[:1] in (b"{", b"[") and (error.pos >= len(error.doc.rstrip()) or text[-1:] not in (b"}", b"]"))


class Transport(Protocol):
    """Sends one request, once, following no redirect. Raises `Unavailable` when no complete answer arrived in time."""

    async def send(self, request: Request) -> Reply: ...


# --- tokens that end ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Token:
    """A credential that ends, and what brings the next one."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False, default=None)
    """Where each renewal brings another one, this is good for one more renewal only."""
    expires_at: datetime | None = None
    """None: it does not end by itself."""
    scope: str = ""
    """What it allows, in the provider's own words."""


Renewal = Callable[[Token | None], Awaitable[Token]]
"""Asks the provider for the token after this one; None: for the first."""


class TokenStore(Protocol):
    """Keeps one account's token, for every process that reads for the account."""

    async def current(self) -> Token | None:
        """The token that was kept last, fresh or not."""

    async def renew(self, seen: Token | None, renewal: Renewal) -> Token:
        """The token after `seen`: brought by `renewal`, and kept before anybody gets it; or one that was kept since.

        Only one process at a time renews. Raises `Unavailable` while another one does, and when the token cannot be
        kept: a token that only memory holds must not be used, because its use ends the one before it.
        """


@runtime_checkable
class UsesTokens(Protocol):
    """What a provider has besides `Provider` where its credentials end: whoever makes it hands it a store."""

    @property
    def rotates(self) -> bool:
        """Whether this account's tokens must be kept. Without a store its requests are then refused."""

    def keep_tokens(self, store: TokenStore) -> None:
        """Called once, before the first request."""


@runtime_checkable
class Counts(Protocol):
    """What a provider has besides `Provider` where it can say how many there are, without listing them."""

    counted: ClassVar[frozenset[str]]
    """The kinds that it counts by time of creation."""

    def counts_from(self, kind: str) -> datetime | None:
        """How far back these credentials let it count; None: to the beginning. Makes no request."""

    async def count(self, kind: str, window: Window) -> int | None:
        """How many resources of a kind were created in a window that begins and ends at whole seconds.

        None: more than it counts exactly.
        """

    async def created(self, kind: str, window: Window, cursor: str | None) -> Page:
        """One page of those that `count` counts, as authoritative as `page`. May name too many; never too few."""


# --- kinds ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeadlineRule:
    """A resource of `kind` still in one of `states` this long after its creation must be looked at and reported."""

    kind: str
    states: frozenset[str]
    after: timedelta


@dataclass(frozen=True, slots=True)
class Limit:
    """A published request limit: `rate` requests per second on average, `burst` at once."""

    rate: float
    burst: int


FEED = "event"
"""The provider's own feed, as something that has a budget and can be gated like any kind."""

ACCOUNT_LIMIT = ""
"""The name under which a provider publishes the limit over all of an account's endpoints."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one sort of resource is read. Limits and costs are the provider's published ones."""

    name: str
    endpoint: str
    """Budget name of the single read; reads that share a limit at the provider share this name."""
    list_endpoint: str | None = None
    """Budget name of the list; None: this kind cannot be listed, so a sweep cannot cover it."""
    id_batch: int = 1
    """How many ids one read may name."""
    batch_reaches: bool = True
    """Whether an answer for a batch has looked for all of it. Else what it leaves out may only lie beyond its end, and
    is asked for in another batch, as long as each of them shows something."""
    page_size: int = 100
    windowed: bool = True
    """Whether the list can be narrowed to a window of creation (or update) time."""
    newest_first: bool = False
    """Whether the list begins with what was created last, its window is one of creation, and a cursor is a place in it
    also when the window is narrowed to one that still holds this place. A long one is then read in several stretches
    at once."""
    settle: timedelta = timedelta(seconds=5)
    """How long the provider's read side may lag behind its webhooks."""
    open_states: frozenset[str] = frozenset()
    """Statuses that are not final: re-read with decaying cadence until they are."""
    deletable: bool = False
    """Whether a resource of this kind can cease to exist, so that complete lists are compared with what we know."""
    in_feed: bool = True
    """Whether the provider's event feed names changes of this kind."""
    expected_by: timedelta = timedelta(minutes=5)
    """When an application expects a resource of this kind, how long it may take until it is confirmed."""
    deadlines: tuple[DeadlineRule, ...] = ()
    """Rules that hold unless the configuration says otherwise for this kind."""
    singleton: str | None = None
    """The id of the one resource of this kind that every account has (a balance); it is read on a timetable."""
    gather: timedelta = timedelta(0)
    """How long the first one due waits for company. For kinds of which one request reads many, from providers that
    allow few: a burst then costs full batches."""
    window_of_changes: bool = False
    """The list's window is one of update time: it also names old resources that changed, so that it is no short cut
    to resources of one time of creation."""
    covers: tuple[str, ...] = ()
    """Kinds without a list of their own whose resources come along with this one's or are its parts: where this list
    was looked at, so were they. Their ids are this one's or begin with it and a slash; if it is gone, they are read."""
    kept_when_redacted: frozenset[str] | None = frozenset()
    """Fields that hold nobody's data and survive when a person asks to be forgotten (amounts, states, ids), with dots
    for those inside others; None: no body of this kind holds any. Nothing survives unless it is named."""
    words_kept_when_redacted: re.Pattern[str] | None = None
    """Of the fields that do not survive, the strings anywhere inside that match wholly do, where they stand: another
    system's ids, by which money is matched. Nobody's name may match."""
    forgotten_with: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The kinds whose redaction reaches resources of this one, and where in their bodies that id stands: for those that
    a person's request does not name itself."""
    has_members: bool = False
    """Whether `Provider.members` lists what belongs to a resource of this kind (a payout's balance transactions)."""

    @property
    def named_states(self) -> frozenset[str]:
        """The statuses that the provider's module names: not all that there may be, for final ones need no name."""
        return self.open_states.union(*(rule.states for rule in self.deadlines))


# --- the provider ---------------------------------------------------------------------------------


class Provider(Protocol):
    """One account at one provider. Every method that reads makes exactly one request per call unless it says otherwise.

    Reads raise `Unavailable`, `Throttled`, `AccessDenied`, `OutOfSight` or `BadReply`, whose class is the policy.
    """

    name: ClassVar[str]
    settings: ClassVar[type[ProviderSettings]]
    kinds: ClassVar[Mapping[str, Kind]]
    exponents: ClassVar[Exponents]

    @property
    def limits(self) -> Mapping[str, Limit]:
        """Request limits by endpoint name, and under ACCOUNT_LIMIT the one over all of them."""

    def __init__(self, account: str, settings: Any, transport: Transport, clock: Clock) -> None: ...

    def verify(self, delivery: Delivery) -> Notice:
        """Check the signature, then say what the delivery names. An unknown type is a notice without hints.

        Pure; nothing in the body is believed. Raises `SignatureRejected`, then `MalformedDelivery`.
        """

    def satisfied(self, expected: Mapping[str, Any], reading: Reading) -> bool:
        """Whether a read visibly shows what a hint announced. Pure; False whenever in doubt."""

    async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
        """The authoritative state of up to `id_batch` resources of one kind: one reading for each of `refs`.

        May hold further snapshots that the same answer carried. Of several refs it may leave out those that the
        answer did not hold: each is then asked for alone, and that must say what became of it. A tombstone only
        where the provider said that the resource does not exist, to credentials that would have seen it (or which
        see it from `sees_since` on); else `OutOfSight`.
        """

    async def page(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        """One page of the complete list (every default filter off), newest or oldest first; None: no window.

        May name too many; must never name too few.
        """

    async def members(self, snapshot: Snapshot, cursor: str | None) -> Page | None:
        """One page of what belongs to a resource (a payout's balance transactions).

        None, without a request, where the snapshot says that they cannot be listed, or not yet.
        """

    feed_reach: ClassVar[timedelta | None]
    """How far back the provider's own event feed goes; None where it has none."""

    async def changes(self, window: Window, cursor: str | None) -> NoticePage:
        """One page of the provider's own event feed. Called only where `feed_reach` says that there is one."""

    def entries(self, snapshot: Snapshot) -> Sequence[Entry]:
        """The money lines of one snapshot. Pure: rebuilding them changes nothing."""

    def control_totals(self, snapshot: Snapshot, as_at: datetime) -> Sequence[ControlTotal]:
        """The balances that a snapshot states, `as_at` the instant its read began. Pure; empty for most kinds."""

    async def findings(self) -> Sequence[Finding]:
        """What is wrong with the account itself: permissions, subscriptions, versions. May make several requests."""

    async def repair_subscriptions(self) -> Sequence[str]:
        """Mend what `findings` said of subscriptions, on request only; one line for each thing done."""
