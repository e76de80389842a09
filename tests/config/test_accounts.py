"""An account's own keys: checked by its provider's model, with durations and secrets settled first."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.config import account_settings, load
from reconciler.errors import ConfigurationError
from reconciler.loading import load_accounts
from reconciler.provider import ProviderSettings, Secret


class ShopSettings(ProviderSettings):
    """Every sort of field that a provider may have."""

    api_key: Secret
    spare_key: Secret | None = None
    tolerance: timedelta = timedelta(minutes=5)
    pauses: tuple[timedelta, ...] = ()
    idle: timedelta | None = None
    depth: int = 3


def shop(folder: Path, keys: str, environment: dict[str, str], *, with_secrets: bool = True) -> ShopSettings:
    path = folder / "config.toml"
    path.write_text(f"[accounts.shop]\nprovider = 'x:Y'\n{keys}", encoding="utf-8")
    settings = account_settings(load(path, environment), "shop", ShopSettings, with_secrets=with_secrets)
    assert isinstance(settings, ShopSettings)
    return settings


def refusal(folder: Path, keys: str, environment: dict[str, str] | None = None, *, with_secrets: bool = True) -> str:
    with pytest.raises(ConfigurationError) as caught:
        shop(folder, keys, environment or {}, with_secrets=with_secrets)
    assert caught.value.__cause__ is None, "a cause could print what the message leaves out"
    return str(caught.value)


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from-file\n", encoding="utf-8")
    settings = shop(tmp_path, f"api_key = 'env:KEY'\nspare_key = 'file:{secret}'\n", {"KEY": "from-env"})
    assert settings.api_key.get_secret_value() == "from-env"
    assert settings.spare_key is not None
    assert settings.spare_key.get_secret_value() == "from-file"


def test_a_whole_account_may_stand_in_the_environment() -> None:
    environment = {
        "RECONCILER__ACCOUNTS__SHOP__PROVIDER": "x:Y",
        "RECONCILER__ACCOUNTS__SHOP__API_KEY": "env:KEY",
        "RECONCILER__ACCOUNTS__SHOP__WEBHOOK_SECRETS": '["env:KEY", "env:OTHER"]',
        "RECONCILER__ACCOUNTS__SHOP__TOLERANCE": "90s",
        "KEY": "k",
        "OTHER": "o",
    }
    settings = account_settings(load(None, environment), "shop", ShopSettings)
    assert isinstance(settings, ShopSettings)
    assert settings.tolerance == timedelta(seconds=90)
    assert [secret.get_secret_value() for secret in settings.webhook_secrets] == ["k", "o"]


def test_durations_inside_an_accounts_table_are_read_like_all_others(tmp_path: Path) -> None:
    settings = shop(tmp_path, "api_key='env:K'\ntolerance='2m'\npauses=['1s','250ms']\nidle='3d'\n", {"K": "k"})
    assert settings.tolerance == timedelta(minutes=2)
    assert settings.pauses == (timedelta(seconds=1), timedelta(milliseconds=250))
    assert settings.idle == timedelta(days=3)


def test_commands_that_send_no_request_work_without_the_secrets(tmp_path: Path) -> None:
    settings = shop(tmp_path, "api_key = 'env:ABSENT'\n", {}, with_secrets=False)
    assert settings.api_key.get_secret_value() == "env:ABSENT"


@pytest.mark.parametrize(
    "literal", ["sk_live_abc123", "shpat_0123456789", "plaintext", "env:", "file:", "http://x.example", "ENV:NAME", ""]
)
@pytest.mark.parametrize("with_secrets", [True, False])
def test_a_literal_secret_is_refused_and_never_repeated(tmp_path: Path, literal: str, with_secrets: bool) -> None:
    text = refusal(tmp_path, f"depth = 1\napi_key = '{literal}'\n", with_secrets=with_secrets)
    assert text.startswith(f"accounts.shop.api_key ({tmp_path / 'config.toml'}, line 4): secrets do not belong in")
    assert len(literal) < 6 or literal not in text


def test_one_literal_among_several_secrets_is_found(tmp_path: Path) -> None:
    text = refusal(tmp_path, "api_key = 'env:K'\nwebhook_secrets = ['env:K', 'whsec_abcdef']\n", {"K": "k"})
    assert text.startswith(f"accounts.shop.webhook_secrets[2] ({tmp_path / 'config.toml'}, line 4): secrets do not")
    assert "whsec_abcdef" not in text


def test_a_literal_secret_does_not_show_where_the_configuration_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[accounts.shop]\nprovider = 'x:Y'\napi_key = 'sk_live_abc123'\n", encoding="utf-8")
    assert "sk_live" not in f"{load(path, {})!r} {load(path, {})}"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("api_key = 'env:ABSENT'\n", "line 3): the environment variable ABSENT is not set"),
        ("api_key = 'file:/absent'\n", "line 3): /absent cannot be read: No such file"),
        ("api_key = 'env:EMPTY'\n", "line 3): env:EMPTY is empty"),
        ("api_key = 'env:K'\ndepht = 3\n", "accounts.shop.depht ({path}, line 4): unknown key; did you mean 'depth'?"),
        ("api_key = 'env:K'\ndepth = 'x'\n", "accounts.shop.depth ({path}, line 4): expected a valid integer"),
        ("api_key = 'env:K'\ntolerance = 5\n", "accounts.shop.tolerance ({path}, line 4): expected a duration"),
        ("api_key = 'env:K'\ntolerance = 'x'\n", "accounts.shop.tolerance ({path}, line 4): expected a duration"),
        ("api_key = 'env:K'\npauses = ['1s', 'x']\n", "accounts.shop.pauses[2] ({path}, line 4): expected a duration"),
        ("depth = 3\n", "accounts.shop.api_key ({path}, line 1): missing"),
    ],
)
def test_an_accounts_mistakes_name_key_and_line(tmp_path: Path, keys: str, expected: str) -> None:
    text = refusal(tmp_path, keys, {"K": "k", "EMPTY": " \n"})
    assert expected.format(path=tmp_path / "config.toml") in text


TWO = {
    "stripe": ("api_key = 'env:A'", "api_key = 'env:B'"),
    "shopify": ("shop = 'one'\naccess_token = 'env:A'", "shop = 'one.myshopify.com'\naccess_token = 'env:B'"),
}


@pytest.mark.parametrize("provider", TWO)
def test_the_same_shop_under_two_names_is_refused(tmp_path: Path, provider: str) -> None:
    """Every charge and every order would be counted twice."""
    first, second = TWO[provider]
    path = tmp_path / "config.toml"
    path.write_text(
        f"[accounts.main]\nprovider = '{provider}'\n{first}\n[accounts.copy]\nprovider = '{provider}'\n{second}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigurationError, match=r"accounts\.copy.*reads the same as \[accounts\.main\]") as caught:
        load_accounts(load(path, {"A": "key_1", "B": "key_1"}))
    assert "key_1" not in str(caught.value)
    if provider == "stripe":
        assert set(load_accounts(load(path, {"A": "key_1", "B": "key_2"}))) == {"main", "copy"}
