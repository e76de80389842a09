"""Passwords: argon2id, at a price that neither a thief of the ledger nor a guesser can pay often."""

from __future__ import annotations

import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from reconciler.errors import UsageError

LEAST_CHARACTERS = 12
MOST_BYTES = 1024


class Passwords:
    """Costs as OWASP's cheat sheet has them for argon2id (19 MiB, two passes, one lane): about 30 ms."""

    def __init__(self, *, memory_kib: int = 19_456, passes: int = 2) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)
        self._nobody = self._hasher.hash(secrets.token_hex())
        """Checked where there is no such user, so that the time of an answer does not tell who exists."""

    def hash(self, password: str, *, name: str) -> str:
        """Raises UsageError for a password that is too easy or too long."""
        if len(password) < LEAST_CHARACTERS:
            raise UsageError(f"a password has at least {LEAST_CHARACTERS} characters; a few words make a good one")
        if len(password.encode()) > MOST_BYTES:
            raise UsageError(f"a password has at most {MOST_BYTES} bytes")
        if name and name.lower() in password.lower() and len(password) < 2 * LEAST_CHARACTERS:
            raise UsageError("a password must not hold the user's name")
        return self._hasher.hash(password)

    def match(self, stored: str | None, password: str) -> bool:
        """`stored` None: there is no such user; it takes as long to say so."""
        if len(password.encode()) > MOST_BYTES:
            return False
        try:
            self._hasher.verify(self._nobody if stored is None else stored, password)
        except (VerificationError, InvalidHashError):
            return False
        return stored is not None
