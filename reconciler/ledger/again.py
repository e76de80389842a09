"""Trying again what another transaction stood in the way of: the one place where that is done, for nodes and commands.

Whoever lost has stored nothing, so the same call is safe to make again; only how long it may take differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from reconciler.errors import LedgerContention, LedgerLocked, LedgerUnavailable
from reconciler.ledger.store import Store
from reconciler.ledger.transaction import Transaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Again:
    """How long somebody goes on asking. Call it with what is to be done, whole: a transaction, never a part of one."""

    after: tuple[type[LedgerUnavailable], ...]
    tries: int
    seconds: float = 60.0
    """After which there is no further one, however many were made: one of them may have waited a minute by itself."""
    monotonic: Callable[[], float] = time.monotonic

    def __call__(self, act: Callable[[], T]) -> T:
        """What `act` returns. Raises what it raised the last time."""
        give_up_at = self.monotonic() + self.seconds
        for _ in range(self.tries - 1):
            try:
                return act()
            except self.after:
                if self.monotonic() >= give_up_at:
                    raise
        return act()

    def writing(self, store: Store, act: Callable[[Transaction], T]) -> T:
        """The same for what one transaction writes. `act` may be called several times, of which one is stored."""

        def whole() -> T:
            with store.write() as tx:
                return act(tx)

        return self(whole)


WHILE_OTHERS_WAIT: Final = Again((LedgerContention,), tries=3)
"""A node. A lock that did not come within two seconds is not waited for again: a provider is told to send again, before
its own patience (Shopify: 5 s) ends, and everybody else's call would wait as well."""

AT_LEISURE: Final = Again((LedgerContention, LedgerLocked), tries=10)
"""A command: only the person who gave it waits. Postgres takes a second to notice a deadlock, and two for a lock."""
