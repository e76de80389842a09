"""Every key there is, with values that it cannot have: each is refused in words that say where and what instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from providers.shopify import Shopify
from providers.stripe import Stripe
from reconciler.config import Config, FeeRule, SubscriptionTable, alert_addresses, load, oidc_secret
from reconciler.config.model import Deadline, JournalSection, Sweep
from reconciler.errors import ConfigurationError
from reconciler.loading import load_accounts

ENVIRONMENT = {"KEY": "rk_test_1", "WORD": "nonsense"}
ACCOUNT = '[accounts.m]\nprovider = "stripe"\napi_key = "env:KEY"\n'
SHOP = {"provider": '"shopify"', "shop": '"example.myshopify.com"', "access_token": '"env:KEY"'}
TABLES: dict[str, tuple[type[BaseModel], dict[str, str]]] = {
    "[report.journal]": (JournalSection, {}),
    "[sweeps.charge]": (Sweep, {}),
    "[[report.fee_rules]]": (FeeRule, {"account": '"m"', "currency": '"EUR"'}),
    "[[deadlines]]": (Deadline, {"kind": '"charge"', "states": '["x"]', "after": '"5m"'}),
    "[[subscriptions]]": (SubscriptionTable, {"name": '"a"', "url": '"https://a.example"', "secrets": '["env:KEY"]'}),
    "[accounts.m]": (Stripe.settings, {"provider": '"stripe"', "api_key": '"env:KEY"'}),
    "[accounts.shop]": (Shopify.settings, SHOP),
}
NOT_KEYS = {"kinds", "fee_rules", "journal"}
OF_NO_KEY = ("2026-01-01", "[[1]]", "{a = 1}", "[1]", "-3.5")
JARGON = re.compile(r"should|[Tt]uple|pattern|character|boolean|mapping|Value error|validation")


def sections() -> Iterator[tuple[str, type[BaseModel], dict[str, str]]]:
    for name, each in Config.model_fields.items():
        if isinstance(each.annotation, type) and issubclass(each.annotation, BaseModel):
            yield f"[{name}]", each.annotation, {}
    for header, (model, needed) in TABLES.items():
        yield header, model, needed


KEYS = [
    pytest.param(header, key, needed, each.annotation, id=f"{header.strip('[]')}.{key}")
    for header, model, needed in sections()
    for key, each in model.model_fields.items()
    if key not in NOT_KEYS
]


def refusal(folder: Path, text: str) -> str:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_accounts(load(path, ENVIRONMENT))
    return str(caught.value)


def written(header: str, needed: dict[str, str], key: str, value: str) -> str:
    lines = [f"{name} = {each}" for name, each in (needed | {key: value}).items()]
    return "\n".join([*([] if header == "[accounts.m]" else [ACCOUNT]), header, *lines, ""])


@pytest.mark.parametrize(("header", "key", "needed", "annotation"), KEYS)
def test_what_no_key_means_is_refused_in_words(
    tmp_path: Path, header: str, key: str, needed: dict[str, str], annotation: Any
) -> None:
    for value in OF_NO_KEY if annotation is bool else (*OF_NO_KEY, "true"):
        said = refusal(tmp_path, written(header, needed, key, value))
        assert re.search(rf"\b{key}\b.*\(.*config\.toml, line \d+\): \w", said), (value, said)
        assert not JARGON.search(said.partition("config.toml")[2]), (value, said)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[server]\nhost = ''\n", "server.host ({path}, line 2): must not be empty"),
        ("[report]\nday_start = '25:00'\n", 'line 2): expected a time of day such as "06:00"'),
        ("[alerts]\nquiet = '22-7'\n", 'line 2): expected hours such as "22:00-07:00"'),
        ("[server]\npublic_url = 'pay.example.com'\n", 'line 2): expected an address such as "https://'),
        ("[tracing]\nendpoint = 'collector:4318'\n", 'line 2): expected an address such as "http://'),
        ("[console]\noidc_issuer = 'id.example.com'\n", 'line 2): expected an address such as "https://'),
        ("[console]\nproxy_user_header = 'X User'\n", 'line 2): expected the name of a header, such as "X-'),
        ("[console]\ntrusted_proxies = ['10.1.2.3/8']\n", "trusted_proxies[1] ({path}, line 2): expected a network"),
        ("[console]\nproxy_role_header = 'X-Role'\n", "console.proxy_role_header ({path}, line 2): needs"),
        ("[console]\nproxy_user_header = 'X-User'\n", "console.proxy_user_header ({path}, line 2): needs"),
        ("[report.journal]\nclearing = 'A:{acount}'\n", "line 2): {{acount}} stands for nothing here; {{account}}"),
        ("[report.journal]\nsales = 'I:{account}'\n", "line 2): {{account}} stands for nothing here"),
        ("[report]\ngateways = ['']\n", "report.gateways[1] ({path}, line 2): must not be empty"),
        ("[[deadlines]]\nkind = 'charge'\nstates = []\nafter = '5m'\n", "line 3): expected at least 1"),
        (f"{ACCOUNT}monthly_reads = 0\n", "monthly_reads ({path}, line 4): expected greater than or equal to 1"),
        (f"{ACCOUNT}webhook_url = 'pay.example.com/x'\n", 'line 4): expected an address such as "https://'),
        (f"{ACCOUNT}allowed_sources = ['10.1.2.3/8']\n", "has host bits set"),
        (f"{ACCOUNT}stripe_version = ''\n", 'line 4): expected a version of Stripe\'s API, such as "20'),
        (f"{ACCOUNT}account_id = 'main'\n", "line 4): expected an account's id, acct_..."),
        ("[[subscriptions]]\nname = 'ERP'\nurl = 'https://a'\nsecrets = ['env:KEY']\n", "line 2): expected a name"),
    ],
)  # fmt: skip
def test_what_is_nearly_right_is_refused_in_words(tmp_path: Path, text: str, expected: str) -> None:
    said = refusal(tmp_path, text)
    assert expected.format(path=tmp_path / "config.toml") in said
    assert not JARGON.search(said.partition("config.toml")[2])


def test_too_many_are_counted(tmp_path: Path) -> None:
    keys = ", ".join(["'env:KEY'"] * 11)
    assert "line 2): expected at most 10" in refusal(tmp_path, f"[encryption]\nkeys = [{keys}]\n")


def test_a_pointer_that_stands_alone_has_no_number(tmp_path: Path) -> None:
    """There is one of each: nobody finds an `oidc_client_secret[1]` in his file."""
    path = tmp_path / "config.toml"
    path.write_text("[console]\noidc_client_secret = 'hush'\n[alerts]\nheartbeat = 'hush'\n", encoding="utf-8")
    config = load(path, {})
    with pytest.raises(ConfigurationError, match=r"^console\.oidc_client_secret \(.*line 2\): secrets do not belong"):
        oidc_secret(config)
    with pytest.raises(ConfigurationError, match=r"^alerts\.heartbeat \(.*line 4\): secrets do not belong"):
        alert_addresses(config)


def test_a_heartbeat_that_is_no_address_stops_the_start_and_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[alerts]\nheartbeat = 'env:WORD'\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"^alerts\.heartbeat \(.*line 2\): env:WORD .*https://") as caught:
        alert_addresses(load(path, ENVIRONMENT))
    assert "nonsense" not in str(caught.value)
