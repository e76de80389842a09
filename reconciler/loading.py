"""Providers by name. The only module that imports one: the core knows providers through the port alone."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from reconciler.clock import Clock
from reconciler.config import Config, account_settings, require_known
from reconciler.errors import ConfigurationError, Unavailable, UsageError
from reconciler.ledger import Ledger
from reconciler.model import Entry, ResourceRef, Snapshot
from reconciler.provider import DeadlineRule, Kind, Provider, ProviderSettings, Reply, Request, Transport
from reconciler.status import Followed

SHIPPED: Mapping[str, str] = {"stripe": "providers.stripe:Stripe", "shopify": "providers.shopify:Shopify"}

_PARTS = (
    "name", "settings", "kinds", "limits", "exponents", "feed_reach", "verify", "satisfied", "fetch", "page", "members",
    "changes", "entries", "control_totals", "findings", "repair_subscriptions",
)  # fmt: skip
"""What `Provider` asks for. What is missing is named at the start, and not by the first delivery that needs it."""


@dataclass(frozen=True, slots=True)
class Account:
    """One `[accounts.NAME]` with the class that reads it and its checked settings."""

    name: str
    provider: type[Provider]
    settings: ProviderSettings
    rules: tuple[DeadlineRule, ...]

    @property
    def provider_name(self) -> str:
        return self.provider.name

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return self.provider.kinds

    def connect(self, transport: Transport, clock: Clock) -> Provider:
        return self.provider(self.name, self.settings, transport, clock)

    def offline(self, clock: Clock) -> Provider:
        """For the provider's pure parts only: whatever would send a request raises Unavailable."""
        return self.connect(_NoTransport(), clock)


@dataclass(frozen=True, slots=True)
class PastAccount:
    """An account that the ledger holds and the configuration no more: no settings, no key, and nobody who reads it.
    Its name may stand for an account at another provider by now."""

    name: str
    provider_name: str
    provider: type[Provider] | None
    """None: only a configuration says where its class is, and this one does not."""

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Raises UsageError where nobody can tell them."""
        if self.provider is None:
            raise UsageError(
                f"account {self.name!r} is at {self.provider_name}, which no configured account names any more; add "
                'an account with its provider = "package.module:Class" again'
            )
        return self.provider.kinds


@runtime_checkable
class Remembering(Protocol):
    """What a provider may offer beside the port: to read out of a stored body again what it once read out of it.

    Without it an imported body keeps what its line says, and has no time of creation where the line does not.
    """

    def snapshot(self, ref: ResourceRef, body: Mapping[str, Any], api_version: str) -> Snapshot: ...


class StoredReader:
    """An account's pure parts, for stored bodies. Sends nothing."""

    def __init__(self, account: Account, clock: Clock) -> None:
        self.provider = account.provider.name
        self.kinds = frozenset(account.kinds)
        self._inside = account.offline(clock)
        self._remembering = self._inside if isinstance(self._inside, Remembering) else None

    def snapshot(self, ref: ResourceRef, body: Mapping[str, Any], api_version: str) -> Snapshot:
        if self._remembering is not None:
            return self._remembering.snapshot(ref, body, api_version)
        status = body.get("status")
        return Snapshot(ref, body, status=status if isinstance(status, str) else None, api_version=api_version)

    def entries(self, snapshot: Snapshot) -> Sequence[Entry]:
        return self._inside.entries(snapshot)


class _NoTransport:
    async def send(self, request: Request) -> Reply:
        raise Unavailable(f"{request.method} {request.url} was not sent: this command reads only the ledger")


