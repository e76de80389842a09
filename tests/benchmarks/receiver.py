"""The server under test: the real intake with the real Stripe provider on a real ledger, in a process of its own.

`python -m tests.benchmarks.receiver LEDGER_URL [SECONDS]` prints its port and serves until its standard input closes;
a delivery waits so long for its commit, if that is not to be as long as the product has it wait.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from providers.stripe.provider import Stripe
from providers.stripe.settings import StripeSettings
from reconciler.clock import SystemClock
from reconciler.garbage import collect_seldom
from reconciler.intake import Intake, IntakeLimits, IntakeMetrics
from reconciler.ledger import GroupCommit, open_ledger
from reconciler.provider import Provider, Reply, Request
from reconciler.web import Readiness, Site, WebServer
from tests.benchmarks.events import ACCOUNT, SECRET


class _NoTransport:
    """Intake reads nothing from the provider; if it did, the benchmark would fail here."""

    async def send(self, request: Request) -> Reply:
        raise AssertionError(f"intake asked the provider: {request.method} {request.url}")


async def serve(url: str, limits: IntakeLimits) -> None:
    clock = SystemClock()
    ledger = open_ledger(url)
    ledger.require_current_schema()
    settings = StripeSettings(
        provider="stripe", api_key=SecretStr("rk_test_benchmark"), webhook_secrets=(SecretStr(SECRET),)
    )
    # A cast, because the port's class variables are invariant for mypy and Stripe's settings are narrower.
    providers = {ACCOUNT: cast("Provider", Stripe(ACCOUNT, settings, _NoTransport(), clock))}
    commit = GroupCommit(ledger, clock)
    registry = CollectorRegistry()
    intake = Intake(providers, commit, clock, IntakeMetrics(registry), limits)
    site = Site(readiness=Readiness(commit, providers, clock), registry=registry)
    async with WebServer(site, webhooks=intake) as server:
        print(server.port, flush=True)  # noqa: T201 - how the benchmark learns the port
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await commit.close()
    ledger.close()


if __name__ == "__main__":
    collect_seldom()  # as `reconcile run` does
    _, ledger_url, *seconds = sys.argv
    uvloop.run(serve(ledger_url, IntakeLimits(store_seconds=float(seconds[0])) if seconds else IntakeLimits()))
