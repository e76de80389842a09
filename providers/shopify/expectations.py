"""What a delivery announces, in a form that a later read can be held against; and whether a read shows it.

A read that visibly shows what was announced need not be repeated. The one thing that must never happen here is to
call a read of the state *before* the change satisfied: everything doubtful is no.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from providers.shopify import names
from providers.shopify.reading import instant
from reconciler.model import Reading, Snapshot

_WITNESSES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "order": (
            "financial_status", "fulfillment_status", "cancelled_at", "closed_at", "current_total_price",
            "total_outstanding", "total_price", "note", "tags", "email", "phone", "confirmed",
        ),
        "draft_order": ("status", "completed_at", "invoice_sent_at", "order_id", "total_price", "note", "tags"),
        "product": ("title", "status", "handle", "vendor", "product_type", "tags", "published_at", "body_html"),
        "customer": ("state", "email", "phone", "first_name", "last_name", "note", "tags", "verified_email"),
        "inventory_level": ("available",),
        "inventory_item": ("sku", "cost", "tracked", "requires_shipping"),
        "dispute": ("status", "amount", "evidence_sent_on", "finalized_on"),
    }
)  # fmt: skip
"""`updated_at` counts seconds, and two changes may share one. Where a read is of the very second that was announced,
it must agree in these fields too."""

_COUNTED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({"order": ("refunds", "fulfillments")})
"""And it must hold as many of these: one more may leave everything else as it was, the time too."""

_LONGEST_TEXT: Final = 80
"""A witness longer than this is left out: hints are kept in the resource's row."""

_ABSENT: Final = object()


def of_body(kind: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A resource's own body announces its `updated_at`, and its witnesses; None where it has neither."""
    agrees = {name: body[name] for name in _WITNESSES.get(kind, ()) if _is_short(body.get(name, _ABSENT))}
    at = body.get("updated_at")
    if instant(at) is not None:
        counts = {name: len(rows) for name in _COUNTED.get(kind, ()) if isinstance(rows := body.get(name), list)}
        return {"since": at} | ({"agrees": agrees} if agrees else {}) | ({"counts": counts} if counts else {})
    return {"is": agrees} if agrees and kind == "dispute" else None


def of_part(field: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """That an order's body holds this refund or fulfillment, as new as this."""
    part = names.whole(body.get("id"))
    if part is None:
        return None
    at = body.get("updated_at")
    return {"holds": [field, part, at if instant(at) is not None else None, body.get("status")]}


def of_transaction(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    part = names.whole(body.get("id"))
    return None if part is None else {"lists": int(part)}


GONE: Final[Mapping[str, Any]] = {"gone": True}
EXISTS: Final[Mapping[str, Any]] = {"exists": True}
"""Plain objects: hints are kept as JSON."""


def satisfied(expected: Mapping[str, Any], reading: Reading) -> bool:
    """Whether `reading` visibly shows all of `expected`. An expectation of an unknown form is never satisfied."""
    if ("agrees" in expected or "counts" in expected) and "since" not in expected:
        return False
    return bool(expected) and all(_shows(form, value, expected, reading) for form, value in expected.items())


def _shows(form: str, value: Any, expected: Mapping[str, Any], reading: Reading) -> bool:
    if form == "gone":
        return value is True and not isinstance(reading, Snapshot)
    if not isinstance(reading, Snapshot):
        return False
    match form:
        case "exists":
            return value is True
        case "since":
            return _is_as_new(value, expected, reading)
        case "agrees" | "counts":
            return isinstance(value, Mapping)  # judged together with "since"
        case "is":
            return isinstance(value, Mapping) and bool(value) and _agrees(value, reading.body)
        case "lists":
            ids = reading.body.get("transaction_ids")
            return isinstance(ids, list) and value in ids
        case "holds":
            return _holds(value, reading.body)
        case _:
            return False


def _is_as_new(value: Any, expected: Mapping[str, Any], reading: Snapshot) -> bool:
    announced, read = instant(value), reading.updated_at
    if announced is None or read is None or read < announced:
        return False
    # A later second holds everything that was announced for this one (a stale retry, hours old, always ends here).
    if read > announced:
        return True
    agrees, counts = expected.get("agrees"), expected.get("counts", {})
    return isinstance(agrees, Mapping) and _agrees(agrees, reading.body) and _counts(counts, reading.body)


def _agrees(wanted: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """A field that our API version does not have says nothing; at least one must be there and equal."""
    common = [name for name in wanted if name in body]
    return bool(common) and all(_same(wanted[name], body[name]) for name in common)


def _counts(wanted: object, body: Mapping[str, Any]) -> bool:
    """A list that our API version does not have says nothing."""
    if not isinstance(wanted, Mapping):
        return False
    return all(not isinstance(rows := body.get(name), list) or len(rows) == wanted[name] for name in wanted)


def _holds(value: Any, body: Mapping[str, Any]) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    field, part, at, status = value
    rows = body.get(field) if isinstance(field, str) else None
    found = next((row for row in rows if names.whole(row.get("id")) == part), None) if isinstance(rows, list) else None
    if found is None:
        return False
    announced: datetime | None = instant(at)
    if announced is None:
        return True
    read = instant(found.get("updated_at"))
    if read is None or read < announced:
        return False
    return read > announced or found.get("status") == status


def _is_short(value: object) -> bool:
    return value is None or isinstance(value, bool | int) or (isinstance(value, str) and len(value) <= _LONGEST_TEXT)


def _same(one: object, other: object) -> bool:
    """Equal and of one type: JSON's true is not 1."""
    return type(one) is type(other) and one == other
