"""From the bytes of a delivery, once its signature is good, to the event inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from reconciler.errors import MalformedDelivery


def event_of(body: bytes) -> Mapping[str, Any]:
    """Raises `MalformedDelivery` with reason `not_utf8`, `not_json`, `not_an_object` or `envelope`."""
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _unreadable(body, error) from error
    if isinstance(event, list) and event and isinstance(event[0], dict):
        _refuse_envelope(event[0])
    if not isinstance(event, dict):
        raise MalformedDelivery("not_an_object", "the body is JSON, but not an object")
    _refuse_envelope(event)
    return event


def _unreadable(body: bytes, error: orjson.JSONDecodeError) -> MalformedDelivery:
    try:
        body.decode()
    except UnicodeDecodeError as unicode:
        return MalformedDelivery("not_utf8", f"the body is not UTF-8: {unicode.reason} at byte {unicode.start}")
    return MalformedDelivery("not_json", f"the body is not JSON: {error}")


def _refuse_envelope(body: Mapping[str, Any]) -> None:
    if "detail-type" in body or "specversion" in body:
        raise MalformedDelivery(
            "envelope",
            "this is an EventBridge or Event Grid envelope, which Stripe does not sign; create a webhook endpoint or "
            "a webhook event destination at Stripe that delivers straight to this address",
        )
