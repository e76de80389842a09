"""Providers by name, and what is said when one cannot be loaded."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import ModuleType

import pytest

from providers.stripe import Stripe
from reconciler.clock import ManualClock
from reconciler.config import load
from reconciler.errors import ConfigurationError, Unavailable
from reconciler.loading import load_accounts, load_provider
from reconciler.model import ResourceRef
from reconciler.provider import Provider


def test_a_shipped_provider_is_found_by_its_short_name_and_by_its_path() -> None:
    found: list[object] = [load_provider("stripe"), load_provider("providers.stripe:Stripe")]
    assert found == [Stripe, Stripe]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("strip", "provider 'strip' is not known; write one of shopify, stripe, or package.module:Class"),
        ("acme_paypal:PayPal", "provider 'acme_paypal:PayPal': there is no module acme_paypal; is it installed?"),
        ("providers.stripe:Nothing", "provider 'providers.stripe:Nothing': providers.stripe has no Nothing"),
        ("reconciler.model:Snapshot", "Snapshot does not implement reconciler.provider.Provider"),
        (":X", "is not known"),
    ],
)
def test_a_provider_that_cannot_be_loaded_says_why(name: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_provider(name)
    assert expected in str(caught.value)


def test_a_provider_that_lacks_a_part_of_the_port_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and not by the first delivery that needs it."""
    asked = {name for name in {*vars(Provider), *Provider.__annotations__} if not name.startswith("_")}
    for part in sorted(asked):
        module = ModuleType("acme_till")
        rest = dict.fromkeys(asked - {part})
        module.Till = type("Till", (), rest)  # type: ignore[attr-defined]  # a module made here
        monkeypatch.setitem(sys.modules, "acme_till", module)
        with pytest.raises(ConfigurationError, match=rf"Till does not implement .* \(it lacks {part}\)"):
            load_provider("acme_till:Till")


def test_an_unknown_provider_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[accounts.main]\nprovider = 'strip'\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"accounts\.main\.provider \(.*line 2\): provider 'strip' is not"):
        load_accounts(load(path, {}))


def test_a_kind_that_no_account_has_is_found_once_the_providers_are_known(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        "[accounts.main]\nprovider = 'stripe'\napi_key = 'env:K'\n[sweeps.ordr]\nevery = '1h'\n", encoding="utf-8"
    )
    with pytest.raises(ConfigurationError, match=r"sweeps\.ordr \(.*line 4\): no configured account has a kind"):
        load_accounts(load(path, {"K": "k"}))


async def send_something(account: str, clock: ManualClock) -> None:
    environment = {f"RECONCILER__ACCOUNTS__{account.upper()}__PROVIDER": "stripe"}
    environment[f"RECONCILER__ACCOUNTS__{account.upper()}__API_KEY"] = "env:ABSENT"
    loaded = load_accounts(load(None, environment), with_secrets=False)[account]
    await loaded.offline(clock).fetch([ResourceRef("stripe", account, "charge", "ch_1")])


def test_an_offline_provider_sends_nothing(clock: ManualClock) -> None:
    with pytest.raises(Unavailable, match="was not sent: this command reads only the ledger"):
        asyncio.run(send_something("main", clock))
