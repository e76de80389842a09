"""What `[accounts.NAME]` may hold for `provider = "stripe"`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import field_validator

from reconciler.provider import ProviderSettings, Secret, shaped

PINNED_VERSION = "2026-10-28.endive"
"""The API version that this code was written against; a test holds it against the one the `stripe` package pins."""


class StripeSettings(ProviderSettings):
    """A restricted key with Read on the kinds that you follow is enough; docs/providers/stripe.md lists them."""

    api_key: Secret
    """`rk_live_...` (restricted, read only) or `sk_...`. Its prefix says whether it speaks of live or test money."""
    base_url: str = "https://api.stripe.com"
    """Another address only for a sandbox or an egress gateway."""
    stripe_version: Annotated[
        str,
        shaped(
            r"20[0-9]{2}-[0-9]{2}-[0-9]{2}(\.[a-z_]+)?(; ?[a-z0-9_]+=v[0-9]+)*",
            f'a version of Stripe\'s API, such as "{PINNED_VERSION}"',
        ),
    ] = PINNED_VERSION
    """Sent with every request and stored with every version: the shape of a body depends on it."""
    tolerance: timedelta = timedelta(seconds=300)
    """How far the time inside a webhook's signature may lie from ours, on either side; Stripe's own default."""
    account_id: Annotated[str, shaped(r"acct_[A-Za-z0-9]+", "an account's id, acct_...")] | None = None
    """This account's own `acct_...`. Needed only where deliveries name it as if it were a connected account's."""

    @field_validator("base_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            raise ValueError("base_url must begin with https:// (or http:// for a sandbox on this machine)")
        return value.rstrip("/")

    @field_validator("tolerance")
    @classmethod
    def _some_tolerance(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= timedelta(days=1):
            raise ValueError("tolerance must be more than nothing and at most a day; 5m is Stripe's own")
        return value

    @property
    def source(self) -> str:
        return f"{self.base_url} {self.api_key.get_secret_value()}"

    @property
    def livemode(self) -> bool | None:
        """What the key's prefix says; None for a key that does not tell (an organisation's)."""
        parts = self.api_key.get_secret_value().split("_", 2)
        if len(parts) < 3 or parts[0] not in ("sk", "rk"):
            return None
        return {"live": True, "test": False}.get(parts[1])
