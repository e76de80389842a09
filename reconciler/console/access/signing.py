"""Signatures on what travels through a browser: only what we gave out comes back as ours."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

_TOKEN_BYTES: Final = 32


def fresh_token() -> str:
    """256 random bits, in characters that a cookie and an address may hold."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def digest(token: str) -> str:
    """How a token lies in the ledger. A token has more entropy than any hash could be searched for, so one pass is
    enough."""
    return hashlib.sha256(token.encode()).hexdigest()


class Signer:
    """HMAC-SHA-256 under the ledger's own key, a different one for each purpose."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, purpose: str, value: str) -> str:
        """`value.signature`."""
        return f"{value}.{self.mark(purpose, value)}"

    def signed(self, purpose: str, text: str) -> str | None:
        """The value of a text that `sign` made for the same purpose; None for any other."""
        value, _, given = text.rpartition(".")
        if not value or not text.isascii():
            return None
        return value if hmac.compare_digest(given, self.mark(purpose, value)) else None

    def mark(self, purpose: str, value: str) -> str:
        message = f"{purpose}\0{value}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()

    def matches(self, purpose: str, value: str, mark: str) -> bool:
        return mark.isascii() and hmac.compare_digest(mark, self.mark(purpose, value))
