"""What a seed means: who lives through what, as plain values, so that a failing one can be cut down."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from providers.sandbox.faults import Chance, FaultPlan
from reconciler.retry import RetryPolicy
from reconciler.sweeps import SweepSettings

KINDS = ("payment_intent", "charge", "refund", "balance_transaction", "customer", "product", "payout")
"""What the simulated Stripe account has; the other kinds stay empty, and their sweeps are left out."""

SHOPIFY_KINDS = (
    "order",
    "order_transactions",
    "transaction",
    "refund",
    "fulfillment",
    "draft_order",
    "product",
    "customer",
    "inventory_item",
    "inventory_level",
    "dispute",
    "payout",
    "balance_transaction",
    "tender_transaction",
)
"""All that a shop has, but for its balance and the app's own scopes."""

SETTLE_SECONDS = 5.0

_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happens once, at an instant."""

    at: float
    """Seconds after the beginning."""
    what: str
    node: int = 0
    seconds: float = 0.0
    """How long it lasts; for a clock, how far it is moved."""
    detail: int = 0
    """For a crash, the statement at which it happens; for a refusal, which kind is refused."""

    def __str__(self) -> str:
        return f"{self.what}(at={self.at:.0f}s, node={self.node}, seconds={self.seconds:.1f}, detail={self.detail})"


@dataclass(frozen=True, slots=True)
class Scenario:
    seed: int
    nodes: int
    """Processes of ours on one ledger."""
    minutes: float
    """How long the shop is busy and everything goes wrong; then faults end and the ledger must become the truth."""
    quiet_minutes: float
    """How long that may take."""
    pace: float
    """Seconds between two acts of the shop, on average."""
    rates: Mapping[str, float]
    """Faults of the sandbox by name, with their rates."""
    incidents: tuple[Incident, ...]
    provider_skew: float = 0.0
    node_skew: float = 0.0
    sweeps: SweepSettings = field(default_factory=SweepSettings)
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    lease: timedelta = timedelta(seconds=60)
    provider: str = "stripe"
    kinds: tuple[str, ...] = KINDS
    """What the shop has."""
    page_rows: int = 250
    """Rows on a page of Shopify's lists, also where more are asked for."""
    bucket: int = 400
    """Requests that Shopify's bucket holds; a twentieth of it leaks each second."""
    often: tuple[str, ...] = ()
    """Acts of a merchant that are five times as likely as elsewhere."""
    calm_hours: float = 0.0
    """How long everything is watched after the ledger has become the truth: a clock that was an hour ahead leaves what
    comes due an hour later."""
    look_every: float = 15.0
    """Seconds between two looks at whether the ledger has become the truth."""
    stretch: float = 1.0
    """How much longer idle processes wait between two looks than in the product: for weeks of quiet shops."""
    gives_up: bool = False
    """Whether a change is given up on after half a minute, and not after days."""
    placed_late: bool = False
    """Whether versions get their place in the change feed after their commit, as on Postgres."""
    keep: timedelta = timedelta(minutes=5)
    """How long the outbox remembers what has ended."""
    bound: timedelta | None = None
    """How long something may be wrong and unnamed while faults go on; None: not looked at."""

    @property
    def plan(self) -> FaultPlan:
        chances: dict[str, Any] = {
            name: Chance(rate) for name, rate in self.rates.items() if name not in _TELLING_FAULTS
        }
        return FaultPlan(
            seed=self.seed,
            **chances,
            delay_seconds=40.0,
            hang_seconds=50.0,
            stale_seconds=SETTLE_SECONDS - 0.5,
            feed_lag_seconds=4.0,
        )

    @property
    def clocks_agree(self) -> bool:
        """Whether our clocks run as the settle window assumes: alike, and without steps."""
        return self.node_skew == 0 and not any(each.what == "step" for each in self.incidents)

    @property
    def lists_are_whole(self) -> bool:
        return "skip_row" not in self.rates

    def faults(self) -> list[str]:
        """What can be left out, by name: `rate:drop`, `incident:3`."""
        return [f"rate:{name}" for name in self.rates] + [f"incident:{each}" for each in range(len(self.incidents))]

    def without(self, left_out: frozenset[str]) -> Scenario:
        kept = {name: rate for name, rate in self.rates.items() if f"rate:{name}" not in left_out}
        incidents = tuple(each for number, each in enumerate(self.incidents) if f"incident:{number}" not in left_out)
        return replace(self, rates=kept, incidents=incidents)

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate:.0%}" for name, rate in self.rates.items())
        lines = [
            f"seed {self.seed}: {self.provider}, {self.nodes} node(s), {self.minutes:g} minutes,"
            f" an act every {self.pace:.1f} s",
            f"  rates: {rates or 'none'}",
            *(f"  {each}" for each in self.incidents),
        ]
        if self.provider_skew or self.node_skew:
            lines.append(f"  skews: provider {self.provider_skew:+.1f} s, second node {self.node_skew:+.1f} s")
        return "\n".join(lines)


