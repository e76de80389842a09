"""One scenario from its beginning to its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from providers.sandbox.post import PostFailed
from reconciler.ledger import Ledger, Store
from reconciler.ledger.subscriptions import Standing
from tests.ledger.seams import Faults
from tests.simulation.listening import SUBSCRIPTIONS, Reader, Subscribers
from tests.simulation.loop import EPOCH, SimulatedClock, SimulatedLoop, Stuck
from tests.simulation.nodes import Host, Mutant
from tests.simulation.oracle import Oracle
from tests.simulation.scenario import Incident, Scenario, calm
from tests.simulation.shop import Shop
from tests.simulation.shopify_shop import ShopifyShop
from tests.simulation.statements import QuickFaults
from tests.simulation.stripe_shop import StripeShop

_SHOPS: Mapping[str, type[StripeShop | ShopifyShop]] = {each.provider: each for each in (StripeShop, ShopifyShop)}


@dataclass(frozen=True, slots=True)
class Verdict:
    scenario: Scenario
    violation: str | None
    trace: str
    """A digest of every commit and its instant: two runs of a scenario are alike if and only if theirs are."""
    simulated_hours: float
    cpu_seconds: float
    commits: int
    deaths: int
    struck: Mapping[str, int]
    quiet_after: float
    """Seconds from the end of the faults until the ledger was the truth."""


class _Over(Exception):
    """The verdict is in."""


class Simulation:
    def __init__(self, scenario: Scenario, mutant: Mutant | None = None, faults: Faults | None = None) -> None:
        """`faults` makes the transactions; without it they take the short way to the database."""
        mutant = mutant or Mutant()
        self.scenario = scenario
        self.loop = SimulatedLoop(scenario.seed)
        self._dice = random.Random(f"network/{scenario.seed}")
        self.shop: Shop = _SHOPS[scenario.provider](
            scenario, self.loop, SimulatedClock(self.loop, timedelta(seconds=scenario.provider_skew)), self._post
        )
        faults = faults or QuickFaults()
        store = Store("sqlite://", transactions=faults.begin)
        self.oracle = Oracle(scenario, self.loop, self.shop, _filled(store))
        self.subscribers = Subscribers(scenario, self.loop, self.oracle.feed)
        self.reader = Reader(scenario, self.oracle.feed, lambda: self._dice.choice(self.hosts))
        self.hosts = [
            Host(number, scenario, self.loop, self.shop, store, faults, self.oracle, self.subscribers, mutant)
            for number in range(scenario.nodes)
        ]
        self._store = store
        self._quiet_after = 0.0
        self._struck: dict[str, int] = {}

    def run(self) -> Verdict:
        began = time.process_time()
        asyncio.set_event_loop(self.loop)
        try:
            with contextlib.suppress(_Over):
                self.loop.run_until_complete(self._live())
        except Stuck as stuck:
            self.oracle.broken(str(stuck))
        finally:
            hours = self.loop.time() / 3600
            self._bury()
        return Verdict(
            scenario=self.scenario,
            violation=self.oracle.violation,
            trace=self.oracle.trace.hexdigest(),
            simulated_hours=hours,
            cpu_seconds=time.process_time() - began,
            commits=self.oracle.commits,
            deaths=sum(len(host.lives) - 1 for host in self.hosts),
            struck=self._struck,
            quiet_after=self._quiet_after,
        )

    def _bury(self) -> None:
        """Nothing that is left may run, not even a `finally`, before its database goes."""
        self.loop.end()
        asyncio.set_event_loop(None)
        self._store.close()
        self.loop.sweep_up()

    # --- its course ---

    async def _live(self) -> None:
        self.shop.start_sending()
        for host in self.hosts:
            host.start()
        self.loop.create_task(self.shop.live())
        self.loop.create_task(self.reader.live())
        for incident in self.scenario.incidents:
            self.loop.create_task(self._happen(incident))
        await self._pass(self.scenario.minutes * 60.0)
        await self._become_quiet()
        if self.scenario.calm_hours:
            await self._stay_calm()
        for host in self.hosts:
            if host.life is not None:
                self.oracle.finish(host.life.node.accounts["main"].provider)
        self._check()

    async def _pass(self, seconds: float) -> None:
        end = self.loop.time() + seconds
        while self.loop.time() < end:
            await asyncio.sleep(min(30.0 * self.scenario.stretch, end - self.loop.time()))
            if self.scenario.bound is not None:
                self.oracle.overdue(self.scenario.bound)
            self._check()

    async def _become_quiet(self) -> None:
        """Faults end. Within its bounds the ledger must be the truth; a complete list may be what it takes."""
        self.shop.busy = False
        self._struck = dict(self.shop.server.faults.struck)
        self.shop.end_faults()
        self.subscribers.well = True
        self._resume_subscriptions()
        ended = self.loop.time()
        for host in self.hosts:
            host.trouble.away_until = host.trouble.full_until = 0.0
            host.trouble.crash_at = None
            host.steady = True
        await self._become_true()
        self._quiet_after = self.loop.time() - ended

    async def _become_true(self) -> None:
        """What the provider does by itself meanwhile (money becomes available days after it was paid, and no event says
        so) has the same time from then on."""
        bound = self.scenario.quiet_minutes * 60.0 + self._set_back()
        limit = self.loop.time() + bound
        while True:
            await asyncio.sleep(self.scenario.look_every)
            self._check()
            for host in self.hosts:
                host.start()
                if host.life is not None:
                    host.life.ledger.forget = False
            if not self.oracle.differences():
                return
            if self.loop.time() <= limit:
                continue
            if differences := self.oracle.differences(changed_before=self.loop.time() - bound):
                self.oracle.broken(
                    f"invariant 3: {self.scenario.quiet_minutes + self._set_back() / 60.0:g} minutes after the last "
                    "fault " + "; ".join(differences[:4])
                )
                self._check()

    def _set_back(self) -> float:
        """Seconds by which clocks were set back: what had come due before comes due so much later (guarantees.md)."""
        return -sum(each.seconds for each in self.scenario.incidents if each.what == "step" and each.seconds < 0)

    async def _stay_calm(self) -> None:
        """The hours after: nobody does anything, and what the storm has left behind has time to come due."""
        for host in self.hosts:
            host.calm_down(calm(self.scenario))
        self.reader.calm_down()
        end = self.loop.time() + self.scenario.calm_hours * 3600.0
        while self.loop.time() < end:
            await asyncio.sleep(min(600.0, end - self.loop.time()))
            self._check()
        await self._become_true()

    def _resume_subscriptions(self) -> None:
        """Somebody takes back what a subscriber's "never again" had switched off."""
        telling, now = Ledger(self._store).telling, self.hosts[0].clock.now()
        for each in SUBSCRIPTIONS:
            telling.stand(each.name, Standing.ACTIVE, "", now)
        self.oracle.committed()

    def _check(self) -> None:
        if self.oracle.violation is not None:
            raise _Over

    # --- incidents ---

    async def _happen(self, incident: Incident) -> None:
        await asyncio.sleep(incident.at)
        host, lasts = self.hosts[incident.node], incident.seconds
        match incident.what:
            case "crash":
                host.trouble.crash_at = incident.detail
                await self._revive(host, lasts)
            case "crash_after_commit":
                host.trouble.crash_after_commit = True
                await self._revive(host, lasts)
            case "kill":
                host.die(host.life)
                await self._revive(host, lasts)
            case "pause":
                host.pause(lasts)
            case "step":
                host.clock.offset += timedelta(seconds=lasts)
            case "database_away":
                host.trouble.away_until = self.loop.time() + lasts
            case "disk_full":
                host.trouble.full_until = self.loop.time() + lasts
            case "commit_unknown":
                if host.life is not None:
                    ledger, ledger.forget = host.life.ledger, True
                    await asyncio.sleep(lasts)
                    ledger.forget = False
            case "outage" | "deny":
                fault = "hang" if incident.what == "outage" else "deny"
                every = self.scenario.kinds
                kinds = () if incident.what == "outage" else (every[incident.detail % len(every)],)
                self.shop.trouble(fault, fault, *kinds)
                await asyncio.sleep(lasts)
                self.shop.calm(fault)
            case "api_version":
                self.shop.new_api_version()
            case "backfill":
                host.backfill(lasts)
            case "count":
                Ledger(self._store).hurry_job("counts/main", host.clock.now())
                self.oracle.committed()
            case _:
                raise ValueError(f"nobody knows what {incident.what!r} is")

    async def _revive(self, host: Host, seconds: float) -> None:
        await asyncio.sleep(seconds)
        host.start()

    # --- the network ---

    async def _post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float, announce: int | None = None
    ) -> int:
        """Implements the sandbox's `Post`: some process of ours gets it, if one is there."""
        del url
        await asyncio.sleep(self._dice.uniform(0.005, 0.1))
        host = self._dice.choice(self.hosts)
        try:
            async with asyncio.timeout(timeout_seconds):
                status = await host.deliver(
                    f"/webhooks/{self.shop.provider}/main",
                    headers,
                    body,
                    self.shop.event_id(headers, body),
                    announce is not None,
                )
        except TimeoutError as late:
            raise PostFailed("no answer in time") from late
        await asyncio.sleep(self._dice.uniform(0.005, 0.1))
        if self.scenario.rates and self._dice.random() < 0.01:
            raise PostFailed("the answer was lost")
        return status


@cache
def _template() -> sqlite3.Connection:
    """An empty ledger with its subscriptions, migrated once for all simulations of this process."""
    store = Store("sqlite://")
    ledger = Ledger(store)
    ledger.require_current_schema()
    ledger.telling.declare(SUBSCRIPTIONS, EPOCH)
    return _driver(store)


def _filled(store: Store) -> sqlite3.Connection:
    database = _driver(store)
    _template().backup(database)
    return database


def _driver(store: Store) -> sqlite3.Connection:
    with store.engine.connect() as connection:
        driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


__all__ = ["Mutant", "Simulation", "Verdict"]
