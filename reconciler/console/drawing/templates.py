"""The templates, and the few words with which they show values. Everything is escaped; nothing here is a page."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reconciler.model import Cause
from reconciler.report.formats import words
from reconciler.report.model import Amount

_FOLDER: Final = Path(__file__).parents[1]
ASSETS: Final = _FOLDER / "assets"


_WHY: Final = {
    Cause.WEBHOOK: "a webhook",
    Cause.SWEEP: "a sweep",
    Cause.DEADLINE: "a deadline",
    Cause.BACKFILL: "a backfill",
    Cause.MANUAL: "a mark by hand",
}


class Assets:
    """The style sheet and the script, in memory, under names that change with their content."""

    _TYPES: Final = {
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, str]] = {}
        self._names: dict[str, str] = {}
        for path in sorted(ASSETS.iterdir()):
            content = path.read_bytes()
            mark = hashlib.sha256(content).hexdigest()[:12]
            name = f"{path.stem}.{mark}{path.suffix}"
            self.files[name] = (content, self._TYPES[path.suffix])
            self._names[path.name] = name

    def address(self, name: str) -> str:
        return f"/console/assets/{self._names[name]}"


class Templates:
    def __init__(self, assets: Assets) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals["asset"] = assets.address
        self._environment.filters |= {
            "shown": shown, "when": when, "span": span, "why": _WHY.__getitem__, "words": words.words,
        }  # fmt: skip

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        return self._environment.get_template(name).render(context)


def when(at: datetime | None, empty: str = "never") -> Markup:
    """An instant: in UTC as it stands, in the reader's zone where the script runs, and both on hover."""
    if at is None:
        return Markup('<span class="quiet">{}</span>').format(empty)
    utc = at.astimezone(UTC)
    exact = utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        exact, f"{utc:%Y-%m-%d %H:%M:%S.%f}"[:-3], f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    )


def shown(value: Any, decimals: int = 0) -> Markup:
    """Any cell. `decimals`: how many the column's amounts have at most; shorter ones are filled up, unseen."""
    match value:
        case None:
            return Markup("")
        case Amount():
            return _amount(value, decimals)
        case bool():
            return escape("yes" if value else "no")
        case int() | Decimal():
            return escape(f"{value:,}")
        case datetime():
            return when(value)
        case date():
            return escape(value.isoformat())
        case timedelta():
            return escape(span(value))
        case _:
            return escape(str(value))


def _amount(amount: Amount, decimals: int) -> Markup:
    text = escape(words.money(amount))
    missing = decimals - amount.exponent
    if missing <= 0:
        return text
    filling = ("." if amount.exponent == 0 else "") + "0" * missing
    return text + Markup('<span class="filling" aria-hidden="true">{}</span>').format(filling)


def span(length: timedelta | None) -> str:
    """Roughly, in its two largest units: "3 d 4 h", "12 s"."""
    if length is None:
        return ""
    seconds = max(0, int(length.total_seconds()))
    parts: list[str] = []
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])