_DELIVERY_FAULTS = {
    "drop": 0.3,
    "duplicate": 0.3,
    "delay": 0.3,
    "reorder": 0.3,
    "forge": 0.2,
    "wrong_secret": 0.2,
    "truncate": 0.2,
    "cut": 0.2,
    "unborn": 0.15,
}
_READ_FAULTS = {
    "throttle": 0.1,
    "throttle_silent": 0.1,
    "lock_timeout": 0.1,
    "server_error": 0.2,
    "unavailable": 0.2,
    "deny": 0.03,
    "hang": 0.03,
    "cut_answer": 0.1,
    "malformed_answer": 0.1,
    "stale": 0.6,
    "skip_row": 0.1,
    "repeat_row": 0.2,
}
_STRIPE_ONLY = frozenset({"lock_timeout"})
_TELLING_FAULTS = {
    "told_lost": 0.3,
    "told_unanswered": 0.3,
    "told_error": 0.3,
    "told_busy": 0.2,
    "told_hang": 0.2,
    "told_gone": 0.02,
}
"""What subscribers do to what they are told."""
_INCIDENTS = (
    "crash",
    "crash",
    "crash_after_commit",
    "kill",
    "pause",
    "pause",
    "pause",
    "step",
    "database_away",
    "disk_full",
    "commit_unknown",
    "outage",
    "deny",
    "api_version",
    "backfill",
)


def short(seed: int) -> Scenario:
    """A storm of a few minutes, with every kind of fault and more of each than any provider has; and a calm hour."""
    dice, telling = random.Random(f"short/{seed}"), random.Random(f"telling/{seed}")
    minutes = dice.choice([2.0, 3.0, 5.0])
    nodes = dice.choice([1, 2])
    return Scenario(
        seed=seed,
        nodes=nodes,
        minutes=minutes,
        quiet_minutes=60.0,
        calm_hours=1.0,
        pace=dice.choice([3.0, 6.0, 12.0]),
        rates=dict(_rates(dice)) | dict(_rates(telling, _TELLING_FAULTS)),
        gives_up=telling.random() < 0.25,
        placed_late=telling.random() < 0.5,
        incidents=tuple(_incidents(dice, minutes * _MINUTE, nodes, dice.choice([0, 2, 4, 8]))),
        provider_skew=dice.choice([0.0, 0.0, 0.0, -20.0, 20.0]),
        node_skew=dice.choice([0.0, 0.0, -2.0, 2.0]) if nodes > 1 else 0.0,
        sweeps=SweepSettings(
            every=timedelta(minutes=1),
            lag=timedelta(seconds=10),
            overlap=timedelta(minutes=1),
            full_every=timedelta(minutes=4),
        ),
        policy=RetryPolicy(
            attempts=dice.choice([3, 8]),
            max_wait=timedelta(minutes=1),
            parked=timedelta(minutes=3),
            gate_max=timedelta(seconds=30),
        ),
        lease=timedelta(seconds=dice.choice([10.0, 60.0])),
    )


def _rates(
    dice: random.Random, faults: Mapping[str, float] = _DELIVERY_FAULTS | _READ_FAULTS
) -> Iterator[tuple[str, float]]:
    """Each seed prefers other faults, so that together they reach far corners; one seed in eight has none."""
    if dice.random() < 0.125:
        return
    for name, most in faults.items():
        if dice.random() < 0.45:
            yield name, round(most * dice.uniform(0.2, 1.0), 3)


