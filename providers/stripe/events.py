"""From an event, however it reached us, to the resources that it names. The type is never asked what happened.

One table serves webhooks (snapshot and thin) and the event feed: which sort of object the event is about, and which
fields of that object name other resources whose state moves with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from providers.stripe import names
from providers.stripe.expectations import announced
from providers.stripe.kinds import BALANCE_ID, KINDS
from providers.stripe.reading import instant
from reconciler.clock import require_utc
from reconciler.errors import MalformedDelivery
from reconciler.model import Hint, Notice, ResourceRef

TYPES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        family: tuple(f"{family}.{ending}" for ending in endings.split())
        for family, endings in {
            "payment_intent": "amount_capturable_updated canceled created partially_funded payment_failed processing "
            "requires_action succeeded",
            "charge": "captured expired failed pending refund.updated refunded succeeded updated",
            "charge.dispute": "closed created funds_reinstated funds_withdrawn updated",
            "refund": "created failed updated",
            "payout": "canceled created failed paid reconciliation_completed updated",
            "balance": "available",
            "checkout.session": "async_payment_failed async_payment_succeeded completed expired",
            "invoice": "created deleted finalization_failed finalized marked_uncollectible overdue overpaid paid "
            "payment_action_required payment_attempt_required payment_failed payment_succeeded sent updated voided "
            "will_be_due",
            "invoice_payment": "paid",
            "credit_note": "created updated voided",
            "customer": "created deleted updated",
            "customer.discount": "created deleted updated",
            "customer.subscription": "created deleted paused pending_update_applied pending_update_expired resumed "
            "trial_will_end updated",
            "product": "created deleted updated",
            "price": "created deleted updated",
            "transfer": "created reversed updated",
            "application_fee": "created refund.updated refunded",
            "topup": "canceled created failed reversed succeeded",
            "review": "closed opened",
            "radar.early_fraud_warning": "created updated",
        }.items()
    }
)
"""The types that we ask the feed for and that an endpoint should be subscribed to, by family."""

ALL_TYPES: Final = tuple(sorted(event_type for types in TYPES.values() for event_type in types))

_KNOWN: Final = frozenset(ALL_TYPES)
_FAMILIES: Final = tuple(f"{family}." for family in TYPES)
"""A type of a family that we follow is read even if it is newer than this table: its object says what to mark."""

_ALONG: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "charge": {"payment_intent": "payment_intent"},
        "refund": {"charge": "charge", "payment_intent": "payment_intent"},
        "dispute": {"charge": "charge", "payment_intent": "payment_intent"},
        "checkout.session": {"payment_intent": "payment_intent", "subscription": "subscription", "invoice": "invoice"},
        "invoice_payment": {"invoice": "invoice"},
        "credit_note": {"invoice": "invoice", "refund": "refund"},
        "discount": {"customer": "customer", "subscription": "subscription"},
        "fee_refund": {"fee": "application_fee"},
        "review": {"charge": "charge", "payment_intent": "payment_intent"},
        "radar.early_fraud_warning": {"charge": "charge", "payment_intent": "payment_intent"},
    }
)
"""By the event's object: the fields that name a resource which changed with it. Nothing is announced about those."""

_NAMES_OTHERS: Final = frozenset({*_ALONG, "invoice", "invoice_payment"})

_GENERATION_FAILURE: Final = "core.health.event_generation_failure."
"""Stripe could not make an event at all and says so later; the only trace that such a change ever leaves."""


def notice(event: Mapping[str, Any], account: str, *, own: str | None = None, livemode: bool | None = None) -> Notice:
    """What one event says. `own` is this account's `acct_...` where it is known, `livemode` the mode of its key.

    A thin event is filed under the id of the snapshot event that it doubles and under the plain type, so that the log
    agrees with the feed whichever of the two reached us. An event of the other mode (a Connect endpoint gets both)
    speaks of resources that this account does not have: no hints. Raises `MalformedDelivery`.
    """
    event_type = _text(event, "type").removeprefix("v1.").removeprefix("v2.")
    event_id = names.id_of(event.get("snapshot_event")) or _text(event, "id")
    other_mode = livemode is not None and event.get("livemode") is (not livemode)
    hints = () if other_mode else _unique(_hints(event, event_type, account, _connected(event, own)))
    nameless = not (hints or other_mode) and event_type in _KNOWN and not _names_an_object(event)
    return Notice(event_id, event_type, _occurred_at(event.get("created")), hints, nameless=nameless)


