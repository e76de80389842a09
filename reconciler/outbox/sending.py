"""Sending one message to one subscriber, once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from reconciler.clock import Clock
from reconciler.errors import ProviderError
from reconciler.ledger.changes import Change
from reconciler.ledger.outbox import Attempt
from reconciler.ledger.subscriptions import Form, Subscription
from reconciler.outbox.message import document, instant
from reconciler.outbox.policy import Answered, NoAnswer, read_retry_after
from reconciler.outbox.signing import Signer, message_id
from reconciler.provider import Reply, Request, Transport
from reconciler.writing import written

CHANGED: Final = "resource.changed"
TEST: Final = "subscription.test"
ANSWER_BYTES: Final = 1024
"""How much of an answer the log keeps."""


@dataclass(frozen=True, slots=True)
class Message:
    """The same bytes at every attempt, unless somebody asked to be forgotten in between."""

    id: str
    body: str
    resource_id: int = 0
    version: int = 0


def message_of(subscription: Subscription, change: Change, base_url: str) -> Message:
    told = document(change, base_url, with_body=subscription.form is Form.FULL)
    return Message(
        message_id(subscription.name, change),
        _written(CHANGED, change.recorded_at, told),
        change.resource_id,
        change.version,
    )


def trial_message(subscription: Subscription, now: datetime) -> Message:
    """About no resource: for a receiver that wants to see that its signature check works."""
    return Message(f"msg_{secrets.token_hex(16)}", _written(TEST, now, {"subscription": subscription.name}))


def _written(kind: str, at: datetime, told: dict[str, Any]) -> str:
    return written({"type": kind, "timestamp": instant(at), "data": told}).decode()


class Sender:
    """`secure` speaks to whatever the guard lets through; `plain` only to networks that the operator allowed."""

    def __init__(self, secure: Transport, plain: Transport, clock: Clock) -> None:
        self._secure = secure
        self._plain = plain
        self._clock = clock

    async def send(
        self, subscription: Subscription, message: Message, signer: Signer
    ) -> tuple[Attempt, Answered | NoAnswer]:
        """One request; never raises for what the subscriber does."""
        at, began = self._clock.now(), self._clock.monotonic()
        transport = self._plain if subscription.url.lower().startswith("http:") else self._secure
        headers = signer.headers(message.id, message.body, at)
        request = Request("POST", subscription.url, headers, message.body.encode())
        reply: Reply | None = None
        error = ""
        try:
            reply = await transport.send(request)
        except ProviderError as failed:
            error = " ".join(str(failed).split())[:500]
        took = timedelta(seconds=self._clock.monotonic() - began)
        attempt = Attempt(
            subscription=subscription.name,
            resource_id=message.resource_id,
            version=message.version,
            message_id=message.id,
            at=at,
            duration=took,
            status=None if reply is None else reply.status,
            error=error,
            answer=b"" if reply is None else reply.content[:ANSWER_BYTES],
        )
        if reply is None:
            return attempt, NoAnswer(error)
        return attempt, Answered(reply.status, read_retry_after(reply.headers.get("retry-after"), self._clock.now()))