def _incidents(dice: random.Random, seconds: float, nodes: int, count: int) -> Iterator[Incident]:
    for at in sorted(dice.uniform(5.0, seconds) for _ in range(count)):
        what = dice.choice(_INCIDENTS)
        lasts = {
            "pause": dice.choice([2.0, 15.0, 30.0, 80.0]),
            "step": dice.choice([-1.0, 1.0]) * dice.choice([3.0, 40.0, 400.0, 3600.0]),
            "commit_unknown": 1.0,
            "backfill": 600.0,
        }.get(what, dice.choice([1.0, 10.0, 60.0]))
        yield Incident(at, what, dice.randrange(nodes), lasts, dice.choice([0, 0, 1, 2, 3, 5, 8, 13]))


def tiny(seed: int) -> Scenario:
    """Seconds of such a storm over catalogue and customers alone, and no calm: for hundreds of seeds in a test."""
    dice = random.Random(f"tiny/{seed}")
    like = short(seed)
    return replace(
        like,
        nodes=1 if seed % 3 else 2,
        minutes=0.35,
        calm_hours=0.0,
        look_every=5.0,
        pace=dice.choice([1.5, 3.0]),
        kinds=("customer", "product"),
        incidents=tuple(_incidents(dice, 0.35 * _MINUTE, 1 if seed % 3 else 2, dice.choice([0, 1, 2, 3]))),
        sweeps=SweepSettings(
            every=timedelta(seconds=18),
            lag=timedelta(seconds=5),
            overlap=timedelta(seconds=15),
            full_every=timedelta(seconds=30),
        ),
    )


def shopify(seed: int) -> Scenario:
    """A storm over a Shopify shop, mostly with replicas that lag, and with counts that are taken in its midst."""
    dice = random.Random(f"shopify/{seed}")
    like, minutes = short(seed), dice.choice([1.0, 2.0, 3.0])
    return _as_shopify(
        replace(
            like,
            minutes=minutes,
            incidents=tuple(_incidents(dice, minutes * _MINUTE, like.nodes, dice.choice([0, 1, 2, 4]))),
            pace=dice.choice([2.0, 4.0, 8.0]),
            sweeps=replace(
                like.sweeps,
                every=timedelta(seconds=dice.choice([20, 60])),
                full_every=timedelta(seconds=dice.choice([45, 240])),
            ),
        ),
        dice,
    )


def shopify_tiny(seed: int) -> Scenario:
    """Seconds of it, and no calm: for many seeds in a test."""
    dice = random.Random(f"shopify-tiny/{seed}")
    return _as_shopify(replace(tiny(seed), pace=dice.choice([1.0, 2.0])), dice)


def shopify_lag(seed: int) -> Scenario:
    """Half of the reads ask a replica that lags, and nothing else is wrong.

    In every second seed half of the webhooks are lost as well, in a shop that takes money, gives it back, deletes and
    pays out all the time, and is looked at every few seconds.
    """
    like = replace(
        shopify_tiny(seed),
        nodes=1,
        minutes=0.5,
        quiet_minutes=5.0,
        pace=0.5,
        rates={"stale": 0.5},
        incidents=(),
        provider_skew=0.0,
        node_skew=0.0,
        gives_up=False,
        bucket=800,
    )
    if seed % 2 == 0:
        return like
    return replace(
        like,
        pace=0.4,
        kinds=("order", "order_transactions", "transaction", "refund", "fulfillment", "payout", "balance_transaction"),
        often=("_pay", "_refund", "_delete_order", "_pay_out"),
        rates={"stale": 0.5, "drop": 0.5},
        sweeps=replace(like.sweeps, every=timedelta(seconds=2), full_every=timedelta(seconds=5)),
    )


