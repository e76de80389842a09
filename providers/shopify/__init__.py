"""Shopify as a provider of truth. `providers.shopify.Shopify` is all that the rest of the project may name."""

from providers.shopify.provider import Shopify
from providers.shopify.settings import ShopifySettings

__all__ = ["Shopify", "ShopifySettings"]
