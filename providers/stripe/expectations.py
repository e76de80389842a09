"""What an event announces, in a form that a later read can be held against; and whether a read shows it.

A provider's reads may lag behind its webhooks. A read that visibly shows what was announced need not be repeated, so
the one thing that must never happen here is to call a read of the state *before* the event satisfied. Everything
doubtful is no.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from reconciler.model import Reading, Snapshot

_BECOMES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "payment_intent.processing": {"status": "processing"},
        "payment_intent.canceled": {"status": "canceled"},
        "payment_intent.succeeded": {"status": "succeeded"},
        "charge.pending": {"status": "pending"},
        "charge.succeeded": {"status": "succeeded"},
        "charge.failed": {"status": "failed"},
        "refund.failed": {"status": "failed"},
        "payout.paid": {"status": "paid"},
        "payout.failed": {"status": "failed"},
        "payout.canceled": {"status": "canceled"},
        "payout.reconciliation_completed": {"reconciliation_status": "completed"},
        "checkout.session.completed": {"status": "complete"},
        "checkout.session.expired": {"status": "expired"},
        "checkout.session.async_payment_succeeded": {"payment_status": "paid"},
        "invoice.paid": {"status": "paid"},
        "invoice.payment_succeeded": {"status": "paid"},
        "invoice.voided": {"status": "void"},
        "invoice.marked_uncollectible": {"status": "uncollectible"},
        "customer.subscription.deleted": {"status": "canceled"},
        "customer.subscription.paused": {"status": "paused"},
        "topup.succeeded": {"status": "succeeded"},
        "topup.failed": {"status": "failed"},
        "topup.canceled": {"status": "canceled"},
        "topup.reversed": {"status": "reversed"},
    }
)
"""Types that announce a state which the resource was not in before.

`payment_intent.payment_failed` is absent on purpose: an intent waits in `requires_payment_method` before a failed
attempt and after it. So is `requires_action`, which a second authentication repeats.
"""

_MOVES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "payment_intent.amount_capturable_updated": ("amount_capturable",),
        "charge.captured": ("captured", "amount_captured"),
        "charge.refunded": ("refunded", "amount_refunded"),
        "charge.dispute.closed": ("status",),
        "customer.subscription.resumed": ("status",),
        "transfer.reversed": ("reversed", "amount_reversed"),
        "application_fee.refunded": ("refunded", "amount_refunded"),
    }
)
"""Types that come with new values in these fields: before the event at least one of them was different."""

_GONE: Final = frozenset({"customer.deleted", "product.deleted", "price.deleted", "invoice.deleted"})
"""`customer.subscription.deleted` is not here: a cancelled subscription stays readable."""

_ABSENT: Final = object()


def announced(
    event_type: str, subject: Mapping[str, Any] | None, previous: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """What can be checked of an event: of its own object (None in a thin event) and of the values before it.

    None when nothing can be checked. `event_type` is written without the `v1.` of thin events.
    """
    if event_type in _GONE:
        return {"gone": True}
    if previous:
        expected: dict[str, Any] = {"changed_from": dict(previous)}
        now = {name: subject[name] for name in previous if subject and _is_scalar(subject.get(name, _ABSENT))}
        return {**expected, "is": now} if now else expected
    if event_type.endswith(".created"):
        return {"exists": True}
    becomes = _BECOMES.get(event_type)
    if becomes is not None:
        agrees = subject is None or all(subject.get(name) == value for name, value in becomes.items())
        return {"is": dict(becomes)} if agrees else None
    moves = _MOVES.get(event_type, ())
    if subject is None or not moves or not all(_is_scalar(subject.get(name, _ABSENT)) for name in moves):
        return None
    return {"is": {name: subject[name] for name in moves}}


def satisfied(expected: Mapping[str, Any], reading: Reading) -> bool:
    """Whether `reading` visibly shows all of `expected`. An expectation of an unknown form is never satisfied."""
    if not expected:
        return False
    return all(_shows(form, value, reading) for form, value in expected.items())


def _shows(form: str, value: Any, reading: Reading) -> bool:
    if form == "gone":
        return value is True and not isinstance(reading, Snapshot)
    if not isinstance(reading, Snapshot):
        return False
    match form:
        case "exists":
            return value is True
        case "is":
            return isinstance(value, Mapping) and bool(value) and _equals(value, reading.body)
        case "changed_from":
            return isinstance(value, Mapping) and bool(value) and _differs(value, reading.body)
        case _:
            return False


def _equals(wanted: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    return all(_same(value, body.get(name, _ABSENT)) for name, value in wanted.items())


def _differs(previous: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    return all(name in body and _changed(name, old, body[name]) for name, old in previous.items())


def _changed(name: str, old: Any, new: Any) -> bool:
    """Whether one field certainly has another value than before.

    `previous_attributes` holds only the part of a nested object that changed, so objects are compared part by part; in
    a list of objects there is no telling which part is meant. A field that our API version does not have proves
    nothing, except in metadata, whose keys the merchant removes and adds.
    """
    if isinstance(old, Mapping):
        if new is None:
            return True
        if not old or not isinstance(new, Mapping):
            return False
        if name == "metadata":
            return all(not _same(value, new.get(key)) for key, value in old.items())
        return all(key in new and _changed(key, value, new[key]) for key, value in old.items())
    if isinstance(new, Mapping):
        return old is None and bool(new)
    if isinstance(old, list):
        return isinstance(new, list) and all(map(_is_scalar, (*old, *new))) and old != new
    return _is_scalar(new) and not _same(old, new)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _same(one: object, other: object) -> bool:
    """Equal and of one type: JSON's true is not 1."""
    return type(one) is type(other) and one == other
