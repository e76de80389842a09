"""What the demo plays, as values: how long, how many payments, which faults, and the daemon's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

CONFIG: Final = "config.toml"
KEY_VARIABLE: Final = "DEMO_STRIPE_API_KEY"
SECRET_VARIABLE: Final = "DEMO_STRIPE_WEBHOOK_SECRET"  # noqa: S105 - the variable's name
TOKEN_VARIABLE: Final = "DEMO_SHOPIFY_ACCESS_TOKEN"  # noqa: S105 - the variable's name
CLIENT_VARIABLE: Final = "DEMO_SHOPIFY_CLIENT_SECRET"
SHOP: Final = "demo.myshopify.com"
BUCKET: Final = 800
"""Of the shop's largest plan: 40 requests a second. Its day has four thousand times fewer seconds than a real one."""

STALE_SECONDS: Final = 2.0
SWEEP_LAG: Final = timedelta(seconds=1)
SWEEP_OVERLAP: Final = timedelta(seconds=5)
RETRY_SPEED: Final = 120.0
"""How much faster than Stripe the sandbox sends again what failed: after 0.5 s, then 2 s, then 8 s."""

_SETTLING: Final = 4 / 24
"""Money settles four hours after a charge, on the shop's clock."""

_SURELY: Final = 12.0
"""Times that each fault should strike on average: then a day without one of them is one in a hundred thousand."""

_SURELY_READS: Final = 4.0
"""The same of reads: those after the day make up for what struck none of them. Every throttle halves what the daemon
dares to ask for, for ten seconds: two dozen of them, which a real day has hours to get over, were half of the demo."""

_CALM: Final = (
    "application_fee", "checkout.session", "customer", "dispute", "draft_order", "inventory_level", "invoice", "payout",
    "price", "product", "subscription", "tender_transaction", "topup", "transfer",
)  # fmt: skip

_DELIVERY_FAULTS: Final[Mapping[str, float]] = {
    "unborn": 0.015,
    "drop": 0.08,
    "duplicate": 0.08,
    "delay": 0.06,
    "reorder": 0.05,
    "forge": 0.02,
    "wrong_secret": 0.02,
    "truncate": 0.015,
    "cut": 0.015,
}
"""Share of the events that each of these befalls on their way."""

_READ_FAULTS: Final[Mapping[str, float]] = {
    "throttle": 0.004,
    "throttle_silent": 0.004,
    "lock_timeout": 0.02,
    "server_error": 0.03,
    "unavailable": 0.02,
    "cut_answer": 0.02,
    "stale": 0.03,
}
"""Share of the daemon's requests that each of these befalls."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One provider's part in the day. There are two, told apart by identity."""

    provider: str
    account: str
    title: str
    events_per_payment: float
    reads_per_payment: float
    """At the least."""
    delivery_faults: Mapping[str, float]
    read_faults: Mapping[str, float]

    @property
    def path(self) -> str:
        """Where its webhooks go."""
        return f"/webhooks/{self.provider}/{self.account}"


STRIPE: Final = Side("stripe", "main", "Stripe", 4.0, 2.0, _DELIVERY_FAULTS, _READ_FAULTS)
SHOPIFY: Final = Side(
    "shopify", "shop", "Shopify", 4.0, 2.0, _DELIVERY_FAULTS,
    # Shopify always says how long to wait, and locks nothing.
    {name: rate for name, rate in _READ_FAULTS.items() if name not in ("throttle_silent", "lock_timeout")},
)  # fmt: skip
SIDES: Final = (STRIPE, SHOPIFY)


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int = 7
    payments: int = 500
    seconds: float = 20.0
    """How long the shop's day lasts."""
    postgres: str | None = None
    """A ledger's URL; None: an SQLite file in the demo's folder."""
    downtime: timedelta = timedelta(seconds=0.5)
    """How long the daemon stays dead after SIGKILL."""
    rest_within: timedelta = timedelta(minutes=5)
    """How long after the day everything may take to come to rest: half a minute, unless the machine is very busy."""

    @property
    def kill_after(self) -> timedelta:
        return timedelta(seconds=self.seconds * 0.35)

    @property
    def settling(self) -> timedelta:
        """How long after the day's end its last charges still change."""
        return timedelta(seconds=self.seconds * _SETTLING)

    def faults(self, side: Side) -> Mapping[str, float | int]:
        """The sandbox's fault plan (`FaultPlan` in providers/sandbox/faults.py)."""
        events, reads = self.payments * side.events_per_payment, self.payments * side.reads_per_payment
        plan: dict[str, float | int] = {"seed": self.seed, "delay_seconds": 2.0, "stale_seconds": STALE_SECONDS}
        plan |= {name: _often_enough(rate, events, _SURELY) for name, rate in side.delivery_faults.items()}
        plan |= {name: _often_enough(rate, reads, _SURELY_READS) for name, rate in side.read_faults.items()}
        return plan


def _often_enough(rate: float, chances: float, times: float) -> float:
    """A small day needs a higher rate, or some fault would not happen at all."""
    return min(0.25, max(rate, times / chances))


def config_text(*, ledger_url: str, port: int, stripe_url: str, shopify_url: str) -> str:
    """The daemon's configuration: an ordinary one, but for its hurry.

    A day is over in seconds here, so sweeps run every two seconds instead of every five minutes (every six for kinds in
    which little happens), nobody waits half an hour after an error, and what the killed daemon held comes back in ten
    seconds.
    """
    calm = "\n".join(f'[sweeps."{kind}"]\nevery = "6s"' for kind in _CALM)
    return f"""\
# Written by `reconcile demo`. An ordinary configuration, but for its hurry: the shop's day lasts seconds.
[ledger]
url = "{ledger_url}"

[server]
port = {port}

[accounts.{STRIPE.account}]
provider = "{STRIPE.provider}"
api_key = "env:{KEY_VARIABLE}"
webhook_secrets = ["env:{SECRET_VARIABLE}"]
base_url = "{stripe_url}"

[accounts.{SHOPIFY.account}]
provider = "{SHOPIFY.provider}"
shop = "{SHOP}"
access_token = "env:{TOKEN_VARIABLE}"
webhook_secrets = ["env:{CLIENT_VARIABLE}"]
base_url = "{shopify_url}"
shopify_payments = false

[sweeps]
every = "2s"
lag = "{int(SWEEP_LAG.total_seconds())}s"
overlap = "{int(SWEEP_OVERLAP.total_seconds())}s"
full_every = "10s"
{calm}

[worker]
lease = "10s"

[retry]
max_wait = "4s"
"""
