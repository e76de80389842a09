"""Whether a delivery was signed by Shopify with one of our app's secrets.

The signature covers the body alone: topic, shop, event id and time are unsigned headers. Whoever replays a body under
another topic causes one read of a resource that exists, and nothing else, because no delivery is ever state.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from reconciler.errors import SignatureRejected

_PREFIXES: Final = ("x-shopify-", "shopify-")
"""Classic webhooks, and the Events that succeed them (2026-10), which drop the `X-`."""
_DIGEST_BYTES: Final = 32


def header(headers: Mapping[str, str], name: str) -> str | None:
    """A Shopify header in either family, by what follows the prefix; None where it is absent or blank."""
    for prefix in _PREFIXES:
        value = headers.get(prefix + name, "").strip()
        if value:
            return value
    return None


def check(headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
    """Return quietly when one of `secrets` signed `body`; else raise.

    Raises `SignatureRejected` with reason `missing`, `malformed`, `no_secret` or `wrong`. Several secrets: Shopify
    goes on to sign with the oldest one that is not revoked, for up to an hour after a change.
    """
    given = header(headers, "hmac-sha256")
    if given is None:
        raise SignatureRejected("missing", "no X-Shopify-Hmac-Sha256 header; deliveries must come from Shopify itself")
    if not secrets:
        raise SignatureRejected("no_secret", "no webhook secret is configured; set webhook_secrets to the app's client "
                                "secret")  # fmt: skip
    try:
        digest = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureRejected("malformed", "the signature is not base64") from error
    if len(digest) != _DIGEST_BYTES:
        raise SignatureRejected("malformed", "the signature has not the length of an HMAC-SHA256")
    # Every secret is tried, so that the time it takes does not say which one it was.
    matches = [hmac.compare_digest(_signed(secret, body), digest) for secret in secrets]
    if not any(matches):
        raise SignatureRejected("wrong", "no configured webhook secret made this signature")


def _signed(secret: str, body: bytes) -> bytes:
    return hmac.new(secret.encode(), body, hashlib.sha256).digest()
