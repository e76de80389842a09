"""Spans of time as people write them, in the configuration and on the command line: `250ms`, `2s`, `5m`, `33d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

EXPECTED = 'a duration such as "250ms", "2s", "5m", "12h" or "33d"'

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_DURATION = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")


def parse_duration(text: str) -> timedelta:
    """One whole number and its unit. Raises ValueError, with the form that was expected."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected {EXPECTED}")
    try:
        return int(match[1]) * _UNITS[match[2]]
    except OverflowError:
        raise ValueError(f"longer than any calendar; expected {EXPECTED}") from None


def format_duration(span: timedelta) -> str:
    """In the largest unit that divides it evenly. Raises ValueError for what `parse_duration` could not give."""
    for name, unit in reversed(_UNITS.items()):
        count, rest = divmod(span, unit)
        if not rest and (count or name == "ms"):
            if count < 0:
                break
            return f"{count}{name}" if count else "0s"
    raise ValueError(f"{span} is not a whole, positive number of milliseconds")


def _from_text(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, timedelta):
        return value
    raise ValueError(f"expected {EXPECTED}, in quotes")


def span_or_for_ever(value: object) -> object:
    """None for the word `forever`."""
    if value is None or value == "forever":
        return None
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as error:
            raise ValueError(f'{error}, or "forever"') from None
    return _from_text(value)


Duration = Annotated[timedelta, BeforeValidator(_from_text), PlainSerializer(format_duration, when_used="json")]
"""A span that is written as a string; a bare number, whose unit nobody could see, is refused."""
