"""The receiver of webhooks: verify, write, answer. Nothing else happens before the 2xx.

A delivery is a hint. Its body is never believed, only kept for audit; what it names is marked dirty in the same
commit as the delivery's row, and the 2xx follows that commit. Everything slow comes later, somewhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from reconciler.clock import Clock
from reconciler.intake.arrival import Arrival, Door, Following, Shared
from reconciler.intake.exchange import Exchange, Head, Reply
from reconciler.intake.limits import AuditAllowance, DoorLimits, IntakeLimits, SourceRate
from reconciler.intake.metrics import IntakeMetrics
from reconciler.intake.patience import Patience
from reconciler.intake.sources import Networks, Proxies
from reconciler.ledger.writer import GroupCommit
from reconciler.provider import Provider

PREFIX = "/webhooks/"

UNKNOWN = "(unknown)"
"""The account that requests to unknown addresses are noted under: one bucket, whatever they were called."""


class Intake:
    """Takes `POST /webhooks/{provider}/{account}`; every path below `/webhooks/` is its own.

    `ledger.on_marked` tells whoever wants to claim that there is work. Answers and audit reasons: `Refusal`.
    Belongs to the event loop that runs when its first request comes.
    """

    prefix = PREFIX

    def __init__(
        self,
        providers: Mapping[str, Provider],
        ledger: GroupCommit,
        clock: Clock,
        metrics: IntakeMetrics,
        limits: IntakeLimits = IntakeLimits(),  # noqa: B008 - frozen, so sharing the default is safe
        *,
        accounts: Mapping[str, DoorLimits] = {},
        following: Following | None = None,
    ) -> None:
        """`accounts`: what holds for some of them besides. `following` traces deliveries; None: nothing does."""
        self._following = following
        self._ledger = ledger
        self._clock = clock
        self._limits = limits
        self._metrics = metrics
        self._shared: Shared | None = None
        self._doors = {
            f"{PREFIX}{provider.name}/{account}": self._door(
                account, provider.name, provider, accounts.get(account, DoorLimits())
            )
            for account, provider in providers.items()
        }
        self.paths: Mapping[bytes, str] = {path.encode(): path for path in self._doors}
        self._nowhere = self._door(UNKNOWN, UNKNOWN, None, DoorLimits())

    def take(self, head: Head, reply: Reply) -> Exchange:
        """One request. It is answered through `reply`, perhaps before this returns."""
        shared = self._shared
        if shared is None:
            shared = self._shared = self._share()
        arrival = Arrival(self._doors.get(head.path, self._nowhere), head, reply, shared)
        arrival.begin()
        return arrival

    def _door(self, account: str, provider_name: str, provider: Provider | None, limits: DoorLimits) -> Door:
        rate = limits.deliveries_per_second
        return Door(
            account,
            provider_name,
            provider,
            AuditAllowance(self._limits.audited_per_minute),
            self._metrics.of(account),
            rate=None if rate is None else SourceRate(rate, sources=1),
            senders=Networks(limits.sources) if limits.sources else None,
        )

    def _share(self) -> Shared:
        rate = self._limits.requests_per_second
        return Shared(
            ledger=self._ledger,
            clock=self._clock,
            limits=self._limits,
            rate=None if rate is None else SourceRate(rate, sources=self._limits.sources),
            proxies=Proxies(self._limits.trusted_proxies) if self._limits.trusted_proxies else None,
            following=self._following,
            patience=Patience(asyncio.get_running_loop()),
        )
