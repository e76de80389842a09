"""What an order sold: from its gross sales to what is due for it now, step by step.

The steps add up to `current_total_price` by construction: what no field of the order names is `other`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from providers.shopify.amounts import amounts
from providers.shopify.currencies import EXPONENTS
from reconciler.clock import require_utc
from reconciler.errors import BadReply
from reconciler.model import Snapshot
from reconciler.money import Money
from reconciler.movements import OTHER, Sold

ORDER: Final = "order"


def read(snapshot: Snapshot) -> Sold | None:
    """None for test orders. Raises `BadReply` for a body whose amounts cannot be read."""
    body = snapshot.body
    if body.get("test") is True:
        return None
    try:
        steps, due = _steps(body)
        at = require_utc(datetime.fromisoformat(str(body["created_at"])))
        return Sold(snapshot.ref, str(body["id"]), at, steps, due)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise BadReply(f"{snapshot.ref}: what it sold cannot be read: {error!r}") from error


def _steps(body: Mapping[str, Any]) -> tuple[tuple[tuple[str, Money], ...], Money]:
    """Original totals first; `returns` is what edits, returns and refunds took off them, its tax and shipping included.

    Where prices include the tax, it stands in the gross sales and has no step of its own.
    """
    total = _minor(body, "total_price")
    due = _minor(body, "current_total_price") if "current_total_price" in body else total
    cards = _gift_cards(body)
    found = {
        "gross_sales": _minor(body, "total_line_items_price") - cards,
        "discounts": -_minor(body, "total_discounts"),
        "returns": due - total,
        "shipping": _minor(body, "total_shipping_price"),
        "duties": _minor(body, "original_total_duties"),
        "tax": 0 if body.get("taxes_included") is True else _minor(body, "total_tax"),
        "tips": _minor(body, "total_tip_received"),
        "gift_cards": cards,
    }
    found[OTHER] = due - sum(found.values())
    currency = str(body["currency"]).upper()
    return tuple((code, Money(minor, currency)) for code, minor in found.items()), Money(due, currency)


def _minor(body: Mapping[str, Any], name: str) -> int:
    """In the shop's currency; 0 where the order does not say."""
    found = amounts(body, name)
    return 0 if found is None else found.shop.minor


def _gift_cards(body: Mapping[str, Any]) -> int:
    """A gift card that is sold is a debt, no sale."""
    currency = str(body["currency"]).upper()
    return sum(
        EXPONENTS.parse(str(line["price"]), currency).minor * int(line["quantity"])
        for line in body.get("line_items") or ()
        if line.get("gift_card") is True
    )
