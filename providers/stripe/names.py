"""What Stripe calls things: ids, the accounts that they live in, and which field of one thing names another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from reconciler.model import ResourceRef

PROVIDER: Final = "stripe"

LONGEST_ID: Final = 255
"""As Stripe promises; the ledger's indexes do not take any length."""

_KIND_OF_PREFIX: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pi": "payment_intent",
        "ch": "charge",
        "py": "charge",
        "re": "refund",
        "pyr": "refund",
        "dp": "dispute",
        "du": "dispute",
        "po": "payout",
        "txn": "balance_transaction",
        "tr": "transfer",
        "fee": "application_fee",
        "tu": "topup",
    }
)
"""Only for fields that may name any kind (a balance transaction's `source`). Another prefix names nothing we follow."""

_NAMED_FIELDS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "payment_intent": {"latest_charge": "charge"},
        "charge": {
            "payment_intent": "payment_intent",
            "balance_transaction": "balance_transaction",
            "failure_balance_transaction": "balance_transaction",
            "transfer": "transfer",
        },
        "refund": {
            "charge": "charge",
            "payment_intent": "payment_intent",
            "balance_transaction": "balance_transaction",
            "failure_balance_transaction": "balance_transaction",
        },
        "dispute": {"charge": "charge", "payment_intent": "payment_intent"},
        "payout": {
            "balance_transaction": "balance_transaction",
            "failure_balance_transaction": "balance_transaction",
            "original_payout": "payout",
            "reversed_by": "payout",
        },
        "checkout.session": {
            "payment_intent": "payment_intent",
            "invoice": "invoice",
            "subscription": "subscription",
        },
        "subscription": {"latest_invoice": "invoice"},
        "product": {"default_price": "price"},
        "price": {"product": "product"},
        "transfer": {"balance_transaction": "balance_transaction", "source_transaction": "charge"},
        # Its charge lives in the connected account that paid the fee, not here.
        "application_fee": {"balance_transaction": "balance_transaction"},
        "topup": {"balance_transaction": "balance_transaction"},
    }
)


def connected(account: str | None, resource_id: str) -> str:
    """The id under which the ledger keeps a connected account's resource: `acct_X/pi_1`."""
    return f"{account}/{resource_id}" if account else resource_id


def split(resource_id: str) -> tuple[str | None, str]:
    """The connected account, where there is one, and Stripe's own id."""
    account, slash, bare = resource_id.partition("/")
    if slash and account.startswith("acct_"):
        return account, bare
    return None, resource_id


def id_of(value: object) -> str | None:
    """The id in a field that holds an id, or the object itself where it was expanded; None where it names nothing."""
    if type(value) is dict:
        value = value.get("id")
    elif value is not None and not isinstance(value, str) and isinstance(value, Mapping):
        value = value.get("id")  # asked last: an abstract class takes ten times as long to ask
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_ID else None


def related(ref: ResourceRef, body: Mapping[str, Any]) -> tuple[ResourceRef, ...]:
    """The other resources that a body names, each once, in the same connected account; never the resource itself."""
    account, _ = split(ref.id)
    found = dict.fromkeys(
        ResourceRef(ref.provider, ref.account, kind, connected(account, named))
        for kind, named in _named(ref.kind, body)
    )
    found.pop(ref, None)
    return tuple(found)


_AFFECTED_FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "charge": ("payment_intent",),
        "refund": ("charge", "payment_intent"),
        "dispute": ("charge", "payment_intent"),
    }
)
"""Which of the named resources change themselves when this one does: their totals and flags are derived from it."""


def affected(ref: ResourceRef, body: Mapping[str, Any]) -> tuple[ResourceRef, ...]:
    """The resources whose state moves with this one's, in the same connected account."""
    account, _ = split(ref.id)
    fields = _AFFECTED_FIELDS.get(ref.kind, ())
    return tuple(
        ResourceRef(ref.provider, ref.account, _NAMED_FIELDS[ref.kind][name], connected(account, named))
        for name in fields
        if (named := id_of(body.get(name)))
    )


def _named(kind: str, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, named_kind in _NAMED_FIELDS.get(kind, {}).items():
        named = id_of(body.get(name))
        if named:
            yield named_kind, named
    match kind:
        case "balance_transaction":
            source = id_of(body.get("source"))
            if source and (source_kind := _KIND_OF_PREFIX.get(source.partition("_")[0])):
                yield source_kind, source
        case "dispute":
            for transaction in rows(body.get("balance_transactions")):
                if named := id_of(transaction):
                    yield "balance_transaction", named
        case "invoice":
            yield from invoice_names(body)
        case _:
            return


def invoice_names(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """An invoice names its payments inside `payments` (since 2025-03-31.basil) or, in older shapes, at the top."""
    for payment in rows(_inside(body, "payments", "data")):
        for kind in ("payment_intent", "charge"):
            if named := id_of(_inside(payment, "payment", kind)):
                yield kind, named
    for kind in ("payment_intent", "charge"):
        if named := id_of(body.get(kind)):
            yield kind, named
    subscription = id_of(_inside(body, "parent", "subscription_details", "subscription")) or id_of(
        body.get("subscription")
    )
    if subscription:
        yield "subscription", subscription


def rows(value: object) -> list[Any]:
    """Of a field that should hold a list."""
    return value if isinstance(value, list) else []


def _inside(value: object, *path: str) -> object:
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value