def shopify_payouts(seed: int) -> Scenario:
    """Half of the reads ask a replica that lags, and what money there is, is paid out all the time.

    Most webhooks are lost, because what they have us read leaves too little of the allowance for the lists.
    """
    like = shopify_lag(2 * seed + 1)
    return replace(
        like,
        pace=0.3,
        kinds=("payout", "balance_transaction"),
        often=("_pay", "_pay_out", "_move_payout"),
        rates={"stale": 0.5, "drop": 0.8},
        sweeps=replace(like.sweeps, every=timedelta(seconds=0.3), full_every=timedelta(seconds=5)),
    )


def shopify_refunds(seed: int) -> Scenario:
    """Most of the reads ask a replica that lags, and most webhooks are lost of a shop that gives its money back, a
    little at a time, and is hardly looked at otherwise."""
    like = shopify_lag(2 * seed + 1)
    return replace(
        like,
        minutes=1.0,
        pace=1.4,
        kinds=("order", "order_transactions", "transaction", "refund"),
        often=("_sell", "_pay", "_refund", "_refund_more"),
        rates={"stale": 0.6, "drop": 0.7},
        sweeps=replace(like.sweeps, every=timedelta(seconds=20), full_every=timedelta(seconds=60)),
    )


def shopify_regrets(seed: int) -> Scenario:
    """Half of the reads ask a replica that lags, and of a shop that deletes what it gave money back for, the lists are
    looked at all the time."""
    like = shopify_lag(2 * seed + 1)
    return replace(
        like,
        pace=0.4,
        kinds=("order", "order_transactions", "transaction", "refund"),
        often=("_sell", "_pay", "_refund", "_regret"),
        rates={"stale": 0.5, "drop": 0.5},
        sweeps=replace(like.sweeps, every=timedelta(seconds=1), full_every=timedelta(seconds=60)),
    )


def _as_shopify(like: Scenario, dice: random.Random) -> Scenario:
    rates = {name: rate for name, rate in like.rates.items() if name not in _STRIPE_ONLY}
    if rates and dice.random() < 0.6:
        rates["stale"] = round(dice.uniform(0.2, 0.7), 3)
    counts = [Incident(dice.uniform(5.0, like.minutes * _MINUTE), "count") for _ in range(dice.choice([0, 1, 3]))]
    return replace(
        like,
        provider="shopify",
        kinds=SHOPIFY_KINDS,
        rates=rates,
        incidents=tuple(sorted((*like.incidents, *counts), key=lambda each: each.at)),
        page_rows=dice.choice([2, 4, 250]),
        bucket=dice.choice([40, 400, 800]),
    )


def calm(scenario: Scenario) -> Scenario:
    """The same shop at the pace of a quiet one: idle processes look once in minutes, and sweeps every half hour."""
    return replace(scenario, stretch=60.0, sweeps=SweepSettings(every=timedelta(minutes=30)))


def week(seed: int) -> Scenario:
    """Seven days with a fifth of the webhooks lost, a tenth doubled and reordered, failing reads and a crash a day."""
    dice = random.Random(f"week/{seed}")
    day = 24 * 60 * _MINUTE
    crashes = [Incident(day * number + dice.uniform(60.0, day - 60.0), "kill", 0, 60.0) for number in range(7)]
    return Scenario(
        seed=seed,
        nodes=1,
        minutes=7 * day / _MINUTE,
        quiet_minutes=27 * 60.0,
        pace=45 * _MINUTE,
        rates={
            "drop": 0.2,
            "duplicate": 0.1,
            "reorder": 0.1,
            "server_error": 0.01,
            "unavailable": 0.005,
            "cut_answer": 0.005,
            "told_error": 0.02,
            "told_lost": 0.01,
        },
        incidents=tuple(crashes),
        sweeps=SweepSettings(every=timedelta(minutes=30)),
        stretch=60.0,
        look_every=900.0,
        keep=timedelta(days=1),
        bound=timedelta(hours=1),
    )


PROFILES = {
    "short": short,
    "tiny": tiny,
    "week": week,
    "shopify": shopify,
    "shopify-tiny": shopify_tiny,
    "shopify-lag": shopify_lag,
    "shopify-payouts": shopify_payouts,
    "shopify-refunds": shopify_refunds,
    "shopify-regrets": shopify_regrets,
}
