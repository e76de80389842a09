"""How single values are written in an exported line, and read back with a clear word where they are wrong."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.clock import from_micros, to_micros
from reconciler.model import ResourceRef

_CURRENCY = re.compile(r"[A-Z]{3}")
_WIDEST = 2**63
_REQUIRED = object()


class WrongLine(ValueError):
    """What is wrong with a line, in words; the importer adds its number."""


def iso(micros: int | None) -> str | None:
    """ISO 8601 in UTC, exact to the microsecond, so that it reads back as the same number."""
    if micros is None:
        return None
    return from_micros(micros).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Given:
    """The object of one line; each reader raises WrongLine that names the key and what was expected."""

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, Mapping):
            raise WrongLine(f"{what}: expected an object")
        self.values: Mapping[str, Any] = value

    def has(self, name: str) -> bool:
        return name in self.values

    def words(self, name: str, default: Any = _REQUIRED) -> Any:
        value = self._value(name, default)
        if value is default:
            return value
        if not isinstance(value, str):
            raise WrongLine(f"{name}: expected text")
        if "\x00" in value:
            raise WrongLine(f"{name}: text with a null character cannot be stored")
        return value

    def name(self, name: str) -> str:
        value: str = self.words(name)
        if not value:
            raise WrongLine(f"{name}: is empty")
        return value

    def whole(self, name: str, default: Any = _REQUIRED, *, least: int = -_WIDEST) -> Any:
        value = self._value(name, default)
        if value is default:
            return value
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _WIDEST:
            expected = "a whole number" if least == -_WIDEST else f"a whole number of at least {least}"
            raise WrongLine(f"{name}: expected {expected}")
        return value

    def truth(self, name: str) -> bool:
        value = self._value(name, _REQUIRED)
        if not isinstance(value, bool):
            raise WrongLine(f"{name}: expected true or false")
        return value

    def instant(self, name: str, default: Any = _REQUIRED) -> Any:
        """In microseconds since 1970."""
        value = self._value(name, default)
        if value is default:
            return value
        try:
            at = datetime.fromisoformat(value)
            return to_micros(at.astimezone(UTC)) if at.tzinfo is not None else self._refuse_time(name)
        except (TypeError, ValueError, OverflowError):
            return self._refuse_time(name)

    def currency(self, name: str) -> str:
        value: str = self.words(name)
        if not _CURRENCY.fullmatch(value):
            raise WrongLine(f"{name}: expected three upper-case letters")
        return value

    def among(self, name: str, known: frozenset[str]) -> str:
        value: str = self.words(name)
        if value not in known:
            raise WrongLine(f"{name}: expected one of {', '.join(sorted(known))}")
        return value

    def ref(self, name: str) -> ResourceRef:
        text = self.words(name)
        try:
            return ResourceRef.parse(text)
        except ValueError as error:
            raise WrongLine(f"{name}: {error}") from None

    def packed(self, name: str, default: Any = _REQUIRED) -> Any:
        """Bytes, written as base64."""
        text = self.words(name, default)
        if text is default:
            return text
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise WrongLine(f"{name}: expected base64") from None

    def listed(self, name: str, default: Any = _REQUIRED) -> list[Any]:
        value = self._value(name, default)
        if not isinstance(value, list):
            raise WrongLine(f"{name}: expected a list")
        return value

    def _value(self, name: str, default: Any) -> Any:
        """A null counts as absent where there is a default."""
        value = self.values.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise WrongLine(f"{name}: missing")
        return default

    def _refuse_time(self, name: str) -> Any:
        raise WrongLine(f"{name}: expected a time in ISO 8601 with its offset, such as 2026-11-01T12:00:00Z")
