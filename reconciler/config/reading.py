"""From `config.toml` and the environment to a `Config`. Every error names the key, its line and what was expected."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, SettingsError

from reconciler.config.model import (
    KIND_TABLES,
    AccountTable,
    Config,
    Deadline,
    FeeRule,
    JournalSection,
    SubscriptionTable,
    Sweep,
    SweepsSection,
)
from reconciler.config.places import PREFIX, Keys, Origins, Places, find_places
from reconciler.config.pointers import Pointers
from reconciler.errors import ConfigurationError
from reconciler.provider import ProviderSettings


def load(path: Path | None, environment: Mapping[str, str]) -> Config:
    """The configuration of a file (None: there is none), overridden by the environment.

    Raises ConfigurationError. The accounts' own keys are not looked at yet: see `account_settings`.
    """
    given, places = ({}, Places()) if path is None else _read(path)
    origins = Origins(places, environment)
    overrides = _overrides(environment)
    try:
        config = Config(**_merge(given, overrides))
    except ValidationError as error:
        raise _explain(error, (), origins, _core_keys) from None
    config._origins = origins
    return config


def account_settings(
    config: Config, account: str, model: type[ProviderSettings], *, with_secrets: bool = True
) -> ProviderSettings:
    """What `[accounts.NAME]` says, checked by the provider's own model.

    `with_secrets` False leaves each secret as its pointer, for commands that send no request: they must work where
    the secrets are not. Raises ConfigurationError; a secret's text is never in it.
    """
    origins = config.origins
    above: Keys = ("accounts", account)
    pointers = Pointers(origins.environment, lambda keys: origins.describe((*above, *keys)), resolve=with_secrets)
    values = pointers.settle(model, config.accounts[account].keys)
    try:
        return model(**values)
    except ValidationError as error:
        raise _explain(error, above, origins, lambda _: list(model.model_fields)) from None


def expectation_tokens(config: Config) -> tuple[str, ...]:
    """The tokens with which applications may register expectations. Raises ConfigurationError."""
    origins = config.origins
    pointers = Pointers(origins.environment, origins.describe, resolve=True)
    return pointers.secrets(config.server.expectation_tokens, ("server", "expectation_tokens"))


def api_tokens(config: Config) -> tuple[str, ...]:
    """The tokens with which programs may read the change feed. Raises ConfigurationError."""
    origins = config.origins
    pointers = Pointers(origins.environment, origins.describe, resolve=True)
    return pointers.secrets(config.server.api_tokens, ("server", "api_tokens"))


def encryption_keys(config: Config) -> tuple[tuple[str, str], ...]:
    """Where each key was written, and the key. Raises ConfigurationError."""
    origins = config.origins
    pointers = Pointers(origins.environment, origins.describe, resolve=True)
    keys = pointers.secrets(config.encryption.keys, ("encryption", "keys"))
    return tuple((origins.describe(("encryption", "keys", place)), key) for place, key in enumerate(keys))


def alert_addresses(config: Config) -> tuple[tuple[str, ...], str | None]:
    """Whom alerts are sent to, and where the heartbeat goes. Raises ConfigurationError."""
    origins = config.origins
    pointers = Pointers(origins.environment, origins.describe, resolve=True)
    urls = pointers.secrets(config.alerts.urls, ("alerts", "urls"))
    pointer = config.alerts.heartbeat
    if pointer is None:
        return urls, None
    heartbeat = pointers.secret(pointer, ("alerts", "heartbeat"))
    if not heartbeat.startswith(("https://", "http://")):
        where = origins.describe(("alerts", "heartbeat"))
        raise ConfigurationError(f"{where}: {pointer} holds no address to fetch; one begins with https:// or http://")
    return urls, heartbeat


def subscription_secrets(config: Config) -> Mapping[str, tuple[str, ...]]:
    """What signs for each of the configuration's subscriptions. Raises ConfigurationError."""
    origins = config.origins
    pointers = Pointers(origins.environment, origins.describe, resolve=True)
    return {
        each.name: pointers.secrets(each.secrets, ("subscriptions", place, "secrets"))
        for place, each in enumerate(config.subscriptions)
    }


def oidc_secret(config: Config, *, resolve: bool = True) -> str:
    """With which the console shows itself to the issuer of its single sign-on; without `resolve` only whether it is
    written as one may be. Raises ConfigurationError."""
    origins = config.origins
    pointers = Pointers(origins.environment, origins.describe, resolve=resolve)
    return pointers.secret(config.console.oidc_client_secret, ("console", "oidc_client_secret"))


def require_known(config: Config, states: Mapping[str, Collection[str]]) -> None:
    """Raises ConfigurationError where a deadline or a sweep speaks of a kind that no configured provider has, or a
    deadline of a state that looks like a misspelt one. `states`: of each kind that there is, those with a name."""
    known = list(states)
    origins = config.origins
    named: list[tuple[Keys, str]] = [(("sweeps", kind), kind) for kind in config.sweeps.kinds]
    named += [(("deadlines", place, "kind"), each.kind) for place, each in enumerate(config.deadlines)]
    for keys, kind in named:
        if kind not in known:
            also = [*known, *_core_keys(("sweeps",))] if keys[0] == "sweeps" else known
            raise ConfigurationError(
                f"{origins.describe(keys)}: no configured account has a kind {kind!r}{_nearest(kind, also)}"
            )
    for where, kind, state in unnamed_states(config, states):
        meant = _misspelt(state, states[kind])
        if meant is not None:
            raise ConfigurationError(f"{where}: no {kind} is known to be {state!r}; did you mean {meant!r}?")
    for place, table in enumerate(config.subscriptions):
        _require_narrowed(config, place, "kinds", table.kinds, known)
        _require_narrowed(config, place, "accounts", table.accounts, config.accounts)
    for place, fee_rule in enumerate(config.report.fee_rules):
        if fee_rule.account not in config.accounts:
            keys = ("report", "fee_rules", place, "account")
            raise ConfigurationError(
                f"{origins.describe(keys)}: there is no account {fee_rule.account!r}"
                f"{_nearest(fee_rule.account, config.accounts)}"
            )


