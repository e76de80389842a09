"""What `[accounts.NAME]` may hold for `provider = "shopify"`."""

from __future__ import annotations

from typing import Self

from pydantic import field_validator, model_validator
from shopify import Session
from shopify.utils.shop_url import sanitize_shop_domain

from providers.shopify.versions import PINNED_VERSION, require_release
from reconciler.provider import ProviderSettings, Secret


class ShopifySettings(ProviderSettings):
    """One shop and one way of proving who asks; docs/providers/shopify.md lists the scopes."""

    shop: str
    """`example.myshopify.com`, or `example`: the shop's permanent name, never its own domain."""
    access_token: Secret | None = None
    """`shpat_...` of a custom app: good until it is revoked. Leave it out where a token is obtained or renewed."""
    client_id: str | None = None
    """The app's client id. With `client_secret` alone a token is obtained for 24 hours at a time (an app of your own
    organisation); with `refresh_token` besides, it is renewed every hour (any other app)."""
    client_secret: Secret | None = None
    refresh_token: Secret | None = None
    """The first refresh token, from the installation. Each renewal brings the next, which the ledger keeps, sealed with
    the first of encryption.keys; this one is then never used again."""
    api_version: str = PINNED_VERSION
    """Sent with every request and stored with every version: the shape of a body depends on it."""
    base_url: str | None = None
    """Another address only for a sandbox or an egress gateway; default: the shop's own."""
    declared_topics: tuple[str, ...] = ()
    """Webhook topics subscribed to in the app's TOML file: the API does not show those, so they would look missing."""
    shopify_payments: bool = True
    """Whether the shop takes payments through Shopify Payments. With false, its disputes, payouts and balance count as
    empty where Shopify says that there are none; with true that is "not looked at"."""

    @field_validator("shop")
    @classmethod
    def _permanent_name(cls, value: str) -> str:
        name: str | None = sanitize_shop_domain(value)
        if name is None:
            raise ValueError("shop must be the permanent name, as in example.myshopify.com")
        return name

    @field_validator("api_version")
    @classmethod
    def _released(cls, value: str) -> str:
        return require_release(value)

    @field_validator("base_url")
    @classmethod
    def _without_slash(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            raise ValueError("base_url must begin with https:// (or http:// for a sandbox on this machine)")
        return None if value is None else value.rstrip("/")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        both = self.client_id is not None and self.client_secret is not None
        some = self.client_id is not None or self.client_secret is not None or self.refresh_token is not None
        if self.access_token is not None and not some:
            return self
        if self.access_token is None and both:
            return self
        raise ValueError(
            "set either access_token, or client_id and client_secret (and refresh_token for an app that is not of "
            "your own organisation)"
        )

    @property
    def source(self) -> str:
        return f"{self.origin} {self.shop}"

    @property
    def origin(self) -> str:
        """Scheme and host of every request."""
        # The session knows how a shop's address is written; its own client is never used (decision 0030).
        return self.base_url or f"{Session.protocol}://{Session(self.shop, self.api_version).url}"
