"""The receiver of webhooks: verify, write, answer. Nothing else happens before the 2xx.

A delivery is a hint. Its body is never believed, only kept for audit; what it names is marked dirty in the same
commit as the delivery's row, and the 2xx follows that commit. Everything slow comes later, somewhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from reconciler.clock import Clock
from reconciler.errors import DeliveryRejected, LedgerSaturated, LedgerUnavailable, MalformedDelivery, SignatureRejected
from reconciler.intake.asgi import Receive, Scope, Send, answer_json
from reconciler.intake.limits import AuditAllowance, IntakeLimits, SourceRate
from reconciler.intake.metrics import AccountMeter, IntakeMetrics
from reconciler.intake.patience import Patience
from reconciler.intake.refusals import Refusal, Refused, too_many
from reconciler.ledger.deliveries import REJECTED_BODY_BYTES, Receipt, Rejection, Verdict
from reconciler.ledger.marks import Mark, mark_of
from reconciler.ledger.writer import GroupCommit
from reconciler.model import Cause, Delivery, Notice
from reconciler.provider import Provider

PREFIX = "/webhooks/"

UNKNOWN = "(unknown)"
"""The account that requests to unknown addresses are noted under: one bucket, whatever they were called."""

_TEXT_LIMIT = 255
"""Characters of an event id, a type or a resource id. Providers stay far below; an index entry must stay small."""

_ACCEPTED = answer_json(200, {"received": True})

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Door:
    """One account's address, and what is the same for each of its deliveries. No provider: the unknown account's."""

    account: str
    provider_name: str
    provider: Provider | None
    allowance: AuditAllowance
    meter: AccountMeter


@dataclass(slots=True)
class _Arrival:
    """One request while it is looked at: what its audit row needs, as far as it is known yet."""

    received_at: datetime
    path: str
    source: str
    headers: dict[str, str]
    body: bytes = b""
    size: int = 0
    """Bytes of the body as received, or as announced where it was not read."""
    overdue: Refusal = Refusal.TOO_SLOW
    """What it means if this request is ended now for taking too long."""
    held: int = field(default=0)
    """How much of `Intake._held` this request accounts for."""


class Intake:
    """An ASGI callable for `POST /webhooks/{provider}/{account}`; every path below `/webhooks/` is its own.

    `ledger.on_marked` tells whoever wants to claim that there is work. Answers and audit reasons: `Refusal`.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        ledger: GroupCommit,
        clock: Clock,
        metrics: IntakeMetrics,
        limits: IntakeLimits = IntakeLimits(),  # noqa: B008 - frozen, so sharing the default is safe
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._limits = limits
        rate = limits.requests_per_second
        self._rate = None if rate is None else SourceRate(rate, sources=limits.sources)
        self._patience = Patience()
        self._held = 0
        self._doors = {
            f"{PREFIX}{provider.name}/{account}": self._door(account, provider.name, provider, metrics)
            for account, provider in providers.items()
        }
        self._nowhere = self._door(UNKNOWN, UNKNOWN, None, metrics)

    def _door(self, account: str, provider_name: str, provider: Provider | None, metrics: IntakeMetrics) -> _Door:
        return _Door(
            account, provider_name, provider, AuditAllowance(self._limits.audited_per_minute), metrics.of(account)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers every request. Raises only what `send` raises, and CancelledError."""
        began = self._clock.monotonic()
        door = self._doors.get(scope["path"], self._nowhere)
        arrival = _Arrival(self._clock.now(), scope["path"], _peer(scope), _headers(scope["headers"]))
        task = asyncio.current_task()
        assert task is not None, "ASGI servers run each request in a task"
        try:
            verdict = await self._take(door, arrival, scope["method"], receive, task)
        except Refused as refused:
            await self._refuse(door, arrival, refused, began, send)
            return
        except asyncio.CancelledError:
            if self._patience.ended(task):
                await self._refuse(door, arrival, Refused(arrival.overdue), began, send)
                return
            await self._refuse(door, arrival, Refused(Refusal.STOPPING), began, send)
            raise
        except Exception:
            # A fault of ours must not cost the delivery: 503 has the provider send it again, a 2xx or a 4xx would not.
            log.exception("delivery failed", account=door.account, path=arrival.path[:_TEXT_LIMIT])
            await self._refuse(door, arrival, Refused(Refusal.FAULT), began, send)
            return
        finally:
            self._patience.release(task)
            self._held -= arrival.held
        door.meter.count(verdict.value, "", self._clock.monotonic() - began)
        await _ACCEPTED.send(send)

    # --- taking -----------------------------------------------------------------------------------

    async def _take(
        self, door: _Door, arrival: _Arrival, method: str, receive: Receive, task: asyncio.Task[object]
    ) -> Verdict:
        """The verdict, after the commit. Raises Refused."""
        self._check_head(door, arrival, method)
        self._patience.watch(task, self._limits.body_seconds)
        await self._read(arrival, receive)
        receipt = _receipt(door, arrival)
        arrival.overdue = Refusal.UNAVAILABLE
        self._patience.watch(task, self._limits.store_seconds)
        try:
            return await self._ledger.receive(receipt)
        except LedgerSaturated as error:
            raise Refused(Refusal.SATURATED) from error
        except LedgerUnavailable as error:
            log.warning("delivery not stored", account=door.account, error=str(error))
            raise Refused(Refusal.UNAVAILABLE) from error

    def _check_head(self, door: _Door, arrival: _Arrival, method: str) -> None:
        """What can be refused before any of the body is read."""
        announced = arrival.headers.get("content-length")
        arrival.size = int(announced) if announced is not None else 0
        if self._rate is not None:
            wait_seconds = self._rate.wait_for(arrival.source, self._clock.monotonic())
            if wait_seconds:
                raise too_many(wait_seconds)
        if door.provider is None:
            raise Refused(Refusal.UNKNOWN_ACCOUNT)
        if method != "POST":
            raise Refused(Refusal.METHOD)
        # No content type at all is allowed: the signature says who made the body, and the body whether it is JSON.
        content_type = arrival.headers.get("content-type", "application/json")
        if content_type != "application/json" and not _is_json(content_type):
            raise Refused(Refusal.CONTENT_TYPE)
        if arrival.size > self._limits.body_bytes:
            raise Refused(Refusal.TOO_LARGE)

    async def _read(self, arrival: _Arrival, receive: Receive) -> None:
        """The whole body into `arrival`, in bounded memory."""
        arrival.size = 0
        parts: list[bytes] = []
        more = True
        try:
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused(Refusal.DISCONNECTED)
                part: bytes = message.get("body", b"")
                more = message.get("more_body", False)
                arrival.size += len(part)
                parts.append(part)
                self._hold(arrival, len(part))
        finally:
            arrival.body = parts[0] if len(parts) == 1 else b"".join(parts)

    def _hold(self, arrival: _Arrival, size: int) -> None:
        if arrival.size > self._limits.body_bytes:
            raise Refused(Refusal.TOO_LARGE)
        if self._held + size > self._limits.held_bytes:
            raise Refused(Refusal.CROWDED)
        self._held += size
        arrival.held += size

    # --- refusing ---------------------------------------------------------------------------------

    async def _refuse(self, door: _Door, arrival: _Arrival, refused: Refused, began: float, send: Send) -> None:
        now = self._clock.monotonic()
        self._ledger.reject(self._rejection(door, arrival, refused.reason, audited=door.allowance.take(now)))
        door.meter.count(Verdict.REJECTED.value, refused.refusal.reason, now - began)
        await refused.answer.send(send)

    def _rejection(self, door: _Door, arrival: _Arrival, reason: str, *, audited: bool) -> Rejection:
        """Cut to what is kept, because rejections wait in memory; nothing at all where it is only counted."""
        headers: Mapping[str, str] = {}
        body = b""
        if audited:
            # The path says which address a misconfigured sender believes to be ours.
            headers = _cut({":path": arrival.path, **arrival.headers}, self._limits.header_bytes)
            body = arrival.body[:REJECTED_BODY_BYTES]
        delivery = Delivery(door.account, arrival.received_at, headers, body, arrival.source)
        return Rejection(door.provider_name, delivery, reason, arrival.size, audited)


# --- reading a request ------------------------------------------------------------------------------


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Names come in lower case (ASGI). A repeated header is joined with a comma, as HTTP has it."""
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1"), value_bytes.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


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


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


# --- what a delivery says -------------------------------------------------------------------------


def _receipt(door: _Door, arrival: _Arrival) -> Receipt:
    """Raises Refused: 401 for the signature, 400 for what was signed."""
    assert door.provider is not None, "the unknown account was refused before"
    delivery = Delivery(door.account, arrival.received_at, arrival.headers, arrival.body, arrival.source)
    try:
        notice = door.provider.verify(delivery)
        _check_text(notice)
    except SignatureRejected as error:
        raise Refused(Refusal.SIGNATURE, error.reason) from error
    except DeliveryRejected as error:
        raise Refused(Refusal.MALFORMED, error.reason) from error
    return Receipt(
        provider=door.provider_name,
        delivery=delivery,
        event_id=notice.event_id,
        type=notice.type,
        occurred_at=notice.occurred_at,
        marks=_marks(door.provider, notice),
        redact=notice.redact,
    )


def _marks(provider: Provider, notice: Notice) -> tuple[Mark, ...]:
    """One for each hint. A hint of a kind that the provider cannot read is dropped: there is nothing to look at."""
    kinds = provider.kinds
    return tuple(
        mark_of(hint, Cause.WEBHOOK, kinds[hint.ref.kind].settle) for hint in notice.hints if hint.ref.kind in kinds
    )


def _check_text(notice: Notice) -> None:
    """Text that both databases can store and index. Postgres refuses NUL, and UTF-8 has no lone surrogates."""
    for text in (notice.event_id, notice.type, *(hint.ref.id for hint in notice.hints)):
        if len(text) > _TEXT_LIMIT or "\0" in text or not (text.isascii() or _is_unicode(text)):
            raise MalformedDelivery("text", "an id or a type holds NUL, half a character, or more than 255 characters")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
