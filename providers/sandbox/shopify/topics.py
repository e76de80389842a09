"""The webhook topics that a sandbox shop is asked for."""

from __future__ import annotations

TOPICS = (
    "app/scopes_update", "app/uninstalled", "customers/create", "customers/delete", "customers/merge",
    "customers/update", "disputes/create", "disputes/update", "draft_orders/create", "draft_orders/delete",
    "draft_orders/update", "fulfillments/create", "fulfillments/update", "inventory_items/create",
    "inventory_items/delete", "inventory_items/update", "inventory_levels/connect", "inventory_levels/disconnect",
    "inventory_levels/update", "order_transactions/create", "orders/cancelled", "orders/create", "orders/delete",
    "orders/edited", "orders/fulfilled", "orders/paid", "orders/partially_fulfilled", "orders/updated",
    "products/create", "products/delete", "products/update", "refunds/create", "tender_transactions/create",
)  # fmt: skip
"""What an app like ours subscribes to; a sandbox has nothing to say of some of them."""
