"""What an HTTP answer of Stripe means: a body, or the error whose class says what to do next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from reconciler.clock import require_utc
from reconciler.errors import (
    AccessDenied,
    AccessScope,
    BadReply,
    OutOfSight,
    ProviderError,
    Throttled,
    ThrottleScope,
    Unavailable,
)
from reconciler.provider import Reply, json_object

_SCOPE_OF_REASON: Final[Mapping[str, ThrottleScope]] = {
    "global-rate": ThrottleScope.ACCOUNT,
    "global-concurrency": ThrottleScope.ACCOUNT,
    "endpoint-rate": ThrottleScope.ENDPOINT,
    "endpoint-concurrency": ThrottleScope.ENDPOINT,
    "resource-specific": ThrottleScope.RESOURCE,
}
"""`Stripe-Rate-Limited-Reason`, docs.stripe.com/rate-limits."""

_ACCOUNT_WIDE: Final = frozenset(
    {"account_invalid", "account_closed", "platform_account_required", "platform_api_key_expired", "livemode_mismatch"}
)
"""Codes of a 403 that no other kind would answer differently."""

_PERMISSION: Final = re.compile(r"'([a-z][a-z0-9_.]*)' permission|\b((?:rak_)?[a-z][a-z0-9_]*_(?:read|write))\b")
_KEY: Final = re.compile(r"\b((?:sk|rk)_(?:live|test)_)\w+")
_OTHER_MODE: Final = re.compile(r"exists in (?:live|test) mode, but a (?:live|test) mode key", re.IGNORECASE)
_LONGEST_WAIT: Final = timedelta(days=1)
_LONGEST_MESSAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Missing:
    """Stripe said that the resource does not exist: 404 with `resource_missing`, and nothing less."""

    message: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, for messages and for judging a refusal."""

    what: str
    """The account and the operation, as an operator would name it."""
    connected: bool
    """Whether the request named a connected account, whose refusal says nothing about our own."""
    now: datetime


def understand(reply: Reply, asked: Asked) -> Mapping[str, Any] | Missing:
    """The JSON object of a good answer, or `Missing`. For all else, raises the error whose class is the policy."""
    if 200 <= reply.status < 300:
        return json_object(reply, asked.what)
    error = _error_of(reply)
    message = _message(error, reply)
    text = f"{asked.what}: {message}"
    match reply.status:
        case 401:
            raise AccessDenied(f"{text}. Put a valid api_key into the configuration.", scope=AccessScope.ACCOUNT)
        case 403:
            raise _refusal(error, text, asked)
        case 404 if error.get("code") == "resource_missing":
            if _OTHER_MODE.search(message):
                raise OutOfSight(f"{text}. The key speaks of the other mode, live or test.")
            return Missing(message)
        case 429:
            raise _throttle(reply, text, asked)
        case 409 | 408:
            raise Unavailable(text)
        case status if status >= 500 or reply.headers.get("stripe-should-retry") == "true":
            raise Unavailable(text)
        case 400 if error.get("code") == "rate_limit":  # how rate limits were coded before 429
            raise _throttle(reply, text, asked)
        case _:
            raise BadReply(text)


def sent_at(reply: Reply) -> datetime | None:
    """The provider's own clock, from the answer's Date; whole seconds."""
    return _http_date(reply.headers.get("date", ""))


def _error_of(reply: Reply) -> Mapping[str, Any]:
    try:
        body = orjson.loads(reply.content)
    except orjson.JSONDecodeError:
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _message(error: Mapping[str, Any], reply: Reply) -> str:
    said = error.get("message")
    parts = [f"HTTP {reply.status}"]
    if isinstance(error.get("code"), str):
        parts.append(error["code"])
    if isinstance(said, str) and said:
        parts.append(_KEY.sub(r"\1***", said[:_LONGEST_MESSAGE]))
    request_id = reply.headers.get("request-id")
    if request_id:
        parts.append(f"({request_id})")
    return " ".join(parts)


def _refusal(error: Mapping[str, Any], text: str, asked: Asked) -> ProviderError:
    if asked.connected and error.get("code") in _ACCOUNT_WIDE:
        return OutOfSight(f"{text}. The connected account is not open to this key any more.")
    scope = AccessScope.ACCOUNT if error.get("code") in _ACCOUNT_WIDE else AccessScope.KIND
    found = _PERMISSION.search(str(error.get("message") or ""))
    permission = (found[1] or found[2]) if found else None
    return AccessDenied(
        f"{text}. Grant the restricted key {permission or 'Read on this resource'}.", scope=scope, permission=permission
    )


def _throttle(reply: Reply, text: str, asked: Asked) -> Throttled:
    reason = reply.headers.get("stripe-rate-limited-reason", "")
    # Without a reason no limiter spoke: the resource itself was locked by another request (lock_timeout).
    scope = _SCOPE_OF_REASON.get(reason, ThrottleScope.ACCOUNT) if reason else ThrottleScope.RESOURCE
    return Throttled(text, retry_after=_retry_after(reply, asked.now), scope=scope, reason=reason or "lock_timeout")


def _retry_after(reply: Reply, now: datetime) -> timedelta | None:
    """Seconds (also with decimals) or an HTTP date, which is measured against the answer's own Date; bounded."""
    value = reply.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value):
        wait = timedelta(seconds=float(value))
    else:
        until = _http_date(value)
        if until is None:
            return None
        wait = until - (sent_at(reply) or now)
    return min(max(wait, timedelta(0)), _LONGEST_WAIT)


def _http_date(value: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else require_utc(found)
    except (ValueError, TypeError, IndexError):
        return None
