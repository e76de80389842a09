"""An amount of an order in both of its currencies: the shop's, which the ledger counts in, and the customer's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from providers.shopify.currencies import EXPONENTS
from reconciler.money import Money


@dataclass(frozen=True, slots=True)
class Amounts:
    shop: Money
    """What counts: the shop's own currency."""
    presentment: Money
    """What the customer saw and paid; evidence beside it."""


def amounts(body: Mapping[str, Any], name: str) -> Amounts | None:
    """`total_price` of an order, say, from its `total_price_set`; None where there is no such amount.

    Raises ValueError for an amount that does not fit its currency's minor unit, TypeError for one in another form.
    """
    both = body.get(f"{name}_set")
    if isinstance(both, Mapping):
        return Amounts(_money(both.get("shop_money")), _money(both.get("presentment_money")))
    if body.get(name) is None:
        return None
    alone = _money({"amount": body[name], "currency": body.get("currency")})
    return Amounts(alone, alone)


def _money(value: object) -> Money:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is no amount with a currency")
    # Orders write `currency_code`, transactions `currency`.
    said, currency = value.get("amount"), value.get("currency_code", value.get("currency"))
    if not isinstance(said, str) or not isinstance(currency, str):
        raise TypeError(f"{value!r} is no decimal in quotes with a currency")
    return EXPONENTS.parse(said, currency.upper())