def _hints(event: Mapping[str, Any], event_type: str, account: str, connected: str | None) -> list[Hint]:
    if event_type not in _KNOWN:
        if event_type.startswith(_GENERATION_FAILURE):
            return _thin(_mapping(_mapping(event, "data"), "impact"), "", account, connected)
        if not event_type.startswith(_FAMILIES):
            return []
    if "related_object" in event:
        return _thin(event, event_type, account, connected)
    part = _mapping(event, "data")
    subject = _mapping(part, "object")
    kind = subject.get("object")
    if not isinstance(kind, str):
        return []
    hints = []
    if kind in KINDS and (resource_id := _subject_id(kind, subject)):
        expected = announced(event_type, subject, _mapping(part, "previous_attributes"))
        ref = _ref(account, kind, connected, resource_id)
        hints.append(Hint(ref, expected if kind != "balance" else None, instant(subject.get("created"))))
    if kind in _NAMES_OTHERS:
        along = _named_along(kind, subject)
        hints += [Hint(_ref(account, named_kind, connected, named)) for named_kind, named in along]
    return hints


def _thin(event: Mapping[str, Any], event_type: str, account: str, connected: str | None) -> list[Hint]:
    """A thin event names one object and carries no state, except perhaps the values before the change."""
    subject = _mapping(event, "related_object")
    kind = subject.get("type")
    if not isinstance(kind, str):
        return []
    kind = kind.removeprefix("v1.")
    if kind not in KINDS or not (resource_id := _subject_id(kind, subject)):
        return []
    previous = _mapping(_mapping(event, "changes"), "before")
    return [Hint(_ref(account, kind, connected, resource_id), announced(event_type, None, previous))]


def _names_an_object(event: Mapping[str, Any]) -> bool:
    """Be it one that is no resource here, and whose fields name none."""
    thin = "related_object" in event
    subject = _mapping(event, "related_object") if thin else _mapping(_mapping(event, "data"), "object")
    return isinstance(subject.get("type" if thin else "object"), str) and names.id_of(subject) is not None


def _named_along(kind: str, subject: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, named_kind in _ALONG.get(kind, {}).items():
        if named := names.id_of(subject.get(name)):
            yield named_kind, named
    if kind == "invoice":
        yield from names.invoice_names(subject)
    if kind == "invoice_payment":
        payment = _mapping(subject, "payment")
        for name in ("payment_intent", "charge"):
            if named := names.id_of(payment.get(name)):
                yield name, named


def _unique(hints: Sequence[Hint]) -> tuple[Hint, ...]:
    """Each resource once, by its first hint: the subject's own comes before what is named along with it."""
    if len(hints) < 2:
        return tuple(hints)
    first: dict[ResourceRef, Hint] = {}
    for hint in hints:
        first.setdefault(hint.ref, hint)
    return tuple(first.values())


def _connected(event: Mapping[str, Any], own: str | None) -> str | None:
    """The connected account that an event is about: `account`, or the last account of a thin event's `context`."""
    account = event.get("account")
    if not isinstance(account, str):
        context = event.get("context")
        account = context.rpartition("/")[2] if isinstance(context, str) else None
    if not account or not account.startswith("acct_") or account == own:
        return None
    return account


def _subject_id(kind: str, subject: Mapping[str, Any]) -> str | None:
    return BALANCE_ID if kind == "balance" else names.id_of(subject)


def _ref(account: str, kind: str, connected: str | None, resource_id: str) -> ResourceRef:
    return ResourceRef(names.PROVIDER, account, kind, names.connected(connected, resource_id))


def _occurred_at(created: object) -> datetime | None:
    """Whole seconds in a snapshot event, ISO 8601 in a thin one; a hint for people, never an order."""
    if not isinstance(created, str):
        return instant(created)
    try:
        return require_utc(datetime.fromisoformat(created))
    except ValueError:
        return None


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        raise MalformedDelivery("not_an_event", f"a Stripe event has a text in `{name}`; this one has none")
    return value


def _mapping(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    # A dict or nothing, nearly always; asking an abstract class takes ten times as long.
    if type(found) is dict or (found is not None and isinstance(found, Mapping)):
        return found
    return {}