def unnamed_states(config: Config, states: Mapping[str, Collection[str]]) -> Iterator[tuple[str, str, str]]:
    """Where a deadline waits for a state that no provider's module names, its kind, and that state.

    It need not be wrong: providers add states, and modules name only those that are not final.
    """
    for place, deadline in enumerate(config.deadlines):
        for at, state in enumerate(deadline.states):
            if state not in states[deadline.kind]:
                yield config.origins.describe(("deadlines", place, "states", at)), deadline.kind, state


def _misspelt(state: str, known: Collection[str]) -> str | None:
    """Nearer than any two states of one kind are to each other, so that no state of its own is taken for a mistake."""
    spelt = {each.casefold(): each for each in known}
    written = state.casefold()
    close = difflib.get_close_matches(written, spelt, n=1, cutoff=0.85)
    if not close or (written != close[0] and (written.endswith(close[0]) or close[0].endswith(written))):
        return None  # "unconfirmed" is another state than "confirmed"
    return spelt[close[0]]


def _require_narrowed(config: Config, place: int, what: str, named: Iterable[str], known: Collection[str]) -> None:
    for at, name in enumerate(named):
        if name not in known:
            where = config.origins.describe(("subscriptions", place, what, at))
            raise ConfigurationError(f"{where}: there is no such {what[:-1]} {name!r}{_nearest(name, known)}")


# --- the two sources ------------------------------------------------------------------------------


def _read(path: Path) -> tuple[dict[str, Any], Places]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"{path} does not exist; name the file with --config, or copy config.toml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    try:
        return tomllib.loads(text), find_places(path, text)
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError, or thousands of digits or brackets
        raise ConfigurationError(f"{path} is not TOML: {error}") from None


def _overrides(environment: Mapping[str, str]) -> dict[str, Any]:
    """`RECONCILER__SECTION__KEY`, lists and tables as JSON. Unknown sections stop the start like unknown keys."""
    ours = {name: value for name, value in environment.items() if name.upper().startswith(PREFIX)}
    for name in ours:
        section = name[len(PREFIX) :].split("__", 1)[0].lower()
        if section not in Config.model_fields:
            raise ConfigurationError(
                f"the environment variable {name} names no section{_nearest(section, Config.model_fields)}"
            )
    source = EnvSettingsSource(Config)
    source.env_vars = {name.lower(): value for name, value in ours.items()}
    try:
        return source()
    except SettingsError as error:
        raise ConfigurationError(
            f"an environment variable {PREFIX}... cannot be read: {error}; write lists and tables as JSON"
        ) from None


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[name] = _merge(below, value) if both else value  # type: ignore[arg-type]  # mypy loses `both`
    return merged


# --- errors ---------------------------------------------------------------------------------------


def _explain(
    error: ValidationError, above: Keys, origins: Origins, known: Callable[[Keys], Iterable[str]]
) -> ConfigurationError:
    """All that is wrong, one line each, in the order of the file."""
    return ConfigurationError("\n".join(dict.fromkeys(_lines(error, above, origins, known))))


def _lines(
    error: ValidationError, above: Keys, origins: Origins, known: Callable[[Keys], Iterable[str]]
) -> Iterator[str]:
    for each in error.errors(include_url=False, include_input=False):
        inside = tuple(name for name in each["loc"] if name not in (KIND_TABLES, "[key]"))
        keys = (*above, *inside)
        where = origins.describe(keys)
        match each["type"]:
            case "extra_forbidden":
                yield f"{where}: unknown key{_nearest(str(keys[-1]), known(inside[:-1]))}"
            case "missing":
                yield f"{where}: missing; write {keys[-1]} = ..."
            case _:
                yield f"{where}: {mistake_in(each)}"


def mistake_in(error: ErrorDetails) -> str:
    """What is wrong with a value, and what was expected: in the words of who writes it, and not of who checks it."""
    match error["type"]:
        case "tuple_type" | "list_type":
            return 'expected a list, in brackets: ["..."]'
        case "model_type" | "dict_type" | "mapping_type":
            return "expected a table of keys and values"
        case "bool_type" | "bool_parsing":
            return "expected true or false"
        case "string_too_short":
            return "must not be empty"
        case "too_short":
            return f"expected at least {error['ctx']['min_length']}"
        case "too_long":
            return f"expected at most {error['ctx']['max_length']}"
    message = error["msg"].removeprefix("Value error, ")
    return message.replace("Input should be", "expected") if message.startswith("Input") else message


def _nearest(name: str, known: Iterable[str]) -> str:
    candidates = list(known)
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(sorted(candidates))}" if candidates else ""


def _core_keys(inside: Keys) -> list[str]:
    """The keys that the table at `inside` may have."""
    match inside:
        case ():
            return list(Config.model_fields)
        case ("sweeps",):
            return [name for name in SweepsSection.model_fields if name != "kinds"]
        case ("sweeps", *_):
            return list(Sweep.model_fields)
        case ("deadlines", *_):
            return list(Deadline.model_fields)
        case ("accounts", *_):
            return list(AccountTable.model_fields)
        case ("subscriptions", *_):
            return list(SubscriptionTable.model_fields)
        case ("report", "fee_rules", *_):
            return list(FeeRule.model_fields)
        case ("report", "journal", *_):
            return list(JournalSection.model_fields)
    annotation = Config.model_fields[str(inside[0])].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    return list(annotation.model_fields)
