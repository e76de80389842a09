"""Who may ask: tokens that programs send as `Authorization: Bearer TOKEN`."""

from __future__ import annotations

import hmac
from collections.abc import Collection

from reconciler.intake.asgi import Scope


class Bearer:
    """Knows tokens from the configuration, compared in constant time."""

    def __init__(self, tokens: Collection[str]) -> None:
        self._tokens = [token.encode() for token in tokens]

    def knows(self, scope: Scope) -> bool:
        header = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        # Every token is compared, so that the time tells nothing about which of them came close.
        return sum(hmac.compare_digest(token.strip(), known) for known in self._tokens) > 0
