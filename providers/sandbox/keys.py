"""API keys: which account and mode they open, what a restricted one may read, and how Stripe says no."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from providers.sandbox.answers import Refusal


@dataclass(frozen=True, slots=True)
class ApiKey:
    text: str
    livemode: bool = False
    permissions: frozenset[str] | None = None
    """As in `charge_read`, `webhook_write`; write implies read. None: a secret key, which may do everything."""
    revoked: bool = False

    def allows(self, permission: str, action: str) -> bool:
        if self.permissions is None:
            return True
        return f"{permission}_write" in self.permissions or f"{permission}_{action}" in self.permissions


class KeyRing:
    """The keys of one account; they may be added, restricted and revoked while the server runs."""

    def __init__(self, *keys: ApiKey) -> None:
        self._keys = {key.text: key for key in keys}

    def put(self, key: ApiKey) -> None:
        self._keys[key.text] = key

    def first(self) -> ApiKey:
        return next(iter(self._keys.values()))

    def open(self, headers: Mapping[bytes, bytes]) -> ApiKey:
        """The key that a request brought. Raises Refusal (401) for none, an unknown or a revoked one."""
        text = _presented(headers.get(b"authorization", b""))
        if not text:
            raise Refusal(401, "You did not provide an API key. You need to provide your API key in the Authorization "
                               "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').")  # fmt: skip
        key = self._keys.get(text)
        if key is None:
            raise Refusal(401, f"Invalid API Key provided: {masked(text)}")
        if key.revoked:
            raise Refusal(401, f"Expired API Key provided: {masked(text)}", code="api_key_expired")
        return key


def require(key: ApiKey, permission: str, method: str, account: str) -> None:
    """Raises Refusal (403) that names the missing permission, as Stripe does."""
    action = "read" if method == "GET" else "write"
    if key.allows(permission, action):
        return
    raise denied(key, f"rak_{permission}_{action}", account)


def denied(key: ApiKey, permission: str, account: str) -> Refusal:
    return Refusal(403, f"The provided key '{masked(key.text)}' does not have the required permissions for this "
                        f"endpoint on account '{account}'. Having the '{permission}' permission would allow this "
                        "request to continue.")  # fmt: skip


def masked(text: str) -> str:
    return f"{text[:8]}{'*' * max(4, len(text) - 12)}{text[-4:]}"


def _presented(header: bytes) -> str:
    scheme, _, rest = header.decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(rest, validate=True).decode("utf-8").partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""
