"""From the configuration to the parts that tell subscribers."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import orjson
from pydantic import ValidationError

from reconciler.clock import Clock
from reconciler.config import Config, SubscriptionTable, mistake_in, subscription_secrets
from reconciler.errors import ConfigurationError, UsageError
from reconciler.keyring import secrets_seal
from reconciler.ledger import GroupCommit
from reconciler.ledger.changes import Filter
from reconciler.ledger.subscriptions import Form, Ordering, Origin, Subscription
from reconciler.outbox.bell import Bell
from reconciler.outbox.guard import Guard, fault_of
from reconciler.outbox.keys import Keys
from reconciler.outbox.metrics import OutboxMetrics
from reconciler.outbox.policy import Policy
from reconciler.outbox.pool import Pool, PoolSettings
from reconciler.outbox.sending import ANSWER_BYTES, Sender
from reconciler.outbox.signing import Signer, UnusableSecret
from reconciler.outbox.watch import Watch
from reconciler.transport import HttpTransport

_LEASE_BEYOND_A_REQUEST: Final = timedelta(seconds=45)
_READ_AT_MOST: Final = 16 * ANSWER_BYTES


def subscriptions_of(config: Config) -> list[Subscription]:
    """Raises ConfigurationError."""
    found: list[Subscription] = []
    for place, table in enumerate(config.subscriptions):
        where = ("subscriptions", place)
        if table.name in (each.name for each in found):
            raise ConfigurationError(
                f"{config.origins.describe((*where, 'name'))}: there are two subscriptions {table.name!r}"
            )
        fault = url_fault(config, table.url)
        if fault is not None:
            raise ConfigurationError(f"{config.origins.describe((*where, 'url'))}: the address {fault}")
        found.append(_subscription(table, Origin.CONFIGURATION))
    return found


def read_subscription(config: Config, given: Mapping[str, Any]) -> Subscription:
    """One that somebody makes by command or over HTTP: the keys of `[[subscriptions]]`, without secrets.

    Raises UsageError.
    """
    try:
        content = orjson.dumps({**given, "secrets": ["env:NONE"]})
        table = SubscriptionTable.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UsageError(f"{'.'.join(str(each) for each in first['loc'])}: {mistake_in(first)}") from None
    except TypeError as error:
        raise UsageError(f"this cannot be a subscription: {error}") from None
    fault = url_fault(config, table.url)
    if fault is not None:
        raise UsageError(f"url: the address {fault}")
    return _subscription(table, Origin.API)


def _subscription(table: SubscriptionTable, origin: Origin) -> Subscription:
    return Subscription(
        name=table.name,
        url=table.url,
        wanted=Filter(
            frozenset(table.accounts),
            frozenset(table.kinds),
            frozenset(cause.value for cause in table.causes),
            frozenset(table.fields),
        ),
        form=Form(table.body),
        ordering=Ordering(table.order),
        concurrency=table.concurrency,
        spacing=spacing_of(table.per_second),
        origin=origin,
    )


def url_fault(config: Config, url: str) -> str | None:
    """What is wrong with an address, as far as it can be seen without asking anybody; None: nothing."""
    fault = fault_of(url)
    if fault is None and url.lower().startswith("http:") and not config.outbox.allowed_networks:
        return "must begin with https://; http:// is spoken only inside outbox.allowed_networks, and there are none"
    return fault


def spacing_of(per_second: float) -> timedelta:
    return timedelta(seconds=1 / per_second) if per_second else timedelta(0)


def keys_of(config: Config, *, with_configured: bool = True) -> Keys:
    """Raises ConfigurationError for a secret that cannot sign; its text is not in the message."""
    secrets: Mapping[str, tuple[str, ...]] = subscription_secrets(config) if with_configured else {}
    for place, table in enumerate(config.subscriptions if with_configured else ()):
        try:
            Signer(secrets[table.name])
        except UnusableSecret as error:
            where = config.origins.describe(("subscriptions", place, "secrets"))
            raise ConfigurationError(f"{where}: {error}") from None
    return Keys(secrets, secrets_seal(config))


def policy_of(config: Config) -> Policy:
    usual = Policy()
    section = config.outbox
    return Policy(
        attempts=section.attempts,
        give_up_after=section.give_up_after,
        first_wait=min(usual.first_wait, section.max_wait),
        max_wait=section.max_wait,
        probe_wait=min(usual.probe_wait, section.max_wait),
    )


def pool_settings(config: Config) -> PoolSettings:
    section = config.outbox
    return PoolSettings(concurrency=section.concurrency, lease=section.timeout + _LEASE_BEYOND_A_REQUEST)


def sender_of(stack: AsyncExitStack, config: Config, clock: Clock) -> Sender:
    """Its connections are closed with the stack. Raises ConfigurationError.

    The environment's proxies are not used: they would do the connecting, and nobody could check to where.
    """
    section = config.outbox
    networks = tuple(ipaddress.ip_network(each) for each in section.allowed_networks)
    seconds = section.timeout.total_seconds()

    def transport(guard: Guard) -> HttpTransport:
        try:
            made = HttpTransport(
                connect_seconds=min(5.0, seconds),
                read_seconds=seconds,
                total_seconds=seconds,
                connections=section.concurrency,
                max_body_bytes=_READ_AT_MOST,
                trust_env=False,
                refuses=guard,
                cut_answers=True,
                trusted_certificates=section.trusted_certificates,
            )
        except OSError as error:  # ssl.SSLError is one
            where = config.origins.describe(("outbox", "trusted_certificates"))
            raise ConfigurationError(f"{where}: no certificates can be read from it: {error}") from None
        stack.push_async_callback(made.aclose)
        return made

    return Sender(transport(Guard(networks)), transport(Guard(networks, only_allowed=True)), clock)


@dataclass(frozen=True, slots=True)
class Outbox:
    """The running parts of one node."""

    pool: Pool
    watch: Watch


async def open_outbox(
    stack: AsyncExitStack,
    config: Config,
    ledger: GroupCommit,
    clock: Clock,
    *,
    owner: str,
    is_gone: Callable[[str], bool],
    base_url: Callable[[], str],
    applied: Bell,
    metrics: OutboxMetrics,
    rng: random.Random,
) -> Outbox:
    """Brings the ledger's subscriptions in line with the configuration. Raises ConfigurationError, LedgerError."""
    configured, keys = subscriptions_of(config), keys_of(config)
    taken = await ledger.call(lambda ledger: ledger.telling.declare(configured, clock.now()))
    if taken:
        raise ConfigurationError(
            f"the subscription {taken[0]!r} was made by command; choose another name in [[subscriptions]], "
            f"or remove it first with `reconcile subscriptions remove {taken[0]}`"
        )
    pool = Pool(
        ledger,
        clock,
        sender_of(stack, config, clock),
        keys,
        base_url,
        applied,
        metrics,
        owner=owner,
        is_gone=is_gone,
        policy=policy_of(config),
        settings=pool_settings(config),
        rng=rng,
    )
    section = config.outbox
    return Outbox(pool, Watch(ledger, clock, metrics, disable_after=section.disable_after, keep=section.keep))
