"""Who may ask: tokens that programs send as `Authorization: Bearer TOKEN`."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from typing import Protocol

from reconciler.intake.asgi import Scope
from reconciler.ledger.people import MachineToken


class Bearer:
    """Knows tokens from the configuration, compared in constant time."""

    def __init__(self, tokens: Collection[str]) -> None:
        self._tokens = [token.encode() for token in tokens]

    def knows(self, scope: Scope) -> bool:
        scheme, _, token = _header(scope).partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        # Every token is compared, so that the time tells nothing about which of them came close.
        return sum(hmac.compare_digest(token.strip(), known) for known in self._tokens) > 0


class MachineTokens(Protocol):
    async def find(self, header: str) -> MachineToken | None:
        """Whose `Authorization` this is; None: nobody's, or not any more."""


class Grants:
    """What the sender of a request may do here: a token of the configuration everything, a machine token its scopes."""

    def __init__(self, bearer: Bearer, every: Collection[str], machines: MachineTokens | None = None) -> None:
        self._bearer = bearer
        self._every = frozenset(every)
        self._machines = machines

    async def of(self, scope: Scope) -> frozenset[str] | None:
        """None: nobody knows the sender. Raises LedgerUnavailable."""
        if self._bearer.knows(scope):
            return self._every
        if self._machines is None:
            return None
        found = await self._machines.find(_header(scope).decode("latin-1"))
        return None if found is None else found.scopes & self._every


def _header(scope: Scope) -> bytes:
    found: bytes = dict(scope["headers"]).get(b"authorization", b"")
    return found
