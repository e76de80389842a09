"""What stands behind the question mark of an address, and in a form: checked, bounded, and never believed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Self
from urllib.parse import parse_qsl, quote, urlencode

from reconciler.errors import UsageError
from reconciler.times import parse_instant

_FIELDS: Final = 200
"""In one form or address, and in one list of a form."""
_CHARACTERS: Final = 2000


@dataclass(frozen=True, slots=True)
class Query:
    """Every getter raises UsageError, in words for the person who typed it."""

    fields: Sequence[tuple[str, str]]

    @classmethod
    def parse(cls, raw: bytes, *, fields: int = _FIELDS) -> Self:
        try:
            found = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=fields, encoding="utf-8"
            )
        except (UnicodeDecodeError, ValueError):
            raise UsageError("the address or the form cannot be read: too many fields, or not UTF-8") from None
        for name, value in found:
            if len(value) > _CHARACTERS or len(name) > 100 or "\x00" in value or "\x00" in name:
                raise UsageError(f"{name[:40]!r} is longer than {_CHARACTERS} characters, or holds a zero")
        return cls(found)

    def text(self, name: str, default: str = "") -> str:
        return next((value.strip() for key, value in self.fields if key == name), default)

    def has(self, name: str) -> bool:
        """Whether it was sent at all, be it empty."""
        return any(key == name for key, _ in self.fields)

    def texts(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name and value]

    def one_of(self, name: str, known: Collection[str], default: str = "") -> str:
        found = self.text(name)
        if not found:
            return default
        if found not in known:
            raise UsageError(f"{name}: {found[:60]!r} is not among {', '.join(sorted(known))}")
        return found

    def day(self, name: str) -> date | None:
        found = self.text(name)
        try:
            return date.fromisoformat(found) if found else None
        except ValueError:
            raise UsageError(f"{name}: {found[:60]!r} is no day; write 2026-11-30") from None

    def instant(self, name: str, now: datetime) -> datetime | None:
        found = self.text(name)
        return parse_instant(found[:60], now) if found else None

    def whole(self, name: str, *, least: int, most: int) -> int | None:
        found = self.text(name)
        if not found:
            return None
        if not found.isascii() or not found.removeprefix("-").isdigit() or len(found) > 20:
            raise UsageError(f"{name}: {found[:60]!r} is no whole number")
        number = int(found)
        if not least <= number <= most:
            raise UsageError(f"{name}: expected {least} to {most}")
        return number

    def changed(self, changes: Mapping[str, str | None]) -> str:
        """The same as text, with some fields replaced; None takes one away."""
        kept = [(name, value) for name, value in self.fields if name not in changes and value]
        return urlencode([*kept, *((name, value) for name, value in changes.items() if value)])


def address(path: str, **fields: str | None) -> str:
    """A path of ours with these fields behind it, empty ones left out."""
    given = [(name, value) for name, value in fields.items() if value]
    query = f"?{urlencode(given, quote_via=quote)}" if given else ""
    return f"{path}{query}"


def as_field(at: datetime | None) -> str | None:
    """An instant as it stands in an address, to the microsecond."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def day_after(day: date) -> datetime:
    """The instant at which a day of UTC ends."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def day_start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
