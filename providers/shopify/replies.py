"""What an HTTP answer of Shopify means: a body, or the error whose class says what to do next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from reconciler.errors import AccessDenied, AccessScope, BadReply, Throttled, ThrottleScope, Unavailable
from reconciler.provider import Reply, json_object

_SCOPE: Final = re.compile(r"\b((?:read|write)_[a-z_]+)\b")
_TOKEN: Final = re.compile(r"\b(shp(?:at|ca|ss|pa|rt|it|ua)_)\w+")
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_CALL_LIMIT: Final = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")
_LONGEST_WAIT: Final = timedelta(days=1)
_LONGEST_MESSAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Missing:
    """Shopify said "Not Found", in its own words and not in those of something between us."""

    message: str


def understand(reply: Reply, what: str, now: datetime, *, scope: str = "") -> Mapping[str, Any] | Missing:
    """The JSON object of a good answer, or `Missing`. For all else, raises the error whose class is the policy.

    `what` names the request for messages, `scope` the access scope that it needs.
    """
    if 200 <= reply.status < 300:
        return json_object(reply, what)
    said = _said(reply)
    text = f"{what}: {_message(said, reply)}"
    match reply.status:
        case 401:
            raise AccessDenied(f"{text}. The token is not valid (any more); install the app again or put a valid one "
                               "into the configuration.", scope=AccessScope.ACCOUNT)  # fmt: skip
        case 402 | 423:
            raise AccessDenied(f"{text}. Shopify has closed the shop; its owner has to open it.",
                               scope=AccessScope.ACCOUNT)  # fmt: skip
        case 403:
            named = _SCOPE.search(str(said))
            permission = named[1] if named else scope or None
            raise AccessDenied(f"{text}. Grant the app {permission or 'the access scope of this resource'}.",
                               scope=AccessScope.KIND, permission=permission)  # fmt: skip
        case 404 if said is not None:
            return Missing(_message(said, reply))
        case 429 | 430:
            raise Throttled(text, retry_after=_retry_after(reply, now), scope=ThrottleScope.ACCOUNT,
                            reason=reply.headers.get("x-shopify-shop-api-call-limit", ""))  # fmt: skip
        case 408 | 409 | 425:
            raise Unavailable(text)
        case status if 300 <= status < 400:
            where = reply.headers.get("location", "elsewhere")[:200]
            raise AccessDenied(f"{text}. The shop's address leads to {where}; set shop to its permanent name.",
                               scope=AccessScope.ACCOUNT)  # fmt: skip
        case status if status >= 500:
            raise Unavailable(text)
        case _:
            raise BadReply(text)


def bucket_of(reply: Reply) -> int | None:
    """How many requests the shop's bucket holds, from `X-Shopify-Shop-Api-Call-Limit: 32/40`."""
    found = _CALL_LIMIT.fullmatch(reply.headers.get("x-shopify-shop-api-call-limit", "").strip())
    return int(found[2]) if found and int(found[2]) > 0 else None


def version_of(reply: Reply) -> str | None:
    """The API version that answered, which is not the one that was asked for where that is not served any more."""
    return reply.headers.get("x-shopify-api-version", "").strip() or None


def _said(reply: Reply) -> object:
    """Shopify's `errors` (or `error`): a text, or texts by field; None where the answer is not in its words."""
    try:
        body = orjson.loads(reply.content)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    return body.get("errors", body.get("error_description", body.get("error")))


def _message(said: object, reply: Reply) -> str:
    parts = [f"HTTP {reply.status}"]
    if said:
        parts.append(_TOKEN.sub(r"\1***", str(said)[:_LONGEST_MESSAGE]))
    request_id = reply.headers.get("x-request-id")
    if request_id:
        parts.append(f"({request_id})")
    return " ".join(parts)


def _retry_after(reply: Reply, now: datetime) -> timedelta | None:
    """Seconds, as Shopify writes them with a decimal (`2.0`), or an HTTP date; bounded."""
    value = reply.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        wait = timedelta(seconds=float(value))
    else:
        try:
            until = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError):
            return None
        wait = (until.replace(tzinfo=UTC) if until.tzinfo is None else until) - now
    return min(max(wait, timedelta(0)), _LONGEST_WAIT)
