"""How many things are missing, what a storm is measured by; and what a refusal leaves of it."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from providers.stripe import Stripe
from providers.stripe.settings import StripeSettings
from reconciler.clock import ManualClock
from reconciler.errors import AccessDenied, AccessScope
from reconciler.failures import Failures
from reconciler.health import STORM_PERIOD, Health
from reconciler.ledger import GATE_STORM, Gate, GroupCommit, Ledger
from reconciler.model import ResourceRef
from reconciler.retry import RetryPolicy
from tests.loop.test_stretches import NoHttp

NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)


def shown(kind: str, *ids: str) -> list[ResourceRef]:
    return [ResourceRef("shopify", "shop", kind, each) for each in ids]


def test_what_is_missing_counts_once_for_as_long_as_the_period_is() -> None:
    health, later = Health(), NOW + timedelta(minutes=4)
    assert health.missing(shown("customer", "1", "2"), NOW) == 2
    assert health.missing(shown("customer", "2", "3"), later) == 3
    assert health.missing([], NOW + STORM_PERIOD) == 3
    assert health.missing([], NOW + STORM_PERIOD + timedelta(seconds=1)) == 1, "the third, of four minutes later"
    assert health.missing([], later + STORM_PERIOD + timedelta(seconds=1)) == 0


def test_parts_count_with_their_whole() -> None:
    health = Health({"refund": "order", "order_transactions": "order"})
    assert health.missing(shown("refund", "7/1", "7/2"), NOW) == 1
    assert health.missing(shown("order", "7", "8"), NOW) == 2
    assert health.missing(shown("order_transactions", "8"), NOW) == 2
    assert health.missing(shown("product", "8"), NOW) == 3, "of another kind"
    assert [health.counts(kind) for kind in ("order", "refund", "product")] == [True, False, True]


def test_what_belongs_to_a_connected_account_is_no_part_of_it() -> None:
    """A key of the wrong mode must not be believed because everything is one account's."""
    assert Health().missing(shown("charge", *(f"acct_9/ch_{number}" for number in range(50))), NOW) == 50


def test_a_refusal_behind_a_storms_gate_leaves_it_a_storms_for_reads_under_way(ledger: Ledger) -> None:
    """One of them is no witness by being answered."""
    storm = Gate("main", "", GATE_STORM, "30 are missing", NOW - timedelta(minutes=3), NOW, 1)
    settings = StripeSettings(provider="stripe", api_key=SecretStr("rk_live_1"), webhook_secrets=())
    clock = ManualClock(NOW)

    async def story() -> Gate:
        commit = GroupCommit(ledger, clock)
        provider = Stripe("main", settings, NoHttp(), clock)
        failures = Failures("main", provider, commit, clock, Health(), policy=RetryPolicy(), rng=random.Random(1))
        failures.know_gates([storm])
        charge = provider.kinds["charge"]
        await failures.failed(charge, [], AccessDenied("401", scope=AccessScope.ACCOUNT))
        await commit.close()
        (gate,) = failures.gates_of(charge)
        return gate

    gate = asyncio.run(story())
    assert (gate.reason, gate.opened_at, gate.times) == (GATE_STORM, storm.opened_at, 2)
    assert gate.until > NOW
