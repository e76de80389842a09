"""A Stripe account without limits: what a benchmark configures where not Stripe's budget, but we shall be measured."""

from __future__ import annotations

from collections.abc import Mapping

from providers.stripe.provider import Stripe
from reconciler.provider import Limit


class Unlimited(Stripe):
    @property
    def limits(self) -> Mapping[str, Limit]:
        return {}
