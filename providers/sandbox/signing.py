"""Stripe's webhook signature, made: `t=<unix>,v1=<hex>`, one v1 for each active secret."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence


def signature(body: bytes, secrets: Sequence[str], seconds: int) -> str:
    """HMAC-SHA256 over `"{t}.{body}"`, keyed with the whole `whsec_...` text."""
    signed = b"%d." % seconds + body
    parts = [f"t={seconds}"]
    parts += [f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}" for secret in secrets]
    return ",".join(parts)
