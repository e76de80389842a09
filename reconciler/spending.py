"""Spending one account's budget: requests are drawn before they are sent, and given back where they were not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from reconciler.clock import Clock
from reconciler.errors import Throttled, ThrottleScope
from reconciler.ledger import GroupCommit, Ledger
from reconciler.model import Priority
from reconciler.provider import ACCOUNT_LIMIT, Limit, Provider

_PATIENCE = timedelta(seconds=5)
"""The longest wait for budget that is made in place; for longer ones a run ends, and goes on when it is due again."""


class NoBudget(Throttled):
    """Our own budget has nothing left for this urgency; the provider was not asked."""


class Spending:
    def __init__(
        self,
        account: str,
        provider: Provider,
        ledger: GroupCommit,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._account = account
        self._provider = provider
        self._ledger = ledger
        self._clock = clock
        self._sleep = sleep
        self._learning = asyncio.Lock()
        self.limits = provider.limits
        """The provider's, as our budget has them: it may learn of larger ones from its answers."""

    async def draw(self, endpoint: str, priority: Priority, *, want: int = 1) -> tuple[int, timedelta]:
        """Requests that may be sent now, and with none how long to wait."""
        await self.learn()
        now = self._clock.now()
        return await self._ledger.call(
            lambda ledger: ledger.requests.draw(
                self._account, endpoint, self.limits, want=want, priority=priority, now=now
            )
        )

    async def give_back(self, endpoint: str, priority: Priority) -> None:
        """A request that was drawn and not sent."""
        now = self._clock.now()
        await self._ledger.call(
            lambda ledger: ledger.requests.give_back(
                self._account, endpoint, self.limits, unused=1, priority=priority, now=now
            )
        )

    async def acquire(self, endpoint: str, priority: Priority) -> None:
        """One request's worth of budget; raises NoBudget when it would take too long to wait in place."""
        wait = await self.wait_for(endpoint, priority, _PATIENCE)
        if wait:
            raise NoBudget(f"no budget for {endpoint} in time", retry_after=wait, scope=ThrottleScope.RESOURCE)

    async def wait_for(self, endpoint: str, priority: Priority, patience: timedelta) -> timedelta:
        """One request's worth of budget, and zero; or, where that is longer than `patience`, how long it would take."""
        while True:
            granted, wait = await self.draw(endpoint, priority)
            if granted:
                return timedelta(0)
            if wait > patience:
                return wait
            await self._sleep(max(wait.total_seconds(), 0.001))

    async def learn(self) -> None:
        """A provider whose answers say how much it allows may have learned that it is more than was published.

        What the limit grew by comes into the bucket in the transaction from which on the new limit counts: by the new
        limit's reserve a bucket that was filled by the old one would be empty for minutes.
        """
        if self._provider.limits == self.limits:
            return
        async with self._learning:
            before, learned = self.limits, self._provider.limits
            grown = _burst(learned) - _burst(before)
            now = self._clock.now()

            def act(ledger: Ledger) -> None:
                if grown > 0:
                    ledger.requests.widen(self._account, learned, requests=grown, now=now)
                self.limits = learned

            try:
                await self._ledger.call(act)
            except BaseException:
                self.limits = before  # the commit that was to bring the requests did not happen
                raise


def _burst(limits: Mapping[str, Limit]) -> int:
    limit = limits.get(ACCOUNT_LIMIT)
    return 0 if limit is None else limit.burst
