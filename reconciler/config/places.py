"""Where each key came from, a line of the TOML file or an environment variable, so that an error can name it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PREFIX = "RECONCILER__"
"""Of the environment variables that override the file: `RECONCILER__SECTION__KEY`."""

Keys = tuple[str | int, ...]
"""The way to a value: names of tables and keys, and places in arrays of tables."""


@dataclass(frozen=True, slots=True)
class Places:
    """The lines of a file's tables and keys."""

    path: Path | None = None
    """None: there is no file; everything came from defaults and the environment."""
    lines: Mapping[Keys, int] = field(default_factory=dict)

    def line(self, keys: Keys) -> int | None:
        """The line of this key or, where it is absent, of the nearest table around it."""
        for length in range(len(keys), 0, -1):
            if (line := self.lines.get(keys[:length])) is not None:
                return line
        return None


def find_places(path: Path, text: str) -> Places:
    """The place of every key, which `tomllib` does not tell. `text` must be valid TOML.

    A statement is read by `tomllib` itself, from its first line on until it parses, so that strings and arrays over
    several lines, dotted keys and quoted ones need no grammar of ours.
    """
    lines: dict[Keys, int] = {}
    arrays: dict[Keys, int] = {}
    table: Keys = ()
    for number, statement in _statements(text):
        parsed = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _enter(parsed, arrays)
            lines.setdefault(table, number)
            continue
        for keys in _keys(parsed, table):
            lines.setdefault(keys, number)
    return Places(path, lines)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each header or assignment with the number of its first line."""
    waiting, began = "", 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not waiting:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            began = number
        waiting += line
        try:
            tomllib.loads(waiting)
        except tomllib.TOMLDecodeError:
            continue
        yield began, waiting
        waiting = ""


def _enter(header: Mapping[str, Any], arrays: dict[Keys, int]) -> Keys:
    """The table that a header opens; an array of tables counts on, and headers below it mean its newest table."""
    keys: Keys = ()
    inner: Any = header
    while inner:
        if isinstance(inner, list):
            arrays[keys] = arrays.get(keys, -1) + 1
            return (*keys, arrays[keys])
        name, inner = next(iter(inner.items()))
        keys = (*keys, name)
        if isinstance(inner, dict) and keys in arrays:
            keys = (*keys, arrays[keys])
    return keys


def _keys(parsed: Mapping[str, Any], above: Keys) -> Iterator[Keys]:
    for name, value in parsed.items():
        keys = (*above, name)
        yield keys
        yield from _inner_keys(value, keys)


def _inner_keys(value: Any, keys: Keys) -> Iterator[Keys]:
    if isinstance(value, dict):
        yield from _keys(value, keys)
    if isinstance(value, list):
        for place, each in enumerate(value):
            yield (*keys, place)
            yield from _inner_keys(each, (*keys, place))


# --- in words -------------------------------------------------------------------------------------


class Origins:
    """Says where a value came from, in words."""

    def __init__(self, places: Places, environment: Mapping[str, str]) -> None:
        self._places = places
        self.environment = environment
        self._variables = {name.upper(): name for name in environment}

    def describe(self, keys: Keys) -> str:
        for length in range(len(keys), 0, -1):
            variable = PREFIX + "__".join(str(each) for each in keys[:length]).upper()
            if variable in self._variables:
                return f"{dotted(keys)} (the environment variable {self._variables[variable]})"
        line = self._places.line(keys)
        if line is None:
            return dotted(keys)
        return f"{dotted(keys)} ({self._places.path}, line {line})"


def dotted(keys: Keys) -> str:
    """As the key is written in TOML; a place in an array of tables counts from 1, as people do."""
    words = ""
    for each in keys:
        words += f"[{each + 1}]" if isinstance(each, int) else f".{each}" if words else each
    return words
