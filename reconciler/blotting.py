"""Blotting out what looks like a secret or an address of somebody, in words that were made elsewhere.

A net under messages that quote others: whoever writes a message should not put such things into it.
"""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "[redacted]"

_SECRET: Final = re.compile(
    r"\b(?:sk|rk)_[A-Za-z0-9_]{4,}"  # Stripe keys; organisation keys are sk_org_...
    r"|\bwhsec_[A-Za-z0-9+/=_-]{4,}"
    r"|\bshp(?:at|ca|pa|ss)_[A-Za-z0-9]{4,}"  # Shopify tokens and client secrets
    r"|\b(?:Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user:password in a URL
    # Somebody's mail; not a database's user@host, which stands behind slashes.
    r"|(?<![A-Za-z0-9._%+/-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+"
)


def scrub(text: str) -> str:
    """The text without anything that looks like a secret or a mail address."""
    return _SECRET.sub(REDACTED, text)
