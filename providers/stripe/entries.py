"""Money lines, read from balance transactions alone, and the balances that Stripe states by another path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from providers.stripe import names
from providers.stripe.reading import instant
from reconciler.errors import BadReply
from reconciler.model import ControlTotal, Entry, Snapshot
from reconciler.money import Money

_PAYMENTS: Final = "payments"
"""The balance that a transaction moves where it does not say (bodies from before `balance_type` existed)."""
_UNCATEGORISED: Final = "other"


def entries(snapshot: Snapshot) -> tuple[Entry, ...]:
    """The one money line of a balance transaction; nothing for any other kind.

    A connected account's transactions move that account's balance, not this one's, so they have no line here; to
    reconcile it, configure it as an account of its own. Raises `BadReply` where gross - fee is not net, or where an
    amount is not an integer: such a body must be looked at, never summed.
    """
    if snapshot.ref.kind != "balance_transaction" or names.split(snapshot.ref.id)[0]:
        return ()
    body = snapshot.body
    try:
        return (_entry(snapshot, body),)
    except (ValueError, TypeError) as error:
        raise BadReply(f"{snapshot.ref}: cannot be booked: {error}") from error


def _entry(snapshot: Snapshot, body: Mapping[str, Any]) -> Entry:
    currency = _text(body, "currency")
    effective_at = instant(body.get("created"))
    if effective_at is None:
        raise ValueError("created is not a time")
    return Entry(
        ref=snapshot.ref,
        balance_type=_optional(body, "balance_type") or _PAYMENTS,
        category=_optional(body, "reporting_category") or _UNCATEGORISED,
        gross=_money(body, "amount", currency),
        fee=_money(body, "fee", currency),
        net=_money(body, "net", currency),
        effective_at=effective_at,
        available_on=instant(body.get("available_on")),
        source_id=names.id_of(body.get("source")),
        fee_details=tuple(detail for detail in body.get("fee_details") or () if isinstance(detail, Mapping)),
    )


def control_totals(snapshot: Snapshot, as_at: datetime) -> tuple[ControlTotal, ...]:
    """What `/v1/balance` states: available + pending per currency, for each balance that the body holds.

    `instant_available` is a part of the same money and is left out; so is `connect_reserved`, which is held against
    connected accounts' debts outside both. A connected account's balance is not this account's: nothing.
    """
    if snapshot.ref.kind != "balance" or names.split(snapshot.ref.id)[0]:
        return ()
    try:
        return tuple(
            ControlTotal(snapshot.ref.account, balance_type, amount, as_at)
            for balance_type, part in _balances(snapshot.body)
            for amount in _sums(part)
        )
    except (ValueError, TypeError) as error:
        raise BadReply(f"{snapshot.ref}: the balance cannot be read: {error}") from error


def _balances(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The payments balance stands at the top; each other one (issuing, prefunding, later ones) under its own name."""
    yield _PAYMENTS, body
    for name, part in body.items():
        if isinstance(part, Mapping) and isinstance(part.get("available"), list):
            yield name, part


def _sums(part: Mapping[str, Any]) -> list[Money]:
    sums: dict[str, Money] = {}
    for name in ("available", "pending"):
        for line in part.get(name) or ():
            if not isinstance(line, Mapping):
                raise TypeError(f"a line of {name} is {line!r}, not an object")
            amount = _money(line, "amount", _text(line, "currency"))
            sums[amount.currency] = sums.get(amount.currency, Money(0, amount.currency)) + amount
    return [sums[currency] for currency in sorted(sums)]


def _money(body: Mapping[str, Any], name: str, currency: str) -> Money:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, not an integer of minor units")
    return Money(value, currency.upper())


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, not text")
    return value


def _optional(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) and value else None
