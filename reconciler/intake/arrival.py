"""One webhook request from its head to its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import structlog

from reconciler.clock import Clock
from reconciler.errors import DeliveryRejected, LedgerSaturated, LedgerUnavailable, MalformedDelivery, SignatureRejected
from reconciler.intake.asgi import answer_json
from reconciler.intake.exchange import Head, Reply
from reconciler.intake.limits import AuditAllowance, IntakeLimits, SourceRate
from reconciler.intake.metrics import AccountMeter
from reconciler.intake.patience import Patience
from reconciler.intake.refusals import Refusal, Refused, too_many
from reconciler.intake.sources import Networks, Proxies
from reconciler.ledger.deliveries import REJECTED_BODY_BYTES, Receipt, Rejection, Verdict
from reconciler.ledger.marks import Mark, mark_of
from reconciler.ledger.writer import GroupCommit
from reconciler.model import Cause, Delivery, Notice
from reconciler.provider import Provider

_TEXT_LIMIT = 255
"""Characters of an event id, a type or a resource id. Providers stay far below; an index entry must stay small."""

_USUAL_TYPES = frozenset({"application/json", "application/json; charset=utf-8"})

_ACCEPTED = answer_json(200, {"received": True})

Done = Callable[[Verdict | None, BaseException | None], None]
Following = Callable[[Receipt, Done], Done]

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Door:
    """One account's address, and what is the same for each of its deliveries. No provider: the unknown account's."""

    account: str
    provider_name: str
    provider: Provider | None
    allowance: AuditAllowance
    meter: AccountMeter
    rate: SourceRate | None = None
    """Of accepted deliveries, whoever sends them; None: as many as come."""
    senders: Networks | None = None
    """The only ones who may send here; None: anybody may."""


@dataclass(slots=True)
class Shared:
    """What all requests of one intake share."""

    ledger: GroupCommit
    clock: Clock
    limits: IntakeLimits
    rate: SourceRate | None
    proxies: Proxies | None
    patience: Patience
    following: Following | None = None
    """Traces a delivery: is told of it before its commit, and calls what it was given after."""
    held: int = 0
    """Bytes of bodies in memory."""


class Arrival:
    """An exchange (`reconciler.intake.exchange`). Its steps run one after the other on the event loop, without waiting:

    head, body, verification, then the commit, whose end answers. Whatever fails answers and is noted, once.
    """

    __slots__ = (
        "_began",
        "_body",
        "_done",
        "_door",
        "_headers",
        "_held",
        "_method",
        "_path",
        "_received_at",
        "_reply",
        "_shared",
        "_size",
        "_source",
        "_storing",
    )

    def __init__(self, door: Door, head: Head, reply: Reply, shared: Shared) -> None:
        self._door = door
        self._reply = reply
        self._shared = shared
        self._method = head.method
        self._path = head.path
        self._headers = _headers(head.headers)
        proxies = shared.proxies
        self._source = (
            head.source if proxies is None else proxies.source(head.source, self._headers.get("x-forwarded-for"))
        )
        self._received_at = shared.clock.now()
        self._began = shared.clock.monotonic()
        self._body: bytes | bytearray = b""
        """As it arrived where that was in one piece; else an array, as a million chunks must not be a list."""
        self._size = 0
        """Bytes of the body as received, or as announced where it was not read."""
        self._held = 0
        """How much of `Shared.held` this request accounts for."""
        self._storing = False
        self._done = False

    # --- what the server tells --------------------------------------------------------------------

    def begin(self) -> None:
        try:
            self._check_head()
        except Refused as refused:
            self._refuse(refused)
            return
        self._size = 0
        self._shared.patience.watch(self, self._shared.limits.body_seconds)

    def body(self, part: bytes) -> None:
        if self._done:
            return
        try:
            self._hold(part)
        except Refused as refused:
            self._refuse(refused)

    def complete(self) -> None:
        if self._done:
            return
        self._storing = True
        try:
            receipt, following = self._receipt(), self._shared.following
            done = self._settled if following is None else following(receipt, self._settled)
            self._shared.ledger.submit(receipt, done)
        except Refused as refused:
            self._refuse(refused)
            return
        except Exception as error:
            self._failed(error)
            return
        self._shared.patience.watch(self, self._shared.limits.store_seconds)

    def lost(self) -> None:
        """A delivery that arrived whole is stored all the same."""
        if not self._storing:
            self._refuse(Refused(Refusal.DISCONNECTED))

    def stop(self) -> None:
        self._refuse(Refused(Refusal.STOPPING))

    def overdue(self) -> None:
        self._refuse(Refused(Refusal.UNAVAILABLE if self._storing else Refusal.TOO_SLOW))

    # --- taking -----------------------------------------------------------------------------------

    def _check_head(self) -> None:
        """What can be refused before any of the body is read."""
        shared = self._shared
        announced = self._headers.get("content-length")
        self._size = int(announced) if announced is not None else 0
        if shared.rate is not None:
            wait_seconds = shared.rate.wait_for(self._source, self._began)
            if wait_seconds:
                raise too_many(wait_seconds, unread=True)
        if self._door.provider is None:
            raise Refused(Refusal.UNKNOWN_ACCOUNT)
        if self._door.senders is not None and not self._door.senders.holds(self._source):
            raise Refused(Refusal.ADDRESS)
        if self._method != "POST":
            raise Refused(Refusal.METHOD)
        # No content type at all is allowed: the signature says who made the body, and the body whether it is JSON.
        content_type = self._headers.get("content-type", "application/json")
        if content_type not in _USUAL_TYPES and not _is_json(content_type):
            raise Refused(Refusal.CONTENT_TYPE)
        if self._size > shared.limits.body_bytes:
            raise Refused(Refusal.TOO_LARGE)

    def _hold(self, part: bytes) -> None:
        """The body in bounded memory: of this request, and of all together."""
        shared = self._shared
        self._size += len(part)
        if not self._body:
            self._body = part
        elif isinstance(self._body, bytearray):
            self._body += part
        else:
            self._body = bytearray(self._body) + part
        if self._size > shared.limits.body_bytes:
            raise Refused(Refusal.TOO_LARGE)
        if shared.held + len(part) > shared.limits.held_bytes:
            raise Refused(Refusal.CROWDED)
        shared.held += len(part)
        self._held += len(part)

    def _receipt(self) -> Receipt:
        """Raises Refused: 401 for the signature, 400 for what was signed, 429 for too much of it."""
        door = self._door
        assert door.provider is not None, "the unknown account was refused before"
        delivery = Delivery(door.account, self._received_at, self._headers, bytes(self._body), self._source)
        try:
            notice = door.provider.verify(delivery)
            _check_text(notice)
        except SignatureRejected as error:
            raise Refused(Refusal.SIGNATURE, error.reason) from error
        except DeliveryRejected as error:
            raise Refused(Refusal.MALFORMED, error.reason) from error
        if door.rate is not None:
            wait_seconds = door.rate.wait_for("", self._began)
            if wait_seconds:
                raise too_many(wait_seconds, unread=False)
        return Receipt(
            provider=door.provider_name,
            delivery=delivery,
            event_id=notice.event_id,
            type=notice.type,
            occurred_at=notice.occurred_at,
            marks=_marks(door.provider, notice),
            redact=notice.redact,
            nameless=notice.nameless,
        )

    # --- ending -----------------------------------------------------------------------------------

    def _settled(self, verdict: Verdict | None, error: BaseException | None) -> None:
        """After the commit, or instead of it."""
        if self._done:
            return
        if error is not None or verdict is None:
            self._failed(error)
            return
        self._end()
        self._reply(_ACCEPTED)
        self._door.meter.count(verdict.value, "", self._shared.clock.monotonic() - self._began)

    def _failed(self, error: BaseException | None) -> None:
        """Answered before it is logged, and then whatever happens to the log: no log line may cost an answer."""
        if isinstance(error, LedgerSaturated):
            self._refuse(Refused(Refusal.SATURATED))
            return
        account, path = self._door.account, self._path[:_TEXT_LIMIT]
        if isinstance(error, LedgerUnavailable):
            self._refuse(Refused(Refusal.UNAVAILABLE))
            with suppress(Exception):
                log.warning("delivery not stored", account=account, error=str(error))
            return
        # A fault of ours must not cost the delivery: 503 has the provider send it again, a 2xx or a 4xx would not.
        self._refuse(Refused(Refusal.FAULT))
        with suppress(Exception):
            log.error("delivery failed", account=account, path=path, exc_info=error)

    def _refuse(self, refused: Refused) -> None:
        if self._done:
            return
        self._end()
        self._reply(refused.answer)
        now = self._shared.clock.monotonic()
        self._shared.ledger.reject(self._rejection(refused.reason, audited=self._door.allowance.take(now)))
        self._door.meter.count(Verdict.REJECTED.value, refused.refusal.reason, now - self._began)

    def _end(self) -> None:
        self._done = True
        self._shared.patience.release(self)
        self._shared.held -= self._held

    def _rejection(self, reason: str, *, audited: bool) -> Rejection:
        """Cut to what is kept, because rejections wait in memory; nothing at all where it is only counted."""
        headers: Mapping[str, str] = {}
        body = b""
        if audited:
            # The path says which address a misconfigured sender believes to be ours.
            headers = _cut({":path": self._path, **self._headers}, self._shared.limits.header_bytes)
            body = bytes(self._body[:REJECTED_BODY_BYTES])
        self._body = b""
        delivery = Delivery(self._door.account, self._received_at, headers, body, self._source)
        return Rejection(self._door.provider_name, delivery, reason, self._size, audited)


# --- reading a request ------------------------------------------------------------------------------


def _headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Names in lower case. A repeated header is joined with a comma, as HTTP has it."""
    headers = {_lower(name): value.decode("latin-1") for name, value in raw}
    if len(headers) == len(raw):
        return headers
    headers.clear()
    for name_bytes, value_bytes in raw:
        name, value = _lower(name_bytes), value_bytes.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


