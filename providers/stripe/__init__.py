"""Stripe as a provider of truth. `providers.stripe.Stripe` is all that the rest of the project may name."""

from providers.stripe.provider import Stripe
from providers.stripe.settings import StripeSettings

__all__ = ["Stripe", "StripeSettings"]
