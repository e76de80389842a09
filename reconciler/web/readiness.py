"""Whether this process can do its work now, and if not, why: what `/readyz` says."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from reconciler.clock import Clock
from reconciler.errors import LedgerError
from reconciler.ledger import schema
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.writer import GroupCommit

_PATIENCE_SECONDS = 3.0
_GOOD_FOR_SECONDS = 1.0
"""A verdict is used again for this long: asking costs a commit, and anybody may ask."""


class Readiness:
    """`accounts` are the accounts whose provider objects were loaded."""

    def __init__(self, ledger: GroupCommit, accounts: Collection[str], clock: Clock) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._clock = clock
        self._newest = schema.newest()
        self._asking: asyncio.Task[dict[str, str]] | None = None
        self._answered_at = float("-inf")

    async def reasons(self) -> Mapping[str, str]:
        """What is missing and what to do about it; empty when ready. Questions at the same time share one answer."""
        if self._asking is None or (
            self._asking.done() and self._clock.monotonic() - self._answered_at >= _GOOD_FOR_SECONDS
        ):
            self._asking = asyncio.create_task(self._ask(), name="readiness")
        return await asyncio.shield(self._asking)

    async def _ask(self) -> dict[str, str]:
        reasons: dict[str, str] = {}
        if not self._accounts:
            reasons["accounts"] = "no account is loaded; add [accounts.NAME] to the configuration"
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                reasons |= await self._ledger.read(self._schema)
                if "schema" not in reasons:
                    await self._ledger.call_with_deliveries(Ledger.tick)
        except LedgerError as error:
            reasons["ledger"] = str(error)
        except TimeoutError:
            reasons["ledger"] = f"no answer within {_PATIENCE_SECONDS:g} s; look at the ledger's database"
        self._answered_at = self._clock.monotonic()
        return reasons

    def _schema(self, ledger: Ledger) -> dict[str, str]:
        """A newer schema is no reason: its steps only add, so that a node goes on until it is replaced."""
        found = schema.current(ledger.store)
        if found == self._newest or schema.is_newer(found):
            return {}
        return {"schema": f"revision {found}, but this program needs {self._newest}; run `reconcile migrate`"}
