"""Sealing at rest: what only a key outside the ledger opens, so that a copy of the ledger shows none of it.

AES-256-GCM, which `cryptography` runs on the processor's own instructions (3 us for a body of 2 KB; Fernet takes 40
and adds a third to the size). Whatever is sealed names its key, so that keys can be changed while rows of the old one
are still there, and so that a missing key can be named.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reconciler.errors import ConfigurationError

_NAMED: Final = b"2"
"""Form, key id, 12 random bytes, sealed content. Other forms get other bytes."""
_UNNAMED: Final = b"1"
"""The form before keys had ids: still opened, by trying, never written."""
_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32

MAKE_A_KEY: Final = 'python3 -c "import base64,os; print(base64.b64encode(os.urandom(32)).decode())"'


class CannotOpen(Exception):
    """No key that is at hand sealed this for this purpose. The message names the key that it takes, if known."""


class Altered(CannotOpen):
    """The key that sealed it is at hand, and says that it is not what was sealed, or not for this purpose."""


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """32 random bytes, and the name that is written beside what they sealed."""

    secret: bytes

    @classmethod
    def parse(cls, words: str) -> Key:
        """From base64, also the kind for URLs. Raises ValueError; never shows what it was given."""
        try:
            secret = base64.b64decode(words.strip().replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"expected 32 random bytes in base64; make one with: {MAKE_A_KEY}") from None
        if len(secret) != _KEY_BYTES:
            raise ValueError(f"expected 32 random bytes in base64, not {len(secret)}; make one with: {MAKE_A_KEY}")
        return cls(secret)

    @property
    def id(self) -> str:
        """Eight hex digits of a hash: says which key it is, and nothing about it."""
        return hashlib.sha256(b"reconciler key id:" + self.secret).digest()[:_ID_BYTES].hex()

    def __repr__(self) -> str:
        return f"Key({self.id})"


class Seal:
    """The first key seals; every key opens, so that keys can be changed without a gap."""

    def __init__(self, keys: Sequence[Key]) -> None:
        """At least one."""
        self._ciphers = {key.id: AESGCM(key.secret) for key in keys}
        self.first = keys[0].id
        self._prefix = _NAMED + bytes.fromhex(self.first)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._ciphers)

    @property
    def prefix(self) -> bytes:
        """With which everything begins that is sealed now."""
        return self._prefix

    def close(self, content: bytes, purpose: str) -> bytes:
        """`purpose` (whose token, which column) is bound in: sealed content moved elsewhere does not open there."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._prefix + nonce + self._ciphers[self.first].encrypt(nonce, content, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """Raises CannotOpen."""
        if sealed[:1] == _UNNAMED:
            return self._open_unnamed(sealed[1:], purpose)
        key_id = key_id_of(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise CannotOpen(f"it was sealed with the key {key_id}, and only {', '.join(self.ids)} is at hand")
        try:
            return _decrypt(cipher, sealed[1 + _ID_BYTES :], purpose)
        except InvalidTag:
            raise Altered("it is damaged, or was sealed for another place") from None

    def _open_unnamed(self, content: bytes, purpose: str) -> bytes:
        for cipher in self._ciphers.values():
            try:
                return _decrypt(cipher, content, purpose)
            except InvalidTag:
                continue
        raise CannotOpen("no key that is at hand opens it")


def key_id_of(sealed: bytes) -> str:
    """Which key it takes. Raises CannotOpen for what no version of this program sealed; Altered where it is cut off."""
    if len(sealed) < 1 + _ID_BYTES + _NONCE_BYTES:
        raise Altered("it is cut off")
    if sealed[:1] != _NAMED:
        raise CannotOpen("this was sealed by another version of the program")
    return sealed[1 : 1 + _ID_BYTES].hex()


def seal_of(words: Sequence[tuple[str, str]]) -> Seal | None:
    """Out of (where it was written, the key in base64), the first for sealing; None: there is none.

    Raises ConfigurationError, which says where and never shows a key.
    """
    keys = []
    for where, each in words:
        try:
            keys.append(Key.parse(each))
        except ValueError as error:
            raise ConfigurationError(f"{where}: {error}") from None
    return Seal(keys) if keys else None


def _decrypt(cipher: AESGCM, content: bytes, purpose: str) -> bytes:
    if len(content) < _NONCE_BYTES:
        raise InvalidTag
    return cipher.decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], purpose.encode())
