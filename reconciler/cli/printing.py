"""Printing: data to stdout, talk to stderr; tables for people, JSON for machines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from reconciler.writing import written

_UNATTENDED_WIDTH = 200
"""Columns of a table that no terminal shows: wide enough that a reference stays whole, for grep."""


def console() -> Console:
    wide = None if sys.stdout.isatty() else _UNATTENDED_WIDTH
    return Console(file=sys.stdout, width=wide, highlight=False)


def talk(text: str) -> None:
    """A remark to the operator, beside the data."""
    Console(file=sys.stderr, highlight=False, soft_wrap=True).print(Text(text))


def print_page(parts: Iterable[RenderableType]) -> None:
    """One below the other, with an empty line between."""
    out = console()
    for place, part in enumerate(parts):
        if place:
            out.print()
        out.print(part)


def print_json(document: Any) -> None:
    sys.stdout.write(written(document, indented=True).decode() + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> Table | Text:
    """Numbers to the right. `empty` is said instead of a table without rows, and should say what to do."""
    kept = [tuple(row) for row in rows]
    if not kept:
        return Text(f"{title}: {empty}")
    made = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    for place, name in enumerate(columns):
        numbers = all(isinstance(row[place], int) for row in kept)
        made.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in kept:
        made.add_row(*(Text(words(cell)) for cell in row))
    return made


def words(cell: object) -> str:
    match cell:
        case None:
            return "-"
        case datetime():
            return f"{cell.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        case timedelta():
            return span(cell)
        case bool():
            return "yes" if cell else "no"
        case int():
            return f"{cell:,}"
        case _:
            return str(cell)


def counted(number: int, noun: str) -> str:
    """`1 request`, `2,000 requests`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def span(length: timedelta) -> str:
    """Roughly, in its two largest units: "3 d 4 h", "12 s"."""
    seconds = int(length.total_seconds())
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])
