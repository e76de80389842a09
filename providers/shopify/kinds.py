"""The kinds of Shopify resource that we follow, how each is read, and the limits that Shopify publishes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from providers.shopify.names import BALANCE_ID, SCOPES_ID
from reconciler.provider import ACCOUNT_LIMIT, Kind, Limit

PAGE_SIZE: Final = 250
IDS_A_CALL: Final = 250
ITEM_IDS_A_CALL: Final = 100
"""Inventory items take fewer ids than everything else."""
LEVEL_IDS_A_CALL: Final = 50
"""`inventory_item_ids` and `location_ids` take at most fifty each."""

ORDERS_SEEN_FOR: Final = timedelta(days=60)
"""How old an order may be for credentials without `read_all_orders`."""

_GATHER: Final = timedelta(seconds=2)
"""At two requests a second a burst must be read in full batches; a single change waits this long for company."""


class Door(StrEnum):
    """How a single resource is reached."""

    IDS = "ids"
    """`COLLECTION.json?ids=1,2,3`; one alone by `COLLECTION/1.json`, whose 404 says that it does not exist."""
    SINGLE = "single"
    """`COLLECTION/1.json` only."""
    ORDER = "order"
    """Inside its order's body: Shopify's single read of it has other fields, which would make versions."""
    TRANSACTIONS = "transactions"
    """Inside the list of its order's transactions, for the same reason."""
    LEVELS = "levels"
    """By item and location."""
    NEIGHBOURS = "neighbours"
    """Only lists: it is looked for in the page that begins at its id."""
    WHOLE = "whole"
    """There is one."""


class Narrowing(StrEnum):
    """Which parameter narrows the list to a window; all of them may name too many, never too few."""

    NONE = "none"
    UPDATED = "updated_at_min"
    PROCESSED = "processed_at_min"
    DATE = "date_min"
    NEWEST_FIRST = "newest first"
    """None, but the list comes newest first, so that it need not be read to its end."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a kind is read."""

    kind: Kind
    path: str
    """Of the collection, below the API version and without `.json`."""
    plural: str
    """The member of the answer that holds the rows."""
    singular: str
    """The member of the answer that holds one."""
    door: Door
    scope: str
    """The access scope that reading it takes."""
    narrowing: Narrowing = Narrowing.NONE
    parameters: tuple[tuple[str, str], ...] = ()
    """What the list must be told so that it leaves nothing out."""
    status: str | None = None
    """The field that says what state it is in."""
    created: tuple[str, ...] = ("created_at",)
    """The fields that say when it came to be; the first that is there."""
    volatile: frozenset[str] = frozenset()
    """Fields that change without the resource changing."""
    counted: bool = False
    """Whether `COLLECTION/count.json` and the list itself can be narrowed by time of creation, at both ends."""
    payments: bool = False
    """Whether it exists only where the shop takes payments through Shopify Payments."""


_MONEY: Final = frozenset(
    {
        "id", "order_id", "parent_id", "kind", "type", "status", "gateway", "amount", "currency", "test",
        "authorization", "created_at", "processed_at", "updated_at", "transaction_ids",
        "currency_exchange_adjustment",
    }
)  # fmt: skip
"""What the books need of a transaction; its receipt and payment details may name the person."""
_PROCESSOR_IDS: Final = re.compile(r"(ch|py|pi|re|pyr)_[A-Za-z0-9]{6,}", re.ASCII)
"""Stripe's ids inside a receipt, by which a sale finds its charge; without the secrets that some carry."""
_ORDER_KEPT: Final = frozenset(
    {
        "id", "name", "order_number", "currency", "presentment_currency", "total_price", "total_price_set",
        "current_total_price", "current_total_price_set",
        "financial_status", "fulfillment_status", "created_at", "updated_at", "processed_at", "cancelled_at",
        "closed_at", "test", "taxes_included", "line_items.price", "line_items.quantity", "line_items.gift_card",
        *(
            f"{name}{ending}"
            for name in (
                "total_line_items_price", "total_discounts", "total_shipping_price", "original_total_duties",
                "total_tax", "total_tip_received",
            )
            for ending in ("", "_set")
        ),
    }
)  # fmt: skip
"""The amounts are what `sold.py` and `finance.py` read: a report says afterwards what it said before."""
_KEPT: Final[Mapping[str, frozenset[str] | None]] = MappingProxyType(
    {
        **dict.fromkeys(("order", "draft_order"), _ORDER_KEPT),
        **dict.fromkeys(
            ("order_transactions", "transaction", "refund", "fulfillment", "tender_transaction"), _MONEY
        ),
        **dict.fromkeys(
            (
                "product", "inventory_item", "inventory_level", "dispute", "payout", "balance_transaction", "balance",
                "access_scopes",
            ),
            None,
        ),
    }
)  # fmt: skip
"""What stays when a person asks to be forgotten. Of a customer nothing does."""


