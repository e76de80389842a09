"""Shopify as a stateful look-alike over real HTTP, beside the Stripe one and out of the same parts.

`Shop` is one shop's truth, pure and seeded; `ShopServer` serves its REST API with Shopify's filters, cursors, bucket
and errors, and sends its webhooks. Nothing here is ever imported by the core.
"""

from providers.sandbox.shopify.server import ShopServer
from providers.sandbox.shopify.shop import Shop

__all__ = ["Shop", "ShopServer"]
