"""Every way in which the intake says no: a stable reason for the audit row and metrics, and a constant answer."""

from __future__ import annotations

from enum import Enum

from reconciler.intake.asgi import Answer, answer_json

RETRY_SECONDS = 5
"""What a 503 asks for. Providers keep schedules of their own; proxies and our own tools listen to it."""

_RETRY = (b"retry-after", str(RETRY_SECONDS).encode())
_CLOSE = (b"connection", b"close")
"""The rest of a body that we do not want to read is still on its way."""


class Refusal(Enum):
    """The reason, which is stored and counted, and its answer. The texts say nothing that helps to forge."""

    UNKNOWN_ACCOUNT = ("unknown_account", 404, "no such account", ())
    ADDRESS = ("address", 403, "this address may not send here", ())
    METHOD = ("method", 405, "send a POST request", ((b"allow", b"POST"),))
    CONTENT_TYPE = ("content_type", 415, "send application/json", ())
    TOO_LARGE = ("too_large", 413, "the body is too large", ())
    TOO_SLOW = ("too_slow", 408, "the body took too long", (_CLOSE,))
    DISCONNECTED = ("disconnected", 400, "the body is incomplete", (_CLOSE,))
    SIGNATURE = ("signature", 401, "the signature was not accepted", ())
    MALFORMED = ("malformed", 400, "the body cannot be read", ())
    CROWDED = ("crowded", 503, "too many bodies at once; try again later", (_RETRY,))
    SATURATED = ("saturated", 503, "too many deliveries at once; try again later", (_RETRY,))
    UNAVAILABLE = ("unavailable", 503, "cannot store now; try again later", (_RETRY,))
    STOPPING = ("stopping", 503, "stopping; try again later", (_RETRY,))
    FAULT = ("fault", 503, "cannot take this now; try again later", (_RETRY,))
    RATE = ("rate", 429, "too many requests", (_RETRY,))

    def __init__(self, reason: str, status: int, text: str, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self.reason = reason
        self.answer: Answer = answer_json(status, {"error": text}, headers)


class Refused(Exception):
    """Ends the handling of one request."""

    def __init__(self, refusal: Refusal, reason: str | None = None, answer: Answer | None = None) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.reason = reason or refusal.reason
        """Finer than the refusal's own where a provider said more: `too_old`, `not_json`."""
        self.answer = answer or refusal.answer


def too_many(retry_seconds: int, *, unread: bool) -> Refused:
    """429 that says when there will be room. `unread`: the body is still on its way, and nobody wants it."""
    headers = ((b"retry-after", str(retry_seconds).encode()), *((_CLOSE,) if unread else ()))
    return Refused(Refusal.RATE, answer=answer_json(429, {"error": "too many requests"}, headers))