def _kind(name: str, *, door: Door, listed: bool = True, **more: object) -> Kind:
    batch = {
        Door.IDS: IDS_A_CALL,
        Door.ORDER: IDS_A_CALL,
        Door.LEVELS: LEVEL_IDS_A_CALL,
        Door.NEIGHBOURS: PAGE_SIZE,
    }.get(door, 1)
    if name == "inventory_item":
        batch = ITEM_IDS_A_CALL
    values: dict[str, object] = {
        "name": name,
        "endpoint": f"{name}.read",
        "list_endpoint": f"{name}.list" if listed else None,
        "id_batch": batch,
        "batch_reaches": door is not Door.NEIGHBOURS,
        "gather": _GATHER if batch > 1 else timedelta(0),
        "page_size": PAGE_SIZE,
        "windowed": listed,
        "in_feed": False,
        "kept_when_redacted": _KEPT.get(name, frozenset()),
    }
    return Kind(**{**values, **more})  # type: ignore[arg-type]  # keyword by keyword, as Kind declares them


_EMBEDDED_CUSTOMER: Final = frozenset({"customer"})
"""A copy, which changes with the customer, who has versions of its own."""

_ROUTES: Final = (
    Route(
        # Also the list of its refunds and fulfillments, which its body holds, and the reason to read its transactions.
        _kind(
            "order",
            door=Door.IDS,
            window_of_changes=True,
            deletable=True,
            covers=("refund", "fulfillment", "order_transactions", "transaction"),
            open_states=frozenset({"pending", "authorized", "partially_paid"}),
        ),
        "orders", "orders", "order", Door.IDS, "read_orders",
        narrowing=Narrowing.UPDATED,
        counted=True,
        # By default the list holds open orders only.
        parameters=(("status", "any"),),
        status="financial_status",
        volatile=_EMBEDDED_CUSTOMER,
    ),
    Route(
        _kind("order_transactions", door=Door.TRANSACTIONS, listed=False),
        "orders", "transactions", "", Door.TRANSACTIONS, "read_orders",
    ),
    Route(
        _kind(
            "transaction", door=Door.TRANSACTIONS, listed=False, open_states=frozenset({"pending"}),
            words_kept_when_redacted=_PROCESSOR_IDS,
        ),
        "orders", "transactions", "transaction", Door.TRANSACTIONS, "read_orders",
        status="status",
        created=("created_at", "processed_at"),
        # What the order still owes as a whole, repeated in each of its transactions.
        volatile=frozenset({"total_unsettled_set"}),
    ),
    Route(
        _kind("refund", door=Door.ORDER, listed=False),
        "orders", "refunds", "refund", Door.ORDER, "read_orders",
    ),
    Route(
        _kind("fulfillment", door=Door.ORDER, listed=False),
        "orders", "fulfillments", "fulfillment", Door.ORDER, "read_orders",
        status="status",
    ),
    Route(
        # A request to forget a customer names orders, and never drafts.
        _kind(
            "draft_order", door=Door.IDS, window_of_changes=True, deletable=True,
            forgotten_with=(("customer", ("customer", "id")),),
        ),
        "draft_orders", "draft_orders", "draft_order", Door.IDS, "read_draft_orders",
        narrowing=Narrowing.UPDATED,
        status="status",
        volatile=_EMBEDDED_CUSTOMER,
    ),
    Route(
        _kind("product", door=Door.IDS, window_of_changes=True, deletable=True),
        "products", "products", "product", Door.IDS, "read_products",
        narrowing=Narrowing.UPDATED,
        counted=True,
        status="status",
    ),
    Route(
        _kind("customer", door=Door.IDS, window_of_changes=True, deletable=True),
        "customers", "customers", "customer", Door.IDS, "read_customers",
        narrowing=Narrowing.UPDATED,
        counted=True,
        status="state",
    ),
    Route(
        # Its list must be asked for by ids; products name them all, and each is then read.
        _kind("inventory_item", door=Door.IDS, listed=False, deletable=True),
        "inventory_items", "inventory_items", "inventory_item", Door.IDS, "read_inventory",
    ),
    Route(
        # Listed by location, fifty locations at a time; the first page of a walk is the list of locations.
        _kind("inventory_level", door=Door.LEVELS, window_of_changes=True, deletable=True),
        "inventory_levels", "inventory_levels", "", Door.LEVELS, "read_inventory",
        narrowing=Narrowing.UPDATED,
    ),
    Route(
        # Neither `updated_at` nor a filter that says "since": the whole list is short.
        _kind("dispute", door=Door.SINGLE, open_states=frozenset({"needs_response", "under_review"})),
        "shopify_payments/disputes", "disputes", "dispute", Door.SINGLE, "read_shopify_payments_disputes",
        status="status",
        created=("initiated_at",),
        payments=True,
    ),
    Route(
        # No webhook at all.
        _kind(
            "payout", door=Door.SINGLE, has_members=True, open_states=frozenset({"scheduled", "in_transit"})
        ),
        "shopify_payments/payouts", "payouts", "payout", Door.SINGLE, "read_shopify_payments_payouts",
        narrowing=Narrowing.DATE,
        status="status",
        created=("date",),
        payments=True,
    ),
    Route(
        # No webhook and no single read; amounts never change, only the payout that it goes out with.
        _kind(
            "balance_transaction",
            door=Door.NEIGHBOURS,
            open_states=frozenset({"pending", "scheduled", "in_transit"}),
        ),
        "shopify_payments/balance/transactions", "transactions", "", Door.NEIGHBOURS, "read_shopify_payments_payouts",
        narrowing=Narrowing.NEWEST_FIRST,
        status="payout_status",
        created=("processed_at",),
        payments=True,
    ),
    Route(
        # No single read; append-only.
        _kind("tender_transaction", door=Door.NEIGHBOURS),
        "tender_transactions", "tender_transactions", "", Door.NEIGHBOURS, "read_orders",
        narrowing=Narrowing.PROCESSED,
        created=("processed_at",),
    ),
    Route(
        _kind("balance", door=Door.WHOLE, listed=False, singleton=BALANCE_ID),
        "shopify_payments/balance", "balance", "", Door.WHOLE, "read_shopify_payments_payouts",
        payments=True,
    ),
    Route(
        # What the app may read: its versions say when that changed, and each read tells us how far lists can go.
        _kind("access_scopes", door=Door.WHOLE, listed=False, singleton=SCOPES_ID),
        "oauth/access_scopes", "access_scopes", "", Door.WHOLE, "",
    ),
)  # fmt: skip

ROUTES: Final[Mapping[str, Route]] = MappingProxyType({route.kind.name: route for route in _ROUTES})
KINDS: Final[Mapping[str, Kind]] = MappingProxyType({name: route.kind for name, route in ROUTES.items()})

COUNTED: Final = frozenset(name for name, route in ROUTES.items() if route.counted)
COUNTED_TO: Final = 25_000
"""Shopify counts exactly up to here; of more it says one more."""

_STANDARD_BUCKET: Final = 40
_SECONDS_TO_EMPTY: Final = 20
"""40 leaks 2 a second, 400 (Plus) 20 a second: every published bucket empties in this time."""


def limits(bucket: int = _STANDARD_BUCKET) -> Mapping[str, Limit]:
    """One leaky bucket for all of an app's requests to a shop; `bucket` is what the shop's own answers say."""
    return MappingProxyType({ACCOUNT_LIMIT: Limit(rate=bucket / _SECONDS_TO_EMPTY, burst=bucket)})
