"""Secrets at rest: sealed with a key that only the environment holds, so that a copy of the ledger opens nothing."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reconciler.errors import ConfigurationError

_FORM = b"1"
"""AES-256-GCM: form, 12 random bytes, sealed content. Other forms get other bytes."""
_NONCE_BYTES = 12
_KEY_BYTES = 32


class CannotOpen(Exception):
    """No key that is at hand sealed this for this purpose."""


class Seal:
    """The first key seals; every key opens, so that keys can be changed without a gap."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = [AESGCM(key) for key in keys]

    @classmethod
    def of(cls, words: str) -> Seal:
        """From one or more base64 keys, separated by commas. Raises ConfigurationError; never shows a key."""
        keys = [_key(word.strip()) for word in words.split(",") if word.strip()]
        if not keys:
            raise _wrong()
        return cls(keys)

    def close(self, content: bytes, purpose: str) -> bytes:
        """`purpose` (an account's name) is bound in: sealed content moved elsewhere does not open there."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORM + nonce + self._ciphers[0].encrypt(nonce, content, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """Raises CannotOpen."""
        nonce, content = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if sealed[:1] != _FORM or len(nonce) < _NONCE_BYTES:
            raise CannotOpen("this was sealed by another version of the program")
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(nonce, content, purpose.encode())
            except InvalidTag:
                continue
        raise CannotOpen("no key that is at hand opens it")


def _key(word: str) -> bytes:
    try:
        key = base64.b64decode(word.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise _wrong() from None
    if len(key) != _KEY_BYTES:
        raise _wrong()
    return key


def _wrong() -> ConfigurationError:
    return ConfigurationError(
        "RECONCILER_TOKEN_KEY must hold 32 random bytes in base64 (several keys, newest first, with commas between "
        'them, while you change it); make one with: python3 -c "import base64,os; '
        'print(base64.b64encode(os.urandom(32)).decode())"'
    )
