"""One scenario from its beginning to its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache

import orjson

from providers.sandbox.post import PostFailed
from providers.stripe import Stripe
from reconciler.ledger import Ledger, Store
from tests.ledger.seams import Faults
from tests.simulation.loop import SimulatedClock, SimulatedLoop, Stuck
from tests.simulation.nodes import JOBS, Host, Mutant
from tests.simulation.oracle import Oracle
from tests.simulation.scenario import KINDS, Incident, Scenario
from tests.simulation.shop import Shop

_LOOK_EVERY = 15.0
"""Seconds between two looks at whether the ledger has become the truth."""


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
    def __init__(self, scenario: Scenario, mutant: Mutant | None = None) -> None:
        mutant = mutant or Mutant()
        self.scenario = scenario
        self.loop = SimulatedLoop(scenario.seed)
        self._dice = random.Random(f"network/{scenario.seed}")
        self.shop = Shop(
            scenario, self.loop, SimulatedClock(self.loop, timedelta(seconds=scenario.provider_skew)), self._post
        )
        faults = Faults()
        store = Store("sqlite://", transactions=faults.begin)
        self.oracle = Oracle(scenario, self.loop, self.shop, _filled(store))
        mutant = replace(mutant, provider=mutant.provider or Stripe)
        self.hosts = [
            Host(number, scenario, self.loop, self.shop, store, faults, self.oracle, mutant)
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

    # --- its course ---

    async def _live(self) -> None:
        self.shop.server.start_sending()
        for host in self.hosts:
            host.start()
        self.loop.create_task(self.shop.live())
        for incident in self.scenario.incidents:
            self.loop.create_task(self._happen(incident))
        await self._pass(self.scenario.minutes * 60.0)
        await self._become_quiet()
        for host in self.hosts:
            if host.life is not None:
                self.oracle.finish(host.life.node.accounts["main"].provider)  # type: ignore[arg-type]  # it is Stripe
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
        ended = self.loop.time()
        for host in self.hosts:
            host.trouble.away_until = host.trouble.full_until = 0.0
            host.trouble.crash_at = None
            host.steady = True
        limit = ended + self.scenario.quiet_minutes * 60.0
        while True:
            await asyncio.sleep(_LOOK_EVERY * self.scenario.stretch)
            self._check()
            for host in self.hosts:
                host.start()
                if host.life is not None:
                    host.life.ledger.forget = False
            differences = self.oracle.differences()
            if not differences:
                self._quiet_after = self.loop.time() - ended
                return
            if self.loop.time() > limit:
                self.oracle.broken(
                    f"invariant 3: {self.scenario.quiet_minutes:g} minutes after the last fault "
                    + "; ".join(differences[:4])
                )
                self._check()

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
                kinds = () if incident.what == "outage" else (KINDS[incident.detail % len(KINDS)],)
                self.shop.trouble(fault, fault, *kinds)
                await asyncio.sleep(lasts)
                self.shop.calm(fault)
            case "api_version":
                self.shop.new_api_version()
            case "backfill":
                host.backfill(lasts)
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
                    "/webhooks/stripe/main", headers, body, _event_id(body), announce is not None
                )
        except TimeoutError as late:
            raise PostFailed("no answer in time") from late
        await asyncio.sleep(self._dice.uniform(0.005, 0.1))
        if self.scenario.rates and self._dice.random() < 0.01:
            raise PostFailed("the answer was lost")
        return status


def _event_id(body: bytes) -> str | None:
    """None where the body is no JSON, as it may be on its way."""
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return str(event.get("id")) if isinstance(event, dict) else None


@cache
def _template() -> sqlite3.Connection:
    """An empty ledger, migrated once for all simulations of this process."""
    store = Store("sqlite://")
    Ledger(store).require_current_schema()
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


__all__ = ["JOBS", "Mutant", "Simulation", "Verdict"]
