"""The config.toml that ships: it works, names every key there is, with its true default and a word about it."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from providers.stripe import Stripe
from reconciler.config import Config, FeeRule, SubscriptionTable, load, parse_duration
from reconciler.loading import load_accounts

FILE = Path(__file__).parents[2] / "config.toml"
TEXT = FILE.read_text(encoding="utf-8")
SECTIONS = [name for name in Config.model_fields if name not in ("accounts", "deadlines", "subscriptions")]
ENVIRONMENT = {"STRIPE_API_KEY": "rk_test_1", "STRIPE_WEBHOOK_SECRET": "whsec_1"}


def model_of(section: str) -> type[BaseModel]:
    annotation = Config.model_fields[section].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    return annotation


def keys_of(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields) - {"kinds", "fee_rules"}


def commented(key: str) -> bool:
    return re.search(rf"^# {key} = ", TEXT, re.MULTILINE) is not None


def test_it_works_as_it_is() -> None:
    account = load_accounts(load(FILE, ENVIRONMENT))["main"]
    assert account.provider.settings is Stripe.settings
    assert [secret.get_secret_value() for secret in account.settings.webhook_secrets] == ["whsec_1"]


def test_it_names_every_section() -> None:
    written: dict[str, Any] = tomllib.loads(TEXT)
    assert set(written) | {"subscriptions"} == set(Config.model_fields), "that one stands there as an example"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_stands_there_with_its_default(section: str) -> None:
    written: dict[str, Any] = tomllib.loads(TEXT)
    fields = model_of(section).model_fields
    examples = {key for key in keys_of(model_of(section)) if fields[key].default is None and commented(key)}
    assert set(written[section]) == keys_of(model_of(section)) - examples
    assert getattr(load(FILE, {}), section) == getattr(Config(), section)


def test_the_deadline_that_is_written_is_the_providers_own() -> None:
    config = load(FILE, {})
    kinds = list(Stripe.kinds.values())
    assert set(config.deadline_rules(kinds)) == set(Config().deadline_rules(kinds))


def test_every_key_of_a_stripe_account_is_named_with_its_default() -> None:
    written = tomllib.loads(TEXT)["accounts"]["main"]
    settings = load_accounts(load(FILE, ENVIRONMENT))["main"].settings
    for key, each in type(settings).model_fields.items():
        assert key in written or commented(key), f"{key} is not in config.toml"
        if key in written and not each.is_required() and key not in ("webhook_secrets", "monthly_reads"):
            assert getattr(settings, key) == each.default, key


def test_the_commented_keys_of_an_account_are_right_too() -> None:
    """With the comment signs taken away the file still loads, and says the defaults that it claims."""
    own = set(Stripe.settings.model_fields) - set(tomllib.loads(TEXT)["accounts"]["main"])
    text = re.sub(rf"^# (?=(?:{'|'.join(own)}) = )", "", TEXT, flags=re.MULTILINE)
    account = tomllib.loads(text)["accounts"]["main"]
    assert own <= set(account)
    assert account["stripe_version"] == Stripe.settings.model_fields["stripe_version"].default
    assert parse_duration(account["tolerance"]) == Stripe.settings.model_fields["tolerance"].default


def test_every_key_of_a_fee_rule_is_named() -> None:
    assert [key for key in FeeRule.model_fields if not commented(key)] == []


def test_the_subscription_that_is_an_example_is_right_and_names_every_key() -> None:
    text = re.sub(r"^# (?=\[\[subscriptions\]\])", "", TEXT, flags=re.MULTILINE)
    head, _, example = text.partition("[[subscriptions]]\n")
    keys = "|".join(SubscriptionTable.model_fields)
    example = re.sub(rf"^# (?=(?:{keys}) = )", "", example, flags=re.MULTILINE)
    (given,) = tomllib.loads(f"{head}[[subscriptions]]\n{example}")["subscriptions"]
    assert set(given) == set(SubscriptionTable.model_fields)
    table = SubscriptionTable(**given)
    for key in ("body", "order", "concurrency", "per_second"):
        assert getattr(table, key) == SubscriptionTable.model_fields[key].default, key


def test_every_key_has_a_word_about_it() -> None:
    lines = TEXT.splitlines()
    silent = [
        line
        for before, line in pairwise(lines)
        if re.match(r"[a-z_]+ = ", line) and not before.startswith("#") and not in_deadline(line)
    ]
    assert silent == []


def in_deadline(line: str) -> bool:
    """The three keys of a deadline are explained together, above its header."""
    return line.split(" = ")[0] in {"kind", "states", "after"}