@lru_cache(maxsize=128)
def _lower(name: bytes) -> str:
    return name.decode("latin-1").lower()


def _cut(headers: Mapping[str, str], limit: int) -> dict[str, str]:
    """The first headers that fit into `limit` characters, the last of them shortened."""
    kept: dict[str, str] = {}
    for name, value in headers.items():
        limit -= len(name)
        if limit <= 0:
            break
        kept[name] = value[:limit]
        limit -= len(value)
    return kept


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


# --- what a delivery says -------------------------------------------------------------------------


def _marks(provider: Provider, notice: Notice) -> tuple[Mark, ...]:
    """One for each hint. A hint of a kind that the provider cannot read is dropped: there is nothing to look at."""
    kinds = provider.kinds
    return tuple(
        [mark_of(hint, Cause.WEBHOOK, kinds[hint.ref.kind].settle) for hint in notice.hints if hint.ref.kind in kinds]
    )


def _check_text(notice: Notice) -> None:
    """Text that both databases can store and index. Postgres refuses NUL, and UTF-8 has no lone surrogates."""
    texts = [notice.event_id, notice.type, *[hint.ref.id for hint in notice.hints]]
    joined = "".join(texts)
    if len(joined) <= _TEXT_LIMIT and joined.isascii() and "\0" not in joined:
        return  # the usual case
    for text in texts:
        if len(text) > _TEXT_LIMIT or "\0" in text or not (text.isascii() or _is_unicode(text)):
            raise MalformedDelivery("text", "an id or a type holds NUL, half a character, or more than 255 characters")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