def load_provider(name: str) -> type[Provider]:
    """The class behind `provider = "..."`. Raises ConfigurationError."""
    target = SHIPPED.get(name, name)
    module_name, colon, class_name = target.partition(":")
    if not colon or not module_name or not class_name:
        raise ConfigurationError(
            f"provider {name!r} is not known; write one of {', '.join(sorted(SHIPPED))}, or package.module:Class"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ConfigurationError(f"provider {name!r}: there is no module {error.name}; is it installed?") from error
        raise ConfigurationError(f"provider {name!r} needs the module {error.name}, which is not installed") from error
    found: Any = getattr(module, class_name, None)
    if found is None:
        raise ConfigurationError(f"provider {name!r}: {module_name} has no {class_name}")
    missing = [part for part in _PARTS if not hasattr(found, part)]
    if not isinstance(found, type) or missing:
        raise ConfigurationError(
            f"provider {name!r}: {class_name} does not implement reconciler.provider.Provider"
            + (f" (it lacks {', '.join(missing)})" if missing else "")
        )
    return found


def load_accounts(config: Config, *, with_secrets: bool = True) -> Mapping[str, Account]:
    """Every configured account, checked by its provider. Raises ConfigurationError, also for two of one source.

    `with_secrets` False is for commands that send no request: they work where the secrets are not.
    """
    accounts: dict[str, Account] = {}
    for name, table in config.accounts.items():
        try:
            provider = load_provider(table.provider)
        except ConfigurationError as error:
            raise ConfigurationError(f"{config.origins.describe(('accounts', name, 'provider'))}: {error}") from error
        settings = account_settings(config, name, provider.settings, with_secrets=with_secrets)
        accounts[name] = Account(name, provider, settings, config.deadline_rules(provider.kinds.values()))
    if with_secrets:
        _require_different_sources(config, accounts)
    if accounts:
        require_known(config, states_of(accounts))
    return accounts


def states_of(accounts: Mapping[str, Account]) -> Mapping[str, frozenset[str]]:
    """Of each kind that an account has, the states that its provider's module names."""
    found: dict[str, frozenset[str]] = {}
    for kind in (kind for account in accounts.values() for kind in account.kinds.values()):
        found[kind.name] = found.get(kind.name, frozenset()) | kind.named_states
    return found


def past_accounts(ledger: Ledger, configured: Mapping[str, Account]) -> tuple[PastAccount, ...]:
    """Those of which the ledger holds anything, though they were taken out of the configuration."""
    with ledger.view() as view:
        held = view.providers()
    current = {(name, account.provider_name) for name, account in configured.items()}
    return tuple(
        PastAccount(name, provider, _class_of(provider, configured)) for name, provider in sorted(held - current)
    )


def kinds_by_provider(configured: Mapping[str, Account]) -> Callable[[str], Mapping[str, Kind]]:
    """The kinds of a provider, by its name, whether it is configured or was; none where nobody knows its class."""

    def kinds_of(provider: str) -> Mapping[str, Kind]:
        known = _class_of(provider, configured)
        return {} if known is None else known.kinds

    return kinds_of


def _class_of(provider: str, configured: Mapping[str, Account]) -> type[Provider] | None:
    for account in configured.values():
        if account.provider_name == provider:
            return account.provider
    return load_provider(provider) if provider in SHIPPED else None


def _require_different_sources(config: Config, accounts: Mapping[str, Account]) -> None:
    known: dict[tuple[str, str], str] = {}
    for name, account in accounts.items():
        source = account.settings.source
        first = name if source is None else known.setdefault((account.provider.name, source), name)
        if first != name:
            raise ConfigurationError(
                f"{config.origins.describe(('accounts', name, 'provider'))}: it reads the same as [accounts.{first}], "
                "so that every figure would be counted twice; take one of them out"
            )


def followed_of(config: Config, accounts: Mapping[str, Account]) -> tuple[Followed, ...]:
    """What a status is judged against: each account, and how often its kinds should be looked at."""
    return tuple(
        Followed(
            account.provider.name,
            account.name,
            account.kinds,
            account.rules,
            {kind: config.sweeps.of(kind) for kind in account.kinds},
            account.settings.monthly_reads,
        )
        for account in accounts.values()
    )
