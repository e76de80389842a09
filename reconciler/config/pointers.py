"""What the loader does to an account's values before the provider's model sees them: durations and secrets.

A secret stands in the configuration only as a pointer, `env:NAME` or `file:/path`. Anything else refuses to start,
and is not repeated in the message: whoever pasted a key into the file should not find it in a log as well.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from reconciler.config.durations import EXPECTED, parse_duration
from reconciler.config.places import Keys
from reconciler.errors import ConfigurationError
from reconciler.provider import ProviderSettings, SecretMarker

_FILE_LIMIT_BYTES = 64 * 1024


class Pointers:
    """`describe` says in words where the value at these keys was written."""

    def __init__(self, environment: Mapping[str, str], describe: Callable[[Keys], str], *, resolve: bool) -> None:
        self._environment = environment
        self._describe = describe
        self._resolve = resolve

    def settle(self, model: type[ProviderSettings], values: Mapping[str, Any]) -> dict[str, Any]:
        """The values with durations read and secrets resolved, as the model's fields ask. Raises ConfigurationError."""
        settled = dict(values)
        for name, each in model.model_fields.items():
            if name in settled:
                annotation: Any = Annotated[each.annotation, *each.metadata] if each.metadata else each.annotation
                settled[name] = self._value(annotation, settled[name], (name,))
        return settled

    def secrets(self, values: Sequence[str], keys: Keys) -> tuple[str, ...]:
        """A list of pointers, resolved. Raises ConfigurationError."""
        return tuple(self.secret(value, (*keys, at)) for at, value in enumerate(values))

    def _value(self, annotation: Any, value: Any, keys: Keys) -> Any:
        origin = get_origin(annotation)
        if origin is Annotated:
            inner, *metadata = get_args(annotation)
            if any(isinstance(each, SecretMarker) for each in metadata):
                return self.secret(value, keys)
            return self._value(inner, value, keys)
        if annotation is timedelta:
            return self._span(value, keys)
        if origin in (tuple, list, frozenset) and isinstance(value, list | tuple):
            return [self._value(get_args(annotation)[0], each, (*keys, at)) for at, each in enumerate(value)]
        if origin in (Union, types.UnionType) and value is not None:
            for option in get_args(annotation):
                value = self._value(option, value, keys)
        return value

    def _span(self, value: Any, keys: Keys) -> timedelta:
        if isinstance(value, timedelta):
            return value
        if not isinstance(value, str):
            raise ConfigurationError(f"{self._describe(keys)}: expected {EXPECTED}, in quotes")
        try:
            return parse_duration(value)
        except ValueError as error:
            raise ConfigurationError(f"{self._describe(keys)}: {error}") from None

    def secret(self, value: Any, keys: Keys) -> str:
        """What one pointer leads to. Raises ConfigurationError."""
        where = self._describe(keys)
        scheme, colon, target = value.partition(":") if isinstance(value, str) else ("", "", "")
        if not colon or scheme not in ("env", "file") or not target:
            raise ConfigurationError(
                f"{where}: secrets do not belong in the configuration; write env:NAME or file:/path instead, "
                "and if a real key stood here, replace it at the provider"
            )
        if not self._resolve:
            return f"{scheme}:{target}"
        secret = self._variable(target, where) if scheme == "env" else _content(Path(target), where)
        if not secret.strip():
            raise ConfigurationError(f"{where}: {scheme}:{target} is empty")
        return secret.strip()

    def _variable(self, name: str, where: str) -> str:
        if name not in self._environment:
            raise ConfigurationError(f"{where}: the environment variable {name} is not set; set it where this runs")
        return self._environment[name]


def _content(path: Path, where: str) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_FILE_LIMIT_BYTES)
    except UnicodeDecodeError:
        raise ConfigurationError(f"{where}: {path} does not hold text") from None
    except OSError as error:
        raise ConfigurationError(f"{where}: {path} cannot be read: {error.strerror}") from None
